//! Reading and checking a nomogram package.

use super::nomogram::*;
use super::{ClinicalKey, ClinicalValues, RiskError, assess};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SCHEMA: &str = "metwatch.nomogram/1";
pub(super) const GOLDEN_SCHEMA: &str = "metwatch.nomogram-golden/1";
/// Largest relative difference to a golden value: two orders of summation of a dozen f64 terms.
const GOLDEN_TOLERANCE: f64 = 1e-12;

impl Nomogram {
    /// Reads a package: `files` has the content of each file by its name, `manifest.toml` among them.
    ///
    /// Every file is held against the sha256 of the manifest, the manifest against its own seal, every number against plausibility, and the golden vectors are
    /// computed again, so that what comes out of here can be used.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Nomogram, RiskError> {
        let bytes = files.get("manifest.toml").ok_or(RiskError::NoManifest)?;
        let text = std::str::from_utf8(bytes).map_err(|e| RiskError::Manifest(e.into()))?;
        check_schema(text)?;
        let manifest: Manifest = toml::from_str(text).map_err(|e| RiskError::Manifest(e.into()))?;
        if !manifest.seal.eq_ignore_ascii_case(&seal_of(text)) {
            return Err(RiskError::Changed { file: "manifest.toml".into() });
        }
        check_files(&manifest.files, files)?;
        let golden = parse_golden(text_of(files, "golden.json")?)?;
        let nomogram = manifest.into_nomogram(sha256_hex(bytes))?;
        check_golden(&nomogram, &golden)?;
        Ok(nomogram)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(rename = "schema")]
    _schema: String,
    /// See [`seal_of`].
    seal: String,
    id: String,
    version: String,
    disclaimer: String,
    intended_use: String,
    cohort: String,
    #[serde(default)]
    external: bool,
    outcome: String,
    #[serde(default)]
    link: LinkEntry,
    horizon_months: u32,
    files: BTreeMap<String, String>,
    radiomics: RadiomicsEntry,
    predictors: Vec<PredictorEntry>,
    variants: Vec<VariantEntry>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RadiomicsEntry {
    /// The PyRadiomics parameter file itself.
    parameters: String,
    /// Of that text: what a feature table has to name, too.
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictorEntry {
    id: String,
    label: String,
    clinical: Option<String>,
    region: Option<String>,
    feature: Option<String>,
    unit: String,
    permitted_range: Option<[f64; 2]>,
    training_range: [f64; 2],
    axis: [f64; 2],
    transform: TransformEntry,
    center: f64,
    scale: f64,
}

/// Packages from before Cox models have no link: they are logistic.
#[derive(Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LinkEntry {
    #[default]
    Logistic,
    Cox,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TransformEntry {
    None,
    Log,
    /// `transform = { cut = 5.0 }`
    Cut(f64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantEntry {
    name: String,
    status: StatusEntry,
    intercept: f64,
    intermediate_from: f64,
    high_from: f64,
    coefficients: BTreeMap<String, f64>,
    prior: PriorEntry,
    baseline: BaselineEntry,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StatusEntry {
    Provisional,
    Final,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriorEntry {
    event_rate: f64,
    shift: f64,
    statement: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineEntry {
    months: Vec<u32>,
    survival: Vec<f64>,
    slope: f64,
    center: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    schema: String,
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenCase {
    /// Region -> feature -> value.
    features: BTreeMap<String, BTreeMap<String, f64>>,
    clinical: serde_json::Value,
    variant: String,
    probability: f64,
    linear_predictor: f64,
    points: f64,
    survival: Vec<f64>,
}

/// The schema comes first: a package of another version has other keys, and "unknown key" would mislead.
fn check_schema(text: &str) -> Result<(), RiskError> {
    let table: toml::Table = toml::from_str(text).map_err(|e| RiskError::Manifest(e.into()))?;
    match table.get("schema").and_then(toml::Value::as_str) {
        Some(SCHEMA) => Ok(()),
        other => Err(RiskError::Schema { found: other.unwrap_or_default().to_owned() }),
    }
}

/// The files of the package are those of the manifest, byte for byte.
fn check_files(listed: &BTreeMap<String, String>, files: &BTreeMap<String, Vec<u8>>) -> Result<(), RiskError> {
    if let Some(file) = files.keys().find(|f| *f != "manifest.toml" && !listed.contains_key(*f)) {
        return Err(RiskError::UnlistedFile { file: file.clone() });
    }
    for (file, sha256) in listed {
        let bytes = files.get(file).ok_or_else(|| RiskError::MissingFile { file: file.clone() })?;
        if !sha256.eq_ignore_ascii_case(&sha256_hex(bytes)) {
            return Err(RiskError::Changed { file: file.clone() });
        }
    }
    Ok(())
}

/// The seal of a manifest: sha256 in hex of its text without the line of the seal itself. It finds a changed byte where no other
/// hash looks (a cut-off, a training range); it is no signature.
pub(super) fn seal_of(manifest: &str) -> String {
    let rest: String = manifest.split_inclusive('\n').filter(|line| !line.starts_with("seal = ")).collect();
    sha256_hex(rest.as_bytes())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn text_of<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a str, RiskError> {
    let bytes = files.get(name).ok_or_else(|| RiskError::MissingFile { file: name.to_owned() })?;
    std::str::from_utf8(bytes).map_err(|_| implausible(format!("{name} is not UTF-8")))
}

fn implausible(what: impl Into<String>) -> RiskError {
    RiskError::Implausible { what: what.into() }
}

/// Passes if `right`, else says what is wrong.
fn require(right: bool, what: impl FnOnce() -> String) -> Result<(), RiskError> {
    if right { Ok(()) } else { Err(implausible(what())) }
}

impl Manifest {
    fn into_nomogram(self, manifest_sha256: String) -> Result<Nomogram, RiskError> {
        require(self.disclaimer == crate::DISCLAIMER, || format!("disclaimer is not {:?}", crate::DISCLAIMER))?;
        for (key, text) in
            [("id", &self.id), ("version", &self.version), ("cohort", &self.cohort), ("outcome", &self.outcome)]
        {
            require(!text.trim().is_empty(), || format!("{key} is empty"))?;
        }
        require(self.horizon_months > 0, || "horizon_months is 0".into())?;
        let predictors =
            self.predictors.into_iter().map(PredictorEntry::into_predictor).collect::<Result<Vec<_>, _>>()?;
        let ids: BTreeSet<&str> = predictors.iter().map(|p| p.id.as_str()).collect();
        require(ids.len() == predictors.len(), || "two predictors have the same id".into())?;
        let variants: Vec<Variant> =
            self.variants.into_iter().map(|v| v.into_variant(&predictors)).collect::<Result<_, _>>()?;
        let names: BTreeSet<&str> = variants.iter().map(|v| v.name.as_str()).collect();
        require(!variants.is_empty() && names.len() == variants.len(), || "variants need names of their own".into())?;
        let link = match self.link {
            LinkEntry::Logistic => Link::Logistic,
            LinkEntry::Cox => Link::Cox,
        };
        for variant in variants.iter().filter(|_| link == Link::Cox) {
            require(variant.baseline.months.contains(&self.horizon_months), || {
                format!("variant {}: a Cox package needs its baseline at horizon_months", variant.name)
            })?;
        }
        let RadiomicsEntry { parameters: yaml, sha256 } = self.radiomics;
        require(sha256 == sha256_hex(yaml.as_bytes()), || {
            "the radiomics parameters have another sha256 than stated".into()
        })?;
        Ok(Nomogram {
            id: self.id,
            version: self.version,
            manifest_sha256,
            intended_use: self.intended_use,
            cohort: self.cohort,
            external: self.external,
            outcome: self.outcome,
            link,
            horizon_months: self.horizon_months,
            radiomics: RadiomicsParameters { yaml, sha256 },
            predictors,
            variants,
            metrics: self.metrics,
        })
    }
}

impl PredictorEntry {
    fn into_predictor(self) -> Result<Predictor, RiskError> {
        let id = self.id;
        let source = match (self.clinical, self.region, self.feature) {
            (Some(key), None, None) => {
                let known = ClinicalKey::from_name(&key);
                Source::Clinical(
                    known.ok_or_else(|| implausible(format!("predictor {id} has the unknown value {key}")))?,
                )
            }
            (None, Some(region), Some(feature)) => Source::Radiomic { region, feature },
            _ => return Err(implausible(format!("predictor {id} needs either clinical, or region and feature"))),
        };
        let clinical = matches!(source, Source::Clinical(_));
        require(clinical == self.permitted_range.is_some(), || {
            format!("predictor {id}: a permitted_range is for clinical values")
        })?;
        let transform = match self.transform {
            TransformEntry::None => Transform::None,
            TransformEntry::Log => Transform::Log,
            TransformEntry::Cut(at) => Transform::Cut(at),
        };
        if let Transform::Cut(at) = transform {
            require(at.is_finite() && self.axis[0] < at && at <= self.axis[1], || {
                format!("predictor {id}: the cut does not lie within the axis")
            })?;
        }
        for range in [Some(self.training_range), Some(self.axis), self.permitted_range].into_iter().flatten() {
            let finite = range.iter().all(|v| v.is_finite() && transform.apply(*v).is_finite());
            require(finite && range[0] < range[1], || {
                format!("predictor {id}: the range {range:?} is not ascending and finite")
            })?;
        }
        let standard = self.center.is_finite() && self.scale.is_finite() && self.scale > 0.0;
        require(standard, || format!("predictor {id}: center and scale"))?;
        Ok(Predictor {
            id,
            label: self.label,
            source,
            unit: self.unit,
            permitted: self.permitted_range,
            training: self.training_range,
            axis: self.axis,
            transform,
            center: self.center,
            scale: self.scale,
        })
    }
}

impl VariantEntry {
    fn into_variant(self, predictors: &[Predictor]) -> Result<Variant, RiskError> {
        let name = self.name;
        // In the predictors' order, so that sums do not depend on the order in the manifest.
        let weight = |p: &Predictor| self.coefficients.get(&p.id).copied();
        let terms: Vec<Term> = (0..predictors.len())
            .filter_map(|predictor| Some(Term { predictor, coefficient: weight(&predictors[predictor])? }))
            .collect();
        require(terms.len() == self.coefficients.len(), || {
            format!("variant {name} has a coefficient without a predictor")
        })?;
        let finite = terms.iter().all(|t| t.coefficient.is_finite()) && self.intercept.is_finite();
        require(finite && terms.iter().any(|t| t.coefficient != 0.0), || {
            format!("variant {name}: intercept and coefficients")
        })?;
        let cut_offs = 0.0 < self.intermediate_from && self.intermediate_from < self.high_from && self.high_from < 1.0;
        require(cut_offs, || format!("variant {name}: the cut-offs do not ascend between 0 and 1"))?;
        let prior = self.prior.event_rate > 0.0 && self.prior.event_rate < 1.0 && self.prior.shift.is_finite();
        require(prior && !self.prior.statement.trim().is_empty(), || format!("variant {name}: prior"))?;
        let baseline = self.baseline.check();
        require(baseline, || format!("variant {name}: the baseline does not descend over ascending months"))?;
        let status = match self.status {
            StatusEntry::Provisional => Status::Provisional,
            StatusEntry::Final => Status::Final,
        };
        // "Final" says that nothing known later can change the result, so no clinical value and no region may be left out. (Another
        // variant may look at a region by other features.)
        let uses = |source: &Source| {
            terms.iter().any(|term| match (&predictors[term.predictor].source, source) {
                (Source::Clinical(a), Source::Clinical(b)) => a == b,
                (Source::Radiomic { region: a, .. }, Source::Radiomic { region: b, .. }) => a == b,
                _ => false,
            })
        };
        require(status == Status::Provisional || predictors.iter().all(|p| uses(&p.source)), || {
            format!("variant {name} is called final, but does not use every clinical value and region")
        })?;
        let BaselineEntry { months, survival, slope, center } = self.baseline;
        Ok(Variant {
            name,
            status,
            intercept: self.intercept,
            terms,
            prior: Prior {
                event_rate: self.prior.event_rate,
                shift: self.prior.shift,
                statement: self.prior.statement,
            },
            baseline: Baseline { months, survival, slope, center },
            intermediate_from: self.intermediate_from,
            high_from: self.high_from,
            metrics: self.metrics,
        })
    }
}

impl BaselineEntry {
    fn check(&self) -> bool {
        let months = !self.months.is_empty() && self.months.windows(2).all(|w| w[0] < w[1]);
        let range =
            self.survival.iter().all(|s| *s > 0.0 && *s <= 1.0) && self.survival.windows(2).all(|w| w[0] >= w[1]);
        months
            && range
            && self.months.len() == self.survival.len()
            && self.slope > 0.0
            && self.slope.is_finite()
            && self.center.is_finite()
    }
}

fn parse_golden(text: &str) -> Result<Golden, RiskError> {
    let golden: Golden = serde_json::from_str(text).map_err(|e| implausible(format!("golden.json: {e}")))?;
    require(golden.schema == GOLDEN_SCHEMA, || format!("golden.json is not {GOLDEN_SCHEMA}"))?;
    Ok(golden)
}

/// Computes every golden case again; each variant has to have one.
fn check_golden(nomogram: &Nomogram, golden: &Golden) -> Result<(), RiskError> {
    for variant in &nomogram.variants {
        let covered = golden.cases.iter().any(|c| c.variant == variant.name);
        require(covered, || format!("golden.json has no case for the variant {}", variant.name))?;
    }
    for (index, case) in golden.cases.iter().enumerate() {
        let differs = |what: &str| RiskError::Golden { case: index, what: what.to_owned() };
        let (_, clinical): (_, ClinicalValues) = super::clinical_from_json(&case.clinical.to_string())?;
        let result = assess(nomogram, |region, name| case.features.get(region)?.get(name).copied(), &clinical)?;
        if result.variant != case.variant {
            return Err(differs("variant"));
        }
        if result.survival.len() != case.survival.len() {
            return Err(differs("number of survival months"));
        }
        let survival = result.survival.iter().zip(&case.survival).map(|((_, got), want)| ("survival", *got, *want));
        let scalars = [
            ("probability", result.probability, case.probability),
            ("linear_predictor", result.linear_predictor, case.linear_predictor),
            ("points", result.points.total, case.points),
        ];
        for (what, got, want) in scalars.into_iter().chain(survival) {
            // Written so that a NaN fails too.
            let same = (got - want).abs() <= GOLDEN_TOLERANCE * want.abs().max(1.0);
            if !same {
                return Err(differs(what));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{files, reseal};
    use super::*;
    use crate::Explain;

    fn edited(file: &str, from: &str, to: &str) -> BTreeMap<String, Vec<u8>> {
        let mut package = files();
        let text = String::from_utf8(package[file].clone()).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        package.insert(file.into(), text.replacen(from, to, 1).into_bytes());
        package
    }

    fn code(package: &BTreeMap<String, Vec<u8>>) -> &'static str {
        Nomogram::from_files(package).expect_err("refused").code()
    }

    #[test]
    fn the_package_is_read_with_its_statements() {
        let nomogram = Nomogram::from_files(&files()).unwrap();
        assert_eq!((nomogram.id.as_str(), nomogram.variants.len(), nomogram.predictors.len()), ("test", 4, 5));
        assert_eq!(nomogram.radiomics.yaml, "imageType:\n  Original: {}\n");
        assert_eq!(nomogram.radiomics.sha256, sha256_hex(b"imageType:\n  Original: {}\n"));
        assert_eq!(nomogram.metrics["auc_train"], 0.8);
    }

    #[test]
    fn a_changed_byte_a_missing_file_and_an_extra_file_are_refused() {
        let mut package = files();
        package.get_mut("golden.json").unwrap()[0] ^= 1;
        assert_eq!(code(&package), "nomogram.changed");
        package.remove("golden.json");
        assert_eq!(code(&package), "nomogram.missing-file");
        let mut package = files();
        package.insert("notes.txt".into(), Vec::new());
        assert_eq!(code(&package), "nomogram.unlisted-file");
        package.remove("manifest.toml");
        assert_eq!(code(&package), "nomogram.no-manifest");
        for (from, to) in [
            ("high_from = 0.6", "high_from = 0.7"),
            ("nobody", "Nobody"),
            ("training_range = [2,", "training_range = [1,"),
        ] {
            assert_eq!(code(&edited("manifest.toml", from, to)), "nomogram.changed", "{to}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        for (from, to) in [
            ("outcome =", "outcme = \"x\"\noutcome ="),
            ("scale =", "scael = 1\nscale ="),
            ("high_from", "hihg = 1\nhigh_from"),
        ] {
            let fault = Nomogram::from_files(&edited("manifest.toml", from, to)).unwrap_err();
            assert_eq!(fault.code(), "nomogram.manifest");
            let source = std::error::Error::source(&fault).unwrap().to_string();
            assert!(source.contains("unknown field") && source.contains("line"), "{source}");
        }
        assert_eq!(code(&edited("manifest.toml", "nomogram/1", "nomogram/2")), "nomogram.schema");
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to) in [
            ("not for clinical use", "for clinical use"),
            ("Original: {}", "Wavelet: {}"),
            ("scale = 0.1", "scale = 0.0"),
            ("training_range = [0.15, 0.45]", "training_range = [0.45, 0.15]"),
            ("training_range = [0.15, 0.45]", "training_range = [0.15, nan]"),
            ("permitted_range = [0.05, 100000.0]", "permitted_range = [0.0, 100000.0]"), // log of 0
            ("clinical = \"afp_ng_per_ml\"", "clinical = \"cea_ng_per_ml\""),
            ("survival = [0.9, 0.5]", "survival = [0.5, 0.9]"),
            ("survival = [0.9, 0.5]", "survival = [0.9]"),
            ("high_from = 0.6", "high_from = 0.2"),
            ("tumor_texture = 0.6", "tumour_texture = 0.6"),
            ("status = \"provisional\"", "status = \"final\""),
            ("event_rate = 0.45", "event_rate = 1.45"),
        ] {
            assert_eq!(code(&reseal(edited("manifest.toml", from, to))), "nomogram.implausible", "{to}");
        }
    }

    #[test]
    fn golden_vectors_are_computed_again() {
        // A coefficient that is off by 1e-6 is found although every hash is right.
        let package = reseal(edited("manifest.toml", "tumor_texture = 0.6", "tumor_texture = 0.600001"));
        assert_eq!(code(&package), "nomogram.golden");
        let package = reseal(edited("golden.json", "\"linear_predictor\": 2.4", "\"linear_predictor\": 2.40000000001"));
        assert_eq!(code(&package), "nomogram.golden");
        let package = reseal(edited("golden.json", "\"variant\": \"image\"", "\"variant\": \"liver_only\""));
        assert!(matches!(code(&package), "nomogram.implausible" | "nomogram.golden"));
    }

    #[test]
    fn damaged_manifests_are_refused_without_a_panic() {
        let manifest = files()["manifest.toml"].clone();
        for at in (0..manifest.len()).step_by(7) {
            let mut package = files();
            package.insert("manifest.toml".into(), manifest[..at].to_vec());
            assert!(Nomogram::from_files(&package).is_err(), "cut at {at}");
            let mut flipped = manifest.clone();
            flipped[at] ^= 0x15;
            package.insert("manifest.toml".into(), flipped);
            assert!(Nomogram::from_files(&package).is_err(), "flipped at {at}");
        }
    }
}
