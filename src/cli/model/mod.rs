//! `metwatch model`: tests and comparisons of model packages.

mod compare;
mod compare_page;
mod self_test;

use super::Failure;

/// Arguments of `metwatch model`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compares two segmenters on images, with each other and with labels
    Compare(compare::Args),
    /// Runs the golden vectors and the golden self-test of a segmenter on this machine
    SelfTest(self_test::Args),
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Compare(args) => compare::run(args),
        Command::SelfTest(args) => self_test::run(args),
    }
}
