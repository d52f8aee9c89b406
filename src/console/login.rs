//! Who may log in: the users file, password hashes (PBKDF2-HMAC-SHA256, RFC 8018), HTTP Basic credentials (RFC 7617).

use super::ConsoleError;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// OWASP's figure for PBKDF2-HMAC-SHA256 (2023); a quarter of a second on a small board, and only at the first request.
const ITERATIONS: u32 = 600_000;
const ITERATIONS_MAX: u32 = 10_000_000;
const PASSWORD_LENGTH_MIN: usize = 8;
const FILE_BYTES_MAX: usize = 64 * 1024;

/// The users of the console.
pub struct Users {
    secrets: BTreeMap<String, Secret>,
    /// What an unknown name is held against, so that it takes as long as a known one.
    nobody: Secret,
}

#[derive(Clone)]
struct Secret {
    iterations: u32,
    salt: Vec<u8>,
    hash: [u8; 32],
}

impl Users {
    /// Reads a users file that only its owner can open.
    pub fn read(path: &Path) -> Result<Users, ConsoleError> {
        let failed = |source| ConsoleError::UsersFile { path: path.to_path_buf(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(ConsoleError::UsersMode { path: path.to_path_buf(), mode });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Users::parse(&text, random_salt()?)
    }

    /// `salt` hashes the passwords that the file has in the clear, so that none stays in memory.
    fn parse(text: &str, salt: [u8; 16]) -> Result<Users, ConsoleError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(ConsoleError::UsersLine { line: 1, why: "the file is over 64 KiB" });
        }
        let mut secrets = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let wrong = |why| ConsoleError::UsersLine { line: index + 1, why };
            let (name, secret) = line_text.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(wrong("the name is empty, too long or not made of letters, digits and . _ - @"));
            }
            let secret = Secret::parse(secret, salt).map_err(wrong)?;
            if secrets.insert(name.to_owned(), secret).is_some() {
                return Err(wrong("the name was there before"));
            }
        }
        let slowest = secrets.values().max_by_key(|s| s.iterations).ok_or(ConsoleError::NoUsers)?;
        let nobody = Secret { hash: [0; 32], ..slowest.clone() };
        Ok(Users { secrets, nobody })
    }

    /// The user of an `Authorization` header, if name and password are right. Takes long on purpose.
    pub fn check(&self, authorization: &str) -> Option<String> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        let bytes = if scheme.eq_ignore_ascii_case("basic") { base64(encoded.trim())? } else { return None };
        let text = String::from_utf8(bytes).ok()?;
        let (name, password) = text.split_once(':')?;
        let known = self.secrets.get(name);
        let secret = known.unwrap_or(&self.nobody);
        let hash = pbkdf2_sha256(password.as_bytes(), &secret.salt, secret.iterations);
        (same(&hash, &secret.hash) && known.is_some()).then(|| name.to_owned())
    }
}

impl Secret {
    fn parse(text: &str, salt: [u8; 16]) -> Result<Secret, &'static str> {
        let Some(rest) = text.strip_prefix("pbkdf2-sha256$") else {
            if text.chars().count() < PASSWORD_LENGTH_MIN {
                return Err("the password has fewer than 8 characters");
            }
            let hash = pbkdf2_sha256(text.as_bytes(), &salt, ITERATIONS);
            return Ok(Secret { iterations: ITERATIONS, salt: salt.to_vec(), hash });
        };
        let parts: Vec<&str> = rest.split('$').collect();
        let [iterations, salt, hash] = parts[..] else { return Err("a hash has three parts after pbkdf2-sha256") };
        let iterations = iterations.parse().ok().filter(|n| (1..=ITERATIONS_MAX).contains(n));
        Ok(Secret {
            iterations: iterations.ok_or("the iterations are not a number up to ten million")?,
            salt: unhex(salt).filter(|s| s.len() >= 8).ok_or("the salt is not at least 8 bytes in hex")?,
            hash: unhex(hash).and_then(|h| h.try_into().ok()).ok_or("the hash is not 32 bytes in hex")?,
        })
    }
}

/// A secret for the users file from a password and 16 random bytes.
pub fn hash_password(password: &str, salt: [u8; 16]) -> String {
    let hash = pbkdf2_sha256(password.as_bytes(), &salt, ITERATIONS);
    format!("pbkdf2-sha256${ITERATIONS}${}${}", hex(&salt), hex(&hash))
}

fn random_salt() -> Result<[u8; 16], ConsoleError> {
    let mut salt = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut salt));
    read.map_err(|source| ConsoleError::System { action: "reading random numbers for the console's logins", source })?;
    Ok(salt)
}

/// Compares without stopping at the first difference, so that the time tells nothing.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

/// The first block of PBKDF2-HMAC-SHA256, 32 bytes.
fn pbkdf2_sha256(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut key = [0u8; 64];
    if password.len() > key.len() {
        key[..32].copy_from_slice(&Sha256::digest(password));
    } else {
        key[..password.len()].copy_from_slice(password);
    }
    // The keyed states are computed once and cloned: half of the compressions are saved.
    let inner = Sha256::new_with_prefix(key.map(|b| b ^ 0x36));
    let outer = Sha256::new_with_prefix(key.map(|b| b ^ 0x5c));
    let hmac = |message: &[u8]| -> [u8; 32] {
        let digest = inner.clone().chain_update(message).finalize();
        outer.clone().chain_update(digest).finalize().into()
    };
    let mut block = hmac(&[salt, &[0, 0, 0, 1]].concat());
    let mut sum = block;
    for _ in 1..iterations {
        block = hmac(&block);
        sum.iter_mut().zip(block).for_each(|(s, b)| *s ^= b);
    }
    sum
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.contains('+') {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Decodes base64 (RFC 4648), with or without padding at the end.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut n_bits) = (0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    /// "nurse:correct horse", hashed with 1,000 iterations by Python's hashlib.pbkdf2_hmac.
    const FILE: &str = "# users\n\nnurse:pbkdf2-sha256$1000$000102030405060708090a0b0c0d0e0f$HASH\n";

    fn users() -> Users {
        let hash = pbkdf2_sha256(b"correct horse", &std::array::from_fn::<u8, 16, _>(|i| i as u8), 1000);
        Users::parse(&FILE.replace("HASH", &hex(&hash)), [7; 16]).ok().unwrap()
    }

    #[test]
    fn pbkdf2_has_the_published_values() {
        // RFC 7914 section 11, the first 32 of 64 bytes.
        let expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc";
        assert_eq!(hex(&pbkdf2_sha256(b"passwd", b"salt", 1)), expected);
        let expected = "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56";
        assert_eq!(hex(&pbkdf2_sha256(b"Password", b"NaCl", 80_000)), expected);
    }

    #[test]
    fn the_right_password_logs_in_and_nothing_else() {
        let users = users();
        // base64 of nurse:correct horse, nurse:wrong horse, other:correct horse
        assert_eq!(users.check("Basic bnVyc2U6Y29ycmVjdCBob3JzZQ==").as_deref(), Some("nurse"));
        assert_eq!(users.check("basic bnVyc2U6Y29ycmVjdCBob3JzZQ").as_deref(), Some("nurse"));
        assert_eq!(users.check("Basic bnVyc2U6d3JvbmcgaG9yc2U="), None);
        assert_eq!(users.check("Basic b3RoZXI6Y29ycmVjdCBob3JzZQ=="), None);
        for odd in ["", "Basic", "Basic !!", "Bearer abc", "Basic bnVyc2U="] {
            assert_eq!(users.check(odd), None);
        }
    }

    #[test]
    fn a_faulty_users_file_is_refused_with_its_line() {
        let code = |text: &str| Users::parse(text, [1; 16]).err().map(|e| (e.code(), e.to_string()));
        assert_eq!(code("# nobody\n").unwrap().0, "console.no-users");
        for text in ["\nnurse", "\nnurse:short", "\nnu rse:long enough", "\na:pbkdf2-sha256$x$00$00", "\n:abcdefghi"] {
            let (code, message) = code(text).unwrap();
            assert_eq!(code, "console.users-line");
            assert!(message.contains("line 2") && !message.contains("enough"), "{message}");
        }
    }

    #[test]
    fn a_users_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("metwatch-users-{}", std::process::id()));
        std::fs::write(&path, "nurse:correct horse\n").unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Users::read(&path)
        };
        assert_eq!(with_mode(0o640).err().unwrap().code(), "console.users-mode");
        let users = with_mode(0o600).ok().unwrap();
        assert_eq!(users.check("Basic bnVyc2U6Y29ycmVjdCBob3JzZQ==").as_deref(), Some("nurse"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_made_hash_is_read_again() {
        let line = format!("nurse:{}", hash_password("correct horse", [3; 16]));
        assert!(Users::parse(&line, [0; 16]).ok().unwrap().check("Basic bnVyc2U6Y29ycmVjdCBob3JzZQ==").is_some());
    }
}
