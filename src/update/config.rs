//! The part of the configuration that says where updates come from.

use serde::Deserialize;
use std::path::PathBuf;

/// Where newer packages come from, and what is done with them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The repository: its folders metadata/ and targets/ are below this.
    pub url: Option<String>,
    /// The publisher's root metadata, pinned at installation.
    pub root: Option<PathBuf>,
    /// Authorities (PEM) for the server's certificate; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// Ids of the wanted packages; without it the ids in use.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Whether the timer also activates what it brought. A person does it otherwise, with `metwatch update apply`.
    #[serde(default)]
    pub automatic: bool,
    /// How long a server may be silent, s.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
}

fn timeout_s() -> u32 {
    20
}

impl Default for Config {
    fn default() -> Self {
        Config { url: None, root: None, ca_file: None, packages: Vec::new(), automatic: false, timeout_s: timeout_s() }
    }
}
