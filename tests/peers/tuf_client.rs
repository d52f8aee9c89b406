//! The client side of tuf-conformance's command line protocol around `metwatch::update`: what `metwatch update` believes, and how it
//! fetches. `tests/tuf_conformance` runs the suite against it; nothing of this ships.
#![allow(clippy::disallowed_methods, reason = "a test peer owns files, arguments and the clock")]

use clap::{Parser, Subcommand};
use futures::StreamExt;
use metwatch::update::{Fetcher, Journal, Places, Trust, UpdateError, Wanted, explained};
use reqwest::Url;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tough::{Repository, TargetName};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long)]
    metadata_url: Option<Url>,
    #[arg(long = "target-name")]
    target_names: Vec<String>,
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[arg(long)]
    target_base_url: Option<Url>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init { trusted_root: PathBuf },
    Refresh,
    Download,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // The suite reads every JSON file of its folder: the box's own files are beside it.
    let state = args.metadata_dir.with_extension("state");
    let done = match &args.command {
        Command::Init { trusted_root } => init(trusted_root, &args.metadata_dir, &state),
        Command::Refresh | Command::Download => run(&args, &state),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn init(root: &Path, metadata: &Path, state: &Path) -> Result<(), UpdateError> {
    fs::create_dir_all(state).expect("writable");
    fs::copy(root, state.join("pinned.json")).expect("writable");
    fs::copy(root, metadata.join("root.json")).expect("writable");
    Ok(())
}

fn run(args: &Args, state: &Path) -> Result<(), UpdateError> {
    let slash = |url: &Url| Url::parse(&format!("{}/", url.as_str().trim_end_matches('/'))).expect("still a URL");
    let metadata = slash(args.metadata_url.as_ref().expect("--metadata-url"));
    let targets = args.target_base_url.as_ref().map_or_else(|| metadata.clone(), slash);
    let fetcher = Fetcher::new(&metadata, None, Duration::from_secs(5))?;
    let places = Places { metadata, targets };
    let (trust, journal) = (Trust::new(state), Journal::new(state));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let now_ms = chrono::Utc::now().timestamp_millis();
    let pinned = state.join("pinned.json");
    let done = runtime.block_on(async {
        let (repository, _, fetcher) = trust.load(&places, &fetcher, Some(&pinned), &journal, now_ms).await?;
        for name in &args.target_names {
            download(&repository, &fetcher, name, args.target_dir.as_deref().expect("--target-dir")).await?;
        }
        Ok(())
    });
    export(&trust, &args.metadata_dir)?;
    trust.tidy()?;
    done
}

/// What is believed, as the suite wants to see it.
fn export(trust: &Trust, metadata: &Path) -> Result<(), UpdateError> {
    let Some(trusted) = trust.read()? else { return Ok(()) };
    let roles = [
        ("root", Some(trusted.root)),
        ("timestamp", trusted.timestamp),
        ("snapshot", trusted.snapshot),
        ("targets", trusted.targets),
    ];
    for (role, text) in roles {
        let path = metadata.join(format!("{role}.json"));
        match text {
            Some(text) => fs::write(path, text).expect("writable"),
            None => drop(fs::remove_file(path)),
        }
    }
    Ok(())
}

async fn download(repository: &Repository, fetcher: &Fetcher, name: &str, folder: &Path) -> Result<(), UpdateError> {
    let missing = || UpdateError::NotFound { url: name.into() };
    let target_name = TargetName::new(name).map_err(|e| explained(e, None))?;
    let (_, target) = repository.all_targets().find(|(known, _)| **known == target_name).ok_or_else(missing)?;
    let hex: String = target.hashes.sha256.iter().map(|b| format!("{b:02x}")).collect();
    let done = folder.join(&hex);
    if done.exists() {
        return Ok(());
    }
    let part = folder.join(format!(".{hex}.part"));
    fetcher.want(Some(Wanted { length: target.length, part: part.clone() }));
    let stream = repository.read_target(&target_name).await.map_err(|e| explained(e, fetcher.failure()));
    let mut ended = stream.and_then(|s| s.ok_or_else(missing)).map(Box::pin)?;
    let mut failed = None;
    while let Some(chunk) = ended.next().await {
        failed = chunk.err().map(|e| explained(e, fetcher.failure())).or(failed);
        if failed.is_some() {
            break;
        }
    }
    fetcher.want(None);
    match failed {
        None => fs::rename(part, done).map_err(|source| UpdateError::Io { doing: "renaming".into(), source }),
        Some(error) => {
            let _ = fs::remove_file(part);
            Err(error)
        }
    }
}
