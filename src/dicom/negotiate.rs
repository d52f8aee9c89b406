//! The acceptor's answer to an A-ASSOCIATE-RQ: who may come in, and in which contexts (PS3.8 9.3).

use super::config::{Caller, Calling, Config, Stranger};
use super::{AeTitle, part10, sop_class, syntax};
use dicom_ul::pdu::{
    AssociationAC, AssociationRJServiceUserReason as UserReason, AssociationRQ, PresentationContextProposed,
    PresentationContextResult, PresentationContextResultReason as ContextReason, UserVariableItem,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Ids are the odd numbers of a byte.
pub const CONTEXTS_MAX: usize = 128;

/// Presentation contexts that were accepted: (SOP class, transfer syntax) by id.
pub type Contexts = BTreeMap<u8, (String, String)>;

/// What was agreed with a caller.
pub struct Agreed {
    /// Who it is and what it may do.
    pub caller: Caller,
    /// The title that it called.
    pub called_ae: AeTitle,
    /// Accepted contexts.
    pub contexts: Contexts,
    /// The answer to be sent.
    pub answer: AssociationAC,
}

/// Checks a request and chooses a transfer syntax per context.
pub fn negotiate(
    request: &AssociationRQ,
    config: &Config,
    host: IpAddr,
    names: Option<&[String]>,
) -> Result<Agreed, UserReason> {
    if request.protocol_version & 1 == 0 || trim(&request.application_context_name) != APPLICATION_CONTEXT {
        return Err(UserReason::ApplicationContextNameNotSupported);
    }
    let calling = AeTitle::new(&request.calling_ae_title).map_err(|_| UserReason::CallingAETitleNotRecognized)?;
    let called_ae = AeTitle::new(&request.called_ae_title).map_err(|_| UserReason::CalledAETitleNotRecognized)?;
    let calling = Calling { ae_title: &calling, called: &called_ae, host, names };
    let caller = config.caller(&calling).map_err(|stranger| match stranger {
        Stranger::Calling => UserReason::CallingAETitleNotRecognized,
        Stranger::Called => UserReason::CalledAETitleNotRecognized,
    })?;
    let mut contexts = Contexts::new();
    let mut results = Vec::new();
    for proposed in request.presentation_contexts.iter().take(CONTEXTS_MAX) {
        // An even or repeated id names nothing that a PDV could mean.
        let usable = proposed.id % 2 == 1 && !contexts.contains_key(&proposed.id);
        let chosen = if usable { choose(proposed, &caller) } else { Err(ContextReason::NoReason) };
        let (reason, transfer_syntax) = match chosen {
            Ok(chosen) => {
                contexts.insert(proposed.id, (trim(&proposed.abstract_syntax).to_owned(), chosen.to_owned()));
                (ContextReason::Acceptance, chosen)
            }
            Err(reason) => (reason, syntax::IMPLICIT_LE),
        };
        results.push(PresentationContextResult { id: proposed.id, reason, transfer_syntax: transfer_syntax.into() });
    }
    let mut user_variables = part10::our_user_variables(config.pdu_bytes_max.clamp(4096, 1 << 20));
    // Storage commitment in either role is what we do, so both are accepted as they are proposed (PS3.7 D.3.3.4).
    user_variables.extend(request.user_variables.iter().filter_map(|item| match item {
        UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) if trim(class) == sop_class::STORAGE_COMMITMENT => {
            Some(UserVariableItem::ScuScpRoleSelectionSubItem(trim(class).to_owned(), *roles))
        }
        _ => None,
    }));
    let answer = AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: results,
        user_variables,
    };
    Ok(Agreed { caller, called_ae, contexts, answer })
}

/// The transfer syntax for a context: the first of ours that is proposed.
fn choose(proposed: &PresentationContextProposed, caller: &Caller) -> Result<&'static str, ContextReason> {
    let class = trim(&proposed.abstract_syntax);
    let (may, ours) = match class {
        sop_class::VERIFICATION => (caller.echo, &syntax::PLAIN[..]),
        sop_class::STORAGE_COMMITMENT => (caller.commit || caller.reports, &syntax::PLAIN[..]),
        _ if class.starts_with(sop_class::STORAGE_PREFIX) => (caller.store, &syntax::ACCEPTED[..]),
        _ => return Err(ContextReason::AbstractSyntaxNotSupported),
    };
    if !may {
        return Err(ContextReason::UserRejection);
    }
    let offered = |s: &&&str| proposed.transfer_syntaxes.iter().any(|t| trim(t) == **s);
    ours.iter().find(offered).copied().ok_or(ContextReason::TransferSyntaxesNotSupported)
}

/// The longest PDU that a peer takes; 16 KiB when it does not say.
pub fn peer_pdu_max(variables: &[UserVariableItem]) -> u32 {
    let named = variables.iter().find_map(|v| match v {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    match named {
        // 0 is "no limit".
        Some(0) => 131_072,
        Some(length) => length,
        None => 16_384,
    }
}

pub fn trim(uid: &str) -> &str {
    uid.trim_matches(|c: char| c == '\0' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_ul::pdu::RequestorRoles;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn context(id: u8, abstract_syntax: &str, syntaxes: &[&str]) -> PresentationContextProposed {
        PresentationContextProposed {
            id,
            abstract_syntax: abstract_syntax.into(),
            transfer_syntaxes: syntaxes.iter().map(ToString::to_string).collect(),
        }
    }

    fn request(calling: &str, called: &str) -> AssociationRQ {
        AssociationRQ {
            protocol_version: 1,
            calling_ae_title: calling.into(),
            called_ae_title: called.into(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: vec![
                context(1, sop_class::CT, &[syntax::IMPLICIT_LE, syntax::EXPLICIT_LE]),
                context(3, "1.2.840.10008.5.1.4.1.2.2.1", &[syntax::IMPLICIT_LE]),
                context(5, sop_class::CT, &["1.2.840.10008.1.2.4.50"]),
                context(7, sop_class::STORAGE_COMMITMENT, &[syntax::IMPLICIT_LE]),
                context(7, sop_class::CT, &[syntax::IMPLICIT_LE]),
                context(8, sop_class::CT, &[syntax::IMPLICIT_LE]),
            ],
            user_variables: vec![UserVariableItem::ScuScpRoleSelectionSubItem(
                sop_class::STORAGE_COMMITMENT.into(),
                RequestorRoles { scu: false, scp: true },
            )],
        }
    }

    #[test]
    fn only_known_callers_of_our_title_get_contexts() {
        let config = Config { allow: vec![AeTitle::new("CT1").unwrap().into()], ..Config::default() };
        let agreed = negotiate(&request("CT1", "METWATCH"), &config, HOST, None).unwrap();
        assert_eq!((agreed.caller.ae_title.as_str(), agreed.called_ae.as_str()), ("CT1", "METWATCH"));
        assert_eq!(agreed.contexts.get(&1), Some(&(sop_class::CT.to_owned(), syntax::EXPLICIT_LE.to_owned())));
        let reasons: Vec<_> = agreed.answer.presentation_contexts.iter().map(|c| c.reason.clone()).collect();
        let expected = [
            ContextReason::Acceptance,
            ContextReason::AbstractSyntaxNotSupported,
            ContextReason::TransferSyntaxesNotSupported,
            ContextReason::Acceptance,
            ContextReason::NoReason,
            ContextReason::NoReason,
        ];
        assert_eq!(reasons, expected);
        let role =
            |v: &UserVariableItem| matches!(v, UserVariableItem::ScuScpRoleSelectionSubItem(_, r) if r.scp && !r.scu);
        assert!(agreed.answer.user_variables.iter().any(role));
        let refused = |calling: &str, called: &str, config: &Config| {
            negotiate(&request(calling, called), config, HOST, None).err().unwrap()
        };
        assert_eq!(refused("CT2", "METWATCH", &config), UserReason::CallingAETitleNotRecognized);
        assert_eq!(refused("CT1", "OTHER", &config), UserReason::CalledAETitleNotRecognized);
        assert_eq!(refused("CT1", "METWATCH", &Config::default()), UserReason::CallingAETitleNotRecognized);
    }

    #[test]
    fn what_a_caller_may_not_do_is_refused_per_context() {
        let caller = Caller { store: false, ..AeTitle::new("CT1").unwrap().into() };
        let config = Config { allow: vec![caller], ..Config::default() };
        let agreed = negotiate(&request("CT1", "METWATCH"), &config, HOST, None).unwrap();
        let first = agreed.answer.presentation_contexts.first().map(|c| c.reason.clone());
        assert_eq!((first, agreed.contexts.len()), (Some(ContextReason::UserRejection), 1));
    }

    #[test]
    fn a_hundred_and_twenty_eight_contexts_are_answered_and_no_more() {
        let config = Config { allow: vec![AeTitle::new("CT1").unwrap().into()], ..Config::default() };
        let mut many = request("CT1", "METWATCH");
        many.presentation_contexts =
            (0..200u16).map(|k| context((k * 2 + 1) as u8, sop_class::CT, &[syntax::IMPLICIT_LE])).collect();
        let agreed = negotiate(&many, &config, HOST, None).unwrap();
        assert_eq!((agreed.contexts.len(), agreed.answer.presentation_contexts.len()), (128, 128));
    }
}
