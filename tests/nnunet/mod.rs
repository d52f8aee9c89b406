//! Models trained with nnU-Net: equal to its own predictor, imported from real folders, refused by name where they cannot be run.

mod cli;
mod equality;
mod refusals;
