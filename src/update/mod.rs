//! Model packages over the air: whom to believe, what to fetch, which slot to use.
//!
//! ```text
//! repository (HTTPS, or a folder on a stick) -> trust (TUF) -> client: check, apply -> download, hash -> archive -> slots
//! slots: installed -> trying -> good | bad        service: begin, load, proven | roll_back
//! ```
//! [`check`] and [`apply`] are the client; [`Slots`] holds two packages per kind and says which is active; [`Trust`] what is believed;
//! [`Journal`] what happened. [`repository`] makes a repository for a site that has no other tool for it.
//!
//! **Invariant:** nothing runs from here before its signature, its hashes, its board and its golden vectors were right; at every moment
//! one complete package per kind is active, whatever is killed or unplugged.
#![expect(clippy::disallowed_methods, reason = "edge: this room owns the slots, the downloads and the record")]

mod archive;
mod client;
mod config;
mod error;
mod files;
mod journal;
mod keys;
mod package;
pub mod repository;
mod slots;
mod transport;
mod trust;

pub use client::{Applied, Checked, CustomV1, Offer, Refused, Setup, Verdict, activate_noted, apply, check, places};
pub use config::Config;
pub use error::UpdateError;
pub use journal::Journal;
pub use package::{
    Compatibility, Files, Identity, Kind, PackageReadError, ThisBox, Version, identify, read_package, verify,
};
pub use slots::check_package;
pub use slots::{BadV1, InstalledV1, KindV1, Lock, Phase, RolledBack, Slot, Slots, SlotsV1};
pub use transport::{Fetcher, Wanted};
pub use trust::{Places, Trust, TrustedV1, explained, time};

use std::path::Path;

/// An error of reading a package, with the package's name.
trait Explained<T> {
    fn explained(self, package: &Path) -> Result<T, UpdateError>;
}

impl<T> Explained<T> for Result<T, PackageReadError> {
    fn explained(self, package: &Path) -> Result<T, UpdateError> {
        self.map_err(|e| UpdateError::Package { package: package.display().to_string(), failure: Box::new(e) })
    }
}
