//! `metwatch model list`.

use super::{Failure, Where};
use crate::service::built_in;
use crate::update::{InstalledV1, Kind, Phase, Slot, Slots};
use serde_json::json;

/// Lists what is in the slots, and what runs
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints one row per package.
pub fn run(args: Args) -> Result<(), Failure> {
    let slots = Slots::new(&args.place.place()?.directory);
    let state = slots.state()?;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let of_kind = state.kind(kind);
        for slot in [Slot::A, Slot::B] {
            if let Some(package) = of_kind.get(slot) {
                rows.push(row(kind, slot.name(), package, of_kind.active == Some(slot)));
            }
        }
        let inside = built_in(kind);
        let (id, version, sha256) = (inside.id, inside.version, inside.sha256);
        let inside = InstalledV1 { id, version, sha256, phase: Phase::Good };
        rows.push(row(kind, "built-in", &inside, of_kind.in_use().is_none()));
    }
    if args.json {
        let bad = |kind: Kind| {
            state
                .kind(kind)
                .bad
                .iter()
                .map(move |b| json!({ "kind": kind, "id": b.id, "version": b.version, "why": b.why }))
        };
        let bad: Vec<_> = Kind::ALL.into_iter().flat_map(bad).collect();
        println!(
            "{}",
            json!({ "slots": slots.directory(), "packages": rows, "bad": bad, "disclaimer": crate::DISCLAIMER })
        );
        return Ok(());
    }
    println!("  {:10} {:8} {:30} {:10} phase", "kind", "slot", "package", "version");
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or("").to_string();
        let mark = if row["active"] == true { "*" } else { " " };
        let why = if row["why"].is_null() { String::new() } else { format!(": {}", text("why")) };
        println!(
            "{mark} {:10} {:8} {:30} {:10} {}{why}",
            text("kind"),
            text("slot"),
            text("id"),
            text("version"),
            text("phase")
        );
    }
    println!("* runs, or will run after the study under way ({})", crate::DISCLAIMER);
    Ok(())
}

fn row(kind: Kind, slot: &str, package: &InstalledV1, active: bool) -> serde_json::Value {
    let (starts, why) = match &package.phase {
        Phase::Trying { starts } => (Some(*starts), None),
        Phase::Bad { why } => (None, Some(why.clone())),
        _ => (None, None),
    };
    json!({
        "kind": kind, "slot": slot, "id": package.id, "version": package.version, "sha256": package.sha256,
        "active": active, "phase": package.phase.name(), "starts": starts, "why": why,
    })
}
