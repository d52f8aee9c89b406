//! Why the console does not start.

use crate::Explain;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the console does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// An address that others can reach, and nobody to log in.
    #[error("the console would answer on {0}, which other machines can reach, without a login")]
    OpenWithoutUsers(SocketAddr),
    /// The users file cannot be read.
    #[error("reading the console's users file {}", path.display())]
    UsersFile {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// Others than its owner may read or write the users file.
    #[error("the console's users file {} has mode {mode:04o}: others than its owner can open it", path.display())]
    UsersMode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line of the users file is none.
    #[error("line {line} of the console's users file is not valid: {why}")]
    UsersLine {
        /// Counted from 1.
        line: usize,
        /// What is wrong; never the line itself.
        why: &'static str,
    },
    /// A users file without users.
    #[error("the console's users file names no user, so nobody could log in")]
    NoUsers,
    /// The system gave no random numbers or no thread of network.
    #[error("{action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
}

impl Explain for ConsoleError {
    fn code(&self) -> &'static str {
        match self {
            Self::OpenWithoutUsers(_) => "console.open-without-users",
            Self::UsersFile { .. } => "console.users-file",
            Self::UsersMode { .. } => "console.users-mode",
            Self::UsersLine { .. } => "console.users-line",
            Self::NoUsers => "console.no-users",
            Self::System { .. } => "console.system",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::OpenWithoutUsers(_) => "set console.users_file, or listen on 127.0.0.1",
            Self::UsersFile { .. } => "create the file with one `name:secret` per line, readable by the service's user",
            Self::UsersMode { .. } => "chmod 600 the file",
            Self::UsersLine { .. } => {
                "write `name:secret`; the secret is a password of 8 characters or more, or pbkdf2-sha256$iterations$salt$hash"
            }
            Self::NoUsers => "add a line `name:secret`",
            Self::System { .. } => "restart the service; if it stays, the machine lacks memory or file handles",
        }
    }
}
