//! The form for clinical values. What is typed goes through the same check as a file of the laboratory.

use super::html::Text;
use crate::Explain;
use crate::risk::{ClinicalValues, clinical_from_json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The fields as a browser sends them; an empty field is not known.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    afp: String,
    afp_unit: String,
    dissected_lymph_nodes: String,
    perineural_invasion: String,
    tumor_nodules: String,
}

/// Why a form was refused. Names the field, never the value.
#[derive(Debug, PartialEq)]
pub struct Refused {
    pub code: &'static str,
    pub sentence: String,
    pub advice: &'static str,
}

/// The values of a form, and the same as the JSON text of [`clinical_from_json`].
pub fn read(fields: &Fields) -> Result<(ClinicalValues, String), Refused> {
    let mut object = Map::new();
    if let Some(text) = filled(&fields.afp) {
        let unit = filled(&fields.afp_unit).unwrap_or("ng/mL");
        let value =
            number(text).ok_or_else(|| wrong("alpha-fetoprotein is not a number", "write a number such as 3.4"))?;
        object.insert("afp".into(), json!({ "value": value, "unit": unit }));
    }
    if let Some(text) = filled(&fields.dissected_lymph_nodes) {
        let fault =
            || wrong("the number of dissected lymph nodes is not a whole number", "write a whole number such as 14");
        object.insert("dissected_lymph_nodes".into(), json!(text.parse::<u32>().map_err(|_| fault())?));
    }
    for (key, label, text) in [
        ("perineural_invasion", "perineural invasion", &fields.perineural_invasion),
        ("tumor_nodules", "tumor nodules", &fields.tumor_nodules),
    ] {
        let value = match text.trim() {
            "" => continue,
            "yes" => true,
            "no" => false,
            _ => return Err(wrong(&format!("{label} is neither yes nor no"), "choose yes, no or not known")),
        };
        object.insert(key.into(), Value::Bool(value));
    }
    if object.is_empty() {
        return Err(Refused {
            code: "clinical.empty",
            sentence: "the form holds no value, so nothing was changed".into(),
            advice: "fill in at least one field",
        });
    }
    let text = Value::Object(object).to_string();
    let (_, values) = clinical_from_json(&text).map_err(|e| Refused {
        code: e.code(),
        sentence: e.to_string(),
        advice: e.advice(),
    })?;
    Ok((values, text))
}

fn filled(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|t| !t.is_empty())
}

/// A finite number with a point or, as much of Europe writes it, a comma.
fn number(text: &str) -> Option<f64> {
    let plain = |c: char| c.is_ascii_digit() || ".,".contains(c);
    // "1,234.5" and "1,234" are left to the person: a thousand or one and a bit?
    let ambiguous = text.contains(',')
        && (text.contains('.')
            || text.matches(',').count() > 1
            || text.split(',').nth(1).is_some_and(|d| d.len() == 3));
    if !text.chars().all(plain) || ambiguous {
        return None;
    }
    text.replace(',', ".").parse().ok().filter(|v: &f64| v.is_finite())
}

fn wrong(sentence: &str, advice: &'static str) -> Refused {
    Refused { code: "clinical.type", sentence: sentence.into(), advice }
}

/// The form, filled with what is known: what is sent replaces it as a whole.
pub fn html(number: &str, known: &ClinicalValues) -> String {
    let afp = known.afp_ng_per_ml.map_or(String::new(), |v| v.to_string());
    let nodes = known.dissected_lymph_nodes.map_or(String::new(), |n| n.to_string());
    let choice = |name: &str, label: &str, value: Option<bool>| {
        let option = |v: &str, text: &str, this: Option<bool>| {
            let selected = if this == value { " selected" } else { "" };
            format!("<option value=\"{v}\"{selected}>{text}</option>")
        };
        let options =
            [option("", "not known", None), option("yes", "yes", Some(true)), option("no", "no", Some(false))];
        format!("<label>{label}<select name=\"{name}\">{}</select></label>", options.concat())
    };
    format!(
        "<details class=\"enter\"><summary>Enter or correct values</summary>\
         <form method=\"post\" action=\"/study/{}/clinical\" autocomplete=\"off\">\
         <label>Alpha-fetoprotein<span class=\"pair\"><input name=\"afp\" inputmode=\"decimal\" maxlength=\"16\" value=\"{}\">\
         <select name=\"afp_unit\" aria-label=\"unit\"><option value=\"ng/mL\">ng/mL (&#181;g/L)</option><option value=\"IU/mL\">IU/mL (kU/L)</option></select></span></label>\
         <label>Dissected lymph nodes<input name=\"dissected_lymph_nodes\" inputmode=\"numeric\" maxlength=\"4\" value=\"{}\"></label>{}{}\
         <p class=\"hint\">The four fields replace what is known of this patient. An empty field means not known.</p>\
         <button type=\"submit\">Save and assess again</button></form></details>",
        Text(number),
        Text(afp),
        Text(nodes),
        choice("perineural_invasion", "Perineural invasion", known.perineural_invasion),
        choice("tumor_nodules", "Tumor nodules", known.tumor_nodules),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(afp: &str, unit: &str, nodes: &str, invasion: &str, nodules: &str) -> Fields {
        let [afp, afp_unit, dissected_lymph_nodes, perineural_invasion, tumor_nodules] =
            [afp, unit, nodes, invasion, nodules].map(str::to_owned);
        Fields { afp, afp_unit, dissected_lymph_nodes, perineural_invasion, tumor_nodules }
    }

    #[test]
    fn a_filled_form_is_read_with_its_unit() {
        let (values, json) = read(&fields(" 10 ", "IU/mL", "14", "yes", "no")).unwrap();
        assert_eq!(values.afp_ng_per_ml, Some(12.1)); // 1.21 ng per IU
        assert_eq!(values.dissected_lymph_nodes, Some(14));
        assert_eq!((values.perineural_invasion, values.tumor_nodules), (Some(true), Some(false)));
        assert_eq!(clinical_from_json(&json).unwrap().1, values);
        assert_eq!(read(&fields("3,4", "", "", "", "")).unwrap().0.afp_ng_per_ml, Some(3.4));
    }

    #[test]
    fn each_fault_is_told_without_the_value() {
        let code = |f: &Fields| read(f).unwrap_err().code;
        assert_eq!(code(&fields("", "IU/mL", "  ", "", "")), "clinical.empty");
        for afp in ["abc", "1,234", "1,2,3", "-3", "NaN", "inf", "1e5", "."] {
            assert_eq!(code(&fields(afp, "ng/mL", "", "", "")), "clinical.type", "{afp}");
        }
        assert_eq!(code(&fields("3", "mmol/L", "", "", "")), "clinical.unit");
        assert_eq!(code(&fields("2000000", "ng/mL", "", "", "")), "risk.out-of-range");
        assert_eq!(code(&fields("", "", "12.5", "", "")), "clinical.type");
        assert_eq!(code(&fields("", "", "900", "", "")), "risk.out-of-range");
        assert_eq!(code(&fields("", "", "", "maybe", "")), "clinical.type");
        assert!(!read(&fields("4711x", "", "", "", "")).unwrap_err().sentence.contains("4711"));
    }
}
