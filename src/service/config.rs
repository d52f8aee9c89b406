//! The configuration: one TOML file, made of each room's own part. Values are checked by their types while parsing.

use crate::{Explain, alert, clinical, console, device, dicom, update};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The whole configuration of the service. `systemd/metwatch.toml` is a commented example.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where studies, results and the outbox are kept.
    pub store: StoreConfig,
    /// The DICOM receiver and when a series is complete.
    pub dicom: dicom::Config,
    /// Which series are analyzed; without it the default rules.
    #[serde(default)]
    pub series: dicom::SeriesRules,
    /// Alerts, results and events over MQTT.
    pub alert: alert::Config,
    /// The web pages; without it there are none.
    pub console: Option<console::Config>,
    /// The port for Prometheus; without it there is none.
    pub metrics: Option<console::MetricsConfig>,
    /// The board and how often it is looked at; without it what is recognized.
    #[serde(default)]
    pub device: device::Config,
    /// Laboratory and pathology values; without it only those typed in at the console are known.
    pub clinical: Option<clinical::Config>,
    /// Model packages; without it the demonstration packages of the binary.
    #[serde(default)]
    pub models: ModelsConfig,
    /// Where newer packages come from.
    #[serde(default)]
    pub update: update::Config,
}

/// Where the service keeps what it promised to keep.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The store's folder; made at the first start.
    pub directory: PathBuf,
    /// A copy of each result under plain names, for people and scripts; without it only the store has them.
    pub results_directory: Option<PathBuf>,
}

/// Which model packages run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// Folder of the segmenter package, or the name of one in the program: `abdomen` (real CT) or `phantom` (demonstration).
    pub segmenter: Option<PathBuf>,
    /// Folder of the nomogram package; without it the demonstration package.
    pub nomogram: Option<PathBuf>,
    /// Folder of the slots that `metwatch update` and `metwatch model` fill: the active packages run, those above where no slot
    /// is active.
    pub slots: Option<PathBuf>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The file is not a configuration of this program; the message names line and key.
    #[error("the configuration {} is not valid:\n{message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
}

impl Explain for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "config.read",
            Self::Invalid { .. } => "config.invalid",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } => "give the path of a readable file with --config",
            Self::Invalid { .. } => "correct the named line; systemd/metwatch.toml shows every key with its meaning",
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Config::parse(&text).map_err(|message| ConfigError::Invalid { path: path.into(), message })
    }

    /// Parses a configuration; the error names line and key.
    pub fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }
}
