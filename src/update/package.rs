//! A model package: what it is, whom it suits, and whether it can be used.

use super::UpdateError;
use crate::radiomics::Settings;
use crate::risk::Nomogram;
use crate::segment::{Package, Segmenter};
use crate::{Explain, store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A package as the pure rooms take it: file name -> bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A package's files together are refused above this.
pub const PACKAGE_BYTES_MAX: u64 = 2 << 30;
/// A package has few files.
pub const PACKAGE_FILES_MAX: usize = 32;
/// The file of a package that says whom it suits; listed in the manifest like every other.
pub const COMPATIBILITY: &str = "compatibility.toml";

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A network that labels a CT.
    Segmenter,
    /// A risk model.
    Nomogram,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Segmenter, Kind::Nomogram];

    /// As in manifests, folders and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Segmenter => "segmenter",
            Kind::Nomogram => "nomogram",
        }
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Kind::ALL.into_iter().find(|k| k.name() == text).ok_or_else(|| "segmenter or nomogram".into())
    }
}

/// A version: three numbers; what follows a dash or a plus (`1.2.0-rc1`) is refused, since its order is nobody's habit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split('.').map(|n| {
            let digits = n.len() <= 9 && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
            if digits { n.parse::<u32>().ok() } else { None }
        });
        let numbers: Option<Vec<u32>> = numbers.collect();
        let three = numbers.and_then(|n| <[u32; 3]>::try_from(n).ok());
        three.map(Version).ok_or_else(|| format!("{text:?} is no version of three numbers, such as 1.2.0"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// This box, as far as a package has to suit it.
#[derive(Debug, Clone)]
pub struct ThisBox {
    /// The program's version.
    pub software: Version,
    /// The board's name, such as `orin-nx` or `generic-x86`.
    pub board: String,
}

impl ThisBox {
    /// This program on a board.
    pub fn new(board: impl Into<String>) -> Self {
        let software = env!("CARGO_PKG_VERSION").parse().expect("cargo demands three numbers");
        ThisBox { software, board: board.into() }
    }
}

/// Whom a package suits (`compatibility.toml`; without it, everybody).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compatibility {
    /// The oldest program that can use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_software: Option<String>,
    /// Boards that it was made for; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<String>,
}

impl Compatibility {
    /// Why it does not suit a box, if it does not.
    pub fn misfit(&self, this: &ThisBox) -> Option<String> {
        if let Some(minimum) = &self.minimum_software {
            match minimum.parse::<Version>() {
                Err(why) => return Some(format!("its minimum software version: {why}")),
                Ok(v) if this.software < v => {
                    return Some(format!("it needs metwatch {v} or newer, this is {}", this.software));
                }
                Ok(_) => {}
            }
        }
        let fits = self.boards.is_empty() || self.boards.contains(&this.board);
        (!fits).then(|| format!("it was made for {}, this board is {}", self.boards.join(", "), this.board))
    }
}

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the manifest, which names every other file by hash.
    pub sha256: String,
    /// Whom it suits.
    pub compatibility: Compatibility,
}

impl Identity {
    /// Id and version.
    pub fn name(&self) -> String {
        format!("{} {}", self.id, self.version)
    }
}

/// A package folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackageReadError {
    /// The folder or a file in it cannot be read.
    #[error("reading the model package {}", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// More bytes or files than a package may have.
    #[error("the model package {} is larger than {} GiB or has more than {PACKAGE_FILES_MAX} files", path.display(), PACKAGE_BYTES_MAX >> 30)]
    TooLarge {
        /// Which folder.
        path: PathBuf,
    },
}

impl Explain for PackageReadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "package.read",
            Self::TooLarge { .. } => "package.too-large",
        }
    }
    fn advice(&self) -> &'static str {
        "give the folder that holds the package's manifest.toml, readable by the service's user"
    }
}

/// Reads the files of a package folder (one level; a package has no folders inside).
pub fn read_package(folder: &Path) -> Result<Files, PackageReadError> {
    let read_error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PackageReadError::Read { path, source }
    };
    let mut files = Files::new();
    let mut total = 0;
    for entry in std::fs::read_dir(folder).map_err(read_error(folder))? {
        let path = entry.map_err(read_error(folder))?.path();
        let size = std::fs::metadata(&path).map_err(read_error(&path))?.len();
        total += size;
        if total > PACKAGE_BYTES_MAX || files.len() >= PACKAGE_FILES_MAX {
            return Err(PackageReadError::TooLarge { path: folder.into() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(&path).map_err(read_error(&path))?);
    }
    Ok(files)
}

/// The part of a manifest that both kinds share.
#[derive(Deserialize)]
struct Head {
    schema: String,
    id: String,
    version: String,
}

/// A manifest that says too little; what is in it is judged by the room that owns the kind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ManifestError(String);

impl Explain for ManifestError {
    fn code(&self) -> &'static str {
        "package.invalid"
    }
    fn advice(&self) -> &'static str {
        "install the package again from its source"
    }
}

/// What a package says of itself, from its files. `place` names it in errors.
pub fn identify(files: &Files, place: &Path) -> Result<Identity, UpdateError> {
    let wrong = |why: String| UpdateError::Package {
        package: place.display().to_string(),
        failure: Box::new(ManifestError(why)),
    };
    let text = |name: &str| {
        let bytes = files.get(name)?;
        Some(std::str::from_utf8(bytes).map_err(|_| wrong(format!("{name} is not UTF-8"))))
    };
    let manifest = text("manifest.toml").ok_or_else(|| wrong("it has no manifest.toml".into()))??;
    let head: Head = toml::from_str(manifest).map_err(|e| wrong(format!("manifest.toml: {}", e.message())))?;
    let of_schema = |kind: &Kind| head.schema.starts_with(&format!("metwatch.{}/", kind.name()));
    let kind = Kind::ALL.into_iter().find(of_schema);
    let kind = kind.ok_or_else(|| wrong(format!("its schema {:?} is no kind of package", head.schema)))?;
    check_id(&head.id).map_err(wrong)?;
    head.version.parse::<Version>().map_err(wrong)?;
    let compatibility = match text(COMPATIBILITY) {
        Some(text) => toml::from_str(text?).map_err(|e| wrong(format!("{COMPATIBILITY}: {}", e.message())))?,
        None => Compatibility::default(),
    };
    let sha256 = store::sha256_hex(manifest.as_bytes());
    Ok(Identity { kind, id: head.id, version: head.version, sha256, compatibility })
}

/// An id that can be part of a file name.
pub fn check_id(id: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) && id.as_bytes()[0].is_ascii_alphanumeric() {
        return Ok(());
    }
    Err(format!("{id:?} is no id: letters, digits, dots, dashes and underscores, at most 64"))
}

/// Everything a package has to pass before it may run here: suitability, hashes, golden vectors on this processor.
pub fn verify(files: Files, place: &Path, this: &ThisBox) -> Result<Identity, UpdateError> {
    let identity = identify(&files, place)?;
    match identity.compatibility.misfit(this) {
        Some(why) => Err(UpdateError::Incompatible { package: identity.name(), why }),
        None => check_contents(files, identity),
    }
}

/// Hashes and golden vectors, for whatever box it is.
pub fn check_contents(files: Files, identity: Identity) -> Result<Identity, UpdateError> {
    let package = identity.name();
    let failed = |failure: Box<dyn Explain + Send + Sync>| UpdateError::Package { package: package.clone(), failure };
    match identity.kind {
        Kind::Segmenter => {
            let checked = Package::from_files(files).and_then(Segmenter::load);
            checked.map_err(|e| failed(Box::new(e)))?;
        }
        Kind::Nomogram => {
            let nomogram = Nomogram::from_files(&files).map_err(|e| failed(Box::new(e)))?;
            Settings::from_yaml(&nomogram.radiomics.yaml).map_err(|e| failed(Box::new(e)))?;
        }
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_and_in_order() {
        let v = |t: &str| t.parse::<Version>().unwrap();
        assert!(v("0.9.10") > v("0.9.9") && v("1.0.0") > v("0.99.99"));
        for wrong in ["1.2", "1.2.3.4", "1.2.x", "1.2.-3", "+1.2.3", "1.2.3-rc1", "", "1..2", "1.2.99999999999"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_package_for_another_board_or_a_newer_program_does_not_fit() {
        let this = ThisBox { software: Version([0, 4, 0]), board: "orin-nx".into() };
        let of = |minimum: Option<&str>, boards: &[&str]| Compatibility {
            minimum_software: minimum.map(Into::into),
            boards: boards.iter().map(|b| (*b).into()).collect(),
        };
        assert_eq!(of(None, &[]).misfit(&this), None);
        assert_eq!(of(Some("0.4.0"), &["orin-nx", "agx-orin"]).misfit(&this), None);
        assert!(of(Some("0.4.1"), &[]).misfit(&this).unwrap().contains("0.4.1 or newer"));
        assert!(of(None, &["agx-orin"]).misfit(&this).unwrap().contains("this board is orin-nx"));
        assert!(of(Some("new"), &[]).misfit(&this).is_some());
    }
}
