//! The service: joins the rooms into one line from received bytes to the alert.
//!
//! [`Config`] is read, [`Service::start`] opens the store and the packages, starts the receiver, the worker, the alert session and the
//! console, and returns a [`Service`] that can be stopped. [`plan`] decides what comes next for a study, [`worker`] performs it,
//! [`analysis`] computes (also for `analyze`, without a service), [`events`] phrases what leaves through the outbox.
//!
//! **Invariant:** the only room that names all others; every promise to the outside (C-STORE success, an alert) rests on a durable row.
#![expect(clippy::disallowed_methods, reason = "top: this room owns threads, clocks and the configuration file")]

pub mod analysis;
mod certificate;
mod check;
mod choice;
mod config;
mod counters;
mod delivery;
mod doctor;
mod events;
mod exposition;
mod features;
mod health;
mod metrics;
mod models;
pub mod objects;
mod packages;
pub mod plan;
mod ports;
mod probes;
mod pulse;
mod reanalyze;
mod result;
mod run;
mod sink;
mod source;
pub mod systemd;
mod worker;

pub use check::{Finding as CheckFinding, check};
pub use config::{Config, ConfigError, ModelsConfig, StoreConfig};
pub use delivery::SendV1;
pub use doctor::{Diagnosis, Severity, doctor};
pub use features::Features;
pub use health::{machine as machine_payload, postponed};
pub use models::{ActiveModels, this_box};
pub use packages::{BUILT_IN, PackageReadError, built_in, read_package};
pub use reanalyze::{Correction, ReanalyzeError, reanalyze};
pub use result::{
    AssessmentResult, ContributionResult, PackageRef, QualityResult, RESULT_SCHEMA, RegionResult, Remark, ResultV1,
    Status,
};
pub use run::{Service, StartError};

/// Unix milliseconds, UTC.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
