//! `metwatch model verify`.

use super::{Failure, Where, now_ms};
use crate::Explain;
use crate::update::{Journal, Kind, Slot, Slots, UpdateError, check_package};
use serde_json::json;
use std::path::PathBuf;

/// Checks a package, or all packages in the slots: hashes, board, version, golden vectors
#[derive(clap::Args)]
pub struct Args {
    /// Folder or archive (.tar.zst) of a package; without it everything in the slots is checked
    #[arg(value_name = "PACKAGE")]
    package: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints a row per package; the first failure is also how the command ends.
pub fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let slots = Slots::new(&place.directory);
    let checked: Vec<(String, Result<String, UpdateError>)> = match &args.package {
        Some(path) => {
            let checked = check_package(path, &place.this).map(|identity| identity.name());
            vec![(path.display().to_string(), checked)]
        }
        None => {
            let state = slots.state()?;
            let all = Kind::ALL.into_iter().flat_map(|kind| [Slot::A, Slot::B].map(|slot| (kind, slot)));
            let there = all.filter(|(kind, slot)| state.kind(*kind).get(*slot).is_some());
            let check = |(kind, slot): (Kind, Slot)| {
                let what = format!("{} in slot {}", kind.name(), slot.name());
                (what, slots.verify(kind, slot, &place.this).map(|identity| identity.name()))
            };
            there.map(check).collect()
        }
    };
    for (what, result) in &checked {
        match result {
            _ if args.json => {}
            Ok(name) => println!("ok    {name} ({what}): hashes, board, version and golden vectors are right"),
            Err(e) => println!("WRONG {what}: {e}"),
        }
    }
    if args.json {
        let row = |(what, result): &(String, Result<String, UpdateError>)| {
            let (name, error) = (result.as_ref().ok(), result.as_ref().err());
            json!({ "what": what, "ok": error.is_none(), "package": name, "code": error.map(Explain::code), "error": error.map(ToString::to_string) })
        };
        println!("{}", serde_json::Value::from(checked.iter().map(row).collect::<Vec<_>>()));
    } else if args.package.is_none() {
        let n = Journal::new(&place.directory).entries(now_ms())?.len();
        println!("ok    the record of updates: {n} entries, its chain holds");
    }
    checked.into_iter().try_for_each(|(_, result)| result.map(drop).map_err(Failure::from))
}
