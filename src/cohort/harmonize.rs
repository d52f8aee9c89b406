//! ComBat over centers, fitted on training alone.

use super::CohortError;
use super::join::Cohort;
use super::spec::Spec;
use crate::statistics::combat::{Combat, CombatOptions, Shrinkage};
use ndarray::{Array2, Axis};

/// A fitted harmonization.
#[derive(Debug, Clone)]
pub struct Harmonized {
    /// Centers, in the order of the parameters.
    pub centers: Vec<String>,
    /// Parameters for every feature of the cohort.
    pub combat: Combat,
}

/// The features as they enter the filters, and the harmonization if the specification asks for one. `training`: rows to fit it on;
/// a resample repeats some.
///
/// A center that has no training patient has no parameters; its patients cannot be harmonized and the analysis is refused.
pub fn harmonize(
    spec: &Spec,
    cohort: &Cohort,
    training: &[usize],
) -> Result<(Array2<f64>, Option<Harmonized>), CohortError> {
    let (true, Some(center)) = (spec.harmonization.combat && cohort.features.ncols() > 1, &cohort.center) else {
        return Ok((cohort.features.clone(), None));
    };
    let mut centers: Vec<String> = training.iter().map(|r| center[*r].clone()).collect();
    centers.sort();
    centers.dedup();
    if centers.len() < 2 {
        return Err(CohortError::Spec {
            what: "harmonization.combat needs training patients from two centers at least".into(),
        });
    }
    let index = |row: &usize| centers.iter().position(|c| *c == center[*row]);
    let all: Vec<usize> = (0..center.len()).collect();
    if let Some(row) = all.iter().find(|r| index(r).is_none()) {
        return Err(CohortError::Spec {
            what: format!(
                "harmonization.combat: the center {} has no training patient, so its shift is unknown",
                center[*row]
            ),
        });
    }
    let numbers = |rows: &[usize]| rows.iter().filter_map(index).collect::<Vec<usize>>();
    let at = || CohortError::at("ComBat harmonization");
    let options = CombatOptions { shrinkage: Shrinkage::Parametric, mean_only: false };
    let of_training = cohort.features.select(Axis(0), training);
    let none = Array2::zeros((training.len(), 0));
    let combat = Combat::fit(of_training.view(), &numbers(training), none.view(), options).map_err(at())?;
    let none = Array2::zeros((all.len(), 0));
    let features = combat.apply(cohort.features.view(), &numbers(&all), none.view()).map_err(at())?;
    Ok((features, Some(Harmonized { centers, combat })))
}
