//! `metwatch model`: what is done with model packages.

mod import_nnunet;

use super::Failure;

/// Makes model packages
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Makes a segmenter package from a model trained with nnU-Net v2
    ImportNnunet(import_nnunet::Args),
}

/// Runs one of them.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::ImportNnunet(args) => import_nnunet::run(args),
    }
}
