//! The board: what it is, how it was recognized, and what `board/*.toml` tells about it.

use super::tree::Tree;
use crate::Explain;
use serde::Deserialize;
use std::path::PathBuf;

/// What ships. The first that fits decides; the generic ones fit by architecture alone.
const SHIPPED: [&str; 6] = [
    include_str!("../../board/orin-nano.toml"),
    include_str!("../../board/orin-nx.toml"),
    include_str!("../../board/agx-orin.toml"),
    include_str!("../../board/thor.toml"),
    include_str!("../../board/generic-arm64.toml"),
    include_str!("../../board/generic-x86.toml"),
];

/// What is known about a kind of board (`board/*.toml`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Such as `orin-nx`; the configuration's `device.board`.
    pub name: String,
    /// For people.
    pub title: String,
    /// `aarch64` or `x86_64`.
    pub architecture: String,
    /// How it is recognized.
    pub detect: Detect,
    /// Its memory.
    pub memory: Memory,
    /// What it has beside the processor.
    #[serde(default)]
    pub accelerators: Vec<AcceleratorKind>,
    /// Its power modes.
    pub power: Power,
    /// Where the kernel tells about it.
    pub paths: Paths,
    /// Its limits of temperature.
    pub thermal: Thermal,
    /// What computes best on it.
    pub backend: Backend,
    /// What a technician should know.
    pub notes: Notes,
}

/// Parts of texts of the device tree, compared without case.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detect {
    /// Parts of `compatible`, such as a module's number.
    pub compatible: Vec<String>,
    /// Parts of `model`.
    pub model: Vec<String>,
}

/// Memory as the vendor sells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Sizes there are.
    pub sizes_gib: Vec<u32>,
    /// Whether the GPU has none of its own.
    pub shared_with_gpu: bool,
    /// By size and power mode.
    #[serde(default)]
    pub bandwidth_gb_per_s: Vec<u32>,
}

/// A GPU or another engine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceleratorKind {
    /// `gpu` or `dla`.
    pub kind: String,
    /// For people.
    pub name: String,
    /// By size and power mode; the vendor's figures for sparse matrices.
    #[serde(default)]
    pub sparse_int8_tops: Vec<u32>,
}

/// Power modes by name: their numbers differ by board and release.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Names as the vendor writes them.
    pub modes: Vec<String>,
    /// What the module may draw.
    pub watts_max: Option<f64>,
}

/// Where the kernel tells what; tried in order.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Folders of the GPU's load and clock.
    pub gpu: Vec<String>,
    /// Folders of INA3221 chips, all of them.
    pub power: Vec<String>,
    /// The rail that is the whole module.
    pub rail_total: Option<String>,
    /// Where the power mode in force is kept.
    pub power_mode: Option<String>,
}

/// Degrees Celsius.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thermal {
    /// The zone that the policy follows, by the beginning of its name; without one the hottest.
    pub zone: Option<String>,
    /// Too hot from here on.
    pub hot_c: f64,
    /// Well again below this.
    pub cool_c: f64,
    /// The kernel slows down here.
    pub throttle_c: Option<f64>,
    /// The kernel shuts down here.
    pub shutdown_c: Option<f64>,
}

/// What computes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// For people.
    pub recommended: String,
}

/// Sentences for a technician.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notes {
    /// One fact each.
    pub texts: Vec<String>,
}

/// What the machine says about itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// `/proc/device-tree/model`.
    pub model: Option<String>,
    /// `/proc/device-tree/compatible`.
    pub compatible: Vec<String>,
    /// First line of `/etc/nv_tegra_release`.
    pub release: Option<String>,
    /// Of the processor.
    pub architecture: String,
}

impl Found {
    /// Reads what the machine says.
    pub fn read(tree: &Tree, architecture: &str) -> Found {
        let release = tree.text("/etc/nv_tegra_release");
        Found {
            model: tree.text("/proc/device-tree/model").filter(|m| !m.is_empty()),
            compatible: tree.strings("/proc/device-tree/compatible"),
            release: release.and_then(|r| r.lines().next().map(|l| l.trim_start_matches('#').trim().to_owned())),
            architecture: architecture.into(),
        }
    }

    /// JetPack's major version from the release of the board support package: R35 is 5, R36 is 6, R38 is 7.
    pub fn jetpack(&self) -> Option<u32> {
        let digits = self.release.as_deref()?.strip_prefix('R')?;
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse::<u32>().ok()? {
            32 => Some(4),
            34 | 35 => Some(5),
            36 | 37 => Some(6),
            38 | 39 => Some(7),
            _ => None,
        }
    }

    /// Whether this is an NVIDIA Tegra board, where sysfs knows more than NVML.
    pub fn is_tegra(&self) -> bool {
        self.release.is_some() || self.compatible.iter().any(|c| c.contains("tegra"))
    }
}

/// What the configuration wants instead of what is found.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A board that ships, by name.
    pub board: Option<String>,
    /// A board's file.
    pub file: Option<PathBuf>,
}

/// The board that counts, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The board.
    pub board: Board,
    /// Why this one, a sentence.
    pub why: String,
}

/// Why no board could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// A name that none has.
    #[error("there is no board {name:?}; these ship: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file that cannot be read.
    #[error("reading the board file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file that is no board.
    #[error("the board file {} is not valid:\n{message}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What and where.
        message: String,
    },
}

impl Explain for BoardError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "device.unknown-board",
            Self::Read { .. } => "device.board-file",
            Self::Invalid { .. } => "device.board-invalid",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "name one of them in device.board, or leave it out: the board is recognized",
            Self::Read { .. } => "name a readable file in device.board_file",
            Self::Invalid { .. } => "copy one of the files in board/ and change it",
        }
    }
}

/// The boards that ship.
pub fn shipped() -> Vec<Board> {
    SHIPPED.iter().map(|text| toml::from_str(text).expect("board/*.toml are parsed by a test")).collect()
}

/// Chooses the board: what is wanted, else what the device tree says, else what fits the architecture.
pub fn choose(found: &Found, wanted: &Wanted) -> Result<Choice, BoardError> {
    if let Some(path) = &wanted.file {
        let text = std::fs::read_to_string(path).map_err(|source| BoardError::Read { path: path.into(), source })?;
        let board = toml::from_str(&text)
            .map_err(|e: toml::de::Error| BoardError::Invalid { path: path.into(), message: e.to_string() })?;
        return Ok(Choice { board, why: format!("the configuration names the file {}", path.display()) });
    }
    let boards = shipped();
    if let Some(name) = &wanted.board {
        let known = || boards.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join(", ");
        let board = boards.iter().find(|b| b.name == *name).cloned();
        let board = board.ok_or_else(|| BoardError::Unknown { name: name.clone(), known: known() })?;
        return Ok(Choice { board, why: "the configuration names it".into() });
    }
    Ok(recognize(found, boards))
}

fn recognize(found: &Found, boards: Vec<Board>) -> Choice {
    let holds = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    // The module's number is surer than the words on the carton: an Orin NX on a Nano's carrier names both.
    for board in &boards {
        for part in &board.detect.compatible {
            if let Some(text) = found.compatible.iter().find(|c| holds(c, part)) {
                let why = format!("the device tree is compatible with {text:?}, which names {part:?}");
                return Choice { board: board.clone(), why };
            }
        }
    }
    for board in &boards {
        let part = board.detect.model.iter().find(|part| found.model.as_deref().is_some_and(|m| holds(m, part)));
        if let (Some(part), Some(model)) = (part, &found.model) {
            return Choice { board: board.clone(), why: format!("the device tree's model {model:?} names {part:?}") };
        }
    }
    let said = match &found.model {
        Some(model) => format!("the device tree's model {model:?} is none that ships"),
        None => "there is no device tree that names a board".into(),
    };
    let generic = boards.into_iter().rev().find(|b| is_generic(b) && b.architecture == found.architecture);
    let fallback = || shipped().pop().expect("the list that ships is not empty");
    Choice { board: generic.unwrap_or_else(fallback), why: format!("{said}; the processor is {}", found.architecture) }
}

fn is_generic(board: &Board) -> bool {
    board.detect == Detect::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(model: &str, compatible: &[&str], architecture: &str) -> Found {
        Found {
            model: (!model.is_empty()).then(|| model.into()),
            compatible: compatible.iter().map(|c| c.to_string()).collect(),
            release: None,
            architecture: architecture.into(),
        }
    }

    #[test]
    fn boards_that_ship_are_valid_and_named_like_their_files() {
        let boards = shipped();
        let names: Vec<&str> = boards.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["orin-nano", "orin-nx", "agx-orin", "thor", "generic-arm64", "generic-x86"]);
        for board in &boards {
            assert!(board.thermal.cool_c < board.thermal.hot_c, "{}", board.name);
            assert!(board.thermal.throttle_c.is_none_or(|t| board.thermal.hot_c < t), "{}", board.name);
            // A mode is a name: "0" to "9" would be an id.
            assert!(board.power.modes.iter().all(|m| m.parse::<u32>().is_err()), "{}", board.name);
        }
        assert_eq!(boards.iter().filter(|b| is_generic(b)).count(), 2);
    }

    #[test]
    fn boards_are_recognized_by_module_then_model_then_architecture() {
        let of = |model: &str, compatible: &[&str], arch: &str| {
            choose(&found(model, compatible, arch), &Wanted::default()).unwrap().board.name
        };
        let nx = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit";
        assert_eq!(of(nx, &[], "aarch64"), "orin-nx");
        // The developer kit's carrier with an NX module: the module decides.
        let carrier = ["nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"];
        assert_eq!(of("NVIDIA Jetson Orin Nano Developer Kit", &carrier, "aarch64"), "orin-nx");
        let nano = ["nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"];
        assert_eq!(
            of("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", &nano, "aarch64"),
            "orin-nano"
        );
        assert_eq!(of("", &["nvidia,p3737-0000+p3701-0005", "nvidia,tegra234"], "aarch64"), "agx-orin");
        assert_eq!(of("NVIDIA Jetson AGX Thor Developer Kit", &[], "aarch64"), "thor");
        assert_eq!(of("Raspberry Pi 5 Model B Rev 1.0", &["raspberrypi,5-model-b"], "aarch64"), "generic-arm64");
        assert_eq!(of("", &[], "x86_64"), "generic-x86");
        assert_eq!(of("", &[], "aarch64"), "generic-arm64");
    }

    #[test]
    fn the_configuration_decides_before_what_is_found() {
        let wanted = |board: &str| Wanted { board: Some(board.into()), file: None };
        let choice = choose(&found("", &[], "x86_64"), &wanted("agx-orin")).unwrap();
        assert_eq!((choice.board.name.as_str(), choice.why.as_str()), ("agx-orin", "the configuration names it"));
        let error = choose(&found("", &[], "x86_64"), &wanted("orin")).unwrap_err();
        assert!(error.code() == "device.unknown-board" && error.to_string().contains("orin-nx"), "{error}");
        let missing = Wanted { board: None, file: Some("/nonexistent/board.toml".into()) };
        assert_eq!(choose(&Found::default(), &missing).unwrap_err().code(), "device.board-file");
    }

    #[test]
    fn a_release_tells_its_jetpack() {
        let of = |release: &str| Found { release: Some(release.into()), ..Found::default() }.jetpack();
        assert_eq!(of("R36 (release), REVISION: 4.3"), Some(6));
        assert_eq!(of("R35 (release), REVISION: 4.1"), Some(5));
        assert_eq!(of("R38 (release), REVISION: 2.0"), Some(7));
        assert_eq!(of("something"), None);
        assert_eq!(Found::default().jetpack(), None);
    }
}
