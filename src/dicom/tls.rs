//! TLS for associations, in both directions: the BCP 195 profile (PS3.15 B.9: TLS 1.2 with forward secrecy, TLS 1.3), by rustls.

use crate::Explain;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Certificates of this node and of those it believes.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates of authorities, PEM: who signed the certificates of the other nodes.
    pub ca_file: PathBuf,
    /// Our certificate and those between it and its authority, PEM. Needed to listen.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, PEM, mode 0600.
    pub key_file: Option<PathBuf>,
    /// Address and port to listen on with TLS, usually port 2762; without it TLS is only used for sending.
    pub listen: Option<SocketAddr>,
    /// Whether callers must show a certificate of such an authority.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// No port without TLS: `dicom.listen` stays closed.
    #[serde(default)]
    pub only: bool,
}

/// Whether callers must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Without one there is no association.
    #[default]
    Required,
    /// Checked when there is one.
    Optional,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{} holds no {what} in PEM form", path.display())]
    BadPem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A key that others may read.
    #[error("{} may be read by others (mode {mode:03o})", path.display())]
    OpenKey {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate, key and authority do not go together.
    #[error("the certificate cannot be used: {why}")]
    Unusable {
        /// What rustls says.
        why: String,
    },
    /// TLS is asked for where the configuration has no certificates.
    #[error("{what} needs TLS, but {missing} is not configured")]
    NotConfigured {
        /// Who needs it.
        what: String,
        /// Which key.
        missing: &'static str,
    },
}

impl Explain for TlsError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "tls.file",
            Self::BadPem { .. } => "tls.pem",
            Self::OpenKey { .. } => "tls.open-key",
            Self::Unusable { .. } => "tls.unusable",
            Self::NotConfigured { .. } => "tls.not-configured",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::BadPem { .. } => "name a readable PEM file in dicom.tls",
            Self::OpenKey { .. } => "chmod 600 the key and give it to the service's user",
            Self::Unusable { .. } => {
                "check that the key belongs to the certificate and that it is an X.509 v3 certificate"
            }
            Self::NotConfigured { .. } => "complete dicom.tls: ca_file, and certificate_file with key_file to listen",
        }
    }
}

/// How a node is called over TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// Name that the node's certificate must carry.
    name: Option<String>,
}

impl Tls {
    /// Reads the files. `name`: what the node's certificate must carry, its host when absent.
    pub fn new(config: &TlsConfig, name: Option<String>) -> Result<Self, TlsError> {
        Ok(Self { config: Arc::new(client_config(config)?), name })
    }

    /// A connection that is about to say hello.
    pub fn connection(&self, host: &str) -> Result<ClientConnection, TlsError> {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(unusable)?;
        ClientConnection::new(self.config.clone(), name).map_err(unusable)
    }
}

fn client_config(config: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(config)?);
    match identity(config)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(unusable),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// What a listening port needs.
pub fn server_config(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = identity(config)?.ok_or_else(|| TlsError::NotConfigured {
        what: "the listening port".into(),
        missing: "dicom.tls.certificate_file with key_file",
    })?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(config)?), provider.clone());
    let verifier = match config.client_certificate {
        ClientCertificate::Required => verifier,
        ClientCertificate::Optional => verifier.allow_unauthenticated(),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier.build().map_err(unusable)?)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    Ok(Arc::new(config))
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { why: error.to_string() }
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&config.ca_file)?);
    if roots.is_empty() {
        return Err(TlsError::BadPem { path: config.ca_file.clone(), what: "certificate of an authority" });
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(config: &TlsConfig) -> Result<Option<Identity>, TlsError> {
    match (&config.certificate_file, &config.key_file) {
        (Some(chain), Some(path)) => {
            let key = PrivateKeyDer::from_pem_slice(&read_key(path)?)
                .map_err(|_| TlsError::BadPem { path: path.clone(), what: "private key" })?;
            Ok(Some((certificates(chain)?, key)))
        }
        (None, None) => Ok(None),
        _ => Err(TlsError::Unusable { why: "certificate_file and key_file belong together".into() }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::File { path: path.into(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.ok().filter(|f| !f.is_empty());
    found.ok_or_else(|| TlsError::BadPem { path: path.into(), what: "certificate" })
}

/// Reads a file that only its owner may read.
fn read_key(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| TlsError::File { path: path.into(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TlsError::OpenKey { path: path.into(), mode });
    }
    std::fs::read(path).map_err(failed)
}

/// The names in a certificate (RFC 5280): common names of its subject and its DNS names. rustls has verified it before.
pub fn names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // Certificate > TBSCertificate; then version [0], serial, algorithm, issuer, validity, subject, key, ..., extensions [3].
    let Some(tbs) = part(certificate, 0x30).and_then(|c| part(c, 0x30)) else { return names };
    let parts: Vec<(u8, &[u8])> = Parts(tbs).collect();
    let first = usize::from(parts.first().is_some_and(|p| p.0 == 0xA0));
    let subject = parts.get(first + 4).map_or(&[][..], |p| p.1);
    for attribute in Parts(subject).flat_map(|set| Parts(set.1)) {
        if let [(6, [0x55, 4, 3]), (_, name)] = Parts(attribute.1).collect::<Vec<_>>()[..] {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    let extensions = parts.iter().find(|p| p.0 == 0xA3).and_then(|p| part(p.1, 0x30)).unwrap_or_default();
    for extension in Parts(extensions) {
        let fields: Vec<_> = Parts(extension.1).collect();
        if let ([(6, [0x55, 0x1D, 0x11]), ..], Some((4, value))) = (&fields[..], fields.last()) {
            let dns = Parts(part(value, 0x30).unwrap_or_default()).filter(|p| p.0 == 0x82);
            names.extend(dns.map(|p| String::from_utf8_lossy(p.1).into_owned()));
        }
    }
    names
}

fn part(der: &[u8], tag: u8) -> Option<&[u8]> {
    Parts(der).next().filter(|p| p.0 == tag).map(|p| p.1)
}

/// The DER elements in a run of bytes: (tag, contents). Ends at what is no DER.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = (u8, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_certificates_have_no_names_and_do_no_harm() {
        for bytes in
            [&[][..], &[0x30], &[0x30, 0x82, 0xFF], &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 1], &[0x30, 2, 0x30, 0]]
        {
            assert!(names(bytes).is_empty());
        }
    }
}
