//! The log of an extraction, written as `pyradiomics` writes it, so that scripts which read it go on working.

use super::Failure;
use crate::cli::FileError;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// Levels of Python's logging.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    #[value(name = "NOTSET")]
    NotSet,
    #[value(name = "DEBUG")]
    Debug,
    #[value(name = "INFO")]
    Info,
    #[value(name = "WARNING")]
    Warning,
    #[value(name = "ERROR")]
    Error,
    #[value(name = "CRITICAL")]
    Critical,
}

/// Writes to stderr and, where wanted, to a file.
pub struct Log {
    shown: Level,
    kept: Level,
    file: Option<Mutex<File>>,
}

impl Log {
    /// `verbosity` 1 to 5, as `pyradiomics --verbosity`.
    pub fn new(verbosity: u8, kept: Level, file: Option<&Path>) -> Result<Log, Failure> {
        let shown = match verbosity {
            0 | 1 => Level::Critical,
            2 => Level::Error,
            3 => Level::Warning,
            4 => Level::Info,
            _ => Level::Debug,
        };
        let open =
            |path: &Path| File::options().create(true).append(true).open(path).map_err(|e| FileError::write(path, e));
        Ok(Log { shown, kept, file: file.map(open).transpose()?.map(Mutex::new) })
    }

    pub fn info(&self, message: &str) {
        self.put(Level::Info, 'I', message);
    }

    pub fn warning(&self, message: &str) {
        self.put(Level::Warning, 'W', message);
    }

    pub fn error(&self, message: &str) {
        self.put(Level::Error, 'E', message);
    }

    fn put(&self, level: Level, letter: char, message: &str) {
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        let line = format!("[{now}] {letter}: radiomics.script: {message}\n");
        if level >= self.shown {
            eprint!("{line}");
        }
        if let Some(file) = self.file.as_ref().filter(|_| level >= self.kept)
            && let Ok(mut file) = file.lock()
        {
            // A log that cannot be written must not stop the extraction.
            let _ = file.write_all(line.as_bytes());
        }
    }
}
