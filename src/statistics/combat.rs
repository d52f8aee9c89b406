//! ComBat: harmonization of features over centers.
