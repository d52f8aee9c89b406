//! `metwatch update`: newer model packages, from a server or from a stick.

use super::Failure;
use super::model::{Place, Where, actor, now_ms};
use crate::service::{built_in, postponed};
use crate::update::{self, Checked, Journal, Kind, Offer, Setup, Slots, Trust, UpdateError, Verdict, time};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `metwatch update`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Looks whether there are newer packages; nothing is changed
    Check {
        #[command(flatten)]
        from: Origin,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetches, checks, installs and activates newer packages; a running service takes them after the study under way
    Apply {
        #[command(flatten)]
        from: Origin,
        /// Installs only; `metwatch model activate` makes them run
        #[arg(long)]
        stage: bool,
        /// As the timer runs it: installs, and activates only where the configuration says update.automatic = true
        #[arg(long, conflicts_with = "stage")]
        timer: bool,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Says what is believed and when it was last checked, without network
    Status {
        #[command(flatten)]
        place: Where,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Believes the clock as it is now, after it was ahead at the last check; goes into the record
    ResetClock {
        #[command(flatten)]
        place: Where,
    },
}

/// Where updates come from.
#[derive(clap::Args)]
struct Origin {
    /// Address of the repository (https, or http for tests), instead of update.url of the configuration
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    repo: Option<String>,
    /// A folder with the repository, such as a stick
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The publisher's root.json, needed for the first check
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Authorities (PEM) for the server's certificate, instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Id of a wanted package, where it is not the one in use
    #[arg(long = "package", value_name = "ID")]
    packages: Vec<String>,
    /// How long the server may be silent, s [default: 20]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u32>,
    #[command(flatten)]
    place: Where,
}

impl Origin {
    fn setup(self) -> Result<(Setup, bool), Failure> {
        let Place { directory, this, update, .. } = self.place.place()?;
        let repository = match (self.from, self.repo.or(update.url)) {
            (Some(folder), _) => {
                let wrong = |e: String| UpdateError::Setting { what: format!("the folder {}: {e}", folder.display()) };
                let folder = folder.canonicalize().map_err(|e| wrong(e.to_string()))?;
                reqwest::Url::from_directory_path(&folder).map_err(|()| wrong("is no path".into()))?
            }
            (None, Some(url)) => reqwest::Url::parse(&url)
                .map_err(|e| UpdateError::Setting { what: format!("{url:?} is no address: {e}") })?,
            (None, None) => {
                let what =
                    "where updates come from is not known: give --repo or --from, or update.url in the configuration";
                return Err(UpdateError::Setting { what: what.into() }.into());
            }
        };
        let setup = Setup {
            directory,
            repository,
            root: self.root.or(update.root),
            ca_file: self.ca_file.or(update.ca_file),
            patience: Duration::from_secs(self.timeout_s.unwrap_or(update.timeout_s).max(1).into()),
            this,
            packages: if self.packages.is_empty() { update.packages } else { self.packages },
            built_in: Kind::ALL.map(built_in),
        };
        Ok((setup, update.automatic))
    }
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Check { from, json } => {
            let (setup, _) = from.setup()?;
            let checked = update::check(&setup, now_ms())?;
            if json {
                println!("{}", as_json(&checked)?)
            } else {
                print(&checked)
            }
            Ok(())
        }
        Command::Apply { from, stage, timer, json } => {
            // A person who applies knows why; the timer waits until the box is well.
            if timer && let Some(why) = from.place.place()?.store.as_deref().and_then(postponed) {
                eprintln!("metwatch: updates are put off while the box is not well ({why}); the timer looks again");
                return Ok(());
            }
            let (setup, automatic) = from.setup()?;
            let activate = !stage && (!timer || automatic);
            apply(&setup, activate, json)
        }
        Command::Status { place, json } => status(&place.place()?, json),
        Command::ResetClock { place } => {
            let directory = place.place()?.directory;
            let now_ms = now_ms();
            let was = Trust::new(&directory).reset_clock(now_ms)?;
            let detail = format!("from {} to {}", time(was), time(now_ms));
            Journal::new(&directory).note(&actor(), "update.clock-reset", &detail, now_ms)?;
            println!("the clock is believed again ({detail}); this is in the record of updates");
            Ok(())
        }
    }
}

fn apply(setup: &Setup, activate: bool, json: bool) -> Result<(), Failure> {
    let tell = |offer: &Offer| eprintln!("{} {} ({:.1} MiB)", offer.kind.name(), offer.name(), mib(offer.length));
    let applied = update::apply(setup, activate, now_ms(), &tell)?;
    if json {
        let rows =
            |all: &[(Kind, String)]| all.iter().map(|(k, n)| json!({ "kind": k, "package": n })).collect::<Vec<_>>();
        let row = json!({ "staged": rows(&applied.staged), "activated": rows(&applied.activated), "disclaimer": crate::DISCLAIMER });
        println!("{row}");
        return Ok(());
    }
    if applied.staged.is_empty() {
        println!("nothing newer");
    }
    for (kind, name) in &applied.staged {
        let kind = kind.name();
        match applied.activated.iter().any(|(_, active)| active == name) {
            true => println!("{kind} {name} is active, on trial: a running service takes it after the study under way"),
            false => println!("{kind} {name} is installed; `metwatch model activate {kind}` makes it run"),
        }
    }
    Ok(())
}

fn as_json(checked: &Checked) -> Result<serde_json::Value, Failure> {
    let mut row = serde_json::to_value(checked).unwrap_or_default();
    row["news"] = json!(checked.news().map(|o| json!({ "kind": o.kind, "package": o.name() })).collect::<Vec<_>>());
    row["versions"] = checked.versions.iter().map(|(role, v)| (role.to_string(), json!(v))).collect();
    row["disclaimer"] = json!(crate::DISCLAIMER);
    Ok(row)
}

fn print(checked: &Checked) {
    for offer in &checked.offers {
        let verdict = match &offer.verdict {
            Verdict::New => "new".to_string(),
            Verdict::Staged => "installed, waits for its activation".into(),
            Verdict::Current => "runs".into(),
            Verdict::Older => "older".into(),
            Verdict::Other => "another package than the one in use".into(),
            Verdict::Misfit(why) => format!("does not suit this box: {why}"),
            Verdict::Bad(why) => format!("failed on this box before: {why}"),
        };
        println!("{:10} {:30} {:8.1} MiB  {verdict}", offer.kind.name(), offer.name(), mib(offer.length));
    }
    for refused in &checked.refused {
        println!("refused    {:?}: {}", refused.name, refused.why);
    }
    println!("signatures are right; valid until {} ({})", checked.expires, crate::DISCLAIMER);
    match checked.news().count() {
        0 => println!("nothing newer"),
        n => println!("{n} newer: `metwatch update apply` installs and activates"),
    }
}

fn status(place: &Place, as_json: bool) -> Result<(), Failure> {
    let trusted = Trust::new(&place.directory).read()?;
    let state = Slots::new(&place.directory).state()?;
    let records = Journal::new(&place.directory).entries(now_ms())?;
    let versions = trusted.as_ref().map(update::TrustedV1::versions);
    let checked = trusted.as_ref().filter(|t| t.checked_at_ms > 0).map(|t| time(t.checked_at_ms));
    let packages = Kind::ALL.map(|kind| match state.kind(kind).in_use() {
        Some((_, package)) => (kind, package.name(), package.phase.name()),
        None => (kind, format!("{} {}", built_in(kind).id, built_in(kind).version), "built-in"),
    });
    if as_json {
        let versions: serde_json::Map<_, _> =
            versions.into_iter().flatten().map(|(role, v)| (role.to_string(), json!(v))).collect();
        let packages =
            packages.map(|(kind, package, phase)| json!({ "kind": kind, "package": package, "phase": phase }));
        let row = json!({
            "slots": place.directory, "board": place.this.board, "software": place.this.software.to_string(),
            "repository": place.update.url, "automatic": place.update.automatic, "trusted": trusted.is_some(),
            "versions": versions, "checked_at": checked, "active": packages, "records": records.len(),
            "disclaimer": crate::DISCLAIMER,
        });
        println!("{row}");
        return Ok(());
    }
    println!("slots      {} (board {}, metwatch {})", place.directory.display(), place.this.board, place.this.software);
    println!("repository {}", place.update.url.as_deref().unwrap_or("none in the configuration"));
    match versions {
        None => println!("trust      no root yet"),
        Some(versions) => {
            let shown = versions.map(|(role, v)| format!("{role} {}", v.map_or("-".into(), |v| v.to_string())));
            println!("trust      {}", shown.join(", "));
        }
    }
    println!("checked    {}", checked.as_deref().unwrap_or("never"));
    for (kind, package, phase) in packages {
        println!("{:10} {package}, {phase}", kind.name());
    }
    for entry in records.iter().rev().take(5) {
        println!("record     {} {} {} {}", time(entry.at_ms), entry.actor, entry.action, entry.detail);
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
