//! What a reader asks before any model: who the patients are, whether they are enough, and how common the event is elsewhere.

use super::join::Cohort;
use super::spec::Kind;
use crate::statistics::hypothesis::{standardized_mean_difference, standardized_share_difference, summarize};
use ndarray::Array2;
use serde::Serialize;

/// A row of table one.
#[derive(Debug, Clone, Serialize)]
pub struct TableOneRow {
    /// Value with its unit.
    pub label: String,
    /// Class, for values with classes; empty for the heading of such a value or a number.
    pub class: String,
    /// Text for each part of the split, then for training without and with the event.
    pub cells: Vec<String>,
    /// Standardized difference of training and everybody else.
    pub smd: Option<f64>,
}

/// Table one: by part of the split, and in training by outcome.
pub fn table_one(cohort: &Cohort) -> (Vec<String>, Vec<TableOneRow>) {
    let training = cohort.rows(0);
    let mut groups: Vec<(String, Vec<usize>)> =
        cohort.parts.iter().enumerate().map(|(i, name)| (name.clone(), cohort.rows(i))).collect();
    for (name, wanted) in [("no event", false), ("event", true)] {
        let rows = training.iter().copied().filter(|r| cohort.event[*r] == wanted).collect();
        groups.push((format!("{}, {name}", cohort.parts[0]), rows));
    }
    let others: Vec<usize> = (0..cohort.part.len()).filter(|r| cohort.part[*r] != 0).collect();
    let mut rows = Vec::new();
    let events = |rows: &[usize]| rows.iter().filter(|r| cohort.event[**r]).count();
    rows.push(TableOneRow {
        label: "Event".into(),
        class: String::new(),
        cells: groups.iter().map(|(_, r)| share(events(r), r.len())).collect(),
        smd: share_difference(&[
            [training.len() - events(&training), events(&training)],
            [others.len() - events(&others), events(&others)],
        ]),
    });
    if let Some(time) = &cohort.time {
        rows.push(number_row("Follow-up, months", time, &groups, &training, &others, false));
    }
    for term in &cohort.terms {
        let candidate = &term.candidate;
        let unit = if candidate.unit.is_empty() { String::new() } else { format!(", {}", candidate.unit) };
        let label = format!("{}{unit}", candidate.label());
        match candidate.kind {
            Kind::Continuous | Kind::Log | Kind::Cut | Kind::Spline => {
                let flag = term.raw.iter().all(|v| *v == 0.0 || *v == 1.0);
                if flag {
                    rows.push(class_row(candidate.label(), "", &term.raw, 1.0, &groups, &training, &others));
                } else {
                    rows.push(number_row(&label, &term.raw, &groups, &training, &others, candidate.kind == Kind::Log));
                }
            }
            Kind::Indicator => rows.push(class_row(candidate.label(), "", &term.raw, 1.0, &groups, &training, &others)),
            Kind::Ordinal | Kind::Factor => {
                let mut classes = term.raw.clone();
                classes.sort_by(f64::total_cmp);
                classes.dedup();
                for class in classes {
                    let name =
                        candidate.levels.get(class as usize).cloned().unwrap_or_else(|| super::format_number(class));
                    rows.push(class_row(candidate.label(), &name, &term.raw, class, &groups, &training, &others));
                }
            }
        }
    }
    (groups.into_iter().map(|(name, rows)| format!("{name} (n = {})", rows.len())).collect(), rows)
}

fn share(of: usize, n: usize) -> String {
    format!("{of} ({:.0} %)", 100.0 * of as f64 / n.max(1) as f64)
}

fn share_difference(counts: &[[usize; 2]; 2]) -> Option<f64> {
    let counts = Array2::from_shape_fn((2, 2), |(i, j)| counts[i][j] as u64);
    standardized_share_difference(counts.view()).ok().filter(|v| v.is_finite())
}

fn class_row(
    label: &str,
    class: &str,
    values: &[f64],
    wanted: f64,
    groups: &[(String, Vec<usize>)],
    training: &[usize],
    others: &[usize],
) -> TableOneRow {
    let count = |rows: &[usize]| rows.iter().filter(|r| values[**r] == wanted).count();
    let both = |rows: &[usize]| [rows.len() - count(rows), count(rows)];
    TableOneRow {
        label: label.into(),
        class: class.into(),
        cells: groups.iter().map(|(_, rows)| share(count(rows), rows.len())).collect(),
        smd: share_difference(&[both(training), both(others)]),
    }
}

/// Median and quartiles for what enters as a logarithm or is skewed, else mean and SD.
fn number_row(
    label: &str,
    values: &[f64],
    groups: &[(String, Vec<usize>)],
    training: &[usize],
    others: &[usize],
    log: bool,
) -> TableOneRow {
    let pick = |rows: &[usize]| rows.iter().map(|r| values[*r]).collect::<Vec<f64>>();
    let overall = summarize(values).ok();
    let skewed =
        overall.as_ref().is_some_and(|s| s.standard_deviation.is_some_and(|sd| (s.mean - s.median).abs() > 0.2 * sd));
    let median = log || skewed;
    let short = |v: f64| crate::risk::format_short(v);
    let cell = |rows: &[usize]| match summarize(&pick(rows)) {
        Ok(s) if median => format!("{} [{}, {}]", short(s.median), short(s.lower_quartile), short(s.upper_quartile)),
        Ok(s) => format!("{} ({})", short(s.mean), s.standard_deviation.map_or("-".into(), short)),
        Err(_) => "-".into(),
    };
    let scaled = |rows: &[usize]| pick(rows).into_iter().map(|v| if log { v.ln() } else { v }).collect::<Vec<f64>>();
    TableOneRow {
        label: format!("{label}{}", if median { ", median [quartiles]" } else { ", mean (SD)" }),
        class: String::new(),
        cells: groups.iter().map(|(_, rows)| cell(rows)).collect(),
        smd: standardized_mean_difference(&scaled(training), &scaled(others)).ok().filter(|v| v.is_finite()),
    }
}

/// Sample size by the criteria of Riley et al. 2019 (10.1002/sim.7992, 10.1136/bmj.m441) for a binary outcome.
#[derive(Debug, Clone, Serialize)]
pub struct SampleSize {
    /// Candidate parameters that were counted: clinical columns, and each feature that was offered to the penalized model.
    pub candidate_parameters: usize,
    /// Clinical candidate columns plus one for the rad-score.
    pub final_parameters: usize,
    /// Events of training for each candidate parameter.
    pub events_per_candidate: f64,
    /// Events of training for each parameter of the combined model.
    pub events_per_final: f64,
    /// Share of events.
    pub prevalence: f64,
    /// Cox-Snell R2 that the study is planned with: that of the out-of-fold combined model.
    pub r2_cox_snell: f64,
    /// Largest possible Cox-Snell R2 at this prevalence.
    pub r2_max: f64,
    /// Patients for a shrinkage of at most 10 %, for `final_parameters`.
    pub n_shrinkage: f64,
    /// Patients for an optimism of R2 of at most 0.05.
    pub n_optimism: f64,
    /// Patients for an overall risk within 0.05.
    pub n_overall: f64,
    /// The largest of the three.
    pub n_needed: f64,
}

/// The criteria of Riley et al. 2019 for a time-to-event outcome. `followed`: patients, events and the sum of their follow-up in
/// months; `month`: up to which risks are told. The largest possible R2 is that of an exponential model without predictors. `None`
/// where the planned R2 is not between 0 and its maximum.
pub fn sample_size_survival(
    candidates: usize,
    parameters: usize,
    followed: (usize, usize, f64),
    month: f64,
    r2: f64,
) -> Option<SampleSize> {
    let (n, events, total) = (followed.0 as f64, followed.1 as f64, followed.2);
    let rate = events / total;
    let r2_max = 1.0 - (2.0 * events * (rate.ln() - 1.0) / n).exp();
    // Criterion 3: the risk at the month within 0.05, from the rate and its error at the mean follow-up of this study.
    let error = rate + (0.05 + (-rate * month).exp()).ln() / month;
    let n_overall = rate / (total / n) * (1.96 / error).powi(2);
    criteria(candidates, parameters, followed.0, followed.1, (r2, r2_max), n_overall)
}

/// Riley's three criteria. `None` where the planned R2 is not between 0 and its maximum.
pub fn sample_size(candidates: usize, parameters: usize, n: usize, events: usize, r2: f64) -> Option<SampleSize> {
    let phi = events as f64 / n as f64;
    let null = phi * phi.ln() + (1.0 - phi) * (1.0 - phi).ln();
    let r2_max = 1.0 - (2.0 * null).exp();
    let n_overall = (1.96 / 0.05f64).powi(2) * phi * (1.0 - phi);
    criteria(candidates, parameters, n, events, (r2, r2_max), n_overall)
}

/// Shrinkage and optimism, which are alike for all outcomes, with the third criterion given.
fn criteria(
    candidates: usize,
    parameters: usize,
    n: usize,
    events: usize,
    (r2, r2_max): (f64, f64),
    n_overall: f64,
) -> Option<SampleSize> {
    if !(r2 > 0.0 && r2 < r2_max) {
        return None;
    }
    let p = parameters as f64;
    let needed = |shrinkage: f64| p / ((shrinkage - 1.0) * (1.0 - r2 / shrinkage).ln());
    let n_shrinkage = if r2 < 0.9 { needed(0.9) } else { 0.0 };
    let n_optimism = needed(r2 / (r2 + 0.05 * r2_max));
    let n_needed = n_shrinkage.max(n_optimism).max(n_overall).ceil();
    let parts = [n_shrinkage, n_optimism, n_overall, n_needed];
    parts.iter().all(|v| v.is_finite()).then(|| SampleSize {
        candidate_parameters: candidates,
        final_parameters: parameters,
        events_per_candidate: events as f64 / candidates.max(1) as f64,
        events_per_final: events as f64 / p.max(1.0),
        prevalence: events as f64 / n as f64,
        r2_cox_snell: r2,
        r2_max,
        n_shrinkage: n_shrinkage.ceil(),
        n_optimism: n_optimism.ceil(),
        n_overall: n_overall.ceil(),
        n_needed,
    })
}

/// Shift of the intercept from the incidence of training to a local one (King and Zeng 2001, prior correction).
#[derive(Debug, Clone, Serialize)]
pub struct PriorCorrection {
    /// Share of events in training; of a Cox model 1 - Kaplan-Meier at its month.
    pub training_incidence: f64,
    /// Where the nomogram will be used.
    pub local_incidence: f64,
    /// Added to the linear predictor: log odds, or log hazard of a Cox model.
    pub shift: f64,
    /// Mean predicted risk of the validation patients before and after.
    pub mean_risk: [f64; 2],
}

/// Log odds of a share.
pub fn log_odds(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Riley et al. (BMJ 2020, m441): 24 parameters, prevalence 0.174, R2 0.288 x ... their pmsampsize example
    /// type b: rsquared 0.288, parameters 24, prevalence 0.174 gives 662 patients (criterion 1: 623, 2: 662, 3: 221).
    #[test]
    fn the_published_example_of_the_criteria() {
        let found = sample_size(24, 24, 1000, 174, 0.288).unwrap();
        assert_eq!((found.n_shrinkage, found.n_optimism, found.n_overall), (623.0, 662.0, 221.0));
        assert_eq!(found.n_needed, 662.0);
    }
}
