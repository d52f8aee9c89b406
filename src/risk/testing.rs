//! A small nomogram with round numbers, for the unit tests of this room.

use super::package::{seal_of, sha256_hex};
use super::{ClinicalValues, Nomogram};
use std::collections::BTreeMap;

const PARAMETERS: &str = "imageType:\n  Original: {}\n";

const BASELINE: &str = "[variants.prior]\nevent_rate = 0.45\nshift = 0.0\nstatement = \"45 % events\"\n\
[variants.baseline]\nmonths = [12, 60]\nsurvival = [0.9, 0.5]\nslope = 0.5\ncenter = 0.0\n";

fn variant(name: &str, status: &str, intercept: f64, coefficients: &str) -> String {
    format!(
        "[[variants]]\nname = {name:?}\nstatus = {status:?}\nintercept = {intercept:?}\nintermediate_from = 0.3\nhigh_from = 0.6\n\
         [variants.coefficients]\n{coefficients}\n{BASELINE}"
    )
}

fn manifest() -> String {
    let head = format!(
        "schema = \"metwatch.nomogram/1\"\nseal = \"\"\nid = \"test\"\nversion = \"1\"\ndisclaimer = {:?}\nintended_use = \"tests\"\n\
         cohort = \"nobody\"\noutcome = \"event\"\nhorizon_months = 60\n[files]\n\"golden.json\" = \"\"\n\
         [radiomics]\nparameters = {PARAMETERS:?}\nsha256 = {:?}\n[metrics]\nauc_train = 0.8\n",
        crate::DISCLAIMER,
        sha256_hex(PARAMETERS.as_bytes()),
    );
    let radiomic = |id: &str, label: &str, region: &str, ranges: &str| {
        format!(
            "[[predictors]]\nid = {id:?}\nlabel = {label:?}\nregion = {region:?}\nfeature = \"original_glcm_Idm\"\nunit = \"\"\ntransform = \"none\"\n{ranges}\n"
        )
    };
    let clinical = |id: &str, key: &str, unit: &str, transform: &str, ranges: &str| {
        format!(
            "[[predictors]]\nid = {id:?}\nlabel = {id:?}\nclinical = {key:?}\nunit = {unit:?}\ntransform = {transform:?}\n{ranges}\n"
        )
    };
    let t = "tumor_texture = 0.6";
    [
        head,
        radiomic("tumor_texture", "tumor texture", "colorectal_tumor", "training_range = [0.15, 0.45]\naxis = [0.1, 0.7]\ncenter = 0.3\nscale = 0.1"),
        radiomic("liver_entropy", "liver entropy", "liver", "training_range = [2, 6]\naxis = [1, 7]\ncenter = 4\nscale = 1"),
        clinical("afp", "afp_ng_per_ml", "ng/mL", "log", "permitted_range = [0.05, 100000.0]\ntraining_range = [1, 20]\naxis = [0.36787944117144233, 54.598150033144236]\ncenter = 1\nscale = 1"),
        clinical("nodes", "dissected_lymph_nodes", "nodes", "none", "permitted_range = [0, 100]\ntraining_range = [8, 35]\naxis = [0, 40]\ncenter = 20\nscale = 5"),
        clinical("perineural_invasion", "perineural_invasion", "yes/no", "none", "permitted_range = [0, 1]\ntraining_range = [0, 1]\naxis = [0, 1]\ncenter = 0.5\nscale = 0.5"),
        variant("image", "provisional", -0.2, &format!("{t}\nliver_entropy = 0.1")),
        variant("image_laboratory", "provisional", -0.3, &format!("{t}\nliver_entropy = 0.1\nafp = 0.5")),
        variant("complete", "final", -0.5, &format!("{t}\nliver_entropy = 0.0\nafp = 0.5\nnodes = -0.4\nperineural_invasion = 0.8")),
        variant("liver_only", "provisional", -0.1, "liver_entropy = 0.2"),
    ]
    .concat()
}

/// At the center of everything the linear predictor is the intercept; one case is the worked example of `assess`.
fn golden() -> String {
    let case = |variant: &str, tumor: Option<f64>, clinical: &str, lp: f64, points: f64| {
        let tumor =
            tumor.map_or(String::new(), |t| format!(", \"colorectal_tumor\": {{\"original_glcm_Idm\": {t:?}}}"));
        let survival = [0.9f64, 0.5].map(|s| s.powf((0.5 * lp).exp()));
        format!(
            "{{\"features\": {{\"liver\": {{\"original_glcm_Idm\": 4.0}}{tumor}}}, \"clinical\": {{{clinical}}}, \"variant\": {variant:?}, \
             \"probability\": {:?}, \"linear_predictor\": {lp:?}, \"points\": {points:?}, \"survival\": {survival:?}}}",
            1.0 / (1.0 + (-lp).exp())
        )
    };
    // Points per log odds: 100 / 3.6 where the texture's axis is the longest, 100 / 1.2 for the liver alone.
    let afp = format!("\"afp_ng_per_ml\": {:?}", 1f64.exp());
    let all =
        format!("\"afp_ng_per_ml\": {:?}, \"dissected_lymph_nodes\": 15, \"perineural_invasion\": true", 2f64.exp());
    let cases = [
        case("complete", Some(0.5), &all, 2.4, (2.4 + 1.5 + 2.0 + 1.6) / 3.6 * 100.0),
        case("image", Some(0.3), "", -0.2, (1.2 + 0.3) / 3.6 * 100.0),
        case("image_laboratory", Some(0.3), &afp, -0.3, (1.2 + 0.3 + 1.0) / 3.6 * 100.0),
        case("liver_only", None, "", -0.1, 50.0),
    ];
    format!("{{\"schema\": \"metwatch.nomogram-golden/1\", \"cases\": [{}]}}", cases.join(",\n"))
}

/// The package with the right sha256 of every file and the right seal.
pub(super) fn reseal(mut package: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let text = String::from_utf8(package["manifest.toml"].clone()).expect("UTF-8");
    let sealed: Vec<String> = text
        .lines()
        .map(|line| {
            match line.split_once(" = ").map(|(key, _)| key.trim_matches('"')).and_then(|k| package.get_key_value(k)) {
                Some((name, bytes)) => format!("{name:?} = \"{}\"", sha256_hex(bytes)),
                None => line.to_owned(),
            }
        })
        .collect();
    let text = sealed.join("\n");
    let seal = format!("seal = \"{}\"", seal_of(&text));
    let sealed: Vec<&str> =
        text.lines().map(|line| if line.starts_with("seal = ") { seal.as_str() } else { line }).collect();
    package.insert("manifest.toml".into(), sealed.join("\n").into_bytes());
    package
}

/// The package as files.
pub(super) fn files() -> BTreeMap<String, Vec<u8>> {
    let texts = [("manifest.toml", manifest()), ("golden.json", golden())];
    reseal(texts.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect())
}

pub(super) fn nomogram() -> Nomogram {
    Nomogram::from_files(&files()).expect("the test package is right")
}

/// A feature table of the two regions.
pub(super) fn features(tumor: Option<f64>, liver: Option<f64>) -> impl Fn(&str, &str) -> Option<f64> {
    move |region, name| match (region, name) {
        ("colorectal_tumor", "original_glcm_Idm") => tumor,
        ("liver", "original_glcm_Idm") => liver,
        _ => None,
    }
}

pub(super) fn clinical(afp: Option<f64>, nodes: Option<u32>, invasion: Option<bool>) -> ClinicalValues {
    ClinicalValues {
        afp_ng_per_ml: afp,
        dissected_lymph_nodes: nodes,
        perineural_invasion: invasion,
        tumor_nodules: None,
    }
}
