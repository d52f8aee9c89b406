//! The convention of the Image Biomarker Standardisation Initiative (IBSI 1): its processing and all its features.
//!
//! Main types: [`Settings`] (what the manual calls a configuration), [`Table`] (diagnostic rows, then features). [`extract`]
//! takes an image and a mask as files hold them, [`extract_region`] a CT volume and one region; [`compliance`] holds a
//! table against IBSI's published values. Data passes once: image and mask -> centered grid, rounded, re-segmented
//! (`prepare`) -> morphology, local peaks, statistics -> gray levels (`levels`) -> one matrix per texture family.
//! Differences to the PyRadiomics convention of the parent room: ../shared/design/radiomics.md.
//! Definitions and codes: IBSI reference manual (arXiv:1612.07003; github.com/theibsi/ibsi-doc), chapters 2 and 3.
//!
//! **Invariant:** as of the parent room: no file, clock or thread count; the same bytes give the same numbers.

mod compliance;
mod cooccurrence;
mod enclosing;
mod extract;
mod fft;
mod histogram;
mod hull;
mod levels;
mod local;
mod morphology;
mod neighborhood;
mod prepare;
mod runs;
mod settings;
mod spatial;
mod statistics;
mod table;
mod zones;

pub use compliance::{ComplianceRow, compliance};
pub use extract::{extract, extract_region};
pub use levels::LEVELS_MAX;
pub use settings::{Approach, Bins, Interpolation, Settings};
pub use table::{Family, Row, Table};
