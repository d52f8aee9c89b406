//! `metwatch outbox list|retry`: what waits to be sent over DICOM. Reads and writes files beside the running service.

use super::Failure;
use super::study::{Place, print_json, time};
use crate::Explain;
use crate::store::{OutboxRowV1, OutboxState, read_outbox, request_retry};

/// Arguments of `metwatch outbox`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: OutboxCommand,
}

#[derive(clap::Subcommand)]
enum OutboxCommand {
    /// Lists what is not delivered yet, and why
    List {
        #[command(flatten)]
        place: Place,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Has parked messages sent again, by the running service or at its next start
    Retry {
        /// Ids, as listed
        #[arg(required_unless_present_any = ["all", "peer"])]
        ids: Vec<String>,
        /// All that are parked
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// All that are parked for this AE title
        #[arg(long, value_name = "AET", conflicts_with = "ids")]
        peer: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

/// Nothing to send again.
#[derive(Debug, thiserror::Error)]
#[error("no such message is parked")]
struct NotParked;

impl Explain for NotParked {
    fn code(&self) -> &'static str {
        "outbox.not-parked"
    }
    fn advice(&self) -> &'static str {
        "see `metwatch outbox list`; what is queued is sent by itself"
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        OutboxCommand::List { place, json } => {
            let status = read_outbox(&place.directory()?)?;
            if json { print_json(&status) } else { list(&status.messages) }
        }
        OutboxCommand::Retry { ids, all, peer, place } => {
            let directory = place.directory()?;
            let named = |row: &OutboxRowV1| match &peer {
                Some(peer) => row.to == *peer,
                None => all || ids.iter().any(|id| !id.is_empty() && row.id.starts_with(id.as_str())),
            };
            let mut rows = read_outbox(&directory)?.messages;
            rows.retain(|row| matches!(row.state, OutboxState::Parked { .. }) && named(row));
            if rows.is_empty() {
                return Err(NotParked.into());
            }
            rows.iter().try_for_each(|row| request_retry(&directory, &row.id))?;
            println!("{} messages are sent again within a second, or when the service starts", rows.len());
        }
    }
    Ok(())
}

fn list(rows: &[OutboxRowV1]) {
    println!(
        "{:<12} {:<16} {:<9} {:<18} {:<10} {:>5}  queued (UTC)",
        "message", "to", "study", "what", "state", "tries"
    );
    for row in rows {
        let what = row.payload.get("object").and_then(|o| o.as_str()).unwrap_or("?");
        println!(
            "{:<12} {:<16} {:<9} {what:<18} {:<10} {:>5}  {}",
            &row.id[..row.id.len().min(12)],
            row.to,
            row.study.as_deref().unwrap_or("-"),
            row.state.name(),
            row.attempts,
            time(row.created_at_ms)
        );
        let why = match &row.state {
            OutboxState::Parked { reason, .. } => Some(reason),
            _ => row.failure.as_ref(),
        };
        why.iter().for_each(|why| println!("             {why}"));
    }
    eprintln!("{} messages are not delivered yet", rows.len());
}
