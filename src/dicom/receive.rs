//! The storage SCP: C-STORE and C-ECHO over TCP, a thread per association (dicom.md section 1).
//!
//! An object is walked, its header read and its bytes handed to the [`Sink`] before the sender hears "success": 0x0000 is our
//! promise that it survives. Limits: associations, PDU length, object size, bytes in flight, deadlines and a minimum rate.

use super::dimse::{COMMAND_BYTES_MAX, Command, field, status};
use super::header::parse_received;
use super::identifier::is_uid;
use super::link::{Incoming, Link, LinkError, Pdv};
use super::sink::{AssociationEnd, Config, HowEnded, Received, Rejection, Sink, StoreFailure};
use super::walker::OBJECT_BYTES_MAX;
use super::{AeTitle, Identifier, part10, sop_class, syntax};
use crate::Explain;
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason as Congestion,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ, Pdu, PresentationContextResult,
    PresentationContextResultReason as ContextReason, UserVariableItem,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Connections beyond `associations_max` that are told so at the same time; more are closed without a word.
const TURNED_AWAY_MAX: usize = 16;
/// After the stop flag, a message under way may take this long.
const STOP_GRACE: Duration = Duration::from_secs(10);
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Receives until `stop` is set; then takes no more connections, lets messages under way end and returns. Blocks.
pub fn serve(listener: TcpListener, config: Config, sink: Arc<dyn Sink>, stop: Arc<AtomicBool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    info!(listen = %config.listen, ae_title = %config.ae_title, "waiting for DICOM associations");
    let server = Arc::new(Server { config, sink, stop, in_flight: AtomicU64::new(0) });
    let open = Arc::new(AtomicUsize::new(0));
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut number = 0;
    while !server.stop.load(Ordering::Relaxed) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            // A peer that went away while it waited, or no file descriptor for the moment.
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        number += 1;
        let full = open.load(Ordering::Relaxed) >= usize::from(server.config.associations_max);
        let (counter, limit) = if full { (&turned_away, TURNED_AWAY_MAX) } else { (&open, usize::MAX) };
        if counter.load(Ordering::Relaxed) >= limit {
            warn!("too many connections: one was closed");
            continue;
        }
        let (server, place) = (Arc::clone(&server), Place::take(counter));
        let work = move || {
            let _place = place;
            if full { server.turn_away(stream) } else { server.attend(stream, number) }
        };
        if let Err(error) = std::thread::Builder::new().name(format!("dicom-{number}")).spawn(work) {
            warn!(%error, "no thread for an association");
        }
    }
    let deadline = Instant::now() + STOP_GRACE + Duration::from_secs(2);
    while open.load(Ordering::Relaxed) + turned_away.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A place among the associations; given back when dropped, also by a panic.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Server {
    config: Config,
    sink: Arc<dyn Sink>,
    stop: Arc<AtomicBool>,
    /// Bytes of data sets that are just being received, over all associations.
    in_flight: AtomicU64,
}

/// Presentation contexts that were accepted: (SOP class, transfer syntax) by id.
type Contexts = BTreeMap<u8, (String, String)>;

impl Server {
    fn link(&self, stream: TcpStream) -> io::Result<Link> {
        let idle = Duration::from_secs(u64::from(self.config.idle_s.max(1)));
        Link::new(stream, idle, self.config.pdu_bytes_max.clamp(4096, 1 << 20))
    }

    fn request(&self, link: &mut Link, within: Duration) -> Option<AssociationRQ> {
        match link.receive(Some(Instant::now() + within), &|| self.stop.load(Ordering::Relaxed)) {
            Ok(Incoming::Control(pdu)) => match *pdu {
                Pdu::AssociationRQ(request) => Some(request),
                _ => None,
            },
            Ok(_) => None,
            Err(error) => {
                debug!(%error, "no association was requested");
                None
            }
        }
    }

    /// Tells a connection too many to come back later.
    fn turn_away(&self, stream: TcpStream) {
        let Ok(mut link) = self.link(stream) else { return };
        if self.request(&mut link, Duration::from_secs(2)).is_some() {
            let source = AssociationRJSource::ServiceProviderPresentation(Congestion::LocalLimitExceeded);
            let _ = link.send(&Pdu::AssociationRJ(AssociationRJ { result: AssociationRJResult::Transient, source }));
        }
        warn!(limit = self.config.associations_max, "an association was refused: all are in use");
        link.close();
    }

    /// One association from its request to its end.
    fn attend(&self, stream: TcpStream, number: u64) {
        let Ok(mut link) = self.link(stream) else { return };
        let Some(request) = self.request(&mut link, Duration::from_secs(u64::from(self.config.establish_s.max(1))))
        else {
            return link.abort();
        };
        let (calling_ae, contexts, answer) = match negotiate(&request, &self.config) {
            Ok(accepted) => accepted,
            Err(reason) => {
                warn!(calling_ae = %request.calling_ae_title.escape_debug(), %reason, "an association was refused");
                let source = AssociationRJSource::ServiceUser(reason);
                let _ =
                    link.send(&Pdu::AssociationRJ(AssociationRJ { result: AssociationRJResult::Permanent, source }));
                return link.close();
            }
        };
        if link.send(&Pdu::AssociationAC(answer)).is_err() {
            return;
        }
        info!(association = number, %calling_ae, contexts = contexts.len(), "association established");
        let peer_pdu_max = peer_pdu_max(&request.user_variables);
        let mut talk = Talk {
            server: self,
            link,
            contexts,
            peer_pdu_max,
            number,
            calling_ae,
            series: BTreeSet::new(),
            objects: 0,
        };
        let ended = talk.run();
        let Talk { link, calling_ae, series, objects, .. } = talk;
        let how = match &ended {
            Ok(how) => *how,
            Err(LinkError::TimedOut(_)) => HowEnded::TimedOut,
            Err(_) => HowEnded::Aborted,
        };
        match ended {
            Ok(HowEnded::Released | HowEnded::Aborted) => link.close(),
            Ok(_) => link.abort(),
            Err(error) => {
                warn!(association = number, %error, "an association was broken off");
                link.abort();
            }
        }
        info!(association = number, objects, ?how, "association over");
        if objects > 0 {
            let series = series.into_iter().collect();
            self.sink.association_released(AssociationEnd { association: number, calling_ae, series, how });
        }
    }
}

fn peer_pdu_max(variables: &[UserVariableItem]) -> u32 {
    let named = variables.iter().find_map(|v| match v {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    match named {
        Some(0) | None => 16_384,
        Some(length) => length,
    }
}

/// Checks a request and chooses a transfer syntax per context: the first of [`syntax::ACCEPTED`] that is proposed.
fn negotiate(request: &AssociationRQ, config: &Config) -> Result<(AeTitle, Contexts, AssociationAC), UserReason> {
    if request.protocol_version & 1 == 0 || trim(&request.application_context_name) != APPLICATION_CONTEXT {
        return Err(UserReason::ApplicationContextNameNotSupported);
    }
    let calling = AeTitle::new(&request.calling_ae_title).ok().filter(|ae| config.allow.contains(ae));
    let calling = calling.ok_or(UserReason::CallingAETitleNotRecognized)?;
    if request.called_ae_title.trim() != config.ae_title.as_str() {
        return Err(UserReason::CalledAETitleNotRecognized);
    }
    let mut contexts = Contexts::new();
    let mut results = Vec::new();
    for proposed in request.presentation_contexts.iter().take(128) {
        let class = trim(&proposed.abstract_syntax);
        let offered: Vec<&str> = proposed.transfer_syntaxes.iter().map(|t| trim(t)).collect();
        let known = class == sop_class::VERIFICATION || class.starts_with(sop_class::STORAGE_PREFIX);
        let chosen = syntax::ACCEPTED.into_iter().find(|s| offered.contains(s));
        let (reason, transfer_syntax) = match (known, chosen) {
            (false, _) => (ContextReason::AbstractSyntaxNotSupported, syntax::IMPLICIT_LE),
            (true, None) => (ContextReason::TransferSyntaxesNotSupported, syntax::IMPLICIT_LE),
            (true, Some(chosen)) => {
                contexts.insert(proposed.id, (class.to_owned(), chosen.to_owned()));
                (ContextReason::Acceptance, chosen)
            }
        };
        results.push(PresentationContextResult { id: proposed.id, reason, transfer_syntax: transfer_syntax.into() });
    }
    let answer = AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: results,
        user_variables: part10::our_user_variables(config.pdu_bytes_max.clamp(4096, 1 << 20)),
    };
    Ok((calling, contexts, answer))
}

fn trim(uid: &str) -> &str {
    uid.trim_matches(|c: char| c == '\0' || c.is_whitespace())
}

/// An established association.
struct Talk<'a> {
    server: &'a Server,
    link: Link,
    contexts: Contexts,
    peer_pdu_max: u32,
    number: u64,
    calling_ae: AeTitle,
    series: BTreeSet<Identifier>,
    objects: u64,
}

/// A message that is being put together from PDVs.
#[derive(Default)]
struct Message {
    context: u8,
    command_bytes: Vec<u8>,
    command: Option<Command>,
    data_set: Vec<u8>,
    /// No room when it came: the rest is drained and answered with 0xA700.
    refused: bool,
}

/// Bytes in flight, given back when the message is dropped.
struct InFlight<'a> {
    counter: &'a AtomicU64,
    bytes: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Talk<'_> {
    fn run(&mut self) -> Result<HowEnded, LinkError> {
        let server = self.server;
        let mut message = Message::default();
        let mut in_flight = InFlight { counter: &server.in_flight, bytes: 0 };
        let mut stopping = None;
        loop {
            if server.stop.load(Ordering::Relaxed) {
                stopping.get_or_insert_with(|| Instant::now() + STOP_GRACE);
            }
            match self.link.receive(stopping, &|| server.stop.load(Ordering::Relaxed))? {
                Incoming::Stopped => return Ok(HowEnded::Stopped),
                Incoming::Control(pdu) => match *pdu {
                    Pdu::ReleaseRQ => {
                        self.link.send(&Pdu::ReleaseRP)?;
                        return Ok(HowEnded::Released);
                    }
                    Pdu::AbortRQ { .. } => return Ok(HowEnded::Aborted),
                    other => return Err(LinkError::Pdu(format!("an unexpected PDU: {}", other.short_description()))),
                },
                Incoming::Data(pdvs) => {
                    for pdv in pdvs {
                        self.link.message_begins();
                        if self.add(&mut message, &mut in_flight, pdv)? {
                            let whole = std::mem::take(&mut message);
                            self.answer(whole)?;
                            in_flight = InFlight { counter: &server.in_flight, bytes: 0 };
                            self.link.message_ends();
                        }
                    }
                }
            }
        }
    }

    /// Adds a PDV to the message; true when the message is whole.
    fn add(&mut self, message: &mut Message, in_flight: &mut InFlight<'_>, pdv: Pdv) -> Result<bool, LinkError> {
        let bytes = &self.link.body()[pdv.range];
        if message.command_bytes.is_empty() && message.command.is_none() {
            message.context = pdv.context;
        }
        let in_order = pdv.command == message.command.is_none() && pdv.context == message.context;
        if !in_order || !self.contexts.contains_key(&pdv.context) {
            return Err(LinkError::Pdu("a PDV out of order or of a context that was not accepted".into()));
        }
        if pdv.command {
            if message.command_bytes.len() + bytes.len() > COMMAND_BYTES_MAX {
                return Err(LinkError::Pdu("a command set that is too long".into()));
            }
            message.command_bytes.extend_from_slice(bytes);
            if !pdv.last {
                return Ok(false);
            }
            let command = Command::parse(&message.command_bytes);
            let command = command.ok_or_else(|| LinkError::Pdu("a damaged command set".into()))?;
            let whole = !command.has_data_set();
            message.command = Some(command);
            return Ok(whole);
        }
        let config = &self.server.config;
        let size = message.data_set.len() + bytes.len();
        if size as u64 > u64::from(config.object_mb_max) << 20 || size > OBJECT_BYTES_MAX {
            let instance = message.command.as_ref().map(Command::sop_instance).unwrap_or_default();
            self.reject("dicom.too-large", "the object is larger than this box takes".into(), instance, None);
            return Err(LinkError::Pdu("an object that is too large".into()));
        }
        let memory = u64::from(config.memory_mb_max) << 20;
        if !message.refused
            && self.server.in_flight.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64 > memory
        {
            message.refused = true;
            message.data_set = Vec::new();
            self.server.in_flight.fetch_sub(bytes.len() as u64 + in_flight.bytes, Ordering::Relaxed);
            in_flight.bytes = 0;
        } else if !message.refused {
            in_flight.bytes += bytes.len() as u64;
            message.data_set.extend_from_slice(bytes);
        }
        Ok(pdv.last)
    }

    /// Does what a whole message asks for and answers it.
    fn answer(&mut self, message: Message) -> Result<(), LinkError> {
        let Some(command) = message.command.as_ref() else { return Ok(()) };
        let (status, comment) = match command.field() {
            Some(field::ECHO) => (status::SUCCESS, String::new()),
            Some(field::STORE) => match self.store(&message, command) {
                Ok(()) => (status::SUCCESS, String::new()),
                Err(failure) => (failure.status, failure.sentence),
            },
            // A cancel has no response; a response to nothing has none either.
            Some(field::CANCEL) => return Ok(()),
            Some(f) if f & field::RESPONSE != 0 => return Ok(()),
            _ => (status::UNRECOGNIZED_OPERATION, "only C-STORE and C-ECHO are offered".into()),
        };
        let response = command.response(status, &comment).to_bytes();
        self.link.send_data(message.context, true, &response, self.peer_pdu_max)
    }

    /// Checks an object and hands it to the sink.
    fn store(&mut self, message: &Message, command: &Command) -> Result<(), StoreFailure> {
        self.objects += 1;
        let instance = command.sop_instance();
        let refuse = |status: u16, code: &'static str, sentence: String, series: Option<Identifier>| {
            self.reject(code, sentence.clone(), instance.clone(), series);
            Err(StoreFailure { status, sentence: format!("{code}: {sentence}") })
        };
        if message.refused {
            let sentence = "too many objects are being received at once".into();
            return refuse(status::OUT_OF_RESOURCES, "dicom.busy", sentence, None);
        }
        let (class, transfer_syntax) = self.contexts.get(&message.context).cloned().unwrap_or_default();
        let header = match parse_received(&message.data_set, &transfer_syntax) {
            Ok(header) => header,
            Err(error) => return refuse(status::CANNOT_UNDERSTAND, error.code(), error.to_string(), None),
        };
        let series = Some(header.series_instance_uid.clone());
        let uids = [&header.sop_instance_uid, &header.study_instance_uid, &header.series_instance_uid];
        if uids.into_iter().any(|uid| !is_uid(uid.as_str())) || !is_uid(&header.sop_class_uid) {
            let sentence = "a UID of the object, its series or its study is missing or no UID".into();
            return refuse(status::DATA_SET_DOES_NOT_MATCH, "dicom.uid", sentence, None);
        }
        let same_object = header.sop_instance_uid.as_str() == instance && header.sop_class_uid == command.sop_class();
        if !same_object || command.sop_class() != class {
            let sentence = "the data set is another object than the command names".into();
            return refuse(status::DATA_SET_DOES_NOT_MATCH, "dicom.mismatch", sentence, series);
        }
        let bytes = part10::with_file_meta(&message.data_set, &header, &self.calling_ae);
        let series = header.series_instance_uid.clone();
        let received = Received { bytes, header, calling_ae: self.calling_ae.clone(), association: self.number };
        let sink = &self.server.sink;
        let stored = catch_unwind(AssertUnwindSafe(|| sink.store(received)));
        match stored {
            Ok(Ok(())) => {
                self.series.insert(series);
                Ok(())
            }
            Ok(Err(failure)) => {
                warn!(
                    association = self.number,
                    status = failure.status,
                    sentence = failure.sentence,
                    "an object was not stored"
                );
                Err(failure)
            }
            Err(_) => Err(StoreFailure::processing("storing the object failed inside")),
        }
    }

    fn reject(&self, code: &'static str, sentence: String, instance: String, series: Option<Identifier>) {
        warn!(association = self.number, code, sentence, "an object was refused");
        self.server.sink.rejected(Rejection {
            code,
            sentence,
            calling_ae: self.calling_ae.clone(),
            sop_instance_uid: Identifier::new(instance),
            series_instance_uid: series,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_ul::pdu::PresentationContextProposed;

    fn request(calling: &str, called: &str) -> AssociationRQ {
        let context = |id, abstract_syntax: &str, syntaxes: &[&str]| PresentationContextProposed {
            id,
            abstract_syntax: abstract_syntax.into(),
            transfer_syntaxes: syntaxes.iter().map(ToString::to_string).collect(),
        };
        AssociationRQ {
            protocol_version: 1,
            calling_ae_title: calling.into(),
            called_ae_title: called.into(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: vec![
                context(1, sop_class::CT, &[syntax::IMPLICIT_LE, syntax::EXPLICIT_LE]),
                context(3, "1.2.840.10008.5.1.4.1.2.2.1", &[syntax::IMPLICIT_LE]),
                context(5, sop_class::CT, &["1.2.840.10008.1.2.4.50"]),
            ],
            user_variables: vec![],
        }
    }

    #[test]
    fn only_known_callers_of_our_title_get_contexts() {
        let config = Config { allow: vec![AeTitle::new("CT1").unwrap()], ..Config::default() };
        let (calling, contexts, answer) = negotiate(&request("CT1", "METWATCH"), &config).unwrap();
        assert_eq!(calling.as_str(), "CT1");
        assert_eq!(contexts.get(&1), Some(&(sop_class::CT.to_owned(), syntax::EXPLICIT_LE.to_owned())));
        let reasons: Vec<_> = answer.presentation_contexts.iter().map(|c| c.reason.clone()).collect();
        let expected = [
            ContextReason::Acceptance,
            ContextReason::AbstractSyntaxNotSupported,
            ContextReason::TransferSyntaxesNotSupported,
        ];
        assert_eq!(reasons, expected);
        assert_eq!(
            negotiate(&request("CT2", "METWATCH"), &config).unwrap_err(),
            UserReason::CallingAETitleNotRecognized
        );
        assert_eq!(negotiate(&request("CT1", "OTHER"), &config).unwrap_err(), UserReason::CalledAETitleNotRecognized);
        assert_eq!(
            negotiate(&request("CT1", "METWATCH"), &Config::default()).unwrap_err(),
            UserReason::CallingAETitleNotRecognized
        );
    }
}
