//! `metwatch repo`: makes and keeps a repository of model packages for a small site.

use super::Failure;
use super::model::now_ms;
use crate::update::Compatibility;
use crate::update::repository::{Days, Site};
use std::path::PathBuf;

/// Arguments of `metwatch repo`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Makes keys and an empty repository
    Init {
        #[command(flatten)]
        site: SiteArgs,
        /// Folder for the root's keys: keep it offline
        #[arg(long, value_name = "DIR")]
        root_keys: PathBuf,
        /// How many root keys; a new root needs more than half of them
        #[arg(long, value_name = "N", default_value_t = 1)]
        n_root_keys: u32,
    },
    /// Checks packages and adds them; `publish` makes them known
    Add {
        #[command(flatten)]
        site: SiteArgs,
        /// Folders or archives (.tar.zst)
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<PathBuf>,
        /// The oldest program that can use them, instead of what the package says
        #[arg(long, value_name = "VERSION")]
        minimum_software: Option<String>,
        /// A board that they were made for, instead of what the package says; may be given several times
        #[arg(long = "board", value_name = "NAME")]
        boards: Vec<String>,
    },
    /// Takes a package off the list with the next publication
    Remove {
        #[command(flatten)]
        site: SiteArgs,
        /// Name of the target, such as liver-1.2.0.tar.zst
        #[arg(value_name = "TARGET")]
        target: String,
    },
    /// Signs what was added; without anything new it renews what would expire
    Publish {
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Replaces the key of a role by a new root, then publishes with it
    Rotate {
        #[command(flatten)]
        site: SiteArgs,
        /// root, targets, snapshot or timestamp
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// Folder of the root's keys
        #[arg(long, value_name = "DIR")]
        root_keys: PathBuf,
    },
}

#[derive(clap::Args)]
struct SiteArgs {
    /// Folder of the repository, as a web server or a stick carries it
    #[arg(value_name = "REPOSITORY")]
    directory: PathBuf,
    /// Folder of the keys for targets, snapshot and timestamp
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// How long a root is valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    root_days: u32,
    /// How long the list of packages is valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 180)]
    targets_days: u32,
    /// How long the snapshot is valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    snapshot_days: u32,
    /// How long a box may believe that nothing newer exists, days; more for sticks, and a stick is older by nature
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    timestamp_days: u32,
}

impl SiteArgs {
    fn site(&self) -> Site {
        let days = Days {
            root: self.root_days,
            targets: self.targets_days,
            snapshot: self.snapshot_days,
            timestamp: self.timestamp_days,
        };
        Site::new(&self.directory, &self.keys, days, now_ms())
    }
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Init { site, root_keys, n_root_keys } => {
            let root = site.site().init(&root_keys, n_root_keys)?;
            println!("pin this file on each box (update.root, or --root at the first check): {}", root.display());
            println!("keep {} offline; lost root keys mean a visit to each box", root_keys.display());
        }
        Command::Add { site, packages, minimum_software, boards } => {
            let given = minimum_software.is_some() || !boards.is_empty();
            let compatibility = given.then_some(Compatibility { minimum_software, boards });
            for package in packages {
                let added = site.site().add(&package, compatibility.clone())?;
                println!("{} ({} bytes) is added, not yet published", added.name, added.length);
            }
        }
        Command::Remove { site, target } => {
            site.site().remove(&target)?;
            println!("{target} goes with the next publication");
        }
        Command::Publish { site } => {
            println!("published as version {}", site.site().publish()?);
        }
        Command::Rotate { site, role, root_keys } => {
            let root = site.site().rotate(&role, &root_keys)?;
            println!("root {root} names the new key of {role}; published as version {}", site.site().publish()?);
        }
    }
    Ok(())
}
