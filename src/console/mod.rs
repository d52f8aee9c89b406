//! What people see: pictures of the regions, the list of studies, the page of one study, and the form for clinical values.
//!
//! [`key_pictures`] draws a volume and its labels (pure). [`serve`] answers a browser: it asks a [`Source`], which `service`
//! implements over the store, for plain values ([`StudySummary`], [`StudyPage`]), renders them, and hands a [`Command`] back when a
//! person enters something. Every view of a patient is reported to the source for the audit before it is shown.
//!
//! The pages need no script and no network; every value is escaped where it enters a page. A refused or failed study never
//! shows a risk, and wherever a risk stands the disclaimer stands too.
//!
//! **Invariant:** the room keeps nothing: what it shows comes from the source, what a person enters goes to the source.
//! Beyond loopback nobody gets in without a login.
#![expect(
    clippy::disallowed_methods,
    reason = "edge: this room reads the users file, and answers on a runtime of its own"
)]

mod canvas;
mod charts;
mod config;
mod connection;
mod error;
mod form;
mod guard;
mod html;
mod list_page;
mod login;
mod metrics;
mod picture;
mod sections;
mod server;
mod study_page;
#[cfg(test)]
mod testing;
mod view;

pub use config::Config;
pub use error::ConsoleError;
pub use list_page::list_page;
pub use login::hash_password;
pub use metrics::{MetricsConfig, serve_metrics};
pub use picture::{KeyPicture, SOFT_TISSUE, View, key_pictures, overlay_png, picture_title, region_color};
pub use server::{Command, Source, Viewed, serve};
pub use study_page::study_page;
pub use view::{
    AlertState, AlertView, AssessmentView, AuditRow, Contribution, DeliveryRow, FeatureRow, FileRow, PackageRow,
    RegionRow, Remark, Status, StepRow, StudyPage, StudySummary,
};
