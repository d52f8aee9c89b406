//! An association that this side opened, and C-ECHO over it.

use super::dimse::{COMMAND_BYTES_MAX, Command, field};
use super::link::{Incoming, Link, LinkError};
use super::negotiate::{APPLICATION_CONTEXT, CONTEXTS_MAX, peer_pdu_max};
use super::{AeTitle, Tls, part10, sop_class, syntax};
use crate::Explain;
use dicom_ul::pdu::{
    AssociationRJResult, AssociationRQ, Pdu, PresentationContextProposed,
    PresentationContextResultReason as ContextReason, RequestorRoles, UserVariableItem,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

pub const CONNECT: Duration = Duration::from_secs(10);
/// How long a peer may think about one message.
pub const ANSWER: Duration = Duration::from_secs(60);
pub const PDU_MAX: u32 = 131_072;

/// Where to send.
#[derive(Debug, Clone)]
pub struct Target {
    /// AE title that is called.
    pub ae_title: AeTitle,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// AE title that calls: ours.
    pub calling_ae: AeTitle,
    /// With TLS, and whose certificates are believed.
    pub tls: Option<Tls>,
}

/// Why nothing could be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No address or no connection.
    #[error("no connection to {host}:{port}")]
    Connect {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What the network said.
        source: io::Error,
    },
    /// No TLS with the node.
    #[error("no TLS connection to {ae_title}: {why}")]
    Tls {
        /// Who.
        ae_title: AeTitle,
        /// What rustls or the node said.
        why: String,
    },
    /// A-ASSOCIATE-RJ.
    #[error("{ae_title} refused the association: {reason}")]
    Rejected {
        /// Who.
        ae_title: AeTitle,
        /// Its reason.
        reason: String,
        /// Whether it would refuse again.
        permanent: bool,
    },
    /// The node does not do this.
    #[error("{ae_title} does not offer {what}")]
    NotOffered {
        /// Who.
        ae_title: AeTitle,
        /// What.
        what: &'static str,
    },
    /// A command was not answered with success.
    #[error("{ae_title} did not answer {command} with success: {why}")]
    Answer {
        /// Who.
        ae_title: AeTitle,
        /// Which command.
        command: &'static str,
        /// What came instead.
        why: String,
        /// Its status, if one came.
        status: Option<u16>,
    },
    /// The connection failed while the association was made.
    #[error("the association with {ae_title} was not established: {why}")]
    Association {
        /// With whom.
        ae_title: AeTitle,
        /// What happened.
        why: String,
    },
}

impl SendError {
    /// True when trying again without a change on either side is of no use.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Rejected { permanent: true, .. } | Self::NotOffered { .. })
    }
}

impl Explain for SendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "send.connect",
            Self::Tls { .. } => "send.tls",
            Self::Rejected { .. } => "send.rejected",
            Self::NotOffered { .. } => "send.not-offered",
            Self::Answer { .. } => "send.answer",
            Self::Association { .. } => "send.association",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "check host, port and firewall, and that the other node runs",
            Self::Tls { .. } => "check certificates, authorities and dates on both sides, and that the port speaks TLS",
            Self::Rejected { .. } => "enter our AE title and address at the other node, and check its AE title here",
            Self::NotOffered { .. } => "see the other node's conformance statement, and enable the service there",
            Self::Answer { .. } | Self::Association { .. } => "look into the log of the other node",
        }
    }
}

/// Asks whether the node answers (C-ECHO); returns the round trip.
pub fn echo(target: &Target) -> Result<Duration, SendError> {
    let mut peer = Peer::connect(target, &[Proposal::plain(sop_class::VERIFICATION)])?;
    let ae_title = target.ae_title.clone();
    let Some(context) = peer.accepted.values().next().copied() else {
        return Err(SendError::NotOffered { ae_title, what: "verification (C-ECHO)" });
    };
    let begun = Instant::now();
    let answer = peer.ask(context, &Command::echo(1), None);
    answered(target, "C-ECHO", answer)?;
    peer.release();
    Ok(begun.elapsed())
}

/// The answer, if it is a success.
pub fn answered(
    target: &Target,
    command: &'static str,
    answer: Result<Command, LinkError>,
) -> Result<Command, SendError> {
    let ae_title = target.ae_title.clone();
    let (why, status) = match answer.map(|a| (a.status(), a)) {
        Ok((Some(0), answer)) => return Ok(answer),
        Ok((status, answer)) => (format!("status {:#06x} {}", status.unwrap_or(0xFFFF), answer.comment()), status),
        Err(error) => (error.to_string(), None),
    };
    Err(SendError::Answer { ae_title, command, why: why.trim_end().to_owned(), status })
}

/// A presentation context to be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// SOP class.
    pub class: String,
    /// Transfer syntaxes; of several the peer chooses.
    pub syntaxes: Vec<String>,
    /// Whether this side is the SCP (role selection, PS3.7 D.3.3.4).
    pub as_scp: bool,
}

impl Proposal {
    /// A service without objects.
    pub fn plain(class: &str) -> Self {
        Self { class: class.into(), syntaxes: syntax::PLAIN.map(str::to_owned).to_vec(), as_scp: false }
    }
}

/// An association that this side opened.
pub struct Peer {
    pub link: Link,
    /// Context id by SOP class and transfer syntax.
    pub accepted: BTreeMap<(String, String), u8>,
    pdu_max: u32,
}

impl Peer {
    pub fn connect(target: &Target, proposals: &[Proposal]) -> Result<Self, SendError> {
        let refused = |source| SendError::Connect { host: target.host.clone(), port: target.port, source };
        let no_tls = |why: String| SendError::Tls { ae_title: target.ae_title.clone(), why };
        let socket = dial(target).map_err(refused)?;
        let tls = target.tls.as_ref().map(|tls| tls.connection(&target.host)).transpose();
        let tls = tls.map_err(|e| no_tls(e.to_string()))?.map(Into::into);
        let mut link = Link::new(socket, tls, ANSWER, PDU_MAX).map_err(refused)?;
        link.handshake(Instant::now() + CONNECT).map_err(|e| no_tls(e.to_string()))?;
        let failed = |why: String| SendError::Association { ae_title: target.ae_title.clone(), why };
        link.send(&Pdu::AssociationRQ(request(target, proposals))).map_err(|e| failed(e.to_string()))?;
        let answer = match link.receive(Some(Instant::now() + ANSWER), &|| false).map_err(|e| failed(e.to_string()))? {
            Incoming::Control(pdu) => *pdu,
            _ => return Err(failed("data instead of an answer".into())),
        };
        match answer {
            Pdu::AssociationAC(answer) => {
                let taken = answer.presentation_contexts.iter().filter(|c| c.reason == ContextReason::Acceptance);
                let named = |c: &dicom_ul::pdu::PresentationContextResult| {
                    let proposal = proposals.get(usize::from(c.id / 2)).filter(|_| c.id % 2 == 1)?;
                    let syntax = super::negotiate::trim(&c.transfer_syntax).to_owned();
                    proposal.syntaxes.contains(&syntax).then(|| ((proposal.class.clone(), syntax), c.id))
                };
                let accepted = taken.filter_map(named).collect();
                let pdu_max = peer_pdu_max(&answer.user_variables).min(PDU_MAX);
                Ok(Self { link, accepted, pdu_max })
            }
            Pdu::AssociationRJ(answer) => Err(SendError::Rejected {
                ae_title: target.ae_title.clone(),
                reason: answer.source.to_string(),
                permanent: answer.result == AssociationRJResult::Permanent,
            }),
            other => Err(failed(format!("an unexpected PDU: {}", other.short_description()))),
        }
    }

    /// Sends a request and waits for its response.
    pub fn ask(&mut self, context: u8, command: &Command, data_set: Option<&[u8]>) -> Result<Command, LinkError> {
        self.tell(context, command, data_set)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let (_, answer, _) = self.hear(deadline)?;
            let ours = answer.responded_id() == command.message_id();
            if ours && answer.field() == command.field().map(|f| f | field::RESPONSE) {
                return Ok(answer);
            }
        }
    }

    /// Sends a message.
    pub fn tell(&mut self, context: u8, command: &Command, data_set: Option<&[u8]>) -> Result<(), LinkError> {
        self.link.send_data(context, true, &command.to_bytes(), self.pdu_max)?;
        match data_set {
            Some(data_set) => self.link.send_data(context, false, data_set, self.pdu_max),
            None => Ok(()),
        }
    }

    /// The next whole message: its context, its command and its data set.
    pub fn hear(&mut self, deadline: Instant) -> Result<(u8, Command, Vec<u8>), LinkError> {
        let (mut command_bytes, mut command, mut data_set) = (Vec::new(), None::<Command>, Vec::new());
        loop {
            let pdvs = match self.link.receive(Some(deadline), &|| false)? {
                Incoming::Data(pdvs) => pdvs,
                Incoming::Control(pdu) => {
                    return Err(LinkError::Pdu(format!("the peer ended it: {}", pdu.short_description())));
                }
                Incoming::Stopped => return Err(LinkError::Closed),
            };
            for pdv in pdvs {
                let bytes = &self.link.body()[pdv.range];
                if pdv.command != command.is_none() {
                    return Err(LinkError::Pdu("a PDV out of order".into()));
                }
                let (into, limit) = match pdv.command {
                    true => (&mut command_bytes, COMMAND_BYTES_MAX),
                    false => (&mut data_set, super::commitment::DATA_SET_BYTES_MAX),
                };
                if into.len() + bytes.len() > limit {
                    return Err(LinkError::Pdu("a message that is too long".into()));
                }
                into.extend_from_slice(bytes);
                if pdv.last && pdv.command {
                    let whole = Command::parse(&command_bytes);
                    command = Some(whole.ok_or_else(|| LinkError::Pdu("a damaged command set".into()))?);
                }
                if let Some(whole) = command.take_if(|c| pdv.last && (!pdv.command || !c.has_data_set())) {
                    return Ok((pdv.context, whole, data_set));
                }
            }
        }
    }

    pub fn release(mut self) {
        if self.link.send(&Pdu::ReleaseRQ).is_ok() {
            let _ = self.link.receive(Some(Instant::now() + Duration::from_secs(5)), &|| false);
        }
        self.link.close();
    }
}

fn dial(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Context ids are 1, 3, 5, ...: id / 2 is the index into `proposals`.
fn request(target: &Target, proposals: &[Proposal]) -> AssociationRQ {
    let proposals = &proposals[..proposals.len().min(CONTEXTS_MAX)];
    let context = |(index, proposal): (usize, &Proposal)| PresentationContextProposed {
        id: (index * 2 + 1) as u8,
        abstract_syntax: proposal.class.clone(),
        transfer_syntaxes: proposal.syntaxes.clone(),
    };
    let roles = proposals.iter().filter(|p| p.as_scp).map(|p| {
        UserVariableItem::ScuScpRoleSelectionSubItem(p.class.clone(), RequestorRoles { scu: false, scp: true })
    });
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: target.calling_ae.as_str().into(),
        called_ae_title: target.ae_title.as_str().into(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: proposals.iter().enumerate().map(context).collect(),
        user_variables: part10::our_user_variables(PDU_MAX).into_iter().chain(roles).collect(),
    }
}
