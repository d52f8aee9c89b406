//! An established association on the accepting side: messages are put together from PDVs, done and answered.

use super::commitment::{CommitReport, CommitRequest, DATA_SET_BYTES_MAX};
use super::dimse::{COMMAND_BYTES_MAX, Command, field, status};
use super::header::parse_received;
use super::identifier::is_uid;
use super::link::{Incoming, Link, LinkError, Pdv};
use super::negotiate::Contexts;
use super::receive::{STOP_GRACE, Server};
use super::sink::{Commitment, HowEnded, Received, Recorded, Rejection, StoreFailure};
use super::walker::OBJECT_BYTES_MAX;
use super::{AeTitle, Caller, Identifier, part10, sop_class};
use crate::Explain;
use dicom_ul::pdu::Pdu;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::{info, warn};

/// An established association.
pub struct Talk<'a> {
    pub server: &'a Server,
    pub link: Link,
    pub contexts: Contexts,
    pub peer_pdu_max: u32,
    pub number: u64,
    pub peer: SocketAddr,
    pub caller: Caller,
    pub called_ae: AeTitle,
    /// Series of the objects that were stored.
    pub series: BTreeSet<Identifier>,
    /// Objects that came.
    pub objects: u64,
    /// Our report that the peer has not confirmed yet: its message id and its record.
    pub reported: Option<(u16, String)>,
}

/// A message that is being put together from PDVs.
#[derive(Default)]
struct Message {
    context: u8,
    command_bytes: Vec<u8>,
    command: Option<Command>,
    /// For an object a Part 10 file that grows; the data set begins at `data_at`.
    bytes: Vec<u8>,
    data_at: usize,
    /// No room when it came: the rest is drained and answered with 0xA700.
    refused: bool,
}

impl Message {
    fn data_set(&self) -> &[u8] {
        self.bytes.get(self.data_at..).unwrap_or_default()
    }
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
    /// Answers messages until the association ends.
    pub fn run(&mut self) -> Result<HowEnded, LinkError> {
        let server = self.server;
        let mut message = Message::default();
        let mut in_flight = InFlight { counter: &server.in_flight, bytes: 0 };
        let mut stopping = None;
        loop {
            if server.is_stopping() {
                stopping.get_or_insert_with(|| Instant::now() + STOP_GRACE);
            }
            match self.link.receive(stopping, &|| server.is_stopping())? {
                Incoming::Stopped => return Ok(HowEnded::Stopped),
                Incoming::Control(pdu) => match *pdu {
                    Pdu::ReleaseRQ => {
                        if server.sink.settle(self.number).is_err() {
                            return Err(LinkError::Pdu("what it sent could not be kept".into()));
                        }
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
            if command.field() == Some(field::STORE) && is_uid(&command.sop_class()) && is_uid(&command.sop_instance())
            {
                let transfer_syntax = self.contexts.get(&message.context).map_or("", |c| &c.1);
                let (class, instance) = (command.sop_class(), command.sop_instance());
                message.bytes = part10::file(&[], &class, &instance, transfer_syntax, Some(&self.caller.ae_title));
                message.data_at = message.bytes.len();
            }
            message.command = Some(command);
            return Ok(whole);
        }
        let config = &self.server.config;
        let is_object = message.command.as_ref().and_then(Command::field) == Some(field::STORE);
        let limit = if is_object { (config.object_mb_max as usize) << 20 } else { DATA_SET_BYTES_MAX };
        let size = message.bytes.len() + bytes.len();
        if size > limit.min(OBJECT_BYTES_MAX) {
            let instance = message.command.as_ref().map(Command::sop_instance).unwrap_or_default();
            self.reject("dicom.too-large", "the object is larger than this box takes".into(), instance, None);
            return Err(LinkError::Pdu("an object that is too large".into()));
        }
        let memory = u64::from(config.memory_mb_max) << 20;
        let n = bytes.len() as u64;
        if !message.refused && self.server.in_flight.fetch_add(n, Ordering::Relaxed) + n > memory {
            message.refused = true;
            (message.bytes, message.data_at) = (Vec::new(), 0);
            self.server.in_flight.fetch_sub(n + in_flight.bytes, Ordering::Relaxed);
            in_flight.bytes = 0;
        } else if !message.refused {
            in_flight.bytes += n;
            message.bytes.extend_from_slice(bytes);
        }
        Ok(pdv.last)
    }

    /// Does what a whole message asks for and answers it.
    fn answer(&mut self, message: Message) -> Result<(), LinkError> {
        let context = message.context;
        let Some(command) = message.command.clone() else { return Ok(()) };
        let mut recorded = None;
        let done = match command.field() {
            Some(field::ECHO) => Ok(()),
            Some(field::STORE) => self.store(message, &command),
            Some(field::ACTION) => self.commitment_requested(&message, &command).map(|r| recorded = r),
            Some(field::EVENT_REPORT) => self.commitment_report(&message, &command),
            // A cancel has no response.
            Some(field::CANCEL) => return Ok(()),
            Some(f) if f & field::RESPONSE != 0 => {
                self.response(&command);
                return Ok(());
            }
            _ => Err(StoreFailure {
                status: status::UNRECOGNIZED_OPERATION,
                sentence: "only C-STORE, C-ECHO and storage commitment are offered".into(),
            }),
        };
        let (status, comment) = done.map_or_else(|f| (f.status, f.sentence), |()| (status::SUCCESS, String::new()));
        let response = command.response(status, &comment).to_bytes();
        self.link.send_data(context, true, &response, self.peer_pdu_max)?;
        match recorded {
            Some(recorded) => self.report(context, recorded),
            None => Ok(()),
        }
    }

    /// Sends a report over the association of its request.
    fn report(&mut self, context: u8, recorded: Recorded) -> Result<(), LinkError> {
        const MESSAGE_ID: u16 = 1;
        let transfer_syntax = self.contexts.get(&context).map_or("", |c| &c.1);
        let data_set = recorded.report.to_bytes(transfer_syntax);
        let command = Command::report_commitment(MESSAGE_ID, recorded.report.event_type()).to_bytes();
        self.link.send_data(context, true, &command, self.peer_pdu_max)?;
        self.link.send_data(context, false, &data_set, self.peer_pdu_max)?;
        self.reported = Some((MESSAGE_ID, recorded.id));
        Ok(())
    }

    /// A response to our report; to anything else we never asked.
    fn response(&mut self, response: &Command) {
        let is_ours = |(id, _): &(u16, String)| Some(*id) == response.responded_id();
        let event = response.field() == Some(field::EVENT_REPORT | field::RESPONSE);
        if event
            && response.status() == Some(status::SUCCESS)
            && let Some((_, id)) = self.reported.take_if(|reported| is_ours(reported))
        {
            self.server.sink.commitment_reported(&id);
        }
    }

    /// The data set of an N-service on storage commitment.
    fn commitment_data<'m>(&self, message: &'m Message, command: &Command) -> Result<(&'m [u8], &str), StoreFailure> {
        let (class, transfer_syntax) = self.contexts.get(&message.context).map_or(("", ""), |c| (&c.0, &c.1));
        let refuse = |status, sentence: &str| Err(StoreFailure { status, sentence: sentence.into() });
        if class != sop_class::STORAGE_COMMITMENT || command.sop_class() != class {
            return refuse(status::SOP_CLASS_NOT_SUPPORTED, "only storage commitment has this operation");
        }
        if command.sop_instance() != sop_class::STORAGE_COMMITMENT_INSTANCE {
            return refuse(status::NO_SUCH_INSTANCE, "storage commitment has one well-known instance");
        }
        if message.refused {
            return refuse(status::PROCESSING_FAILURE, "too much is being received at once");
        }
        Ok((message.data_set(), transfer_syntax))
    }

    /// N-ACTION: records the answer; it is returned when it goes over this association.
    fn commitment_requested(&self, message: &Message, command: &Command) -> Result<Option<Recorded>, StoreFailure> {
        let (data_set, transfer_syntax) = self.commitment_data(message, command)?;
        let refuse = |status, sentence: &str| Err(StoreFailure { status, sentence: sentence.into() });
        if !self.caller.commit {
            return refuse(status::NOT_AUTHORIZED, "this title may not request commitment");
        }
        if command.action_type() != Some(1) {
            return refuse(status::NO_SUCH_ACTION, "only action 1 is defined");
        }
        let Some(request) = CommitRequest::parse(data_set, transfer_syntax) else {
            return refuse(status::INVALID_ARGUMENT, "no transaction, no objects, or too many");
        };
        self.server.sink.settle(self.number)?;
        let host = self.caller.host.unwrap_or(self.peer.ip());
        let commitment = Commitment {
            request,
            calling_ae: self.caller.ae_title.clone(),
            called_ae: self.called_ae.clone(),
            report_to: self.caller.report_port.map(|port| SocketAddr::new(host, port)),
            report_tls: self.caller.report_tls,
        };
        let (n, sink) = (commitment.request.objects.len(), &self.server.sink);
        let recorded = catch_unwind(AssertUnwindSafe(|| sink.commitment_requested(&commitment)))
            .unwrap_or_else(|_| Err(StoreFailure::processing("recording the commitment failed inside")))?;
        let failed = recorded.report.failed.len();
        info!(association = self.number, objects = n, failed, "storage commitment was requested and answered");
        Ok(Some(recorded).filter(|_| commitment.report_to.is_none()))
    }

    /// N-EVENT-REPORT: the answer to a request of ours.
    fn commitment_report(&self, message: &Message, command: &Command) -> Result<(), StoreFailure> {
        let (data_set, transfer_syntax) = self.commitment_data(message, command)?;
        let refuse = |status, sentence: &str| Err(StoreFailure { status, sentence: sentence.into() });
        if !self.caller.reports {
            return refuse(status::NOT_AUTHORIZED, "nothing was requested from this title");
        }
        if !matches!(command.event_type(), Some(1 | 2)) {
            return refuse(status::NO_SUCH_EVENT, "only events 1 and 2 are defined");
        }
        match CommitReport::parse(data_set, transfer_syntax) {
            Some(report) => self.server.sink.commitment_report(&self.caller.ae_title, &report),
            None => refuse(status::INVALID_ARGUMENT, "no transaction, or a damaged report"),
        }
    }

    /// Checks an object and hands it to the sink.
    fn store(&mut self, message: Message, command: &Command) -> Result<(), StoreFailure> {
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
        let header = match parse_received(message.data_set(), &transfer_syntax) {
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
        let series = header.series_instance_uid.clone();
        let calling_ae = self.caller.ae_title.clone();
        let received = Received { bytes: message.bytes, header, calling_ae, association: self.number };
        let sink = &self.server.sink;
        let stored = catch_unwind(AssertUnwindSafe(|| sink.store(received)))
            .unwrap_or_else(|_| Err(StoreFailure::processing("storing the object failed inside")));
        match stored {
            Ok(()) => {
                self.series.insert(series);
                Ok(())
            }
            Err(failure) => {
                let StoreFailure { status, sentence } = &failure;
                warn!(association = self.number, status, sentence, "an object was not stored");
                Err(failure)
            }
        }
    }

    fn reject(&self, code: &'static str, sentence: String, instance: String, series: Option<Identifier>) {
        warn!(association = self.number, code, sentence, "an object was refused");
        self.server.sink.rejected(Rejection {
            code,
            sentence,
            calling_ae: self.caller.ae_title.clone(),
            sop_instance_uid: Identifier::new(instance),
            series_instance_uid: series,
        });
    }
}
