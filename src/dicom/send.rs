//! The storage and commitment SCU: delivers objects to another node, as a scanner or an archive would, asks it to keep them
//! safe, and reports to those who asked us.

use super::commitment::{CommitReport, CommitRequest};
use super::dimse::{Command, field, status};
use super::link::LinkError;
use super::negotiate::CONTEXTS_MAX;
use super::peer::{Peer, Proposal, SendError, Target, answered};
use super::{DicomError, implicit, parse_object, sop_class, syntax};
use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

/// Media Storage Directory: an index of files, not an object to store.
const DICOMDIR: &str = "1.2.840.10008.1.3.10";

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The peer answered success.
    Stored,
    /// The peer stored it with a warning (status 0xB000 and the like).
    Warning(u16),
    /// The peer refused it.
    Refused {
        /// Its status.
        status: u16,
        /// Its comment.
        comment: String,
    },
    /// The peer takes no such objects.
    NotAccepted {
        /// Which.
        why: String,
    },
    /// The file is no object that is sent: not DICOM, or a DICOMDIR.
    Skipped {
        /// Why.
        why: String,
    },
    /// It was not sent.
    NotSent {
        /// Why.
        why: String,
    },
}

impl Delivery {
    /// True when the peer has it.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored | Self::Warning(_))
    }

    /// True when the peer should have it and has not.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotAccepted { .. } | Self::NotSent { .. })
    }
}

/// Sends `count` objects over one association. `load` gives the Part 10 bytes of each (called twice: to see which
/// presentation contexts are needed, then to send); `progress` hears (objects done, what became of the last). The data sets go
/// as they are, or in implicit VR where the peer takes nothing else (PS3.5 10.1); compressed ones are not decompressed.
pub fn send(
    count: usize,
    load: &dyn Fn(usize) -> io::Result<Vec<u8>>,
    target: &Target,
    progress: &mut dyn FnMut(usize, &Delivery),
) -> Result<Vec<Delivery>, SendError> {
    let mut proposals: Vec<Proposal> = Vec::new();
    for index in 0..count {
        let Some((class, own)) =
            load(index).ok().and_then(|bytes| parse_object(&bytes).ok().map(|o| kind_of(&o.header)))
        else {
            continue;
        };
        let fallback = (own == syntax::EXPLICIT_LE).then(|| syntax::IMPLICIT_LE.to_owned());
        for one in [own].into_iter().chain(fallback) {
            let proposal = Proposal { class: class.clone(), syntaxes: vec![one], as_scp: false };
            if class != DICOMDIR && !proposals.contains(&proposal) && proposals.len() < CONTEXTS_MAX {
                proposals.push(proposal);
            }
        }
    }
    let mut peer = if proposals.is_empty() { None } else { Some(Peer::connect(target, &proposals)?) };
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(count);
    let mut broken: Option<String> = None;
    for index in 0..count {
        let delivery = match &broken {
            Some(why) => Delivery::NotSent { why: why.clone() },
            None => match deliver(peer.as_mut(), index, load) {
                Ok(delivery) => delivery,
                Err(error) => {
                    broken = Some(error.to_string());
                    Delivery::NotSent { why: error.to_string() }
                }
            },
        };
        progress(index + 1, &delivery);
        deliveries.push(delivery);
    }
    match (peer, broken) {
        (Some(peer), None) => peer.release(),
        (Some(peer), Some(_)) => peer.link.abort(),
        (None, _) => {}
    }
    Ok(deliveries)
}

fn kind_of(header: &super::Header) -> (String, String) {
    (header.sop_class_uid.clone(), header.transfer_syntax.clone())
}

fn deliver(
    peer: Option<&mut Peer>,
    index: usize,
    load: &dyn Fn(usize) -> io::Result<Vec<u8>>,
) -> Result<Delivery, LinkError> {
    let bytes = match load(index) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Delivery::NotSent { why: error.to_string() }),
    };
    let object = match parse_object(&bytes) {
        Ok(object) if object.header.sop_class_uid == DICOMDIR => {
            return Ok(Delivery::Skipped { why: "a DICOMDIR".into() });
        }
        Ok(object) => object,
        Err(error @ DicomError::NotDicom) => return Ok(Delivery::Skipped { why: error.to_string() }),
        Err(error) => return Ok(Delivery::NotSent { why: error.to_string() }),
    };
    let Some(peer) = peer else { return Ok(Delivery::NotSent { why: "the file changed".into() }) };
    let (class, own) = kind_of(&object.header);
    let accepted = |syntax: &str| peer.accepted.get(&(class.clone(), syntax.to_owned())).copied();
    let stored = data_set_as_stored(&bytes, &object);
    let (context, data_set) = match (accepted(&own), accepted(syntax::IMPLICIT_LE)) {
        (Some(context), _) => (context, Cow::Borrowed(stored)),
        (None, Some(context)) if own == syntax::EXPLICIT_LE => match implicit::from_explicit(stored) {
            Ok(data_set) => (context, Cow::Owned(data_set)),
            Err(error) => return Ok(Delivery::NotSent { why: error.to_string() }),
        },
        _ => {
            let why = format!("the peer does not accept objects of SOP class {class} in transfer syntax {own}");
            return Ok(Delivery::NotAccepted { why });
        }
    };
    let instance = object.header.sop_instance_uid.as_str();
    let command = Command::store((index % 0xFFFF) as u16 + 1, &class, instance);
    let answer = peer.ask(context, &command, Some(&data_set))?;
    Ok(match answer.status().unwrap_or(0xFFFF) {
        0 => Delivery::Stored,
        status @ (0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF) => Delivery::Warning(status),
        status => Delivery::Refused { status, comment: answer.comment() },
    })
}

/// The data set's bytes in the file: a deflated one stays deflated.
fn data_set_as_stored<'a>(bytes: &'a [u8], object: &'a super::Object<'_>) -> &'a [u8] {
    match &object.data_set {
        Cow::Borrowed(data_set) => data_set,
        Cow::Owned(_) => super::header::data_set_of(bytes),
    }
}

/// What a request for commitment led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitAnswer {
    /// The node took the request; its report will come over an association that it opens.
    Later,
    /// The report came over the same association.
    Reported(CommitReport),
}

/// Requests storage commitment (N-ACTION) and waits up to `wait` for a report over the same association.
pub fn commit(target: &Target, request: &CommitRequest, wait: Duration) -> Result<CommitAnswer, SendError> {
    let (mut peer, context, syntax) = commitment_peer(target, false)?;
    let data_set = request.to_bytes(&syntax);
    let deadline = Instant::now() + wait;
    let mut reported = None;
    // A node may report before it answers the request.
    let command = Command::request_commitment(1);
    let mut answer = peer.tell(context, &command, Some(&data_set)).map(|()| None);
    while let Ok(None) = answer {
        answer = peer.hear(Instant::now() + super::peer::ANSWER).and_then(|(at, heard, data)| {
            let is_answer = heard.field() == Some(field::ACTION | field::RESPONSE);
            if !is_answer {
                reported = confirm(&mut peer, (at, &syntax), request, &heard, &data)?.or(reported.take());
            }
            Ok(is_answer.then_some(heard))
        });
    }
    let answer = answer.and_then(|a| a.ok_or(LinkError::Closed));
    answered(target, "N-ACTION", answer)?;
    while reported.is_none() && Instant::now() < deadline {
        let Ok((at, heard, data)) = peer.hear(deadline) else { break };
        let Ok(report) = confirm(&mut peer, (at, &syntax), request, &heard, &data) else { break };
        reported = report;
    }
    peer.release();
    Ok(reported.map_or(CommitAnswer::Later, CommitAnswer::Reported))
}

/// Answers what comes while a report is awaited; the report, if it is one on this request.
fn confirm(
    peer: &mut Peer,
    (context, syntax): (u8, &str),
    request: &CommitRequest,
    heard: &Command,
    data: &[u8],
) -> Result<Option<CommitReport>, LinkError> {
    if heard.field().is_none_or(|f| f & field::RESPONSE != 0) {
        return Ok(None);
    }
    if heard.field() != Some(field::EVENT_REPORT) {
        let refusal = heard.response(status::UNRECOGNIZED_OPERATION, "");
        return peer.tell(context, &refusal, None).map(|()| None);
    }
    let report = CommitReport::parse(data, syntax).filter(|r| r.transaction_uid == request.transaction_uid);
    let status = if report.is_some() { status::SUCCESS } else { status::INVALID_ARGUMENT };
    peer.tell(context, &heard.response(status, ""), None).map(|()| report)
}

/// Reports on a commitment that the target requested (N-EVENT-REPORT); `Ok` when it confirmed.
pub fn report_commitment(target: &Target, report: &CommitReport) -> Result<(), SendError> {
    let (mut peer, context, syntax) = commitment_peer(target, true)?;
    let command = Command::report_commitment(1, report.event_type());
    let answer = peer.ask(context, &command, Some(&report.to_bytes(&syntax)));
    answered(target, "N-EVENT-REPORT", answer)?;
    peer.release();
    Ok(())
}

fn commitment_peer(target: &Target, as_scp: bool) -> Result<(Peer, u8, String), SendError> {
    let peer = Peer::connect(target, &[Proposal { as_scp, ..Proposal::plain(sop_class::STORAGE_COMMITMENT) }])?;
    match peer.accepted.iter().next().map(|((_, syntax), context)| (*context, syntax.clone())) {
        Some((context, syntax)) => Ok((peer, context, syntax)),
        None => Err(SendError::NotOffered { ae_title: target.ae_title.clone(), what: "storage commitment" }),
    }
}
