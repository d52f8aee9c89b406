//! Statistics as R and its packages compute them: models, discrimination, calibration, survival, reliability.
//!
//! Every file stands for itself and takes slices or [`ndarray`] views: rows are patients, columns are predictors. Values that
//! come from a reference (R's glmnet, survival, rms, pROC, …) say which function they equal and which convention they follow.
//!
//! **Invariant:** this room knows no file, clock, patient or predictor name, and no random numbers of its own: indices and
//! folds come in as arguments. The same input gives the same bits for any number of threads.

pub mod attribution;
pub mod calibration;
pub mod combat;
pub mod competing;
pub mod concordance;
pub mod cox;
pub mod cut_off;
pub mod decision_curve;
pub mod distributions;
mod error;
pub mod hypothesis;
pub mod kaplan_meier;
pub mod linear;
pub mod logistic;
pub mod penalized;
pub mod reclassification;
pub mod reliability;
pub mod roc;
mod sample;
pub mod selection;
pub mod spline;
pub mod stepwise;
pub mod time_dependent;

pub use error::StatisticsError;
