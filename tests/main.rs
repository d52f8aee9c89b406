//! One test program for the whole box: a module per capability. `bash tests/run` sets up the peers and runs it.

mod alert;
mod common;
mod risk;
mod dicom;
mod radiomics;
mod rooms;
mod store;
