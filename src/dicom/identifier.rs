//! Identifiers that do not print themselves, and UIDs derived from a hash.

use sha2::{Digest, Sha256};
use std::fmt;

/// A UID, name, number or date that belongs to a patient, a study or an object. `Debug` shows a short hash, so that a log or
/// an error never carries it; [`Identifier::as_str`] is a decision.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Identifier(String);

impl Identifier {
    /// Wraps a value as it stood in the object (padding already trimmed).
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Not for logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the attribute was absent or empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Eight hexadecimal digits that stand for the value in logs.
    pub fn short_hash(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("#empty") } else { write!(f, "#{}", self.short_hash()) }
    }
}

impl From<&str> for Identifier {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

/// A UID below 2.25 (PS3.5 B.2) whose 128 bits are the first half of SHA-256 over the parts, each with its length in front:
/// the same inputs give the same UID. Pass random bytes as a part where a fresh one is wanted.
pub fn derive_uid(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let number = digest.iter().take(16).fold(0u128, |n, byte| n << 8 | u128::from(*byte));
    format!("2.25.{number}")
}

/// True for 1 to 64 characters of digits and dots, every component without leading zeros (PS3.5 9.1).
pub fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_a_hash_only() {
        let name = Identifier::new("Doe^Jane");
        assert_eq!(format!("{name:?}"), format!("#{}", name.short_hash()));
        assert_eq!(format!("{name:?}").len(), 9);
        assert_eq!(format!("{:?}", Identifier::default()), "#empty");
    }

    #[test]
    fn uids_are_valid_stable_and_told_apart() {
        let uid = derive_uid(&[b"ab", b"c"]);
        assert!(is_uid(&uid), "{uid}");
        assert_eq!(uid, derive_uid(&[b"ab", b"c"]));
        assert_ne!(uid, derive_uid(&[b"a", b"bc"]));
    }

    #[test]
    fn uids_with_paths_in_them_are_refused() {
        for bad in ["", "../etc", "1..2", "1.02", "1.2.", "1.2/3", &"1.".repeat(40)] {
            assert!(!is_uid(bad), "{bad}");
        }
        assert!(is_uid("1.2.840.10008.1.2.0"));
    }
}
