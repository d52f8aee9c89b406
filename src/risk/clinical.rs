//! Clinical values of one patient, and the file that carries them.

use super::RiskError;
use serde::Deserialize;
use serde_json::Value;

/// Highest alpha-fetoprotein that is taken for a measurement, in ng/mL.
pub const AFP_NG_PER_ML_MAX: f64 = 1e6;
/// Highest count of dissected lymph nodes that is taken for a count.
pub const DISSECTED_LYMPH_NODES_MAX: u32 = 200;
/// ng/mL in one IU/mL of alpha-fetoprotein (WHO standard 72/225).
const AFP_NG_PER_IU: f64 = 1.21;

/// What laboratory and pathology know about a patient; `None` is "not known", never "normal".
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClinicalValues {
    /// Alpha-fetoprotein in serum, ng/mL.
    pub afp_ng_per_ml: Option<f64>,
    /// Lymph nodes that pathology found in the specimen, a count.
    pub dissected_lymph_nodes: Option<u32>,
    /// Perineural invasion in the specimen.
    pub perineural_invasion: Option<bool>,
    /// Tumor nodules (deposits) in the specimen.
    pub tumor_nodules: Option<bool>,
}

/// The clinical values that a nomogram may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClinicalKey {
    /// [`ClinicalValues::afp_ng_per_ml`].
    AfpNgPerMl,
    /// [`ClinicalValues::dissected_lymph_nodes`].
    DissectedLymphNodes,
    /// [`ClinicalValues::perineural_invasion`].
    PerineuralInvasion,
    /// [`ClinicalValues::tumor_nodules`].
    TumorNodules,
}

impl ClinicalKey {
    /// All keys, in the order of [`ClinicalValues`].
    pub const ALL: [ClinicalKey; 4] =
        [Self::AfpNgPerMl, Self::DissectedLymphNodes, Self::PerineuralInvasion, Self::TumorNodules];

    /// The key in files and packages.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfpNgPerMl => "afp_ng_per_ml",
            Self::DissectedLymphNodes => "dissected_lymph_nodes",
            Self::PerineuralInvasion => "perineural_invasion",
            Self::TumorNodules => "tumor_nodules",
        }
    }

    /// The key with this [`ClinicalKey::name`].
    pub fn from_name(name: &str) -> Option<ClinicalKey> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

impl ClinicalValues {
    /// The value of a key as a number (yes is 1, no is 0), if it is known.
    pub fn get(&self, key: ClinicalKey) -> Option<f64> {
        let number = |flag: bool| if flag { 1.0 } else { 0.0 };
        match key {
            ClinicalKey::AfpNgPerMl => self.afp_ng_per_ml,
            ClinicalKey::DissectedLymphNodes => self.dissected_lymph_nodes.map(f64::from),
            ClinicalKey::PerineuralInvasion => self.perineural_invasion.map(number),
            ClinicalKey::TumorNodules => self.tumor_nodules.map(number),
        }
    }

    /// Refuses values that no patient has. A nomogram may be stricter.
    pub fn validate(&self) -> Result<(), RiskError> {
        let nodes_max = f64::from(DISSECTED_LYMPH_NODES_MAX);
        for (key, high, unit) in [
            (ClinicalKey::AfpNgPerMl, AFP_NG_PER_ML_MAX, "ng/mL"),
            (ClinicalKey::DissectedLymphNodes, nodes_max, "nodes"),
        ] {
            if self.get(key).is_some_and(|v| !(0.0..=high).contains(&v)) {
                return Err(RiskError::OutOfRange { key: key.name(), low: 0.0, high, unit: unit.into() });
            }
        }
        Ok(())
    }

    /// True if nothing at all is known.
    pub fn is_empty(&self) -> bool {
        *self == ClinicalValues::default()
    }
}

/// Reads the values of one patient: a JSON object with `patient_id` (text, optional) and any of the [`ClinicalKey`]s; AFP also as
/// `"afp": {"value": 3.1, "unit": "IU/mL"}`. A key that is absent or null is not known. Returns the patient id as written.
///
/// An unknown key, an unknown unit, a wrong type or an impossible value refuses the whole file: half a file is a wrong patient.
pub fn clinical_from_json(text: &str) -> Result<(Option<String>, ClinicalValues), RiskError> {
    let Entries(entries) = serde_json::from_str(text)
        .map_err(|e: serde_json::Error| RiskError::ClinicalSyntax { line: e.line(), column: e.column() })?;
    let mut patient_id = None;
    let mut values = ClinicalValues::default();
    let mut seen = Vec::new();
    for (key, value) in &entries {
        // Both spellings of AFP are one value: given twice, nobody knows which one holds.
        let name = if key == "afp" { "afp_ng_per_ml" } else { key.as_str() };
        if seen.contains(&name) {
            return Err(RiskError::ClinicalTwice { key: name.into() });
        }
        seen.push(name);
        let known = Some(value).filter(|v| !v.is_null());
        match key.as_str() {
            "patient_id" => patient_id = known.map(identifier).transpose()?,
            "afp_ng_per_ml" => values.afp_ng_per_ml = known.map(|v| number(v, "afp_ng_per_ml")).transpose()?,
            "afp" => values.afp_ng_per_ml = known.map(quantity).transpose()?,
            "dissected_lymph_nodes" => values.dissected_lymph_nodes = known.map(count).transpose()?,
            "perineural_invasion" => {
                values.perineural_invasion = known.map(|v| flag(v, "perineural_invasion")).transpose()?
            }
            "tumor_nodules" => values.tumor_nodules = known.map(|v| flag(v, "tumor_nodules")).transpose()?,
            _ => return Err(RiskError::ClinicalKey { key: key.clone() }),
        }
    }
    values.validate()?;
    Ok((patient_id, values))
}

/// The members of a JSON object in order, duplicates kept, so that a repeated key can be refused.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn identifier(value: &Value) -> Result<String, RiskError> {
    let text = value.as_str().map(str::trim).filter(|t| !t.is_empty());
    text.map(str::to_owned).ok_or(RiskError::ClinicalType { key: "patient_id", expected: "a text" })
}

fn number(value: &Value, key: &'static str) -> Result<f64, RiskError> {
    value.as_f64().ok_or(RiskError::ClinicalType { key, expected: "a number" })
}

fn flag(value: &Value, key: &'static str) -> Result<bool, RiskError> {
    value.as_bool().ok_or(RiskError::ClinicalType { key, expected: "true or false" })
}

fn count(value: &Value) -> Result<u32, RiskError> {
    let key = ClinicalKey::DissectedLymphNodes.name();
    if value.as_i64().is_some_and(|n| n < 0) || value.as_u64().is_some_and(|n| n > u64::from(DISSECTED_LYMPH_NODES_MAX))
    {
        return Err(RiskError::OutOfRange {
            key,
            low: 0.0,
            high: f64::from(DISSECTED_LYMPH_NODES_MAX),
            unit: "nodes".into(),
        });
    }
    let whole = value.as_u64().and_then(|n| u32::try_from(n).ok());
    whole.ok_or(RiskError::ClinicalType { key, expected: "a whole number" })
}

/// AFP with its unit, in ng/mL.
fn quantity(value: &Value) -> Result<f64, RiskError> {
    let expected = "an object with exactly a number \"value\" and a text \"unit\"";
    let wrong = || RiskError::ClinicalType { key: "afp", expected };
    let object = value.as_object().filter(|o| o.len() == 2).ok_or_else(wrong)?;
    let amount = object.get("value").and_then(Value::as_f64).ok_or_else(wrong)?;
    let unit = object.get("unit").and_then(Value::as_str).ok_or_else(wrong)?;
    match unit.to_lowercase().replace(['µ', 'μ'], "u").as_str() {
        "ng/ml" | "ug/l" => Ok(amount),
        "iu/ml" | "ku/l" | "kiu/l" => Ok(amount * AFP_NG_PER_IU),
        _ => Err(RiskError::ClinicalUnit { key: "afp", unit: unit.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    fn code(text: &str) -> &'static str {
        clinical_from_json(text).expect_err(text).code()
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = r#"{"patient_id": " P-7 ", "afp_ng_per_ml": 4.5, "dissected_lymph_nodes": 14,
                       "perineural_invasion": true, "tumor_nodules": false}"#;
        let (id, values) = clinical_from_json(text).unwrap();
        assert_eq!(id.as_deref(), Some("P-7"));
        let known = ClinicalKey::ALL.map(|k| values.get(k));
        assert_eq!(known, [Some(4.5), Some(14.0), Some(1.0), Some(0.0)]);
    }

    #[test]
    fn absent_and_null_are_not_known() {
        let (id, values) =
            clinical_from_json(r#"{"afp_ng_per_ml": null, "tumor_nodules": null, "patient_id": null}"#).unwrap();
        assert_eq!((id, values), (None, ClinicalValues::default()));
        assert!(clinical_from_json("{}").unwrap().1.is_empty());
    }

    #[test]
    fn afp_is_converted_once() {
        let afp = |t: &str| clinical_from_json(t).unwrap().1.afp_ng_per_ml.unwrap();
        assert_eq!(afp(r#"{"afp": {"value": 10, "unit": "IU/mL"}}"#), 12.1);
        assert_eq!(afp(r#"{"afp": {"value": 10, "unit": "kU/L"}}"#), 12.1);
        assert_eq!(afp(r#"{"afp": {"unit": "µg/L", "value": 10}}"#), 10.0);
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code("[1]"), "clinical.syntax");
        assert_eq!(code("{\"afp_ng_per_ml\": "), "clinical.syntax");
        assert_eq!(code(r#"{"afp_mg_per_ml": 1}"#), "clinical.unknown-key");
        assert_eq!(code(r#"{"afp_ng_per_ml": 1, "afp_ng_per_ml": 2}"#), "clinical.twice");
        assert_eq!(code(r#"{"afp_ng_per_ml": 1, "afp": {"value": 1, "unit": "ng/mL"}}"#), "clinical.twice");
        assert_eq!(code(r#"{"afp_ng_per_ml": "1"}"#), "clinical.type");
        assert_eq!(code(r#"{"dissected_lymph_nodes": 12.5}"#), "clinical.type");
        assert_eq!(code(r#"{"perineural_invasion": 1}"#), "clinical.type");
        assert_eq!(code(r#"{"afp": {"value": 1, "unit": "mmol/L"}}"#), "clinical.unit");
        assert_eq!(code(r#"{"afp": 3}"#), "clinical.type");
        assert_eq!(code(r#"{"afp_ng_per_ml": -0.1}"#), "risk.out-of-range");
        assert_eq!(code(r#"{"dissected_lymph_nodes": -1}"#), "risk.out-of-range");
        assert_eq!(code(r#"{"dissected_lymph_nodes": 201}"#), "risk.out-of-range");
    }

    #[test]
    fn the_unknown_key_is_named_and_no_value_is() {
        let fault = clinical_from_json(r#"{"afp_mg_per_ml": 31.25}"#).unwrap_err().to_string();
        assert!(fault.contains("afp_mg_per_ml") && !fault.contains("31.25"));
        let fault = clinical_from_json(r#"{"afp_ng_per_ml": -31.25}"#).unwrap_err().to_string();
        assert!(!fault.contains("31.25"));
    }
}
