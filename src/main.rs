//! The `metwatch` binary: parse, run, report, exit.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    end_when_nobody_reads();
    match metwatch::cli::run(metwatch::cli::Cli::parse_from(metwatch::cli::long_flags(std::env::args_os()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// `metwatch ... | head`: a closed pipe ends the program as it ends others, without a panic's message.
#[expect(clippy::disallowed_methods, reason = "a panic cannot return an exit code")]
fn end_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(128 + 13); // as a shell reports SIGPIPE
        }
        usual(info);
    }));
}
