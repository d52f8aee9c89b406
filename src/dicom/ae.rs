//! Application entity titles.

use std::fmt;

/// An AE title (PS3.5 VR AE): 1 to 16 printable ASCII characters without backslash, spaces around it removed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct AeTitle(String);

/// Why a text is no AE title.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no AE title: 1 to 16 printable ASCII characters without backslash")]
pub struct AeTitleError(String);

impl AeTitle {
    /// Checks a title.
    pub fn new(text: &str) -> Result<Self, AeTitleError> {
        let title = text.trim_matches(' ');
        let printable = title.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\');
        if (1..=16).contains(&title.len()) && printable {
            Ok(Self(title.into()))
        } else {
            Err(AeTitleError(text.into()))
        }
    }

    /// The title.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AeTitle {
    type Error = AeTitleError;
    fn try_from(text: String) -> Result<Self, AeTitleError> {
        Self::new(&text)
    }
}

impl std::str::FromStr for AeTitle {
    type Err = AeTitleError;
    fn from_str(text: &str) -> Result<Self, AeTitleError> {
        Self::new(text)
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_trimmed_and_checked() {
        assert_eq!(AeTitle::new(" CT1 ").unwrap().as_str(), "CT1");
        for bad in ["", "   ", "A\\B", "SEVENTEEN_LETTERS", "ÄE"] {
            assert!(AeTitle::new(bad).is_err(), "{bad}");
        }
    }
}
