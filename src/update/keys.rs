//! Ed25519 keys of a repository: PKCS#8 in PEM, one file per key, mode 0600, as OpenSSL and python-tuf read them too.

use super::UpdateError;
use super::files::{make_folder, read_bounded};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// PKCS#8 version 1 of an Ed25519 key without its seed (RFC 8410): OpenSSL refuses the longer form that ring writes.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const FILE_BYTES_MAX: u64 = 4096;

/// A key that signs.
pub struct Key(Ed25519KeyPair);

impl Key {
    /// Makes a key and its file; a file that is there already is never overwritten.
    pub fn create(path: &Path) -> Result<Key, UpdateError> {
        let mut seed = [0; 32];
        let random = SystemRandom::new();
        random.fill(&mut seed).map_err(|_| unusable(path, "the system gives no random numbers"))?;
        make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let pem = pem_of(&[&PKCS8_HEAD[..], &seed].concat());
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.and_then(|mut f| f.write_all(pem.as_bytes()).and_then(|()| f.sync_all()))
            .map_err(|e| UpdateError::io("making the key", path, e))?;
        of_seed(path, &seed)
    }

    /// Reads a key; a file that others may read is refused.
    pub fn read(path: &Path) -> Result<Key, UpdateError> {
        let bytes = read_bounded(path, FILE_BYTES_MAX)?.ok_or_else(|| unusable(path, "it is not there"))?;
        let mode = std::fs::metadata(path).map_err(|e| UpdateError::io("reading", path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(unusable(path, "others may read it; its mode has to be 0600"));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|e| unusable(path, &e.to_string()))?;
        let der = der.secret_pkcs8_der();
        match der.strip_prefix(&PKCS8_HEAD) {
            Some(seed) if seed.len() == 32 => of_seed(path, seed),
            _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
                .map(Key)
                .map_err(|_| unusable(path, "it is no Ed25519 key (PKCS#8, PEM)")),
        }
    }

    /// The public half as TUF's metadata has it.
    pub fn public(&self) -> Value {
        let public = hex(self.0.public_key().as_ref());
        json!({ "keytype": "ed25519", "keyval": { "public": public }, "scheme": "ed25519" })
    }

    /// Its name in metadata: the SHA-256 of the canonical public half.
    pub fn id(&self) -> String {
        crate::store::sha256_hex(canonical(&self.public()).as_bytes())
    }

    /// The signature over a part of metadata.
    pub fn sign(&self, signed: &Value) -> Value {
        json!({ "keyid": self.id(), "sig": hex(self.0.sign(canonical(signed).as_bytes()).as_ref()) })
    }
}

fn of_seed(path: &Path, seed: &[u8]) -> Result<Key, UpdateError> {
    Ed25519KeyPair::from_seed_unchecked(seed).map(Key).map_err(|_| unusable(path, "its seed is none"))
}

fn unusable(path: &Path, why: &str) -> UpdateError {
    UpdateError::Key { path: path.into(), why: why.into() }
}

/// What TUF signs: keys sorted, no spaces, only quotes and backslashes escaped ("OLPC canonical JSON").
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter().map(|(k, v)| format!("{}:{}", quoted(k), canonical(v)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// PEM with one line of base64: 48 bytes are 64 letters.
fn pem_of(der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = der.chunks(3).flat_map(|three| {
        let bits = three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[(bits >> shift & 63) as usize]))
    });
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_and_escapes_little() {
        let value = json!({ "b": [1, true, null], "a": "q\"\\\n\u{e9}" });
        assert_eq!(canonical(&value), "{\"a\":\"q\\\"\\\\\n\u{e9}\",\"b\":[1,true,null]}");
    }

    #[test]
    fn a_key_comes_back_and_one_that_others_may_read_is_refused() {
        let folder = std::env::temp_dir().join(format!("metwatch-key-{}", std::process::id()));
        let path = folder.join("k.pem");
        let _ = std::fs::remove_dir_all(&folder);
        let made = Key::create(&path).unwrap();
        assert_eq!(Key::read(&path).unwrap().id(), made.id());
        assert!(Key::create(&path).is_err(), "it was overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Key::read(&path).err().unwrap().to_string().contains("0600"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
