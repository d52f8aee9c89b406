//! The `[dicom]` part of the configuration: who may call, how the port is guarded, and where results are sent.

use super::tls::{Tls, TlsConfig, TlsError, server_config};
use super::{AeTitle, sop_class};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use std::net::{IpAddr, SocketAddr};

/// The `[dicom]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Our AE title; senders must call it, unless their entry in `allow` names another.
    pub ae_title: AeTitle,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Who may call, as AE titles or as tables with limits; empty means nobody.
    pub allow: Vec<Caller>,
    /// Certificates; without it there is no TLS in either direction.
    pub tls: Option<TlsConfig>,
    /// Where results are sent.
    #[serde(deserialize_with = "distinct")]
    pub send: Vec<Destination>,
    /// What a C-STORE success promises.
    pub durability: Durability,
    /// Associations at the same time.
    pub associations_max: u16,
    /// Longest PDU that we offer to receive, bytes (4096 to 1048576).
    pub pdu_bytes_max: u32,
    /// Largest object, MiB (at most 512).
    pub object_mb_max: u32,
    /// Objects that are just being received may take this much memory together, MiB.
    pub memory_mb_max: u32,
    /// Objects are refused with 0xA700 while the store's disk has less room than this, MiB.
    pub free_mb_min: u32,
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
            tls: None,
            send: Vec::new(),
            durability: Durability::Object,
            associations_max: 64,
            pdu_bytes_max: 131_072,
            object_mb_max: 512,
            memory_mb_max: 1024,
            free_mb_min: 256,
            establish_s: 10,
            idle_s: 30,
            quiet_s: 10,
            incomplete_s: 120,
        }
    }
}

/// What a C-STORE success promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The object survives power loss: it is synced before each success. For scanners that delete on success.
    Object,
    /// The process may end; power loss may take what the open association sent. Synced before a release or a commitment request
    /// is answered. Faster, and for senders that wait for storage commitment.
    Association,
}

/// An application entity that may call: `"CT1"`, or a table with limits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerTable {
    ae_title: AeTitle,
    host: Option<IpAddr>,
    #[serde(default)]
    called: Vec<AeTitle>,
    certificate: Option<String>,
    #[serde(default = "yes")]
    echo: bool,
    #[serde(default = "yes")]
    store: bool,
    #[serde(default = "yes")]
    commit: bool,
    report_port: Option<u16>,
    #[serde(default)]
    report_tls: bool,
}

fn yes() -> bool {
    true
}

/// An application entity that may call, and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Its AE title.
    pub ae_title: AeTitle,
    /// Its address; any when absent.
    pub host: Option<IpAddr>,
    /// Our titles that it may call; [`Config::ae_title`] when empty.
    pub called: Vec<AeTitle>,
    /// Common name or DNS name that its TLS certificate must carry; then it cannot call without TLS.
    pub certificate: Option<String>,
    /// May verify (C-ECHO).
    pub echo: bool,
    /// May store (C-STORE).
    pub store: bool,
    /// May request storage commitment (N-ACTION).
    pub commit: bool,
    /// May report commitments (N-EVENT-REPORT): it is a destination of ours.
    pub reports: bool,
    /// Port on which it hears commitment reports; without it they go over the association of the request.
    pub report_port: Option<u16>,
    /// Whether that port speaks TLS.
    pub report_tls: bool,
}

impl From<AeTitle> for Caller {
    fn from(ae_title: AeTitle) -> Self {
        Self {
            ae_title,
            host: None,
            called: Vec::new(),
            certificate: None,
            echo: true,
            store: true,
            commit: true,
            reports: false,
            report_port: None,
            report_tls: false,
        }
    }
}

impl From<CallerTable> for Caller {
    fn from(t: CallerTable) -> Self {
        Self {
            ae_title: t.ae_title,
            host: t.host,
            called: t.called,
            certificate: t.certificate,
            echo: t.echo,
            store: t.store,
            commit: t.commit,
            reports: false,
            report_port: t.report_port,
            report_tls: t.report_tls,
        }
    }
}

impl<'de> Deserialize<'de> for Caller {
    /// By hand, because serde's untagged form would not name a misspelt key.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TitleOrTable;
        impl<'de> Visitor<'de> for TitleOrTable {
            type Value = Caller;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an AE title or a table with ae_title")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Caller, E> {
                AeTitle::new(text).map(Caller::from).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Caller, A::Error> {
                CallerTable::deserialize(MapAccessDeserializer::new(map)).map(Caller::from)
            }
        }
        deserializer.deserialize_any(TitleOrTable)
    }
}

/// What a result's object is, by its SOP class: what the rules of a [`Destination`] name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// Segmentation, also as a label map.
    Seg,
    /// Structured report of any class.
    Sr,
    /// Secondary capture: pictures.
    Sc,
    /// Encapsulated PDF.
    Pdf,
}

/// SOP classes of results: kind, UID, name.
pub const RESULT_CLASSES: [(ObjectKind, &str, &str); 9] = [
    (ObjectKind::Seg, sop_class::SEGMENTATION, "Segmentation Storage"),
    (ObjectKind::Seg, sop_class::LABEL_MAP_SEGMENTATION, "Label Map Segmentation Storage"),
    (ObjectKind::Sr, "1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR Storage"),
    (ObjectKind::Sr, "1.2.840.10008.5.1.4.1.1.88.33", "Comprehensive SR Storage"),
    (ObjectKind::Sr, "1.2.840.10008.5.1.4.1.1.88.34", "Comprehensive 3D SR Storage"),
    (ObjectKind::Sc, "1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage"),
    (ObjectKind::Sc, "1.2.840.10008.5.1.4.1.1.7.2", "Multi-frame Grayscale Byte Secondary Capture Image Storage"),
    (ObjectKind::Sc, "1.2.840.10008.5.1.4.1.1.7.4", "Multi-frame True Color Secondary Capture Image Storage"),
    (ObjectKind::Pdf, "1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
];

impl ObjectKind {
    /// The kind of a SOP class; `None` for what is no result.
    pub fn of(sop_class: &str) -> Option<Self> {
        RESULT_CLASSES.iter().find(|(_, class, _)| *class == sop_class).map(|(kind, ..)| *kind)
    }

    /// Its name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seg => "seg",
            Self::Sr => "sr",
            Self::Sc => "sc",
            Self::Pdf => "pdf",
        }
    }
}

/// Which results a destination gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultGroup {
    /// Results without a risk: refused by a gate.
    None,
    /// Low risk.
    Low,
    /// Intermediate risk.
    Intermediate,
    /// High risk.
    High,
}

/// A node that results are sent to, and which.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Its AE title; two destinations cannot share one.
    pub ae_title: AeTitle,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Our AE title towards it; [`Config::ae_title`] when absent.
    pub calling: Option<AeTitle>,
    /// Whether it is called over TLS.
    #[serde(default)]
    pub tls: bool,
    /// Name that its certificate must carry; `host` when absent.
    pub certificate: Option<String>,
    /// Which kinds of objects.
    #[serde(default = "all_kinds")]
    pub objects: Vec<ObjectKind>,
    /// Which results.
    #[serde(default = "all_risks")]
    pub groups: Vec<ResultGroup>,
    /// Whether storage commitment is requested, and an object counts as delivered only when it is committed.
    #[serde(default)]
    pub commit: bool,
    /// A commitment that is not reported within this time is requested again, h.
    #[serde(default = "a_day")]
    pub commit_h: u32,
    /// An object that could not be delivered for this long is parked, h.
    #[serde(default = "a_week")]
    pub give_up_h: u32,
}

/// Destinations, no two of one title: messages name their destination by it.
fn distinct<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Destination>, D::Error> {
    let all = Vec::<Destination>::deserialize(deserializer)?;
    let twice = all.iter().enumerate().find(|(k, d)| all.iter().take(*k).any(|e| e.ae_title == d.ae_title));
    match twice {
        Some((_, d)) => Err(serde::de::Error::custom(format!("two destinations have the AE title {}", d.ae_title))),
        None => Ok(all),
    }
}

fn all_kinds() -> Vec<ObjectKind> {
    vec![ObjectKind::Seg, ObjectKind::Sr, ObjectKind::Sc, ObjectKind::Pdf]
}

fn all_risks() -> Vec<ResultGroup> {
    vec![ResultGroup::Low, ResultGroup::Intermediate, ResultGroup::High]
}

fn a_day() -> u32 {
    24
}

fn a_week() -> u32 {
    168
}

/// Who called: what is known before anything is accepted.
#[derive(Debug, Clone)]
pub struct Calling<'a> {
    /// Calling AE title.
    pub ae_title: &'a AeTitle,
    /// Called AE title.
    pub called: &'a AeTitle,
    /// Address of the socket.
    pub host: IpAddr,
    /// Names in the TLS certificate; `None` without TLS, empty without a certificate.
    pub names: Option<&'a [String]>,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// No entry fits its title, address and certificate.
    Calling,
    /// It calls a title that is not ours, or not for it.
    Called,
}

impl Config {
    /// Reads the certificates and looks for contradictions.
    pub fn verify(&self) -> Result<(), TlsError> {
        let not_configured = |what: String, missing| Err(TlsError::NotConfigured { what, missing });
        match &self.tls {
            Some(tls) if tls.listen.is_some() => drop(server_config(tls)?),
            Some(tls) if tls.only => return not_configured("receiving".into(), "dicom.tls.listen"),
            Some(tls) => drop(Tls::new(tls, None)?),
            None => {}
        }
        if let Some(to) = self.send.iter().find(|d| d.tls && self.tls.is_none()) {
            return not_configured(format!("sending to {}", to.ae_title), "dicom.tls");
        }
        for caller in self.allow.iter().filter(|c| c.certificate.is_some() || c.report_tls) {
            if self.tls.as_ref().is_none_or(|tls| tls.listen.is_none() && caller.certificate.is_some()) {
                return not_configured(format!("the entry of {}", caller.ae_title), "dicom.tls with listen");
            }
        }
        Ok(())
    }

    /// What a caller may do.
    pub fn caller(&self, calling: &Calling<'_>) -> Result<Caller, Stranger> {
        let committing = self.send.iter().filter(|d| d.commit).map(|d| Caller {
            echo: false,
            store: false,
            commit: false,
            reports: true,
            called: d.calling.clone().into_iter().collect(),
            certificate: d.certificate.clone().filter(|_| d.tls),
            ..Caller::from(d.ae_title.clone())
        });
        let listed: Vec<Caller> = self.allow.iter().cloned().chain(committing).filter(|c| c.is(calling)).collect();
        let fits = |c: &Caller| match c.called[..] {
            [] => *calling.called == self.ae_title,
            _ => c.called.contains(calling.called),
        };
        // A node may be a sender and a destination: the rights of all entries that fit count together.
        let together = |a: Caller, b: Caller| Caller {
            echo: a.echo | b.echo,
            store: a.store | b.store,
            commit: a.commit | b.commit,
            reports: a.reports | b.reports,
            report_port: a.report_port.or(b.report_port),
            report_tls: a.report_tls | b.report_tls,
            ..a
        };
        if listed.is_empty() {
            return Err(Stranger::Calling);
        }
        listed.into_iter().filter(fits).reduce(together).ok_or(Stranger::Called)
    }
}

impl Caller {
    fn is(&self, calling: &Calling<'_>) -> bool {
        let named = |name: &String| match calling.names {
            Some(names) => names.iter().any(|n| n.eq_ignore_ascii_case(name)),
            None => false,
        };
        self.ae_title == *calling.ae_title
            && self.host.is_none_or(|h| h == calling.host.to_canonical())
            && self.certificate.as_ref().is_none_or(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calling<'a>(titles: &'a [AeTitle; 2], host: &str, names: Option<&'a [String]>) -> Calling<'a> {
        Calling { ae_title: &titles[0], called: &titles[1], host: host.parse().unwrap(), names }
    }

    fn titles(calling: &str, called: &str) -> [AeTitle; 2] {
        [calling, called].map(|t| AeTitle::new(t).unwrap())
    }

    #[test]
    fn a_misspelt_key_of_the_configuration_is_an_error() {
        let good = "ae_title = \"BOX\"\nlisten = \"0.0.0.0:104\"\nallow = [\"CT1\"]\nquiet_s = 5\n";
        let config: Config = toml::from_str(good).unwrap();
        assert_eq!((config.quiet_s, config.incomplete_s, config.listen.port()), (5, 120, 104));
        assert!(toml::from_str::<Config>("alow = [\"CT1\"]").unwrap_err().to_string().contains("alow"));
        assert!(toml::from_str::<Config>("ae_title = \"SEVENTEEN_LETTERS\"").is_err());
        let misspelt = toml::from_str::<Config>("allow = [{ ae_title = \"CT1\", sotre = false }]");
        assert!(misspelt.unwrap_err().to_string().contains("sotre"));
        let misspelt = toml::from_str::<Config>("[[send]]\nae_title=\"A\"\nhost=\"h\"\nport=1\ngroups=[\"hihg\"]");
        assert!(misspelt.unwrap_err().to_string().contains("hihg"));
        let pacs = "[[send]]\nae_title = \"PACS\"\nhost = \"p\"\nport = 104\n";
        assert!(toml::from_str::<Config>(pacs).is_ok());
        assert!(toml::from_str::<Config>(&pacs.repeat(2)).unwrap_err().to_string().contains("PACS"));
    }

    #[test]
    fn a_caller_has_the_rights_of_its_entry_from_its_address_only() {
        let text =
            "allow = [\"CT1\", { ae_title = \"CT2\", host = \"10.0.0.2\", commit = false, called = [\"BOX2\"] }]";
        let config: Config = toml::from_str(text).unwrap();
        let may = |calling_title: &str, called: &str, host: &str| {
            config.caller(&calling(&titles(calling_title, called), host, None)).map(|c| (c.store, c.commit))
        };
        assert_eq!(may("CT1", "METWATCH", "10.0.0.9"), Ok((true, true)));
        assert_eq!(may("CT2", "BOX2", "10.0.0.2"), Ok((true, false)));
        assert_eq!(may("CT2", "BOX2", "::ffff:10.0.0.2"), Ok((true, false)));
        assert_eq!(may("CT2", "METWATCH", "10.0.0.2"), Err(Stranger::Called));
        assert_eq!(may("CT2", "BOX2", "10.0.0.3"), Err(Stranger::Calling));
        assert_eq!(may("CT3", "METWATCH", "10.0.0.2"), Err(Stranger::Calling));
    }

    #[test]
    fn a_caller_with_a_certificate_needs_it_and_a_committing_destination_may_report() {
        let text = "allow = [{ ae_title = \"CT1\", certificate = \"ct1.example\" }]\n[[send]]\nae_title = \"PACS\"\nhost = \"p\"\nport = 104\ncommit = true";
        let config: Config = toml::from_str(text).unwrap();
        let ct = titles("CT1", "METWATCH");
        let names = |name: &str| vec![name.to_string()];
        let known = |names: Option<&[String]>| config.caller(&calling(&ct, "10.0.0.1", names)).is_ok();
        assert_eq!(
            [known(None), known(Some(&[])), known(Some(&names("x"))), known(Some(&names("CT1.Example")))],
            [false, false, false, true]
        );
        let pacs = titles("PACS", "METWATCH");
        let pacs = config.caller(&calling(&pacs, "10.0.0.1", None)).unwrap();
        assert_eq!((pacs.reports, pacs.store, pacs.commit), (true, false, false));
    }

    #[test]
    fn kinds_come_from_the_sop_class() {
        let kind = |class: &str| ObjectKind::of(&format!("1.2.840.10008.5.1.4.1.1.{class}"));
        assert_eq!([kind("66.4"), kind("66.7")], [Some(ObjectKind::Seg); 2]);
        assert_eq!(
            [kind("88.34"), kind("7"), kind("104.1"), kind("2")],
            [Some(ObjectKind::Sr), Some(ObjectKind::Sc), Some(ObjectKind::Pdf), None]
        );
    }
}
