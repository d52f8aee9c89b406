//! What can go wrong between the box and its broker, and what to do about it.

use crate::Explain;
use std::io;
use std::path::PathBuf;

/// An error of the alert room. None carries patient data or a secret.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// A name that is no level of a topic.
    #[error(
        "{text:?} is no name for a site, box or station: 1 to 64 bytes without '/', '+', '#' and control characters"
    )]
    BadName {
        /// As configured.
        text: String,
    },
    /// Not `host:port`.
    #[error("{text:?} is no address of a broker")]
    BadBroker {
        /// As configured.
        text: String,
    },
    /// Nobody said where the broker is.
    #[error("no broker is configured")]
    NoBroker,
    /// A password without a user or the reverse.
    #[error("{present} is configured without {missing}: the broker would refuse the login")]
    HalfLogin {
        /// The key that is there.
        present: &'static str,
        /// The key that is missing.
        missing: &'static str,
    },
    /// A file that is named in the configuration cannot be read.
    #[error("reading {} failed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file with a secret that others may read.
    #[error("{} holds a secret and others may read it (mode {mode:03o})", path.display())]
    OpenSecret {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A PEM file without what it should hold.
    #[error("{} holds no usable {what}", path.display())]
    BadPem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The certificate and key of the box do not work together.
    #[error("the box's own certificate cannot be used: {why}")]
    BadClientCertificate {
        /// What the TLS library said.
        why: String,
    },
    /// Nobody answers.
    #[error("the broker {broker} cannot be reached: {why}")]
    Unreachable {
        /// `host:port`.
        broker: String,
        /// What the system said.
        why: String,
    },
    /// TLS failed.
    #[error("no secure connection to the broker {broker}: {why}")]
    Insecure {
        /// `host:port`.
        broker: String,
        /// What the TLS library said.
        why: String,
    },
    /// User name or password are wrong, or the user may not connect.
    #[error("the broker {broker} refused the login ({reason})")]
    Refused {
        /// `host:port`.
        broker: String,
        /// The reason code's name.
        reason: String,
    },
    /// The broker does not want this client, for another reason than its login.
    #[error("the broker {broker} does not accept the connection ({reason})")]
    NotAccepted {
        /// `host:port`.
        broker: String,
        /// The reason code's name.
        reason: String,
    },
    /// Another client with the same id.
    #[error(
        "another client connected to the broker {broker} under this box's client id, so the broker closed this connection"
    )]
    TakenOver {
        /// `host:port`.
        broker: String,
    },
    /// The connection was there and went.
    #[error("the connection to the broker {broker} was lost: {why}")]
    Lost {
        /// `host:port`.
        broker: String,
        /// What the system said.
        why: String,
    },
    /// Connections come and go.
    #[error("the broker {broker} takes each connection and closes it soon after ({why})")]
    Unstable {
        /// `host:port`.
        broker: String,
        /// What the system said.
        why: String,
    },
    /// The broker may not be subscribed to.
    #[error("the broker {broker} refused the subscription to {filter}")]
    NoSubscription {
        /// `host:port`.
        broker: String,
        /// The topic filter.
        filter: String,
    },
    /// The embedded broker did not start.
    #[error("the embedded broker did not start on 127.0.0.1:{port}: {why}")]
    NoEmbedded {
        /// The port asked for.
        port: u16,
        /// Why not.
        why: String,
    },
    /// No runtime for the connection.
    #[error("the system gave no resources for a connection: {why}")]
    NoRuntime {
        /// What the system said.
        why: String,
    },
    /// The store refused.
    #[error("the outbox cannot be read, so no alert can be sent: {why}")]
    Outbox {
        /// What the store said.
        why: String,
    },
}

impl Explain for AlertError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "alert.bad-name",
            Self::BadBroker { .. } => "alert.bad-broker",
            Self::NoBroker => "alert.no-broker",
            Self::HalfLogin { .. } => "alert.half-login",
            Self::File { .. } => "alert.file",
            Self::OpenSecret { .. } => "alert.open-secret",
            Self::BadPem { .. } => "alert.bad-pem",
            Self::BadClientCertificate { .. } => "alert.bad-client-certificate",
            Self::Unreachable { .. } => "alert.broker-unreachable",
            Self::Insecure { .. } => "alert.tls",
            Self::Refused { .. } => "alert.login-refused",
            Self::NotAccepted { .. } => "alert.not-accepted",
            Self::TakenOver { .. } => "alert.client-id-taken",
            Self::Lost { .. } => "alert.connection-lost",
            Self::Unstable { .. } => "alert.connection-unstable",
            Self::NoSubscription { .. } => "alert.no-subscription",
            Self::NoEmbedded { .. } => "alert.no-embedded-broker",
            Self::NoRuntime { .. } => "alert.no-runtime",
            Self::Outbox { .. } => "alert.outbox",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "choose a short name of letters, digits and dashes",
            Self::BadBroker { .. } => "write it as host:port, such as broker.ward.example:1883, without mqtt://",
            Self::NoBroker => "set `broker` in the section [alert] of the configuration",
            Self::HalfLogin { .. } => "configure both `username` and `password_file`, or neither",
            Self::File { .. } => "check that the file exists and that the service's user may read it",
            Self::OpenSecret { .. } => "give the file the mode 0600 and the service's user as its owner",
            Self::BadPem { .. } => "use a PEM file (it begins with -----BEGIN) of the right kind",
            Self::BadClientCertificate { .. } => "check that certificate and key belong together",
            Self::Unreachable { .. } => {
                "check the address, the network and that the broker runs; alerts wait in the outbox and go out by themselves"
            }
            Self::Insecure { .. } => {
                "check that ca_file signed the broker's certificate, that the certificate names the configured host, and the clocks"
            }
            Self::Refused { .. } => {
                "check `username`, the password file and the broker's access list; alerts wait in the outbox"
            }
            Self::NotAccepted { .. } => "ask the broker's administrator with this reason; alerts wait in the outbox",
            Self::TakenOver { .. } => "give each box its own `box_id` (or `client_id`)",
            Self::Lost { .. } => {
                "nothing, unless it goes on: the box connects again by itself; then check the network and the broker"
            }
            Self::Unstable { .. } => {
                "check that no other box has the same `box_id` (or `client_id`), then the broker's log"
            }
            Self::NoSubscription { .. } => {
                "allow the box to read its ack topics: without acknowledgements every alert is repeated and escalated"
            }
            Self::NoEmbedded { .. } => {
                "free the port or choose another one, or name the site's broker in the configuration"
            }
            Self::NoRuntime { .. } => "check the limits of the process (threads, open files)",
            Self::Outbox { .. } => "look at the store's own message; restart the service",
        }
    }
}
