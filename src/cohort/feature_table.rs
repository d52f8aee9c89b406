//! Feature tables: read, put beside each other, and cleared of columns that say nothing.

use super::CohortError;
use super::join::{Flow, Texts, frame};
use super::nomogram_axes::quantile;
use super::spec::Spec;
use ndarray::{Array2, Axis as NdAxis};
use std::collections::{BTreeMap, BTreeSet};

/// Features missing in more than this share of the patients are dropped; else the patients are.
pub const FEATURE_MISSING_MAX: f64 = 0.2;

/// The feature tables joined.
pub struct Features {
    pub names: Vec<String>,
    /// Shape (patients with features, features); NaN is missing.
    pub values: Array2<f64>,
    /// Row of each patient.
    pub rows: BTreeMap<String, usize>,
    pub repeats: Option<[Array2<f64>; 2]>,
}

impl Features {
    pub fn read(spec: &Spec, texts: &Texts) -> Result<Features, CohortError> {
        let mut joined: Option<Features> = None;
        for file in &spec.files.features {
            let one = Features::read_one(spec, texts, file)?;
            joined = Some(match joined {
                None => one,
                Some(before) => before.beside(one, file)?,
            });
        }
        let Some(mut features) = joined else {
            return Ok(Features {
                names: Vec::new(),
                values: Array2::zeros((0, 0)),
                rows: BTreeMap::new(),
                repeats: None,
            });
        };
        if let Some(file) = &spec.files.stability {
            let second = Features::read_one(spec, texts, file)?;
            features.repeats = Some(features.pair(&second, file)?);
        }
        Ok(features)
    }

    fn read_one(spec: &Spec, texts: &Texts, file: &str) -> Result<Features, CohortError> {
        let frame = frame(texts, file)?;
        let ids = frame.rows_by_id(&spec.columns.id)?;
        let skipped = |name: &str| {
            name == spec.columns.id || name.contains("diagnostics_") || spec.columns.ignore.iter().any(|i| i == name)
        };
        let (names, values) = frame.matrix(|name| !skipped(name))?;
        let rows = ids.into_iter().enumerate().map(|(row, id)| (id, row)).collect();
        Ok(Features { names, values, rows, repeats: None })
    }

    /// Adds the columns of another table; patients need to be in both.
    fn beside(self, other: Features, file: &str) -> Result<Features, CohortError> {
        if let Some(twice) = other.names.iter().find(|n| self.names.contains(n)) {
            let what = format!("its column {twice} is in an earlier feature table too");
            return Err(CohortError::Csv { file: file.to_owned(), line: 1, what });
        }
        let both: Vec<(&String, usize, usize)> =
            self.rows.iter().filter_map(|(id, a)| Some((id, *a, *other.rows.get(id)?))).collect();
        let left = self.values.select(NdAxis(0), &both.iter().map(|b| b.1).collect::<Vec<_>>());
        let right = other.values.select(NdAxis(0), &both.iter().map(|b| b.2).collect::<Vec<_>>());
        let values = ndarray::concatenate(NdAxis(1), &[left.view(), right.view()]).map_err(|_| {
            CohortError::TooLittle { what: format!("{file} shares no patient with the feature tables before it") }
        })?;
        let rows = both.iter().enumerate().map(|(row, (id, _, _))| ((*id).clone(), row)).collect();
        Ok(Features { names: [self.names.clone(), other.names].concat(), values, rows, repeats: None })
    }

    /// First and second measurement of the patients in both tables, columns in the order of the first.
    fn pair(&self, second: &Features, file: &str) -> Result<[Array2<f64>; 2], CohortError> {
        let columns = self.names.iter().map(|name| {
            second.names.iter().position(|n| n == name).ok_or_else(|| CohortError::NoColumn {
                file: file.to_owned(),
                column: name.clone(),
                nearest: None,
            })
        });
        // Mostly the columns have the same order; then the search above is over at once.
        let columns: Vec<usize> = if second.names == self.names {
            (0..self.names.len()).collect()
        } else {
            columns.collect::<Result<_, _>>()?
        };
        let both: Vec<(usize, usize)> =
            self.rows.iter().filter_map(|(id, a)| Some((*a, *second.rows.get(id)?))).collect();
        if both.len() < 3 {
            return Err(CohortError::TooLittle {
                what: format!("{file} shares {} patients with the features; 3 are needed", both.len()),
            });
        }
        let first = self.values.select(NdAxis(0), &both.iter().map(|b| b.0).collect::<Vec<_>>());
        let again = second.values.select(NdAxis(0), &both.iter().map(|b| b.1).collect::<Vec<_>>());
        Ok([first, again.select(NdAxis(1), &columns)])
    }

    /// Features that are missing too often among `rows`.
    pub fn sparse(&self, rows: &[usize]) -> BTreeSet<usize> {
        let mut missing = vec![0usize; self.names.len()];
        for row in rows {
            for (count, value) in missing.iter_mut().zip(self.values.row(*row)) {
                *count += usize::from(value.is_nan());
            }
        }
        let most = FEATURE_MISSING_MAX * rows.len() as f64;
        (0..missing.len()).filter(|i| missing[*i] as f64 > most).collect()
    }

    pub fn complete(&self, row: usize, sparse: &BTreeSet<usize>) -> bool {
        self.values.row(row).iter().enumerate().all(|(i, v)| !v.is_nan() || sparse.contains(&i))
    }

    /// Indices of the features that stay: neither sparse nor constant in training. Gaps are filled where that is wanted.
    pub fn keep(
        &mut self,
        sparse: &BTreeSet<usize>,
        order: &[usize],
        training: &[bool],
        impute: bool,
        flow: &mut Flow,
    ) -> Vec<usize> {
        let train: Vec<usize> = order.iter().zip(training).filter(|(_, t)| **t).map(|(row, _)| *row).collect();
        let (mut kept, mut constant, mut filled, mut touched) = (Vec::new(), 0, 0, 0);
        for index in (0..self.names.len()).filter(|i| !sparse.contains(i)) {
            let mut column = self.values.column_mut(index);
            let mut known: Vec<f64> = Vec::new();
            if impute && order.iter().any(|row| column[*row].is_nan()) {
                known.extend(train.iter().map(|row| column[*row]).filter(|v| !v.is_nan()));
                known.sort_by(f64::total_cmp);
                let median = if known.is_empty() { 0.0 } else { quantile(&known, 0.5) };
                for row in order {
                    if column[*row].is_nan() {
                        column[*row] = median;
                        filled += 1;
                    }
                }
                touched += 1;
            }
            let first = train.first().map_or(0.0, |row| column[*row]);
            if train.iter().all(|row| column[*row] == first) {
                constant += 1;
            } else {
                kept.push(index);
            }
        }
        if constant > 0 {
            flow.features_dropped.push(("constant in training".into(), constant));
        }
        if filled > 0 {
            flow.imputed.push((format!("{touched} features"), filled, "training median".into()));
        }
        kept
    }
}
