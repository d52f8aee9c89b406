//! The site's part of the configuration file: `[alert]`.

use super::error::AlertError;
use super::payload::IdentifiersV1;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// Longest name of a site, a box or a station, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Where alerts go, and how long they are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The site's broker as `host:port`; without it `serve` starts one on loopback.
    pub broker: Option<BrokerAddress>,
    /// Port on loopback of the broker that `serve` starts where none is named; 0 takes a free one.
    pub embedded_port: u16,
    /// First level of the topics below `metwatch/`.
    pub site: Name,
    /// Second level: the name of this box, unique at its broker.
    pub box_id: Name,
    /// MQTT client id; `metwatch-{site}-{box_id}` by default. Two boxes with one id throw each other out.
    pub client_id: Option<String>,
    /// User name at the broker.
    pub username: Option<String>,
    /// File with the password, mode 0600; a line feed at its end is left out.
    pub password_file: Option<PathBuf>,
    /// TLS to the broker.
    pub tls: Option<Tls>,
    /// What of the patient leaves the box.
    pub identifiers: Identifiers,
    /// An alert that no station acknowledged is published again after this long.
    pub resend_s: u32,
    /// An alert that no station acknowledged is escalated this long after it was made.
    pub escalate_s: u32,
    /// An alert says nothing any more after this long.
    pub validity_h: u32,
    /// The broker misses the box after one and a half times this long.
    pub keep_alive_s: u16,
    /// The broker announces a lost box after this long, so that a short break is no news.
    pub will_delay_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            broker: None,
            embedded_port: 1883,
            site: Name("site".into()),
            box_id: Name("box".into()),
            client_id: None,
            username: None,
            password_file: None,
            tls: None,
            identifiers: Identifiers::None,
            resend_s: 30,
            escalate_s: 300,
            validity_h: 24,
            keep_alive_s: 15,
            will_delay_s: 10,
        }
    }
}

impl Config {
    /// The MQTT client id of this box.
    pub fn client_id(&self) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("metwatch-{}-{}", self.site, self.box_id))
    }

    /// When an alert made now ends, unix ms.
    pub fn expires_at_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(i64::from(self.validity_h) * 3_600_000)
    }

    /// A full topic of this box from its suffix, such as `alert/a1`.
    pub fn topic(&self, suffix: &str) -> String {
        format!("metwatch/{}/{}/{suffix}", self.site, self.box_id)
    }
}

/// Suffixes of topics below `metwatch/{site}/{box}/`, as the outbox keeps them.
pub mod topic {
    use super::super::payload::EventKind;

    /// Retained status and last will.
    pub const STATUS: &str = "status";
    /// Periodic health, QoS 0.
    pub const HEALTH: &str = "health";

    /// An alert.
    pub fn alert(alert_id: &str) -> String {
        format!("alert/{alert_id}")
    }

    /// A result; `study` is the box-local number.
    pub fn result(study: &str) -> String {
        format!("result/{study}")
    }

    /// An event.
    pub fn event(kind: EventKind) -> String {
        format!("event/{}", kind.name())
    }

    /// The acknowledgement of an alert.
    pub fn ack(alert_id: &str) -> String {
        format!("ack/{alert_id}")
    }
}

/// What of the patient leaves the box over MQTT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifiers {
    /// Nothing.
    #[default]
    None,
    /// The accession number.
    Accession,
    /// The patient id.
    PatientId,
}

impl Identifiers {
    /// The part of the payload that names the patient; what is not known is not sent.
    pub fn select(self, accession: Option<&str>, patient_id: Option<&str>) -> IdentifiersV1 {
        let known = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        match self {
            Self::None => IdentifiersV1::None,
            Self::Accession => known(accession).map_or(IdentifiersV1::None, IdentifiersV1::Accession),
            Self::PatientId => known(patient_id).map_or(IdentifiersV1::None, IdentifiersV1::PatientId),
        }
    }
}

/// TLS to the broker; server and names are always checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: the authorities that may have signed the broker's certificate.
    pub ca_file: PathBuf,
    /// PEM: the box's own certificate chain, where the broker asks for one.
    pub client_cert_file: Option<PathBuf>,
    /// PEM: the key of that certificate, mode 0600.
    pub client_key_file: Option<PathBuf>,
}

/// A level of a topic: no `/`, `+`, `#` or control character, 1 to 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = AlertError;

    fn try_from(text: String) -> Result<Self, AlertError> {
        let fine = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.starts_with('$')
            && !text.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control());
        if fine { Ok(Name(text)) } else { Err(AlertError::BadName { text }) }
    }
}

impl std::str::FromStr for Name {
    type Err = AlertError;

    fn from_str(text: &str) -> Result<Self, AlertError> {
        text.to_owned().try_into()
    }
}

/// `host:port` of a broker; an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerAddress {
    /// Name or address.
    pub host: String,
    /// TCP port, usually 1883, with TLS 8883.
    pub port: u16,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for BrokerAddress {
    type Error = AlertError;

    fn try_from(text: String) -> Result<Self, AlertError> {
        text.parse()
    }
}

impl std::str::FromStr for BrokerAddress {
    type Err = AlertError;

    fn from_str(text: &str) -> Result<Self, AlertError> {
        let bad = || AlertError::BadBroker { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let fine = !bare.is_empty()
            && !bare.contains(['/', '[', ']', ' '])
            && (bare.len() < host.len() || !bare.contains(':'));
        let port: u16 = port.parse().map_err(|_| bad())?;
        if !fine || port == 0 {
            return Err(bad());
        }
        Ok(BrokerAddress { host: host.into(), port })
    }
}

impl From<std::net::SocketAddr> for BrokerAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        BrokerAddress { host, port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_host_and_port() {
        for fine in ["broker.ward:1883", "10.0.0.7:8883", "[::1]:1883"] {
            assert_eq!(fine.parse::<BrokerAddress>().unwrap().to_string(), fine);
        }
        for bad in ["broker", "mqtt://broker:1883", "broker:0", ":1883", "::1:1883", "broker:70000", ""] {
            assert!(bad.parse::<BrokerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_one_level_of_a_topic() {
        assert!("ward 3".parse::<Name>().is_ok());
        for bad in ["", "a/b", "+", "#", "$SYS", "a\nb"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let config: Config =
            toml::from_str("broker = \"b:1883\"\nidentifiers = \"patient_id\"\n[tls]\nca_file = \"ca.pem\"").unwrap();
        assert_eq!((config.identifiers, config.resend_s), (Identifiers::PatientId, 30));
        let error = toml::from_str::<Config>("resend = 3").unwrap_err().to_string();
        assert!(error.contains("resend"), "{error}");
        let error = toml::from_str::<Config>("site = \"a/b\"").unwrap_err().to_string();
        assert!(error.contains("a/b"), "{error}");
    }

    #[test]
    fn only_what_is_configured_leaves_the_box() {
        let select = |i: Identifiers| i.select(Some("A1"), Some("P1"));
        assert_eq!(select(Identifiers::None), IdentifiersV1::None);
        assert_eq!(select(Identifiers::Accession), IdentifiersV1::Accession("A1".into()));
        assert_eq!(select(Identifiers::PatientId), IdentifiersV1::PatientId("P1".into()));
        assert_eq!(Identifiers::Accession.select(None, Some("P1")), IdentifiersV1::None);
    }
}
