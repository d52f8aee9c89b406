//! One test program for the whole box: a module per capability. `bash tests/run` sets up the peers and runs it.

mod common;
mod radiomics;
mod rooms;
