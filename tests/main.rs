//! One test program for the whole box: a module per capability. `bash tests/run` sets up the peers and runs it.
#![allow(clippy::disallowed_methods, reason = "tests own files, processes, sockets and the clock")]

mod alert;
mod analyze;
mod cli;
mod cohort;
mod common;
mod crash;
mod dicom;
mod dicom_pixels;
mod dicom_results;
mod extract;
mod guards;
mod ibsi;
mod line;
mod made;
mod masks;
mod nodes;
mod radiomics;
mod risk;
mod rooms;
mod segment;
mod segment_engine;
mod segment_int8;
mod series;
mod statistics;
mod store;
mod systemd;
mod voxel;
mod workflow;
