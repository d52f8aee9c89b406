//! The storage SCU: delivers objects to another node, as a scanner or an archive would.

use super::dimse::{Command, field};
use super::link::{Incoming, Link, LinkError};
use super::{AeTitle, DicomError, parse_object, part10, sop_class, syntax};
use crate::Explain;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason as ContextReason, UserVariableItem,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT: Duration = Duration::from_secs(10);
/// How long a peer may think about one object.
const ANSWER: Duration = Duration::from_secs(60);
const CONTEXTS_MAX: usize = 128;
const PDU_MAX: u32 = 131_072;
/// Media Storage Directory: an index of files, not an object to store.
const DICOMDIR: &str = "1.2.840.10008.1.3.10";

/// Where to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// AE title that is called.
    pub ae_title: AeTitle,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// AE title that calls: ours.
    pub calling_ae: AeTitle,
}

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
        matches!(self, Self::Refused { .. } | Self::NotSent { .. })
    }
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
    /// A-ASSOCIATE-RJ.
    #[error("{ae_title} refused the association: {reason}")]
    Rejected {
        /// Who.
        ae_title: AeTitle,
        /// Its reason.
        reason: String,
    },
    /// C-ECHO was not answered with success.
    #[error("{ae_title} did not answer C-ECHO with success: {why}")]
    Echo {
        /// Who.
        ae_title: AeTitle,
        /// What came instead.
        why: String,
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

impl Explain for SendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "send.connect",
            Self::Rejected { .. } => "send.rejected",
            Self::Echo { .. } => "send.echo",
            Self::Association { .. } => "send.association",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "check host, port and firewall, and that the other node runs",
            Self::Rejected { .. } => "enter our AE title and address at the other node, and check its AE title here",
            Self::Echo { .. } | Self::Association { .. } => "look into the log of the other node",
        }
    }
}

/// Asks whether the node answers (C-ECHO); returns the round trip.
pub fn echo(target: &Target) -> Result<Duration, SendError> {
    let proposal = (sop_class::VERIFICATION.to_owned(), syntax::IMPLICIT_LE.to_owned());
    let mut peer = Peer::connect(target, &[proposal])?;
    let failed = |why: String| SendError::Echo { ae_title: target.ae_title.clone(), why };
    let Some(context) = peer.accepted.values().next().copied() else {
        return Err(failed("it does not offer it".into()));
    };
    let begun = Instant::now();
    let answer = peer.ask(context, &Command::echo(1), None).map_err(|e| failed(e.to_string()))?;
    peer.release();
    match answer.status() {
        Some(0) => Ok(begun.elapsed()),
        status => Err(failed(format!("status {:#06x}", status.unwrap_or(0xFFFF)))),
    }
}

/// Sends `count` objects over one association. `load` gives the Part 10 bytes of each (called twice: to see which
/// presentation contexts are needed, then to send); `progress` hears (objects done, what became of the last). The data sets go
/// as they are: an object whose transfer syntax the peer does not accept is not sent.
pub fn send(
    count: usize,
    load: &dyn Fn(usize) -> io::Result<Vec<u8>>,
    target: &Target,
    progress: &mut dyn FnMut(usize, &Delivery),
) -> Result<Vec<Delivery>, SendError> {
    let mut kinds: Vec<(String, String)> = Vec::new();
    for index in 0..count {
        let Some(kind) = load(index).ok().and_then(|bytes| parse_object(&bytes).ok().map(|o| kind_of(&o.header)))
        else {
            continue;
        };
        if kind.0 != DICOMDIR && !kinds.contains(&kind) && kinds.len() < CONTEXTS_MAX {
            kinds.push(kind);
        }
    }
    let mut peer = if kinds.is_empty() { None } else { Some(Peer::connect(target, &kinds)?) };
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
    let Some(context) = peer.accepted.get(&kind_of(&object.header)).copied() else {
        let why = format!(
            "the peer does not accept this kind of object in transfer syntax {}",
            object.header.transfer_syntax
        );
        return Ok(Delivery::NotSent { why });
    };
    let instance = object.header.sop_instance_uid.as_str();
    let command = Command::store((index % 0xFFFF) as u16 + 1, &object.header.sop_class_uid, instance);
    let data_set = data_set_as_stored(&bytes, &object);
    let answer = peer.ask(context, &command, Some(data_set))?;
    Ok(match answer.status().unwrap_or(0xFFFF) {
        0 => Delivery::Stored,
        status @ (0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF) => Delivery::Warning(status),
        status => Delivery::Refused { status, comment: answer.comment() },
    })
}

/// The data set's bytes in the file: a deflated one stays deflated.
fn data_set_as_stored<'a>(bytes: &'a [u8], object: &'a super::Object<'_>) -> &'a [u8] {
    match &object.data_set {
        std::borrow::Cow::Borrowed(data_set) => data_set,
        std::borrow::Cow::Owned(_) => super::header::data_set_of(bytes),
    }
}

/// An association that this side opened.
struct Peer {
    link: Link,
    accepted: BTreeMap<(String, String), u8>,
    pdu_max: u32,
}

impl Peer {
    fn connect(target: &Target, kinds: &[(String, String)]) -> Result<Self, SendError> {
        let refused = |source| SendError::Connect { host: target.host.clone(), port: target.port, source };
        let stream = dial(target).map_err(refused)?;
        let mut link = Link::new(stream, ANSWER, PDU_MAX).map_err(refused)?;
        let failed = |why: String| SendError::Association { ae_title: target.ae_title.clone(), why };
        link.send(&Pdu::AssociationRQ(request(target, kinds))).map_err(|e| failed(e.to_string()))?;
        let answer = match link.receive(Some(Instant::now() + ANSWER), &|| false).map_err(|e| failed(e.to_string()))? {
            Incoming::Control(pdu) => *pdu,
            _ => return Err(failed("data instead of an answer".into())),
        };
        match answer {
            Pdu::AssociationAC(answer) => {
                let accepted = answer.presentation_contexts.iter().filter(|c| c.reason == ContextReason::Acceptance);
                let accepted =
                    accepted.filter_map(|c| Some((kinds.get(usize::from(c.id / 2))?.clone(), c.id))).collect();
                let pdu_max = answer.user_variables.iter().find_map(|v| match v {
                    UserVariableItem::MaxLength(0) => Some(PDU_MAX),
                    UserVariableItem::MaxLength(length) => Some((*length).min(PDU_MAX)),
                    _ => None,
                });
                Ok(Self { link, accepted, pdu_max: pdu_max.unwrap_or(16_384) })
            }
            Pdu::AssociationRJ(reason) => {
                Err(SendError::Rejected { ae_title: target.ae_title.clone(), reason: reason.source.to_string() })
            }
            other => Err(failed(format!("an unexpected PDU: {}", other.short_description()))),
        }
    }

    /// Sends a request and waits for its response.
    fn ask(&mut self, context: u8, command: &Command, data_set: Option<&[u8]>) -> Result<Command, LinkError> {
        self.link.send_data(context, true, &command.to_bytes(), self.pdu_max)?;
        if let Some(data_set) = data_set {
            self.link.send_data(context, false, data_set, self.pdu_max)?;
        }
        let deadline = Some(Instant::now() + ANSWER);
        let mut bytes = Vec::new();
        loop {
            match self.link.receive(deadline, &|| false)? {
                Incoming::Data(pdvs) => {
                    for pdv in pdvs.into_iter().filter(|pdv| pdv.command) {
                        bytes.extend_from_slice(&self.link.body()[pdv.range]);
                        if bytes.len() > super::dimse::COMMAND_BYTES_MAX {
                            return Err(LinkError::Pdu("a command set that is too long".into()));
                        }
                        if pdv.last {
                            let answer =
                                Command::parse(&bytes).ok_or_else(|| LinkError::Pdu("a damaged response".into()))?;
                            let ours = answer.responded_id() == command.message_id();
                            if ours && answer.field() == command.field().map(|f| f | field::RESPONSE) {
                                return Ok(answer);
                            }
                            bytes.clear();
                        }
                    }
                }
                Incoming::Control(pdu) => {
                    return Err(LinkError::Pdu(format!("the peer ended it: {}", pdu.short_description())));
                }
                Incoming::Stopped => return Err(LinkError::Closed),
            }
        }
    }

    fn release(mut self) {
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

/// Context ids are 1, 3, 5, ...: id / 2 is the index into `kinds`.
fn request(target: &Target, kinds: &[(String, String)]) -> AssociationRQ {
    let context = |(index, (class, syntax)): (usize, &(String, String))| PresentationContextProposed {
        id: (index * 2 + 1) as u8,
        abstract_syntax: class.clone(),
        transfer_syntaxes: vec![syntax.clone()],
    };
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: target.calling_ae.as_str().into(),
        called_ae_title: target.ae_title.as_str().into(),
        application_context_name: "1.2.840.10008.3.1.1.1".into(),
        presentation_contexts: kinds.iter().take(CONTEXTS_MAX).enumerate().map(context).collect(),
        user_variables: part10::our_user_variables(PDU_MAX),
    }
}
