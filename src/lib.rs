//! metwatch: from a CT series to the risk of metachronous liver metastasis, on a box beside the scanner.
//! *Demonstration, not for clinical use.*
//!
//! Data flows one way: bytes -> series -> volume -> labels -> features -> risk -> alert.
//! Pure rooms compute (no clock, no files, no sockets); edges touch the world; `service` joins them; `cli` names everything.
//! `tests/rooms.rs` holds the table of rooms and arrows against the code.
#![warn(missing_docs)]

mod explain;
pub use explain::{DISCLAIMER, Explain};

// pure
pub mod cohort;
pub mod phantom;
pub mod radiomics;
pub mod risk;
pub mod segment;
pub mod statistics;
pub mod volume;
// edges
pub mod alert;
pub mod clinical;
pub mod console;
pub mod device;
pub mod dicom;
pub mod update;
// base
pub mod store;
// top
pub mod cli;
pub mod service;
