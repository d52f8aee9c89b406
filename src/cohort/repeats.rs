//! Reliability of features over repeated measurements.

use super::figures::{Figure, short_name};
use super::join::Texts;
use super::plot;
use super::{CohortError, Frame};
use crate::statistics::reliability::{IccForm, MeanSquares, bland_altman};
use ndarray::Array2;
use serde::Serialize;

/// Plots in the report.
const PLOTS: usize = 6;

/// Reliability of every feature (`metwatch.cohort-reliability/1`).
#[derive(Debug, Clone, Serialize)]
pub struct Reliability {
    /// `metwatch.cohort-reliability/1`.
    pub schema: &'static str,
    /// Patients in all tables.
    pub patients: usize,
    /// Tables.
    pub measurements: usize,
    /// In the order of the first table.
    pub features: Vec<FeatureReliability>,
    /// Features that could not be judged: constant, or with gaps that leave fewer than three patients.
    pub not_judged: Vec<String>,
    /// Bland-Altman plots of the least reliable features.
    #[serde(skip)]
    pub plots: Vec<Figure>,
}

/// Reliability of one feature.
#[derive(Debug, Clone, Serialize)]
pub struct FeatureReliability {
    /// Feature.
    pub name: String,
    /// Patients without a gap.
    pub n: usize,
    /// ICC(2,1), absolute agreement, with 95 % limits.
    pub icc2: [f64; 3],
    /// ICC(3,1), consistency, with 95 % limits.
    pub icc3: [f64; 3],
    /// Mean of second less first measurement.
    pub bias: f64,
    /// Limits of agreement.
    pub limits: [f64; 2],
}

/// Compares tables of repeated measurements, named in order. `id`: column of the patient; rows are joined by it.
pub fn reliability(texts: &Texts, order: &[String], id: &str) -> Result<Reliability, CohortError> {
    if order.len() < 2 {
        return Err(CohortError::TooLittle { what: "reliability needs two tables at least".into() });
    }
    let mut tables = Vec::new();
    for file in order {
        let text = texts.get(file).ok_or_else(|| CohortError::NoTable { file: file.clone() })?;
        let frame = Frame::parse(file, text)?;
        let ids = frame.rows_by_id(id)?;
        let (names, values) = frame.matrix(|name| name != id && !name.contains("diagnostics_"))?;
        tables.push((file, ids, names, values));
    }
    let (_, first_ids, names, _) = &tables[0];
    let row_of = |ids: &[String], id: &String| ids.iter().position(|i| i == id);
    let shared: Vec<Vec<usize>> = first_ids
        .iter()
        .filter_map(|id| tables.iter().map(|(_, ids, ..)| row_of(ids, id)).collect::<Option<Vec<usize>>>())
        .collect();
    if shared.len() < 3 {
        return Err(CohortError::TooLittle {
            what: format!("the tables share {} patients; 3 are needed", shared.len()),
        });
    }
    let mut found = Reliability {
        schema: "metwatch.cohort-reliability/1",
        patients: shared.len(),
        measurements: tables.len(),
        features: Vec::new(),
        not_judged: Vec::new(),
        plots: Vec::new(),
    };
    let mut pairs: Vec<Vec<[f64; 2]>> = Vec::new();
    for name in names {
        let mut columns = Vec::new();
        for (file, _, names, _) in &tables {
            let column = names.iter().position(|n| n == name).ok_or_else(|| CohortError::NoColumn {
                file: (*file).clone(),
                column: name.clone(),
                nearest: super::error::nearest(name, names.iter().map(String::as_str)),
            })?;
            columns.push(column);
        }
        let values =
            |rows: &Vec<usize>| -> Vec<f64> { (0..tables.len()).map(|t| tables[t].3[[rows[t], columns[t]]]).collect() };
        let ratings: Vec<Vec<f64>> = shared.iter().map(values).filter(|v| v.iter().all(|v| v.is_finite())).collect();
        match judge(name, &ratings) {
            Some(feature) => {
                found.features.push(feature);
                pairs.push(ratings.iter().map(|r| [r[0], r[1]]).collect());
            }
            None => found.not_judged.push(name.clone()),
        }
    }
    let mut lowest: Vec<usize> = (0..found.features.len()).collect();
    lowest.sort_by(|a, b| found.features[*a].icc2[0].total_cmp(&found.features[*b].icc2[0]));
    found.plots = lowest
        .into_iter()
        .take(PLOTS)
        .map(|i| {
            let f = &found.features[i];
            let drawing = plot::bland_altman(&pairs[i], f.bias, f.limits, &format!("Mean of {}", short_name(&f.name)));
            Figure { drawing, caption: format!("{}, ICC(2,1) {:.3}.", f.name, f.icc2[0]) }
        })
        .collect();
    Ok(found)
}

fn judge(name: &str, ratings: &[Vec<f64>]) -> Option<FeatureReliability> {
    if ratings.len() < 3 {
        return None;
    }
    let table = Array2::from_shape_fn((ratings.len(), ratings[0].len()), |(i, j)| ratings[i][j]);
    let squares = MeanSquares::new(table.view()).ok()?;
    let icc = |form| {
        let icc = squares.icc(form, 0.95).ok()?;
        let values = [icc.value, icc.lower, icc.upper];
        values.iter().all(|v| v.is_finite()).then_some(values)
    };
    let agreement = bland_altman(&table.column(1).to_vec(), &table.column(0).to_vec(), 0.95).ok()?;
    Some(FeatureReliability {
        name: name.to_owned(),
        n: ratings.len(),
        icc2: icc(IccForm::Agreement)?,
        icc3: icc(IccForm::Consistency)?,
        bias: agreement.bias,
        limits: [agreement.limits.0, agreement.limits.1],
    })
}
