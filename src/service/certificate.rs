//! When the certificates end that the configuration names. Only `validity` is read (RFC 5280 section 4.1); rustls judges the rest.

use super::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// What for, such as `DICOM`.
    pub purpose: &'static str,
    /// Its file; of several in it the one that ends first counts.
    pub path: std::path::PathBuf,
    /// Unix s; `None` where the file cannot be read.
    pub ends_s: Option<i64>,
}

/// The certificates that the configuration names.
pub fn in_use(config: &Config) -> Vec<InUse> {
    let mut files: Vec<(&'static str, &Path)> = Vec::new();
    if let Some(tls) = &config.dicom.tls {
        files.extend(tls.certificate_file.as_deref().map(|f| ("DICOM", f)));
        files.push(("DICOM authority", &tls.ca_file));
    }
    if let Some(tls) = &config.alert.tls {
        files.extend(tls.client_cert_file.as_deref().map(|f| ("MQTT", f)));
        files.push(("MQTT authority", &tls.ca_file));
    }
    files.into_iter().map(|(purpose, path)| InUse { purpose, path: path.into(), ends_s: first_end(path) }).collect()
}

fn first_end(path: &Path) -> Option<i64> {
    let bytes = std::fs::read(path).ok()?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    all.ok()?.iter().map(|der| not_after(der)).collect::<Option<Vec<i64>>>()?.into_iter().min()
}

/// `notAfter` of a certificate in DER, unix s.
fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    // [0] version, if it is there; serial number, signature, issuer; then validity.
    if fields.first() == Some(&0xA0) {
        fields = element(fields)?.2;
    }
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    let text = std::str::from_utf8(time).ok()?;
    let four_digits = match tag {
        // UTCTime: years from 50 on are of the last century.
        0x17 if text.get(..2)? >= "50" => format!("19{text}"),
        0x17 => format!("20{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = chrono::NaiveDateTime::parse_from_str(&four_digits, "%Y%m%d%H%M%SZ").ok()?;
    Some(time.and_utc().timestamp())
}

/// Tag, content and what follows the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn ends_are_those_that_openssl_tells() {
        let folder = std::env::temp_dir().join(format!("metwatch-certificate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // UTCTime, and beyond 2049 GeneralizedTime.
        for (days, key) in [("20", "rsa:2048"), ("20000", "rsa:2048")] {
            let file = folder.join(format!("{days}.pem"));
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-newkey",
                    key,
                    "-subj",
                    "/CN=box",
                    "-days",
                    days,
                    "-keyout",
                    "/dev/null",
                    "-out",
                ])
                .arg(&file)
                .output()
                .expect("tests/run installs openssl");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let told = Command::new("openssl").args(["x509", "-noout", "-enddate", "-in"]).arg(&file).output().unwrap();
            let told = String::from_utf8(told.stdout).unwrap();
            let told = told.trim().strip_prefix("notAfter=").unwrap();
            let told = chrono::NaiveDateTime::parse_from_str(told, "%b %e %H:%M:%S %Y GMT").unwrap();
            assert_eq!(first_end(&file), Some(told.and_utc().timestamp()), "{days}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for der in
            [&b""[..], b"\x30", b"\x30\x82\xff\xff\x00", b"\x30\x03\x30\x01\x00", &[0x30, 0x84, 255, 255, 255, 255]]
        {
            assert_eq!(not_after(der), None);
        }
        assert_eq!(first_end(Path::new("/nonexistent.pem")), None);
    }
}
