//! `metwatch model install`.

use super::{Failure, Where, actor, now_ms};
use crate::update::{Journal, Slots};
use std::path::PathBuf;

/// Checks a package and puts it into the slot that waits
#[derive(clap::Args)]
pub struct Args {
    /// Folder or archive (.tar.zst) of the package. Only its own hashes are checked: updates that are signed come by `metwatch update`
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Also a package that failed on this box before
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    place: Where,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Installs and prints what.
pub fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let slots = Slots::new(&place.directory);
    let identity = slots.install(&args.package, &place.this, args.again, &slots.lock()?)?;
    let (kind, name) = (identity.kind.name(), identity.name());
    let detail = format!("{kind} {name} {} by hand", identity.sha256);
    Journal::new(&place.directory).note(&actor(), "model.installed", detail, now_ms())?;
    if args.json {
        let row = serde_json::json!({ "kind": kind, "id": identity.id, "version": identity.version, "sha256": identity.sha256 });
        println!("{row}");
    } else {
        println!("{kind} {name} is installed; `metwatch model activate {kind}` makes it run ({})", crate::DISCLAIMER);
    }
    Ok(())
}
