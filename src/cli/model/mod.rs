//! `metwatch model`: what is done with model packages.

mod quantize;

use super::Failure;

/// Arguments of `metwatch model`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Makes an int8 package from an f32 one, and measures what that costs in Dice
    Quantize(quantize::Args),
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Quantize(args) => quantize::run(args),
    }
}
