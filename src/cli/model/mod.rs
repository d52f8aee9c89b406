//! `metwatch model`: packages: those in the slots of this box, and their tests and comparisons.

mod activate;
mod compare;
mod compare_page;
mod import_nnunet;
mod install;
mod list;
mod quantize;
mod rollback;
mod self_test;
mod verify;

use super::Failure;
use crate::Explain;
use crate::service::{Config, this_box};
use crate::update::{self, Kind, ThisBox};
use std::path::{Path, PathBuf};

/// Arguments of `metwatch model`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists what is in the slots, and what runs
    List(list::Args),
    /// Checks a package, or all packages in the slots: hashes, board, version, golden vectors
    Verify(verify::Args),
    /// Checks a package and puts it into the slot that waits
    Install(install::Args),
    /// Makes the waiting package the active one; a running service takes it after the study under way
    Activate(activate::Args),
    /// Leaves the active package for the one before it, and never tries it again
    Rollback(rollback::Args),
    /// Compares two segmenters on images, with each other and with labels
    Compare(compare::Args),
    /// Runs the golden vectors and the golden self-test of a segmenter on this machine
    SelfTest(self_test::Args),
    /// Makes a segmenter package from a model trained with nnU-Net v2
    ImportNnunet(import_nnunet::Args),
    /// Makes an int8 package from an f32 one, and measures what that costs in Dice
    Quantize(quantize::Args),
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List(args) => list::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Install(args) => install::run(args),
        Command::Activate(args) => activate::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Compare(args) => compare::run(args),
        Command::SelfTest(args) => self_test::run(args),
        Command::ImportNnunet(args) => import_nnunet::run(args),
        Command::Quantize(args) => quantize::run(args),
    }
}

/// Where a package's box keeps its slots.
const DIRECTORY: &str = "/var/lib/metwatch/models";
const CONFIG: &str = "/etc/metwatch/metwatch.toml";

/// Which slots, and which box.
#[derive(clap::Args)]
pub struct Where {
    /// The service's configuration, for models.slots and [update]; /etc/metwatch/metwatch.toml if it is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the slots, instead of models.slots of the configuration [default: /var/lib/metwatch/models]
    #[arg(long, value_name = "DIR")]
    pub slots: Option<PathBuf>,
    /// This board, such as orin-nx, instead of what is found out
    #[arg(long, value_name = "NAME")]
    pub board: Option<String>,
}

/// What [`Where`] comes to.
pub struct Place {
    /// Folder of the slots.
    pub directory: PathBuf,
    /// This box.
    pub this: ThisBox,
    /// Where updates come from.
    pub update: update::Config,
    /// The service's store, where there is a configuration.
    pub store: Option<PathBuf>,
}

impl Where {
    /// Reads the configuration, if there is one.
    pub fn place(&self) -> Result<Place, Failure> {
        let usual = Path::new(CONFIG);
        let named = self.config.as_deref().or_else(|| (self.slots.is_none() && usual.exists()).then_some(usual));
        let config = named.map(Config::read).transpose()?;
        let store = config.as_ref().map(|c| c.store.directory.clone());
        let (slots, update, mut device) = config.map(|c| (c.models.slots, c.update, c.device)).unwrap_or_default();
        let directory = self.slots.clone().or(slots).unwrap_or_else(|| DIRECTORY.into());
        device.board = self.board.clone().or(device.board);
        let this = this_box(&device)?;
        Ok(Place { directory, this, update, store })
    }
}

/// Who acts, for the record: the login behind sudo, else the login.
pub fn actor() -> String {
    let named = ["SUDO_USER", "USER"].into_iter().find_map(|key| std::env::var(key).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
}

/// Unix milliseconds, UTC.
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The kind of what is meant, where only one kind has something to act on.
#[derive(Debug, thiserror::Error)]
#[error("both kinds have a package that this could mean")]
struct WhichKind;

impl Explain for WhichKind {
    fn code(&self) -> &'static str {
        "model.which-kind"
    }
    fn advice(&self) -> &'static str {
        "name the kind: segmenter or nomogram"
    }
}

/// The kind that was named, else the only one for which `has` holds; the segmenter where neither has, so that its error tells.
fn kind_or_only(named: Option<Kind>, has: impl Fn(Kind) -> bool) -> Result<Kind, Failure> {
    match (named, Kind::ALL.map(has)) {
        (Some(kind), _) => Ok(kind),
        (None, [true, true]) => Err(WhichKind.into()),
        (None, [false, true]) => Ok(Kind::Nomogram),
        (None, [_, false]) => Ok(Kind::Segmenter),
    }
}
