//! The nomogram of the main model: its axes, and the scales of risk and survival.

use super::describe::PriorCorrection;
use super::hazards::survival_over;
use super::join::Cohort;
use super::models::{Design, Model};
use super::nomogram_axes::{AxisTerm, Nomogram, NomogramInput, ScaleAxis, axis_values};
use super::procedure::Procedure;
use super::reduce::Patients;
use super::results::NomogramAxis;
use super::scale::Scale;
use super::spec::{Kind, Spec};

/// Axes of the main model over its clinical terms and the rad-score, with risk and survival scales.
pub fn nomogram_of(
    spec: &Spec,
    cohort: &Cohort,
    design: &Design,
    procedure: &Procedure,
    main: &Model,
    patients: &Patients,
    prior: Option<&PriorCorrection>,
) -> Option<(Nomogram, Vec<ScaleAxis>)> {
    let mut terms = Vec::new();
    let mut next = 0;
    for index in &main.terms {
        let term = &cohort.terms[*index];
        let candidate = &term.candidate;
        let own = &main.slopes()[next..next + design.groups[*index].len()];
        next += own.len();
        let raw: Vec<f64> = patients.rows.iter().map(|r| term.raw[*r]).collect();
        let axis = match candidate.kind {
            Kind::Continuous | Kind::Ordinal | Kind::Indicator => {
                AxisTerm::Numeric { coefficient: own[0], log: false, ticks: axis_values(&raw) }
            }
            Kind::Log => AxisTerm::Numeric { coefficient: own[0], log: true, ticks: log_ticks(&raw) },
            Kind::Spline => {
                AxisTerm::Spline { coefficients: own.to_vec(), knots: term.knots.clone(), ticks: axis_values(&raw) }
            }
            Kind::Cut => {
                let at = super::format_number(candidate.at.unwrap_or(0.0));
                AxisTerm::Factor { levels: vec![(format!("< {at}"), 0.0), (format!("≥ {at}"), own[0])] }
            }
            Kind::Factor => {
                let effects = std::iter::once(0.0).chain(own.iter().copied());
                AxisTerm::Factor { levels: candidate.levels.iter().cloned().zip(effects).collect() }
            }
        };
        let unit = if candidate.unit.is_empty() || candidate.unit == "yes/no" {
            String::new()
        } else {
            format!(" ({})", candidate.unit)
        };
        let axis = match axis {
            AxisTerm::Numeric { coefficient, log: false, ticks } if ticks == [0.0, 1.0] => {
                AxisTerm::Factor { levels: vec![("no".into(), 0.0), ("yes".into(), coefficient)] }
            }
            other => other,
        };
        terms.push((format!("{}{unit}", candidate.label()), axis));
    }
    if let (true, Some(reduction)) = (main.with_rad_score, &procedure.reduction) {
        let score: Vec<f64> = if spec.analysis.paper_mode {
            patients.rows.iter().map(|r| reduction.score[*r]).collect()
        } else {
            reduction.out_of_fold.clone()
        };
        let coefficient = main.coefficients[main.coefficients.len() - 1];
        terms.push(("Rad-score".into(), AxisTerm::Numeric { coefficient, log: false, ticks: axis_values(&score) }));
    }
    let lps = patients.rows.iter().map(|r| main.lp[*r]);
    let (low, high) = lps.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let nomogram = Nomogram::new(&NomogramInput { terms, intercept: main.constant, lp_range: [low, high] })?;
    let at = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
    let mut scales = vec![nomogram.scale(&format!("Risk{}", main.scale.until()), &at, |lp| main.scale.risk(lp))];
    if let Some(prior) = prior {
        let name = format!("Risk at {:.0} % incidence", prior.local_incidence * 100.0);
        scales.push(nomogram.scale(&name, &at, |lp| main.scale.risk(lp + prior.shift)));
    }
    for (month, curve) in survival_scales(spec, cohort, patients, main) {
        scales.push(nomogram.scale(&format!("Event-free at {month} months"), &at, curve));
    }
    Some((nomogram, scales))
}

/// Event-free survival at each month over the main model's linear predictor: its own of a Cox model, else by a Cox model on it.
fn survival_scales(
    spec: &Spec,
    cohort: &Cohort,
    patients: &Patients,
    main: &Model,
) -> Vec<(u32, impl Fn(f64) -> f64 + use<>)> {
    let curve = |survival: f64, slope: f64, center: f64| move |lp: f64| survival.powf((slope * (lp - center)).exp());
    if let (Scale::Hazard { .. }, Some(cox)) = (main.scale, &main.cox) {
        return cox.baseline_survival.iter().map(|(month, s)| (*month, curve(*s, 1.0, 0.0))).collect();
    }
    let lp: Vec<f64> = patients.rows.iter().map(|r| main.lp[*r]).collect();
    let Some(baseline) = survival_over(&lp, cohort, &patients.rows, &spec.validation.horizon_months) else {
        return Vec::new();
    };
    let months = baseline.months.iter().zip(&baseline.survival);
    months.map(|(month, s)| (*month, curve(*s, baseline.slope, baseline.center))).collect()
}

/// Round values of a logarithmic axis: 1, 2 and 5 in each decade that the data reach.
fn log_ticks(values: &[f64]) -> Vec<f64> {
    let (low, high) = values.iter().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all: Vec<f64> = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d))).collect();
    let first = all.partition_point(|v| *v <= low).saturating_sub(1);
    let last = all.partition_point(|v| *v < high).min(all.len() - 1);
    all[first..=last].to_vec()
}

/// All axes as numbers for `results.json`.
pub fn axes(nomogram: &Nomogram, scales: &[ScaleAxis]) -> Vec<NomogramAxis> {
    let of_scale = |s: &ScaleAxis| NomogramAxis {
        name: s.name.clone(),
        labels: s.values.iter().map(|v| super::format_number(*v)).collect(),
        points: s.points.clone(),
    };
    let axes = nomogram.axes.iter().map(|a| NomogramAxis {
        name: a.name.clone(),
        labels: a.labels.clone(),
        points: a.points.clone(),
    });
    axes.chain(std::iter::once(&nomogram.lp).chain(scales).map(of_scale)).collect()
}
