//! The nomogram package of a fit: every variant refitted on what is known then, as `risk` loads it on the box.

use super::CohortError;
use super::fit::Fitted;
use super::hazards::{complete_cox, survival_over};
use super::models::{Hazards, Model, Training, fit_model, training_range};
use super::nomogram_axes::quantile;
use super::reduce::{Ranked, Reduction, mean_and_sd, reduce};
use super::scale::Scale;
use super::spec::{Kind, Known};
use super::validate::{self, Scored};
use super::validate_survival;
use crate::risk::{
    Baseline, ClinicalKey, ClinicalValues, GoldenPatient, Link, Nomogram, Predictor, Prior, RadiomicsParameters,
    Source, Status, Term, Transform, Variant,
};
use crate::statistics::concordance::{PairWeight, concordance};
use crate::statistics::roc;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Quantiles of the golden vectors.
const GOLDEN: [f64; 3] = [0.2, 0.5, 0.85];
/// Text for the package when the parameter file was not given.
const NO_PARAMETERS: &str = "# The parameter file of the extraction was not stated.\n";

/// A package and what had to be left out of it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Content of each file by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the reader of the report has to know about it.
    pub notes: Vec<String>,
}

/// Region and PyRadiomics name of a column such as `liver_original_glcm_Idm`.
pub fn region_of(column: &str) -> Option<(&'static str, &str)> {
    let prefixes = [
        ("liver_lesion_", "liver_lesion"),
        ("liver_", "liver"),
        ("colorectal_tumor_", "colorectal_tumor"),
        ("tumor_", "colorectal_tumor"),
        ("tumour_", "colorectal_tumor"),
    ];
    prefixes.into_iter().find_map(|(prefix, region)| Some((region, column.strip_prefix(prefix)?)))
}

/// A feature for people, such as `Liver Idm (glcm)` or `Tumor Entropy (firstorder, wavelet-LLH)`.
fn feature_label(region: &str, feature: &str) -> String {
    let region = match region {
        "colorectal_tumor" => "Tumor",
        "liver_lesion" => "Liver lesion",
        _ => "Liver",
    };
    match feature.splitn(3, '_').collect::<Vec<_>>()[..] {
        ["original", family, name] => format!("{region} {name} ({family})"),
        [image, family, name] => format!("{region} {name} ({family}, {image})"),
        _ => format!("{region} {feature}"),
    }
}

/// A clinical term that the box knows: its index in the cohort and the box's value.
type BoxTerm = (usize, ClinicalKey);

/// Writes the package. `parameters`: the parameter file of the extraction. `center`: whose harmonized measurements the box will
/// make, needed where ComBat was used; its shift and scale are then part of each predictor.
pub fn package_files(fitted: &Fitted, parameters: Option<&str>, center: Option<&str>) -> Result<Package, CohortError> {
    let mut notes = Vec::new();
    let terms = box_terms(fitted, &mut notes);
    let reduction = fitted.procedure.reduction.as_ref();
    if terms.is_empty() && reduction.is_none() {
        return Err(CohortError::TooLittle { what: "no predictor of the model is known to the box".into() });
    }
    let mut predictors: Vec<Predictor> =
        terms.iter().map(|(index, key)| clinical_predictor(fitted, *index, *key)).collect();
    if let Some(reduction) = reduction {
        for (k, _) in &reduction.selected {
            predictors.push(radiomic_predictor(fitted, reduction, *k, center)?);
        }
    }
    let laboratory: Vec<BoxTerm> =
        terms.iter().copied().filter(|t| fitted.cohort.terms[t.0].candidate.known == Known::Laboratory).collect();
    let mut variants = Vec::new();
    let mut wanted: Vec<(&str, Vec<BoxTerm>)> = vec![("complete", terms.clone())];
    if laboratory.len() < terms.len() && !laboratory.is_empty() {
        wanted.push((if reduction.is_some() { "image_laboratory" } else { "laboratory" }, laboratory.clone()));
    }
    if reduction.is_some() && !terms.is_empty() {
        wanted.push(("image", Vec::new()));
    }
    for (name, of) in &wanted {
        variants.push(variant(fitted, reduction, name, of, &terms, &predictors)?);
    }
    let without_tumor = without_tumor(fitted)?;
    if let Some(reduction) = &without_tumor {
        let mut own = predictors[..terms.len()].to_vec();
        for (k, _) in &reduction.selected {
            own.push(radiomic_predictor(fitted, reduction, *k, center)?);
        }
        let places: Vec<usize> = own.into_iter().map(|predictor| place_of(predictor, &mut predictors)).collect();
        let own: Vec<Predictor> = places.iter().map(|place| predictors[*place].clone()).collect();
        for (name, of) in &wanted {
            let mut variant = variant(fitted, Some(reduction), &format!("{name}_without_tumor"), of, &terms, &own)?;
            variant.status = Status::Provisional;
            variant.terms.iter_mut().for_each(|term| term.predictor = places[term.predictor]);
            variant.terms.sort_by_key(|term| term.predictor);
            variants.push(variant);
        }
    }
    let yaml = parameters.unwrap_or(NO_PARAMETERS).to_owned();
    if parameters.is_none() && reduction.is_some() {
        notes.push("The parameter file of the feature extraction was not stated, so the package cannot prove that the box measures alike.".into());
    }
    let spec = &fitted.spec;
    let training = &fitted.results.flow.parts[0];
    let simulated = if spec.study.simulated { "SIMULATED: no patient is behind these data. " } else { "" };
    let sources = &spec.statement.sources;
    let cohort = format!(
        "{simulated}{}: {} patients, {} events in training. {sources}",
        spec.study.title, training.1, training.2
    );
    let link = if fitted.scale() == Scale::Odds { Link::Logistic } else { Link::Cox };
    let nomogram = Nomogram {
        link,
        id: spec.package.id.clone(),
        version: spec.package.version.clone(),
        manifest_sha256: String::new(),
        intended_use: spec.package.intended_use.clone(),
        cohort: cohort.trim_end().to_owned(),
        external: false,
        outcome: spec.study.outcome.clone() + if spec.study.simulated { " (SIMULATED)" } else { "" },
        horizon_months: spec.risk_month(),
        radiomics: RadiomicsParameters { sha256: hex(yaml.as_bytes()), yaml },
        predictors,
        variants,
        metrics: BTreeMap::from([
            ("n_training".to_owned(), training.1 as f64),
            ("n_training_events".to_owned(), training.2 as f64),
        ]),
    };
    let patients =
        |reduction| wanted.iter().flat_map(move |(_, of)| golden_patients(fitted, reduction, of, center.is_some()));
    let mut golden: Vec<GoldenPatient> = patients(reduction).collect();
    if without_tumor.is_some() {
        golden.extend(patients(without_tumor.as_ref()));
    }
    let files = nomogram.to_files(&golden).map_err(CohortError::package("writing the nomogram package"))?;
    Ok(Package { files, notes })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The selected clinical terms that the box can know; the others are noted.
fn box_terms(fitted: &Fitted, notes: &mut Vec<String>) -> Vec<BoxTerm> {
    let main = fitted.procedure.main().map(|m| m.terms.clone()).unwrap_or_default();
    let mut found = Vec::new();
    for index in main {
        let candidate = &fitted.cohort.terms[index].candidate;
        let key = ClinicalKey::from_name(candidate.column());
        let plain = matches!(candidate.kind, Kind::Continuous | Kind::Ordinal | Kind::Log | Kind::Cut);
        match key.filter(|_| plain) {
            Some(key) => found.push((index, key)),
            None => notes.push(format!(
                "{} is not in the package, which was refitted without it: {}.",
                candidate.label(),
                match key {
                    None => format!(
                        "the box does not know the column {} (it knows {})",
                        candidate.column(),
                        ClinicalKey::ALL.map(ClinicalKey::name).join(", ")
                    ),
                    Some(_) =>
                        "the box takes no factor, indicator or spline (but continuous, ordinal, log and cut)".into(),
                }
            )),
        }
    }
    found
}

fn transform(kind: Kind, at: Option<f64>) -> Transform {
    match (kind, at) {
        (Kind::Log, _) => Transform::Log,
        (Kind::Cut, Some(at)) => Transform::Cut(at),
        _ => Transform::None,
    }
}

/// Ends that ascend; a value that is the same in nearly all of training has no range of its own.
fn ascending([low, high]: [f64; 2], wide: [f64; 2]) -> [f64; 2] {
    if low < high { [low, high] } else { wide }
}

fn clinical_predictor(fitted: &Fitted, index: usize, key: ClinicalKey) -> Predictor {
    let term = &fitted.cohort.terms[index];
    let candidate = &term.candidate;
    let raw: Vec<f64> = fitted.training.rows.iter().map(|r| term.raw[*r]).collect();
    let transform = transform(candidate.kind, candidate.at);
    let (center, scale) = mean_and_sd(&raw.iter().map(|v| transform.apply(*v)).collect::<Vec<_>>());
    let ends = raw.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(*v), b.max(*v)]);
    let limits = match key {
        ClinicalKey::PerineuralInvasion | ClinicalKey::TumorNodules => [0.0, 1.0],
        ClinicalKey::DissectedLymphNodes => [0.0, f64::from(crate::risk::DISSECTED_LYMPH_NODES_MAX)],
        ClinicalKey::AfpNgPerMl => [0.01, crate::risk::AFP_NG_PER_ML_MAX],
    };
    let permitted = candidate.range.unwrap_or(limits);
    Predictor {
        id: candidate.name.clone(),
        label: candidate.label().to_owned(),
        source: Source::Clinical(key),
        unit: candidate.unit.clone(),
        permitted: Some([permitted[0].max(limits[0]), permitted[1].min(limits[1])]),
        training: ascending(training_range(&raw), ends),
        axis: ends,
        transform,
        center,
        scale,
    }
}

/// A feature as the box measures it. ComBat of a center is linear in the feature, so it goes into center and scale.
fn radiomic_predictor(
    fitted: &Fitted,
    reduction: &Reduction,
    k: usize,
    center: Option<&str>,
) -> Result<Predictor, CohortError> {
    let column = reduction.offered[k];
    let name = &fitted.cohort.feature_names[column];
    let (region, feature) = region_of(name).ok_or_else(|| CohortError::Spec {
        what: format!(
            "the feature {name} does not begin with its region (liver_ or tumor_), so the box cannot measure it"
        ),
    })?;
    let (slope, shift) = harmonization(fitted, column, center)?;
    // z = (slope x + shift - mean) / sd = (x - (mean - shift) / slope) / (sd / slope)
    let measured = |v: f64| (v - shift) / slope;
    let values: Vec<f64> = fitted.training.rows.iter().map(|r| measured(fitted.features[[*r, column]])).collect();
    let ends = values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(*v), b.max(*v)]);
    Ok(Predictor {
        id: name.clone(),
        label: feature_label(region, feature),
        source: Source::Radiomic { region: region.into(), feature: feature.into() },
        unit: String::new(),
        permitted: None,
        training: ascending(training_range(&values), ends),
        axis: ends,
        transform: Transform::None,
        center: if center.is_some() { measured(reduction.center[k]) } else { reduction.center[k] },
        scale: reduction.scale[k] / slope,
    })
}

/// Slope and shift with which ComBat maps a measured feature of the center.
fn harmonization(fitted: &Fitted, column: usize, center: Option<&str>) -> Result<(f64, f64), CohortError> {
    let Some(harmonized) = &fitted.harmonized else { return Ok((1.0, 0.0)) };
    let index = center.and_then(|c| harmonized.centers.iter().position(|known| known == c)).ok_or_else(|| {
        CohortError::Spec {
            what: format!(
                "features were harmonized, so the package is for one center: {}",
                harmonized.centers.join(" or ")
            ),
        }
    })?;
    let combat = &harmonized.combat;
    let (mean, sd) = (combat.grand_mean[column], combat.pooled_deviation[column]);
    let scale = combat.center_variance[[index, column]].sqrt();
    // ((x - mean) / sd - shift) / scale * sd + mean
    Ok((1.0 / scale, mean - (mean + combat.center_shift[[index, column]] * sd) / scale))
}

/// The features' part fitted again on what is known where no tumor is: the same rules, the same folds, no feature of the tumor.
/// `None` if no tumor feature was selected, or nothing is left without them.
fn without_tumor(fitted: &Fitted) -> Result<Option<Reduction>, CohortError> {
    let is_tumor = |column: usize| {
        region_of(&fitted.cohort.feature_names[column]).is_some_and(|(region, _)| region == "colorectal_tumor")
    };
    let Some(reduction) = &fitted.procedure.reduction else { return Ok(None) };
    if !reduction.selected.iter().any(|(k, _)| is_tumor(reduction.offered[*k])) {
        return Ok(None);
    }
    let others: Vec<usize> = fitted.stable.iter().copied().filter(|column| !is_tumor(*column)).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let ranked = Ranked::new(&fitted.cohort, fitted.features.view(), &others)?;
    reduce(fitted.features.view(), &others, &ranked, &fitted.training, &fitted.spec)
}

/// Where a predictor stands in the package, added if it is not there yet.
fn place_of(predictor: Predictor, all: &mut Vec<Predictor>) -> usize {
    all.iter().position(|known| known.id == predictor.id).unwrap_or_else(|| {
        all.push(predictor);
        all.len() - 1
    })
}

/// The rad-score on which a variant is fitted, of each training patient.
fn fitting_score(fitted: &Fitted, reduction: Option<&Reduction>) -> Option<Vec<f64>> {
    let reduction = reduction?;
    Some(if fitted.spec.analysis.paper_mode {
        fitted.training.rows.iter().map(|r| reduction.score[*r]).collect()
    } else {
        reduction.out_of_fold.clone()
    })
}

/// Refits one variant.
fn variant(
    fitted: &Fitted,
    reduction: Option<&Reduction>,
    name: &str,
    of: &[BoxTerm],
    all: &[BoxTerm],
    predictors: &[Predictor],
) -> Result<Variant, CohortError> {
    let score = fitting_score(fitted, reduction);
    let y = fitted.training.y();
    let hazards = fitted.training.time.as_deref().map(|time| Hazards { time, month: fitted.spec.risk_month() });
    let training = Training { rows: &fitted.training.rows, y: &y, rad_score: score.as_deref(), hazards };
    let indices: Vec<usize> = of.iter().map(|t| t.0).collect();
    let model = fit_model(name, &fitted.design, &indices, training, reduction.map(|r| r.score.as_slice()))?;
    // From columns as they are to standardized predictors: b x = b sd z + b mean.
    let mut intercept = model.constant;
    let mut terms = Vec::new();
    for (k, (index, _)) in of.iter().enumerate() {
        let place = all.iter().position(|t| t.0 == *index).unwrap_or(k);
        let (b, predictor) = (model.slopes()[k], &predictors[place]);
        intercept += b * predictor.center;
        terms.push(Term { predictor: place, coefficient: b * predictor.scale });
    }
    if let Some(reduction) = reduction {
        let weight = model.coefficients[model.coefficients.len() - 1];
        intercept += weight * reduction.intercept;
        let radiomic = reduction.selected.iter().enumerate();
        terms.extend(radiomic.map(|(k, (_, c))| Term { predictor: all.len() + k, coefficient: weight * c }));
    }
    terms.sort_by_key(|t| t.predictor);
    let prior = prior(fitted);
    let (intermediate_from, high_from) = cut_offs(fitted, &model, prior.shift)?;
    Ok(Variant {
        name: name.to_owned(),
        status: if terms.len() == predictors.len() { Status::Final } else { Status::Provisional },
        intercept,
        terms,
        baseline: baseline(fitted, &model, training, prior.shift)?,
        prior,
        intermediate_from,
        high_from,
        metrics: metrics(fitted, &model)?,
    })
}

fn prior(fitted: &Fitted) -> Prior {
    let events = fitted.training.event.iter().filter(|e| **e).count();
    let rate = events as f64 / fitted.training.rows.len() as f64;
    let simulated = if fitted.spec.study.simulated { "SIMULATED cohort; " } else { "" };
    // Of a Cox model the incidence is that up to its month, of follow-up the share of events says little.
    let until = fitted.scale().until();
    match &fitted.results.prior {
        Some(p) => Prior {
            event_rate: if until.is_empty() { rate } else { p.training_incidence },
            shift: p.shift,
            statement: format!(
                "{simulated}{:.0} % of the training patients had the event{until}; the intercept was shifted by {:+.3} to a local incidence of {:.0} %",
                100.0 * p.training_incidence,
                p.shift,
                100.0 * p.local_incidence
            ),
        },
        None => Prior {
            event_rate: rate,
            shift: 0.0,
            statement: format!(
                "{simulated}{:.0} % of the training patients had the event; where fewer do, the probability is too high; the intercept was not shifted",
                100.0 * rate
            ),
        },
    }
}

/// Probabilities from which the group is intermediate (95 % of the training events lie above) and high (Youden), shift included.
fn cut_offs(fitted: &Fitted, model: &Model, shift: f64) -> Result<(f64, f64), CohortError> {
    let scored = Scored::new(&fitted.cohort, "training", &fitted.training.rows, model, true);
    let youden = match model.scale.month() {
        Some(month) => validate_survival::youden(&scored, month, fitted.censoring().as_ref()),
        None => validate::youden(&scored),
    };
    let (high, ..) = youden.map_err(CohortError::at("cut-offs of the package"))?;
    let mut events: Vec<f64> = scored.lp.iter().zip(&scored.event).filter(|(_, e)| **e).map(|(lp, _)| *lp).collect();
    events.sort_by(f64::total_cmp);
    let low = events[events.len() / 20];
    let finite = |lp: f64| lp.clamp(-30.0, 30.0);
    let high = finite(high);
    let low = if finite(low) < high - 1e-6 { finite(low) } else { high - 0.5 };
    // Far out on the scale of a Cox model risks round to 0 or 1, where a cut-off means nothing.
    let risk = |lp: f64| model.scale.risk(lp + shift).clamp(1e-9, 1.0 - 1e-9);
    match (risk(low), risk(high)) {
        (low, high) if low < high => Ok((low, high)),
        (_, high) => Ok((high / 2.0, high)),
    }
}

/// Baseline survival: of a Cox model its own, else on the linear predictor by a Cox model; without times, the complement of the risk at the horizon.
fn baseline(fitted: &Fitted, model: &Model, training: Training, shift: f64) -> Result<Baseline, CohortError> {
    if model.scale != Scale::Odds {
        let months = &fitted.spec.validation.horizon_months;
        let cox = complete_cox(model, &fitted.design, &fitted.cohort, training, months)?;
        let curve = cox.map(|c| c.baseline_survival).unwrap_or_default();
        let (months, survival) = curve.into_iter().filter(|(_, s)| *s > 0.0).unzip();
        // The shift moves the linear predictor, and with it the risk and the survival.
        return Ok(Baseline { months, survival, slope: 1.0, center: 0.0 });
    }
    let rows = &fitted.training.rows;
    let lp: Vec<f64> = rows.iter().map(|r| model.lp[*r]).collect();
    let mean = lp.iter().sum::<f64>() / lp.len() as f64;
    let months = &fitted.spec.validation.horizon_months;
    let by_cox = survival_over(&lp, &fitted.cohort, rows, months);
    let by_cox = by_cox.map(|b| Baseline { center: b.center + shift, ..b });
    Ok(by_cox.unwrap_or_else(|| Baseline {
        months: months.last().copied().into_iter().collect(),
        survival: vec![(1.0 - model.scale.risk(mean)).clamp(1e-9, 1.0)],
        slope: 1.0,
        center: mean + shift,
    }))
}

fn metrics(fitted: &Fitted, model: &Model) -> Result<BTreeMap<String, f64>, CohortError> {
    let mut metrics = BTreeMap::new();
    for (part, name) in fitted.cohort.parts.iter().enumerate() {
        let scored = Scored::new(&fitted.cohort, name, &fitted.cohort.rows(part), model, part == 0);
        let at = || CohortError::at("metrics of the package");
        match (model.scale.month(), &scored.time) {
            (Some(_), Some(time)) => {
                let c = concordance(time, &scored.codes(), &scored.lp, None, PairWeight::Equal, 0.0).map_err(at())?;
                metrics.insert(format!("c_index_{name}"), c.c);
            }
            _ => {
                metrics.insert(format!("auc_{name}"), roc::auc(&scored.event, &scored.lp).map_err(at())?);
            }
        }
    }
    Ok(metrics)
}

/// Patients who never were, at quantiles of every predictor in training, with what a variant knows: no patient's values leave
/// with a package.
fn golden_patients(
    fitted: &Fitted,
    reduction: Option<&Reduction>,
    of: &[BoxTerm],
    harmonized: bool,
) -> Vec<GoldenPatient> {
    // Harmonized features are not what the box measures: the measured ones are in the cohort.
    let source = if harmonized { &fitted.cohort.features } else { &fitted.features };
    let at = |share: f64, value: &dyn Fn(usize) -> f64| {
        let mut values: Vec<f64> = fitted.training.rows.iter().map(|row| value(*row)).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, share)
    };
    let patient = |share: f64| {
        let mut features: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        if let Some(reduction) = reduction {
            for (k, _) in &reduction.selected {
                let column = reduction.offered[*k];
                if let Some((region, feature)) = region_of(&fitted.cohort.feature_names[column]) {
                    let value = at(share, &|row| source[[row, column]]);
                    features.entry(region.into()).or_default().insert(feature.into(), value);
                }
            }
        }
        let mut clinical = ClinicalValues::default();
        for (index, key) in of {
            let value = at(share, &|row| fitted.cohort.terms[*index].raw[row]);
            match key {
                ClinicalKey::AfpNgPerMl => clinical.afp_ng_per_ml = Some(value),
                ClinicalKey::DissectedLymphNodes => clinical.dissected_lymph_nodes = Some(value as u32),
                ClinicalKey::PerineuralInvasion => clinical.perineural_invasion = Some(value >= 0.5),
                ClinicalKey::TumorNodules => clinical.tumor_nodules = Some(value >= 0.5),
            }
        }
        GoldenPatient { features, clinical }
    };
    GOLDEN.into_iter().map(patient).collect()
}
