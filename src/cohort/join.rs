//! From tables to one cohort: rows joined by patient, values checked, everybody who is left out counted with the reason.

use super::feature_table::{FEATURE_MISSING_MAX, Features};
use super::nomogram_axes::quantile;
use super::spec::{Candidate, Imputation, Kind, Spec};
use super::spec_check::is_date;
use super::{CohortError, Frame};
use crate::statistics::spline::spline_knots;
use ndarray::{Array2, Axis as NdAxis};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The tables of an analysis as texts, by the names that the specification gives them.
pub type Texts = BTreeMap<String, String>;

/// All patients of an analysis, in the order of the clinical table. Everything is finite.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// Names of the parts, training first.
    pub parts: Vec<String>,
    /// Index into `parts` of each patient.
    pub part: Vec<usize>,
    /// Patient identifiers.
    pub ids: Vec<String>,
    /// Center of each patient.
    pub center: Option<Vec<String>>,
    /// Whether the event happened.
    pub event: Vec<bool>,
    /// 0 censored, 1 event, 2 competing event.
    pub state: Vec<u8>,
    /// Months to event or end of follow-up.
    pub time: Option<Vec<f64>>,
    /// Clinical candidates.
    pub terms: Vec<ClinicalTerm>,
    /// Names of the features.
    pub feature_names: Vec<String>,
    /// Shape (patients, features).
    pub features: Array2<f64>,
    /// First and second measurement of the stability patients, both shape (patients, features).
    pub repeats: Option<[Array2<f64>; 2]>,
    /// Given fold of each training patient, in their order.
    pub folds: Option<Vec<usize>>,
    /// Columns for subgroups.
    pub subgroups: Vec<(String, Vec<Option<String>>)>,
    /// How many came in and who was left out.
    pub flow: Flow,
    /// Texts for the report's list of warnings.
    pub notes: Vec<String>,
}

/// A clinical candidate with its values.
#[derive(Debug, Clone)]
pub struct ClinicalTerm {
    /// What the specification says about it.
    pub candidate: Candidate,
    /// One number for each patient: the value, 1 for the level, or the index of the class.
    pub raw: Vec<f64>,
    /// Knots of a spline, from training.
    pub knots: Vec<f64>,
}

impl ClinicalTerm {
    /// The columns of the model matrix for a value.
    pub fn encode(&self, raw: f64) -> Vec<f64> {
        let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
        match self.candidate.kind {
            Kind::Continuous | Kind::Ordinal | Kind::Indicator => vec![raw],
            Kind::Log => vec![raw.ln()],
            Kind::Cut => vec![flag(self.candidate.at.is_some_and(|at| raw >= at))],
            Kind::Factor => (1..self.candidate.levels.len()).map(|k| flag(raw == k as f64)).collect(),
            Kind::Spline => super::restricted_cubic_spline(raw, &self.knots),
        }
    }

    /// Names of these columns.
    pub fn columns(&self) -> Vec<String> {
        let name = &self.candidate.name;
        match self.candidate.kind {
            Kind::Factor => self.candidate.levels[1..].iter().map(|level| format!("{name}={level}")).collect(),
            Kind::Spline => {
                (0..self.knots.len().saturating_sub(1)).map(|k| format!("{name}{}", "'".repeat(k))).collect()
            }
            _ => vec![name.clone()],
        }
    }
}

/// How many patients came in, who was left out and why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flow {
    /// Rows of the clinical table.
    pub in_clinical_table: usize,
    /// Patients with features who are in no row of the clinical table.
    pub features_without_clinical: usize,
    /// Reason and number of patients left out, in the order in which it was decided.
    pub excluded: Vec<(String, usize)>,
    /// Part, patients and events that stayed.
    pub parts: Vec<(String, usize, usize)>,
    /// Missing values of each column that has some: column and number among those in the clinical table.
    pub missing: Vec<(String, usize)>,
    /// Values filled in: column, how many, and with what.
    pub imputed: Vec<(String, usize, String)>,
    /// Features dropped before the filters: reason and number.
    pub features_dropped: Vec<(String, usize)>,
}

/// The clinical table and what it says about each row, before anybody is left out.
struct Clinical<'a> {
    frame: Frame<'a>,
    ids: Vec<String>,
    part: Vec<Option<usize>>,
    parts: Vec<String>,
    state: Vec<Option<u8>>,
    time: Option<Vec<Option<f64>>>,
    raw: Vec<Vec<Option<f64>>>,
}

impl Cohort {
    /// Joins and checks the tables.
    pub fn join(spec: &Spec, texts: &Texts) -> Result<Cohort, CohortError> {
        let clinical = Clinical::read(spec, texts)?;
        let mut features = Features::read(spec, texts)?;
        let mut flow = Flow { in_clinical_table: clinical.ids.len(), ..Flow::default() };
        let known: BTreeSet<&str> = clinical.ids.iter().map(String::as_str).collect();
        flow.features_without_clinical = features.rows.keys().filter(|id| !known.contains(id.as_str())).count();
        for (candidate, raw) in spec.candidates.iter().zip(&clinical.raw) {
            let n = raw.iter().filter(|v| v.is_none()).count();
            if n > 0 && !flow.missing.iter().any(|(c, _)| c == candidate.column()) {
                flow.missing.push((candidate.column().to_owned(), n));
            }
        }
        let mut kept: Vec<usize> = (0..clinical.ids.len()).collect();
        let leave_out = |flow: &mut Flow, reason: String, kept: &mut Vec<usize>, stays: &dyn Fn(usize) -> bool| {
            let before = kept.len();
            kept.retain(|row| stays(*row));
            if kept.len() < before {
                flow.excluded.push((reason, before - kept.len()));
            }
        };
        leave_out(&mut flow, "in no part of the split".into(), &mut kept, &|row| clinical.part[row].is_some());
        leave_out(&mut flow, "outcome missing".into(), &mut kept, &|row| clinical.state[row].is_some());
        if let Some(time) = &clinical.time {
            leave_out(&mut flow, "time missing".into(), &mut kept, &|row| time[row].is_some());
        }
        if !features.names.is_empty() {
            leave_out(&mut flow, "no features".into(), &mut kept, &|row| {
                features.rows.contains_key(&clinical.ids[row])
            });
        }
        if kept.is_empty() {
            let reasons: Vec<String> = flow.excluded.iter().map(|(why, n)| format!("{n} {why}")).collect();
            let what = format!("no patient is left after joining the tables: {}", reasons.join(", "));
            return Err(CohortError::TooLittle { what });
        }
        let feature_row = |row: usize| features.rows.get(&clinical.ids[row]).copied();
        let sparse = features.sparse(&kept.iter().filter_map(|r| feature_row(*r)).collect::<Vec<_>>());
        let impute = spec.analysis.imputation == Imputation::Median;
        if !impute {
            for (candidate, raw) in spec.candidates.iter().zip(&clinical.raw) {
                leave_out(&mut flow, format!("{} missing", candidate.column()), &mut kept, &|row| raw[row].is_some());
            }
            leave_out(&mut flow, "a feature missing".into(), &mut kept, &|row| {
                feature_row(row).is_none_or(|f| features.complete(f, &sparse))
            });
        }
        if !sparse.is_empty() {
            flow.features_dropped
                .push((format!("missing in more than {:.0} % of patients", FEATURE_MISSING_MAX * 100.0), sparse.len()));
        }
        let order: Vec<usize> = kept.iter().filter_map(|row| feature_row(*row)).collect();
        let training: Vec<bool> = kept.iter().map(|row| clinical.part[*row] == Some(0)).collect();
        let names = features.keep(&sparse, &order, &training, impute, &mut flow);
        let raw = fill(spec, &clinical.raw, &kept, &training, &mut flow);
        let pick = |values: &Vec<Option<String>>| kept.iter().map(|row| values[*row].clone()).collect::<Vec<_>>();
        let center = match &spec.columns.center {
            None => None,
            Some(column) => {
                let values = clinical.frame.texts(column)?.values;
                Some(pick(&values).into_iter().map(|c| c.unwrap_or_else(|| "not stated".into())).collect::<Vec<_>>())
            }
        };
        let subgroups = spec.validation.subgroups.iter();
        let subgroups =
            subgroups.map(|c| Ok((c.clone(), pick(&clinical.frame.texts(c)?.values)))).collect::<Result<_, _>>()?;
        let state: Vec<u8> = kept.iter().filter_map(|row| clinical.state[*row]).collect();
        let part: Vec<usize> = kept.iter().filter_map(|row| clinical.part[*row]).collect();
        let mut cohort = Cohort {
            parts: clinical.parts.clone(),
            ids: kept.iter().map(|row| clinical.ids[*row].clone()).collect(),
            center,
            event: state.iter().map(|s| *s == 1).collect(),
            time: clinical.time.as_ref().map(|time| kept.iter().filter_map(|row| time[*row]).collect()),
            terms: Vec::new(),
            feature_names: names.iter().map(|i| features.names[*i].clone()).collect(),
            features: if features.names.is_empty() {
                Array2::zeros((kept.len(), 0))
            } else {
                features.values.select(NdAxis(0), &order).select(NdAxis(1), &names)
            },
            repeats: features.repeats.take().map(|both| both.map(|m| m.select(NdAxis(1), &names))),
            folds: clinical.folds(spec, &kept, &training)?,
            subgroups,
            notes: Vec::new(),
            flow,
            state,
            part,
        };
        cohort.terms = cohort.make_terms(&spec.candidates, raw);
        cohort.check_parts()?;
        cohort.note_copies();
        Ok(cohort)
    }

    /// Rows of a part.
    pub fn rows(&self, part: usize) -> Vec<usize> {
        (0..self.part.len()).filter(|row| self.part[*row] == part).collect()
    }

    /// The candidates that vary in training, with the knots of splines.
    fn make_terms(&mut self, candidates: &[Candidate], raw: Vec<Vec<f64>>) -> Vec<ClinicalTerm> {
        let training = self.rows(0);
        let mut terms = Vec::new();
        for (candidate, raw) in candidates.iter().zip(raw) {
            let of_training: Vec<f64> = training.iter().map(|row| raw[*row]).collect();
            let knots = candidate.knots.map(|k| spline_knots(&of_training, k)).unwrap_or_default();
            let straight =
                candidate.kind == Kind::Spline && (knots.len() < 3 || knots.windows(2).any(|w| w[0] >= w[1]));
            let mut term = ClinicalTerm { candidate: candidate.clone(), raw, knots };
            if straight {
                term.candidate.kind = Kind::Continuous;
                self.notes.push(format!(
                    "{}: its values are too few for the knots of a spline; it enters as a line",
                    candidate.label()
                ));
            }
            let first = of_training.first().map(|v| term.encode(*v));
            let classes: BTreeSet<u64> = of_training.iter().map(|v| v.to_bits()).collect();
            let absent = term.candidate.kind == Kind::Factor && classes.len() < term.candidate.levels.len();
            if of_training.iter().all(|v| Some(term.encode(*v)) == first) || absent {
                self.notes.push(format!(
                    "{} is constant, or a class of it is absent, in training and was left out",
                    candidate.label()
                ));
                continue;
            }
            terms.push(term);
        }
        terms
    }

    /// Each part needs both classes; training enough of both.
    fn check_parts(&mut self) -> Result<(), CohortError> {
        for (index, name) in self.parts.clone().into_iter().enumerate() {
            let rows = self.rows(index);
            let events = rows.iter().filter(|row| self.event[**row]).count();
            self.flow.parts.push((name.clone(), rows.len(), events));
            if events == 0 || events == rows.len() {
                let what = if rows.is_empty() {
                    "no patient"
                } else if events == 0 {
                    "no event"
                } else {
                    "nothing but events"
                };
                return Err(CohortError::TooLittle {
                    what: format!("the part {name} has {what}, so nothing can be told apart in it"),
                });
            }
        }
        let (name, n, events) = &self.flow.parts[0];
        if (*events).min(n - events) < 5 {
            return Err(CohortError::TooLittle {
                what: format!(
                    "the training part {name} has {events} events among {n} patients; both classes need 5 at least"
                ),
            });
        }
        Ok(())
    }

    /// Two patients with the same features are one patient, or a copying slip.
    fn note_copies(&mut self) {
        if self.features.ncols() < 3 {
            return;
        }
        let mut seen: HashMap<Vec<u64>, usize> = HashMap::new();
        let (mut copies, mut across) = (0, 0);
        for (row, values) in self.features.rows().into_iter().enumerate() {
            if let Some(first) = seen.insert(values.iter().map(|v| v.to_bits()).collect(), row) {
                copies += 1;
                across += usize::from(self.part[first] != self.part[row]);
            }
        }
        if copies > 0 {
            self.notes.push(format!(
                "Leakage: {copies} patients have exactly the features of another patient, {across} of them across two parts of the split. The same patient under two identifiers?"
            ));
        }
    }
}

impl<'a> Clinical<'a> {
    fn read(spec: &Spec, texts: &'a Texts) -> Result<Clinical<'a>, CohortError> {
        let frame = frame(texts, &spec.files.clinical)?;
        let ids = frame.rows_by_id(&spec.columns.id)?;
        let (parts, part) = split(spec, &frame)?;
        let column = &spec.outcome.event;
        let mut state = Vec::with_capacity(ids.len());
        for (row, value) in frame.numbers(column)?.values.into_iter().enumerate() {
            let competing = spec.outcome.competing_code.map(f64::from);
            state.push(match value {
                None => None,
                Some(0.0) => Some(0),
                Some(1.0) => Some(1),
                Some(v) if Some(v) == competing => Some(2),
                Some(_) => {
                    let what =
                        "an event code that is neither 0 nor 1; name a competing event in outcome.competing_code";
                    return Err(frame.fault(row, column, what.into()));
                }
            });
        }
        let time = match &spec.outcome.time {
            None => None,
            Some(column) => {
                let times = frame.numbers(column)?.values;
                if let Some(row) = times.iter().position(|t| t.is_some_and(|t| t < 0.0)) {
                    return Err(frame.fault(row, column, "a negative time".into()));
                }
                Some(times)
            }
        };
        let raw = spec.candidates.iter().map(|c| candidate_values(&frame, c)).collect::<Result<_, _>>()?;
        Ok(Clinical { frame, ids, part, parts, state, time, raw })
    }

    /// Given folds of the training patients, renumbered from 0 in ascending order of their numbers.
    fn folds(&self, spec: &Spec, kept: &[usize], training: &[bool]) -> Result<Option<Vec<usize>>, CohortError> {
        let Some(column) = &spec.penalized.fold_column else { return Ok(None) };
        let values = self.frame.numbers(column)?.values;
        let mut given = Vec::new();
        for row in kept.iter().zip(training).filter(|(_, t)| **t).map(|(row, _)| *row) {
            given.push(
                values[row].ok_or_else(|| self.frame.fault(row, column, "a training patient without a fold".into()))?,
            );
        }
        let mut numbers = given.clone();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        if numbers.len() < 3 {
            return Err(CohortError::Spec {
                what: format!("{column} has {} folds, at least 3 are needed", numbers.len()),
            });
        }
        Ok(Some(given.iter().map(|v| numbers.partition_point(|n| n < v)).collect()))
    }
}

/// A table by its name.
pub fn frame<'a>(texts: &'a Texts, file: &str) -> Result<Frame<'a>, CohortError> {
    let text = texts.get(file).ok_or_else(|| CohortError::NoTable { file: file.to_owned() })?;
    Frame::parse(file, text)
}

/// Names of the parts, and the part of each row.
fn split(spec: &Spec, frame: &Frame) -> Result<(Vec<String>, Vec<Option<usize>>), CohortError> {
    let rule = &spec.split;
    if let (Some(column), Some(before)) = (&rule.date, &rule.before) {
        let dates = frame.texts(column)?.values;
        if let Some(row) = dates.iter().position(|d| d.as_ref().is_some_and(|d| !is_date(d))) {
            return Err(frame.fault(row, column, "no date of the form YYYY-MM-DD".into()));
        }
        let part = dates.iter().map(|d| d.as_ref().map(|d| usize::from(d >= before))).collect();
        return Ok((vec![format!("before {before}"), format!("from {before}")], part));
    }
    let column = rule.column.as_deref().unwrap_or_default();
    let values = frame.texts(column)?.values;
    let mut validation = rule.validation.clone();
    if validation.is_empty() {
        for value in values.iter().flatten() {
            if !rule.training.contains(value) && !validation.contains(value) {
                validation.push(value.clone());
            }
        }
    }
    for name in rule.training.iter().chain(&validation) {
        if !values.iter().flatten().any(|v| v == name) {
            return Err(CohortError::Spec {
                what: format!("the split names {name}, which no row of the column {column} has"),
            });
        }
    }
    if let Some(both) = rule.training.iter().find(|name| validation.contains(name)) {
        return Err(CohortError::Spec { what: format!("the split has {both} in training and in validation") });
    }
    let part = |value: &Option<String>| {
        let value = value.as_ref()?;
        if rule.training.contains(value) { Some(0) } else { validation.iter().position(|v| v == value).map(|i| i + 1) }
    };
    let part = values.iter().map(part).collect();
    Ok(([vec![rule.training.join(" + ")], validation].concat(), part))
}

/// One number for each row: the value, 1 for the level, or the index of the class. Values outside the range are refused.
fn candidate_values(frame: &Frame, candidate: &Candidate) -> Result<Vec<Option<f64>>, CohortError> {
    let column = candidate.column();
    match candidate.kind {
        Kind::Indicator => {
            let level = candidate.level.as_deref().unwrap_or_default();
            let texts = frame.texts(column)?.values;
            Ok(texts.iter().map(|t| t.as_ref().map(|t| if t == level { 1.0 } else { 0.0 })).collect())
        }
        Kind::Factor => {
            let class = |row: usize, text: &Option<String>| match text {
                None => Ok(None),
                Some(text) => match candidate.levels.iter().position(|l| l == text) {
                    Some(index) => Ok(Some(index as f64)),
                    None => Err(frame.fault(row, column, "a class that levels does not list".into())),
                },
            };
            frame.texts(column)?.values.iter().enumerate().map(|(row, text)| class(row, text)).collect()
        }
        _ => {
            let values = frame.numbers(column)?.values;
            let positive = candidate.kind == Kind::Log;
            for (row, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let range = candidate.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
                if !(range[0]..=range[1]).contains(value) {
                    let unit = &candidate.unit;
                    let what = format!(
                        "a value outside the permitted range {} to {} {unit}; another unit?",
                        range[0], range[1]
                    );
                    return Err(frame.fault(row, column, what.trim_end().into()));
                }
                if positive && *value <= 0.0 {
                    return Err(frame.fault(row, column, "the logarithm of a value of 0 or less is wanted".into()));
                }
            }
            Ok(values)
        }
    }
}

/// The values of the patients who stay, gaps filled with the training median or the most frequent class.
fn fill(spec: &Spec, raw: &[Vec<Option<f64>>], kept: &[usize], training: &[bool], flow: &mut Flow) -> Vec<Vec<f64>> {
    let mut filled = Vec::with_capacity(raw.len());
    for (candidate, values) in spec.candidates.iter().zip(raw) {
        let values: Vec<Option<f64>> = kept.iter().map(|row| values[*row]).collect();
        let mut known: Vec<f64> = values.iter().zip(training).filter(|(_, t)| **t).filter_map(|(v, _)| *v).collect();
        known.sort_by(f64::total_cmp);
        let gaps = values.iter().filter(|v| v.is_none()).count();
        let class = matches!(candidate.kind, Kind::Factor | Kind::Indicator);
        let value = if known.is_empty() {
            0.0
        } else if class {
            most_frequent(&known)
        } else {
            quantile(&known, 0.5)
        };
        if gaps > 0 {
            flow.imputed.push((candidate.name.clone(), gaps, super::format_number(value)));
        }
        filled.push(values.into_iter().map(|v| v.unwrap_or(value)).collect());
    }
    filled
}

/// The most frequent of sorted values; the smallest of equals.
fn most_frequent(sorted: &[f64]) -> f64 {
    let runs = sorted.chunk_by(|a, b| a == b);
    // max_by_key returns the last of equals, so the runs go backward.
    runs.collect::<Vec<_>>()
        .into_iter()
        .rev()
        .max_by_key(|run| run.len())
        .and_then(|run| run.first().copied())
        .unwrap_or(0.0)
}
