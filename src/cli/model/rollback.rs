//! `metwatch model rollback`.

use super::{Failure, Where, actor, kind_or_only, now_ms};
use crate::update::{Journal, Kind, Slots};

/// Leaves the active package for the one before it, and never tries it again
#[derive(clap::Args)]
pub struct Args {
    /// segmenter or nomogram; not needed where only one of them runs from a slot
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    reason: String,
    #[command(flatten)]
    place: Where,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Rolls back and prints to what.
pub fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let slots = Slots::new(&place.directory);
    let state = slots.state()?;
    let kind = kind_or_only(args.kind, |kind| state.kind(kind).active.is_some())?;
    let rolled = slots.roll_back(kind, &args.reason, &slots.lock()?)?;
    Journal::new(&place.directory).note(&actor(), "model.rolled-back", rolled.sentence(), now_ms())?;
    if args.json {
        println!("{}", serde_json::json!({ "kind": kind, "from": rolled.from, "to": rolled.to, "why": rolled.why }));
    } else {
        println!("{} ({})", rolled.sentence(), crate::DISCLAIMER);
    }
    Ok(())
}
