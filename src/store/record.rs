//! A row as bytes: schema version (1 byte), JSON, CRC-32 of key, version and JSON (4 bytes, little endian).
//! sled has checksums of its own; this one catches our mistakes, rows under a wrong key and half-migrated rows.

use super::StoreError;
use serde::{Serialize, de::DeserializeOwned};

/// Version of the rows that this metwatch writes, and the newest that it reads.
pub const SCHEMA: u8 = 1;

/// Largest value inside a row, in bytes; what is larger is a file of the spool (sled keeps overwritten large values for ever).
pub const ROW_BYTES_MAX: usize = 16 * 1024;

fn checksum(key: &[u8], body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

/// The bytes of a row under its key.
pub fn encode<T: Serialize>(key: &[u8], row: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![SCHEMA];
    serde_json::to_writer(&mut bytes, row).map_err(|e| StoreError::damaged(format!("a row has no JSON form: {e}")))?;
    let crc = checksum(key, &bytes);
    bytes.extend_from_slice(&crc);
    Ok(bytes)
}

/// The row under a key. `tree` is for the message; keys may hold identifiers and are not told.
pub fn decode<T: DeserializeOwned>(tree: &str, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let (body, crc) =
        bytes.split_last_chunk::<4>().ok_or_else(|| StoreError::damaged(format!("a row of {tree} is too short")))?;
    if checksum(key, body) != *crc {
        return Err(StoreError::damaged(format!("a row of {tree} does not match its checksum")));
    }
    let (version, json) = body.split_first().ok_or_else(|| StoreError::damaged(format!("a row of {tree} is empty")))?;
    if *version > SCHEMA {
        return Err(StoreError::NewerSchema { found: (*version).into(), known: SCHEMA.into() });
    }
    // serde's message may quote a value, which may be an identifier: only the place is told.
    serde_json::from_slice(json).map_err(|e| {
        StoreError::damaged(format!("a row of {tree} is not as this version writes it (column {})", e.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = encode(b"key", &("liver", 3)).unwrap();
        assert_eq!(bytes.len(), 1 + br#"["liver",3]"#.len() + 4);
        assert_eq!(decode::<(String, i32)>("test", b"key", &bytes).unwrap(), ("liver".to_string(), 3));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(String, i32)>("test", b"key", &damaged).is_err(), "bit {bit}");
        }
        assert!(decode::<(String, i32)>("test", b"other", &bytes).is_err());
        for length in 0..bytes.len() {
            assert!(decode::<(String, i32)>("test", b"key", &bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_newer_row_is_no_damage() {
        let mut body = vec![SCHEMA + 1];
        body.extend_from_slice(b"{}");
        let crc = checksum(b"k", &body);
        body.extend_from_slice(&crc);
        assert!(matches!(decode::<()>("test", b"k", &body), Err(StoreError::NewerSchema { found: 2, known: 1 })));
    }
}
