//! `metwatch model activate`.

use super::{Failure, Where, actor, kind_or_only, now_ms};
use crate::update::{Kind, Phase, Slot, Slots, activate_noted};

/// Makes the waiting package the active one; a running service takes it after the study under way
#[derive(clap::Args)]
pub struct Args {
    /// segmenter or nomogram; not needed where only one of them waits
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// Which version, if not the one that waits
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    place: Where,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Activates and prints what.
pub fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let state = Slots::new(&place.directory).state()?;
    let waits = |kind: Kind| {
        let of_kind = state.kind(kind);
        let waiting = |slot: Slot| of_kind.get(slot).is_some_and(|p| p.phase == Phase::Installed);
        [Slot::A, Slot::B].into_iter().any(|slot| of_kind.active != Some(slot) && waiting(slot))
    };
    let kind = kind_or_only(args.kind, waits)?;
    let package = activate_noted(&place.directory, kind, args.version.as_deref(), &place.this, &actor(), now_ms())?;
    if args.json {
        let row = serde_json::json!({ "kind": kind, "id": package.id, "version": package.version, "phase": package.phase.name() });
        println!("{row}");
    } else {
        let (kind, name) = (kind.name(), package.name());
        println!(
            "{kind} {name} is active: a running service takes it after the study under way ({})",
            crate::DISCLAIMER
        );
    }
    Ok(())
}
