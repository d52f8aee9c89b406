//! The receiver's configuration, and what it hands on: objects, refusals, the ends of associations.

use super::dimse::status;
use super::{AeTitle, Header, Identifier};
use std::net::SocketAddr;

/// The `[dicom]` part of the configuration.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Our AE title; senders must call it.
    pub ae_title: AeTitle,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Calling AE titles that may send; empty means nobody.
    pub allow: Vec<AeTitle>,
    /// Associations at the same time.
    pub associations_max: u16,
    /// Longest PDU that we offer to receive, bytes (4096 to 1048576).
    pub pdu_bytes_max: u32,
    /// Largest object, MiB (at most 512).
    pub object_mb_max: u32,
    /// Objects that are just being received may take this much memory together, MiB.
    pub memory_mb_max: u32,
    /// An association must be established within this time, s.
    pub establish_s: u32,
    /// An association is aborted when nothing comes for this long, s.
    pub idle_s: u32,
    /// A series counts as complete when its associations are released and nothing arrived for this long (T1), s.
    pub quiet_s: u32,
    /// A series with a gap, or with an association still open, is announced as incomplete after this long (T2), s.
    pub incomplete_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ae_title: AeTitle::new("METWATCH").expect("a literal title"),
            listen: SocketAddr::from(([127, 0, 0, 1], 11112)),
            allow: Vec::new(),
            associations_max: 16,
            pdu_bytes_max: 131_072,
            object_mb_max: 512,
            memory_mb_max: 1024,
            establish_s: 10,
            idle_s: 30,
            quiet_s: 10,
            incomplete_s: 120,
        }
    }
}

/// An object as it was received.
#[derive(Debug)]
pub struct Received {
    /// A Part 10 file: file meta group of ours, then the data set's bytes as received.
    pub bytes: Vec<u8>,
    /// Its header. UIDs are valid and agree with the command.
    pub header: Header,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// Number of the association, unique while the process runs.
    pub association: u64,
}

/// Why the sink could not keep an object; becomes the C-STORE status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure {
    /// C-STORE status, such as 0xA700.
    pub status: u16,
    /// One sentence for the sender's log, without patient data.
    pub sentence: String,
}

impl StoreFailure {
    /// No room (0xA700): the sender tries again later.
    pub fn out_of_resources(sentence: impl Into<String>) -> Self {
        Self { status: status::OUT_OF_RESOURCES, sentence: sentence.into() }
    }

    /// Our own fault (0x0110).
    pub fn processing(sentence: impl Into<String>) -> Self {
        Self { status: status::PROCESSING_FAILURE, sentence: sentence.into() }
    }
}

/// An object or an association that was refused, for a "not analysed" event.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Stable code, such as `dicom.truncated`.
    pub code: &'static str,
    /// What happened, without patient data.
    pub sentence: String,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// Its SOP Instance UID as the command named it.
    pub sop_instance_uid: Identifier,
    /// Its series, when that much could be read.
    pub series_instance_uid: Option<Identifier>,
}

/// How an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowEnded {
    /// Released by the sender.
    Released,
    /// Aborted, by whomever, or the connection broke.
    Aborted,
    /// Aborted by us because of a deadline or the minimum rate.
    TimedOut,
    /// Ended by us because the process stops.
    Stopped,
}

/// The end of an association.
#[derive(Debug, Clone)]
pub struct AssociationEnd {
    /// Its number, as in [`Received::association`].
    pub association: u64,
    /// Who had called.
    pub calling_ae: AeTitle,
    /// Series of the objects that were stored over it.
    pub series: Vec<Identifier>,
    /// How it ended.
    pub how: HowEnded,
}

/// Where objects go.
pub trait Sink: Send + Sync {
    /// Keeps an object. When this returns `Ok`, the object survives SIGKILL and power loss: the sender is told "success" next.
    fn store(&self, object: Received) -> Result<(), StoreFailure>;
    /// An object was refused before it reached [`Sink::store`].
    fn rejected(&self, rejection: Rejection);
    /// An association over which objects were stored (or tried) is over.
    fn association_released(&self, end: AssociationEnd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_of_the_configuration_is_an_error() {
        let good = "ae_title = \"BOX\"\nlisten = \"0.0.0.0:104\"\nallow = [\"CT1\"]\nquiet_s = 5\n";
        let config: Config = toml::from_str(good).unwrap();
        assert_eq!((config.quiet_s, config.incomplete_s, config.listen.port()), (5, 120, 104));
        assert!(toml::from_str::<Config>("alow = [\"CT1\"]").unwrap_err().to_string().contains("alow"));
        assert!(toml::from_str::<Config>("ae_title = \"SEVENTEEN_LETTERS\"").is_err());
    }
}
