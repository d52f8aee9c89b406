//! Writing a nomogram package: the inverse of [`Nomogram::from_files`].

use super::nomogram::*;
use super::package::{GOLDEN_SCHEMA, SCHEMA, seal_of, sha256_hex};
use super::{ClinicalKey, ClinicalValues, RiskError, assess};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A patient whose assessment becomes a golden vector.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenPatient {
    /// Region -> feature -> value.
    pub features: BTreeMap<String, BTreeMap<String, f64>>,
    /// Laboratory and pathology; decides the variant.
    pub clinical: ClinicalValues,
}

impl Nomogram {
    /// The files of a package, sealed, with the assessments of `golden` as golden vectors, and read back as a proof that it can be
    /// used. Each variant needs a patient of whom that variant is the most complete one. `manifest_sha256` is not looked at.
    pub fn to_files(&self, golden: &[GoldenPatient]) -> Result<BTreeMap<String, Vec<u8>>, RiskError> {
        let cases = golden.iter().map(|patient| self.golden_case(patient)).collect::<Result<Vec<Value>, _>>()?;
        let golden = format!("{:#}\n", json!({"schema": GOLDEN_SCHEMA, "cases": cases}));
        let unsealed = self.manifest(&sha256_hex(golden.as_bytes()));
        let manifest = unsealed.replacen("seal = \"\"", &format!("seal = \"{}\"", seal_of(&unsealed)), 1);
        let files = BTreeMap::from([
            ("golden.json".to_owned(), golden.into_bytes()),
            ("manifest.toml".to_owned(), manifest.into_bytes()),
        ]);
        Nomogram::from_files(&files)?;
        Ok(files)
    }

    fn golden_case(&self, patient: &GoldenPatient) -> Result<Value, RiskError> {
        let feature = |region: &str, name: &str| patient.features.get(region)?.get(name).copied();
        let result = assess(self, feature, &patient.clinical)?;
        let clinical: Map<String, Value> = ClinicalKey::ALL
            .into_iter()
            .filter_map(|key| Some((key.name().to_owned(), clinical_json(key, patient.clinical.get(key)?))))
            .collect();
        Ok(json!({
            "features": patient.features,
            "clinical": clinical,
            "variant": result.variant,
            "probability": result.probability,
            "linear_predictor": result.linear_predictor,
            "points": result.points.total,
            "survival": result.survival.iter().map(|(_, s)| *s).collect::<Vec<f64>>(),
        }))
    }

    fn manifest(&self, golden_sha256: &str) -> String {
        let mut text = String::new();
        let mut line = |entry: std::fmt::Arguments| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{entry}");
        };
        line(format_args!("schema = {}\nseal = \"\"", quoted(SCHEMA)));
        for (key, value) in [
            ("id", self.id.as_str()),
            ("version", &self.version),
            ("disclaimer", crate::DISCLAIMER),
            ("intended_use", &self.intended_use),
            ("cohort", &self.cohort),
            ("outcome", &self.outcome),
        ] {
            line(format_args!("{key} = {}", quoted(value)));
        }
        if self.link != Link::Logistic {
            line(format_args!("link = {}", quoted(self.link.name())));
        }
        line(format_args!("horizon_months = {}", self.horizon_months));
        if self.external {
            line(format_args!("external = true"));
        }
        line(format_args!("\n[files]\n\"golden.json\" = {}", quoted(golden_sha256)));
        let RadiomicsParameters { yaml, sha256 } = &self.radiomics;
        line(format_args!("\n[radiomics]\nparameters = {}\nsha256 = {}", quoted(yaml), quoted(sha256)));
        if !self.metrics.is_empty() {
            line(format_args!("\n[metrics]"));
            self.metrics.iter().for_each(|(key, value)| line(format_args!("{} = {value:?}", quoted(key))));
        }
        for predictor in &self.predictors {
            line(format_args!("\n{}", predictor_text(predictor)));
        }
        for variant in &self.variants {
            line(format_args!("\n{}", self.variant_text(variant)));
        }
        text
    }

    fn variant_text(&self, v: &Variant) -> String {
        let terms =
            v.terms.iter().map(|t| format!("{} = {:?}", quoted(&self.predictors[t.predictor].id), t.coefficient));
        let metrics = v.metrics.iter().map(|(key, value)| format!("{} = {value:?}", quoted(key)));
        let (terms, metrics) = (terms.collect::<Vec<_>>().join("\n"), metrics.collect::<Vec<_>>().join("\n"));
        let Baseline { months, survival, slope, center } = &v.baseline;
        let Prior { event_rate, shift, statement } = &v.prior;
        format!(
            "[[variants]]\nname = {}\nstatus = {}\nintercept = {:?}\nintermediate_from = {:?}\nhigh_from = {:?}\n\n\
             [variants.coefficients]\n{terms}\n\n\
             [variants.prior]\nevent_rate = {event_rate:?}\nshift = {shift:?}\nstatement = {}\n\n\
             [variants.baseline]\nmonths = {months:?}\nsurvival = {survival:?}\nslope = {slope:?}\ncenter = {center:?}\n\n\
             [variants.metrics]\n{metrics}",
            quoted(&v.name),
            quoted(v.status.name()),
            v.intercept,
            v.intermediate_from,
            v.high_from,
            quoted(statement),
        )
    }
}

fn clinical_json(key: ClinicalKey, value: f64) -> Value {
    match key {
        ClinicalKey::AfpNgPerMl => json!(value),
        ClinicalKey::DissectedLymphNodes => json!(value as u32),
        ClinicalKey::PerineuralInvasion | ClinicalKey::TumorNodules => json!(value == 1.0),
    }
}

fn predictor_text(p: &Predictor) -> String {
    let source = match &p.source {
        Source::Clinical(key) => format!("clinical = {}", quoted(key.name())),
        Source::Radiomic { region, feature } => format!("region = {}\nfeature = {}", quoted(region), quoted(feature)),
    };
    let transform = match p.transform {
        Transform::None => "\"none\"".to_owned(),
        Transform::Log => "\"log\"".to_owned(),
        Transform::Cut(at) => format!("{{ cut = {at:?} }}"),
    };
    let permitted = p.permitted.map_or(String::new(), |range| format!("permitted_range = {range:?}\n"));
    format!(
        "[[predictors]]\nid = {}\nlabel = {}\n{source}\nunit = {}\ntransform = {transform}\n{permitted}training_range = {:?}\naxis = {:?}\ncenter = {:?}\nscale = {:?}",
        quoted(&p.id),
        quoted(&p.label),
        quoted(&p.unit),
        p.training,
        p.axis,
        p.center,
        p.scale,
    )
}

/// A TOML string on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::testing::nomogram;
    use super::*;

    #[test]
    fn a_written_package_is_read_as_it_was() {
        let mut original = nomogram();
        original.cohort = "quotes \" and \\ and\na line, seal = \"x\"".into();
        original.predictors[0].transform = Transform::Cut(0.3);
        (original.link, original.horizon_months) = (Link::Cox, original.variants[0].baseline.months[0]);
        let features = BTreeMap::from([
            ("liver".to_owned(), BTreeMap::from([("original_glcm_Idm".to_owned(), 4.1)])),
            ("colorectal_tumor".to_owned(), BTreeMap::from([("original_glcm_Idm".to_owned(), 0.37)])),
        ]);
        let known = ClinicalValues {
            afp_ng_per_ml: Some(3.3),
            dissected_lymph_nodes: Some(12),
            perineural_invasion: Some(true),
            tumor_nodules: None,
        };
        let patient = |clinical, regions: &[&str]| GoldenPatient {
            features: features.clone().into_iter().filter(|(r, _)| regions.contains(&r.as_str())).collect(),
            clinical,
        };
        let both = ["liver", "colorectal_tumor"];
        let laboratory = ClinicalValues { dissected_lymph_nodes: None, perineural_invasion: None, ..known };
        let golden = [
            patient(known, &both),
            patient(laboratory, &both),
            patient(ClinicalValues::default(), &both),
            patient(ClinicalValues::default(), &["liver"]),
        ];
        let files = original.to_files(&golden).unwrap();
        let read = Nomogram::from_files(&files).unwrap();
        original.manifest_sha256 = read.manifest_sha256.clone();
        assert_eq!(read, original);
        original.horizon_months = 59;
        let error = original.to_files(&golden).unwrap_err().to_string();
        assert!(error.contains("horizon_months"), "{error}");
        original.link = Link::Logistic;
        assert!(original.to_files(&golden[..2]).is_err(), "a variant without a golden vector passed");
    }
}
