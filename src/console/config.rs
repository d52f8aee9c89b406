//! Where the console answers, and whom it lets in.

use super::ConsoleError;
use super::login::Users;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The console's part of the configuration.
///
/// The console speaks plain HTTP. Beyond loopback put a proxy with TLS before it, or keep it on a network of its own:
/// Basic authentication sends the password with each request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port. Anything but loopback needs `users_file`.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// One `name:secret` per line, mode 0600. The secret is a password or, better, what [`super::hash_password`] makes of it.
    pub users_file: Option<PathBuf>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8480))
}

impl Config {
    /// Refuses a console that anybody could read, and a users file that anybody could read or that names nobody.
    pub fn verify(&self) -> Result<(), ConsoleError> {
        self.users().map(|_| ())
    }

    /// Who may log in; `None` where loopback needs no login.
    pub(super) fn users(&self) -> Result<Option<Users>, ConsoleError> {
        match &self.users_file {
            Some(path) => Users::read(path).map(Some),
            None if self.listen.ip().is_loopback() => Ok(None),
            None => Err(ConsoleError::OpenWithoutUsers(self.listen)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    #[test]
    fn a_console_for_everybody_is_refused() {
        let config: Config = toml::from_str("listen = \"0.0.0.0:8480\"").unwrap();
        assert_eq!(config.verify().unwrap_err().code(), "console.open-without-users");
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8480");
        assert!(config.verify().is_ok());
        assert!(toml::from_str::<Config>("lisen = \"127.0.0.1:1\"").is_err());
    }

    #[test]
    fn a_missing_users_file_is_an_error_even_on_loopback() {
        let config: Config = toml::from_str("users_file = \"/nonexistent/users\"").unwrap();
        assert_eq!(config.verify().unwrap_err().code(), "console.users-file");
    }
}
