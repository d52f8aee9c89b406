//! The parameter file: YAML to settings, with PyRadiomics' keys, types and ranges (its paramSchema.yaml).

use super::filters::{ImageType, Lbp2dMethod, wavelet};
use super::lines::{line_of, nearest};
use super::overrides::SETTING_NAMES;
use super::settings::{Bins, Class, Interpolator, ResegmentMode, Settings, Weighting};
use super::{RadiomicsError, Value};
use yaml_rust2::scanner::{Scanner, TokenType};
use yaml_rust2::{Yaml, YamlLoader};

/// Parameter files longer than this are refused; real ones have a few kilobytes.
const TEXT_MAX: usize = 1 << 18;
/// Deeper nesting is refused before the parser recurses into it.
const DEPTH_MAX: usize = 32;
/// Offsets of neighbors grow with the cube of this.
const DISTANCE_MAX: i64 = 32;

/// More levels of a wavelet or of spherical harmonics are refused.
const LEVELS_MAX: i64 = 32;
/// More samples of a binary pattern are refused: scikit-image numbers patterns in 32 bits.
const SAMPLES_MAX: i64 = 31;
/// Vertices of the icosphere grow with 4 to this power.
const SUBDIVISION_MAX: i64 = 5;

/// In the order of SimpleITK's numbers, from 1.
const INTERPOLATORS: [(&str, Interpolator); 10] = [
    ("sitkNearestNeighbor", Interpolator::Nearest),
    ("sitkLinear", Interpolator::Linear),
    ("sitkBSpline", Interpolator::BSpline),
    ("sitkGaussian", Interpolator::Gaussian),
    ("sitkLabelGaussian", Interpolator::LabelGaussian),
    ("sitkHammingWindowedSinc", Interpolator::HammingSinc),
    ("sitkCosineWindowedSinc", Interpolator::CosineSinc),
    ("sitkWelchWindowedSinc", Interpolator::WelchSinc),
    ("sitkLanczosWindowedSinc", Interpolator::LanczosSinc),
    ("sitkBlackmanWindowedSinc", Interpolator::BlackmanSinc),
];

/// PyRadiomics' default settings, as its diagnostics report them.
pub(super) fn reported_defaults() -> Vec<(String, Value)> {
    let entry = |name: &str, value: Value| (name.to_string(), value);
    vec![
        entry("minimumROIDimensions", Value::Int(2)),
        entry("minimumROISize", Value::Null),
        entry("normalize", Value::Bool(false)),
        entry("normalizeScale", Value::Int(1)),
        entry("removeOutliers", Value::Null),
        entry("resampledPixelSpacing", Value::Null),
        entry("interpolator", Value::Text("sitkBSpline".into())),
        entry("preCrop", Value::Bool(false)),
        entry("padDistance", Value::Int(5)),
        entry("distances", Value::List(vec![Value::Int(1)], false)),
        entry("force2D", Value::Bool(false)),
        entry("force2Ddimension", Value::Int(0)),
        entry("resegmentRange", Value::Null),
        entry("label", Value::Int(1)),
        entry("additionalInfo", Value::Bool(true)),
    ]
}

/// Sets a key as Python's `dict.update` does: in its place, or at the end.
pub(super) fn report(reported: &mut Vec<(String, Value)>, key: &str, value: Value) {
    match reported.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value,
        None => reported.push((key.into(), value)),
    }
}

/// Reads a parameter file; see [`Settings::from_yaml`] and [`Settings::with_overrides`].
pub(super) fn read(text: &str, overrides: &[(String, Value)]) -> Result<Settings, RadiomicsError> {
    let mut settings = from_value(&parse(text)?).map_err(|error| located(text, error))?;
    for (key, value) in overrides {
        setting(&mut settings, &format!("/setting/{key}"), key, value)?;
        report(&mut settings.reported, key, value.clone());
    }
    Ok(settings)
}

/// The error with the line of the file that it is about and, for a misspelt name, the nearest one.
fn located(text: &str, error: RadiomicsError) -> RadiomicsError {
    let (RadiomicsError::UnknownKey { path }
    | RadiomicsError::BadValue { path, .. }
    | RadiomicsError::Unsupported { path }) = &error
    else {
        return error;
    };
    let Some(line) = line_of(text, path) else { return error };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let class = Class::ALL.into_iter().find(|class| parent.strip_prefix("/featureClass/") == Some(class.name()));
    let known: Vec<&str> = match (parent, class) {
        _ if !matches!(error, RadiomicsError::UnknownKey { .. }) => Vec::new(),
        (_, Some(class)) => class.definitions().iter().map(|d| d.name).collect(),
        ("", _) => vec!["setting", "voxelSetting", "imageType", "featureClass"],
        ("/imageType", _) => ImageType::ALL.map(ImageType::name).to_vec(),
        ("/featureClass", _) => Class::ALL.map(Class::name).to_vec(),
        _ => SETTING_NAMES.to_vec(),
    };
    let nearest = nearest(name, known.into_iter()).map(String::from);
    RadiomicsError::InFile { line, nearest, what: Box::new(error) }
}

fn from_value(root: &Value) -> Result<Settings, RadiomicsError> {
    // Without `featureClass` PyRadiomics enables every class, shape2D as well.
    let classes = Class::ALL.map(|class| (class, Vec::new())).to_vec();
    let mut settings = Settings { classes, ..Settings::default() };
    let Value::Map(parts) = root else {
        return Err(bad("/", root, "a map of setting, imageType, featureClass"));
    };
    for (name, part) in parts {
        match (name.as_str(), part) {
            ("setting", Value::Map(entries)) => {
                for (key, value) in entries {
                    setting(&mut settings, &format!("/setting/{key}"), key, value)?;
                    report(&mut settings.reported, key, value.clone());
                }
            }
            ("imageType", Value::Map(types)) => image_types(&mut settings, types)?,
            ("featureClass", Value::Map(classes)) if classes.is_empty() => {}
            ("featureClass", Value::Map(classes)) => feature_classes(&mut settings, classes)?,
            ("voxelSetting", Value::Map(entries)) => {
                entries.iter().try_for_each(|(key, value)| voxel_setting(&mut settings, key, value))?;
            }
            ("setting" | "imageType" | "featureClass" | "voxelSetting", other) => {
                return Err(bad(&format!("/{name}"), other, "a map"));
            }
            _ => return Err(RadiomicsError::UnknownKey { path: format!("/{name}") }),
        }
    }
    // Reported last, wherever they stand.
    for (_, part) in parts.iter().filter(|(name, _)| name == "voxelSetting") {
        if let Value::Map(entries) = part {
            entries.iter().for_each(|(key, value)| report(&mut settings.reported, key, value.clone()));
        }
    }
    Ok(settings)
}

fn bad(path: &str, value: &Value, expected: &str) -> RadiomicsError {
    let mut value = value.to_python();
    value.truncate(value.char_indices().nth(60).map_or(value.len(), |(at, _)| at));
    RadiomicsError::BadValue { path: path.into(), value, expected: expected.into() }
}

fn unsupported(path: &str) -> RadiomicsError {
    RadiomicsError::Unsupported { path: path.into() }
}

/// YAML text to a value. Anchors, aliases and deep nesting are refused from the tokens, before anything recurses.
fn parse(text: &str) -> Result<Value, RadiomicsError> {
    let refuse = |why: &str| Err(RadiomicsError::Yaml(why.into()));
    if text.len() > TEXT_MAX {
        return refuse("it is longer than 256 KiB");
    }
    let mut depth = 0usize;
    for token in Scanner::new(text.chars()) {
        match token.1 {
            TokenType::Alias(_) | TokenType::Anchor(_) => return refuse("anchors and aliases are not read"),
            TokenType::BlockSequenceStart
            | TokenType::BlockMappingStart
            | TokenType::FlowSequenceStart
            | TokenType::FlowMappingStart => depth += 1,
            TokenType::BlockEnd | TokenType::FlowSequenceEnd | TokenType::FlowMappingEnd => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return refuse("it is nested too deeply");
        }
    }
    let documents = YamlLoader::load_from_str(text).map_err(|e| RadiomicsError::Yaml(e.to_string()))?;
    match documents.as_slice() {
        [] => Ok(Value::Map(Vec::new())),
        [one] => value(one, 0),
        _ => refuse("it holds several documents"),
    }
}

fn value(yaml: &Yaml, depth: usize) -> Result<Value, RadiomicsError> {
    let refuse = |why: String| Err(RadiomicsError::Yaml(why));
    if depth > DEPTH_MAX {
        return refuse("it is nested too deeply".into());
    }
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(v) => Value::Bool(*v),
        Yaml::Integer(v) => Value::Int(*v),
        // yaml-rust2 takes words such as `infinity` for numbers; to YAML they are text.
        Yaml::Real(text) => {
            match yaml.as_f64().filter(|_| !text.trim_start_matches(['+', '-']).starts_with(char::is_alphabetic)) {
                Some(v) => Value::Float(v),
                None => Value::Text(text.clone()),
            }
        }
        Yaml::String(text) => Value::Text(text.clone()),
        Yaml::Array(items) => Value::List(items.iter().map(|i| value(i, depth + 1)).collect::<Result<_, _>>()?, false),
        Yaml::Hash(entries) => {
            let mut map = Vec::new();
            for (key, item) in entries {
                let key = match key {
                    Yaml::String(text) => text.clone(),
                    other => value(other, depth + 1)?.to_python(),
                };
                map.push((key, value(item, depth + 1)?));
            }
            Value::Map(map)
        }
        Yaml::Alias(_) | Yaml::BadValue => return refuse("a value is damaged".into()),
    })
}

fn image_types(settings: &mut Settings, types: &[(String, Value)]) -> Result<(), RadiomicsError> {
    let mut images = Vec::new();
    for (name, own) in types {
        let path = format!("/imageType/{name}");
        let Some(image) = ImageType::ALL.into_iter().find(|i| i.name() == name) else {
            return Err(RadiomicsError::UnknownKey { path });
        };
        let Value::Map(entries) = own else { return Err(bad(&path, own, "a map")) };
        // Only a check: they are applied over the general settings, which may come later in the file.
        let mut scratch = Settings::default();
        for (key, value) in entries {
            setting(&mut scratch, &format!("{path}/{key}"), key, value)?;
            if key == "label" {
                return Err(unsupported(&format!("{path}/{key}")));
            }
        }
        images.push((image, entries.clone()));
    }
    if !images.is_empty() {
        settings.images = images;
    }
    Ok(())
}

/// One key of an image type, over the general settings.
pub(super) fn own_setting(settings: &mut Settings, key: &str, value: &Value) -> Result<(), RadiomicsError> {
    setting(settings, &format!("/imageType/{key}"), key, value)
}

fn feature_classes(settings: &mut Settings, classes: &[(String, Value)]) -> Result<(), RadiomicsError> {
    settings.classes.clear();
    for (name, features) in classes {
        let path = format!("/featureClass/{name}");
        let listed = match features {
            Value::Null => Vec::new(),
            Value::List(items, _) => items.iter().map(Value::to_python).collect(),
            other => return Err(bad(&path, other, "a list of features, or nothing")),
        };
        let Some(class) = Class::ALL.into_iter().find(|c| c.name() == name) else {
            return Err(RadiomicsError::UnknownKey { path });
        };
        if let Some(unknown) = listed.iter().find(|f| !class.definitions().iter().any(|d| d.name == *f)) {
            return Err(RadiomicsError::UnknownKey { path: format!("{path}/{unknown}") });
        }
        settings.classes.push((class, listed));
    }
    Ok(())
}

/// One key of `setting`, or of an image type's own settings.
fn setting(s: &mut Settings, path: &str, key: &str, value: &Value) -> Result<(), RadiomicsError> {
    let k = Key { path, value };
    match key {
        "label" => s.label = k.int(1, i64::from(u32::MAX))? as u32,
        "binWidth" => {
            let width = k.positive()?;
            if matches!(s.bins, Bins::Width(_)) {
                s.bins = Bins::Width(width);
            }
        }
        "binCount" => s.bins = Bins::Count(k.int(1, i64::from(i32::MAX))? as usize),
        "minimumROIDimensions" => s.minimum_dimensions = k.int(1, 3)? as usize,
        "minimumROISize" => s.minimum_size = k.optional(|k| Ok(k.int(1, i64::MAX)? as usize))?,
        "geometryTolerance" => s.geometry_tolerance = k.positive()?,
        "correctMask" => s.correct_mask = k.bool()?,
        "additionalInfo" => s.additional_info = k.bool()?,
        "normalize" => s.normalize = k.bool()?,
        "normalizeScale" => s.normalize_scale = k.positive()?,
        "removeOutliers" => s.remove_outliers = k.optional(Key::positive)?,
        "resampledPixelSpacing" => s.resampled_spacing = k.optional(Key::spacing)?,
        "interpolator" => s.interpolator = k.optional(Key::interpolator)?,
        "preCrop" => s.pre_crop = k.bool()?,
        "padDistance" => s.pad_distance = k.int(0, 10_000)? as usize,
        "distances" => {
            let found =
                k.list()?.iter().map(|v| Key { path: k.path, value: v }.int(1, DISTANCE_MAX).map(|d| d as usize));
            s.distances = found.collect::<Result<_, _>>()?;
            if s.distances.is_empty() {
                return Err(bad(k.path, value, "at least one distance"));
            }
        }
        "force2D" => s.force_2d = k.bool()?,
        "force2Ddimension" => s.force_2d_dimension = k.int(0, 2)? as usize,
        "resegmentRange" => s.resegment_range = k.optional(Key::range)?,
        "resegmentMode" => {
            s.resegment_mode = match k.text()? {
                "absolute" => ResegmentMode::Absolute,
                "relative" => ResegmentMode::Relative,
                "sigma" => ResegmentMode::Sigma,
                _ => return Err(bad(k.path, value, "absolute, relative or sigma")),
            }
        }
        "resegmentShape" => s.resegment_shape = k.bool()?,
        "voxelArrayShift" => s.voxel_array_shift = k.int(i64::MIN, i64::MAX)? as f64,
        "symmetricalGLCM" => s.symmetrical_glcm = k.bool()?,
        "weightingNorm" => {
            s.weighting = k.optional(|k| match k.text()? {
                "manhattan" => Ok(Weighting::Manhattan),
                "euclidean" => Ok(Weighting::Euclidean),
                "infinity" => Ok(Weighting::Infinity),
                "no_weighting" => Ok(Weighting::None),
                _ => Err(bad(k.path, k.value, "euclidean, manhattan, infinity or no_weighting")),
            })?
        }
        "gldm_a" => s.gldm_a = k.int(0, i64::from(i32::MAX))? as usize,
        "label_channel" => s.label_channel = k.int(0, i64::from(u32::MAX))? as usize,
        _ => return filter_setting(s, k, key),
    }
    Ok(())
}

/// A key that only filters read.
fn filter_setting(s: &mut Settings, k: Key, key: &str) -> Result<(), RadiomicsError> {
    let f = &mut s.filters;
    match key {
        "sigma" => {
            let sigmas = k.list()?;
            for value in sigmas {
                Key { path: k.path, value }.positive()?;
            }
            f.sigmas = sigmas.to_vec();
        }
        "start_level" => f.start_level = k.int(0, LEVELS_MAX)? as usize,
        "level" => f.levels = k.int(1, LEVELS_MAX)? as usize,
        "wavelet" => {
            let name = k.text()?;
            let known = wavelet::bank(name).is_some();
            f.wavelet = if known { name.into() } else { return Err(bad(k.path, k.value, "a discrete wavelet")) };
        }
        "gradientUseSpacing" => f.gradient_use_spacing = k.bool()?,
        "lbp2DRadius" => f.lbp_2d_radius = k.positive()?,
        "lbp2DSamples" => f.lbp_2d_samples = k.int(1, SAMPLES_MAX)? as usize,
        "lbp2DMethod" => {
            f.lbp_2d_method = match k.text()? {
                "default" => Lbp2dMethod::Default,
                "ror" => Lbp2dMethod::Ror,
                "uniform" => Lbp2dMethod::Uniform,
                "var" => Lbp2dMethod::Var,
                _ => return Err(bad(k.path, k.value, "default, ror, uniform or var")),
            }
        }
        "lbp3DLevels" => f.lbp_3d_levels = k.int(1, LEVELS_MAX)? as usize,
        "lbp3DIcosphereRadius" => f.lbp_3d_radius = k.positive()?,
        "lbp3DIcosphereSubdivision" => f.lbp_3d_subdivision = k.int(0, SUBDIVISION_MAX)? as usize,
        _ => return Err(RadiomicsError::UnknownKey { path: k.path.into() }),
    }
    Ok(())
}

/// One key of `voxelSetting`.
fn voxel_setting(s: &mut Settings, key: &str, value: &Value) -> Result<(), RadiomicsError> {
    let path = format!("/voxelSetting/{key}");
    let (k, v) = (Key { path: &path, value }, &mut s.voxel);
    match key {
        "kernelRadius" => v.kernel_radius = k.int(1, i64::from(i32::MAX))? as usize,
        "maskedKernel" => v.masked_kernel = k.bool()?,
        "initValue" => v.init_value = value.as_f64().ok_or_else(|| bad(&path, value, "a number"))?,
        "voxelBatch" => v.batch = Some(k.int(1, i64::MAX)? as usize),
        _ => return Err(RadiomicsError::UnknownKey { path }),
    }
    Ok(())
}

/// A key's value and where it stands.
#[derive(Clone, Copy)]
struct Key<'a> {
    path: &'a str,
    value: &'a Value,
}

impl<'a> Key<'a> {
    fn optional<T>(self, read: impl Fn(Key<'a>) -> Result<T, RadiomicsError>) -> Result<Option<T>, RadiomicsError> {
        if *self.value == Value::Null { Ok(None) } else { read(self).map(Some) }
    }

    fn int(self, low: i64, high: i64) -> Result<i64, RadiomicsError> {
        match self.value {
            Value::Int(v) if (low..=high).contains(v) => Ok(*v),
            other => Err(bad(self.path, other, &format!("an integer from {low} to {high}"))),
        }
    }

    fn positive(self) -> Result<f64, RadiomicsError> {
        let found = self.value.as_f64().filter(|v| *v > 0.0 && v.is_finite());
        found.ok_or_else(|| bad(self.path, self.value, "a number above 0"))
    }

    /// YAML 1.1 spells booleans in more ways than YAML 1.2.
    fn bool(self) -> Result<bool, RadiomicsError> {
        match self.value {
            Value::Bool(v) => Ok(*v),
            Value::Text(text) if ["yes", "on", "true"].contains(&text.to_lowercase().as_str()) => Ok(true),
            Value::Text(text) if ["no", "off", "false"].contains(&text.to_lowercase().as_str()) => Ok(false),
            other => Err(bad(self.path, other, "true or false")),
        }
    }

    fn text(self) -> Result<&'a str, RadiomicsError> {
        match self.value {
            Value::Text(text) => Ok(text),
            other => Err(bad(self.path, other, "text")),
        }
    }

    fn list(self) -> Result<&'a [Value], RadiomicsError> {
        match self.value {
            Value::List(items, _) => Ok(items),
            other => Err(bad(self.path, other, "a list")),
        }
    }

    fn numbers(self) -> Result<Vec<f64>, RadiomicsError> {
        let found = self.list()?.iter().map(|v| v.as_f64().filter(|v| v.is_finite()));
        found.collect::<Option<_>>().ok_or_else(|| bad(self.path, self.value, "a list of numbers"))
    }

    fn spacing(self) -> Result<Vec<f64>, RadiomicsError> {
        let found = Some(self.numbers()?).filter(|s| s.iter().all(|v| *v >= 0.0));
        found.ok_or_else(|| bad(self.path, self.value, "spacings in mm (x, y, z), 0 or more"))
    }

    fn range(self) -> Result<Vec<f64>, RadiomicsError> {
        let mut limits = self.numbers()?;
        limits.sort_unstable_by(f64::total_cmp);
        if (1..=2).contains(&limits.len()) { Ok(limits) } else { Err(bad(self.path, self.value, "one or two limits")) }
    }

    /// By name, or by SimpleITK's number (in its latest versions 3 means nothing; it was the B-spline).
    fn interpolator(self) -> Result<Interpolator, RadiomicsError> {
        let found = match self.value {
            Value::Int(number) => usize::try_from(*number).ok().and_then(|n| INTERPOLATORS.get(n.wrapping_sub(1))),
            Value::Text(text) => INTERPOLATORS.iter().find(|(name, _)| name == text),
            _ => None,
        };
        let expected = "the name of an interpolator, such as sitkLinear, or its number from 1 to 10";
        found.map(|(_, interpolator)| *interpolator).ok_or_else(|| bad(self.path, self.value, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, RadiomicsError> {
        super::read(text, &[])
    }

    fn said(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn keys_are_checked_by_name_type_and_range() {
        assert!(said("setting: {binwidth: 25}").contains("unknown key /setting/binwidth"));
        assert!(said("setting: {binWidth: -1}").contains("-1 at /setting/binWidth"));
        assert!(said("setting: {force2Ddimension: 3}").contains("/setting/force2Ddimension"));
        assert!(said("setting: {distances: [0]}").contains("/setting/distances"));
        assert!(said("setting: {interpolator: sitkFoo}").contains("sitkFoo"));
        assert!(said("featureClass: {glcm: [Foo]}").contains("/featureClass/glcm/Foo"));
        assert!(said("settings: {}").contains("/settings"));
        assert!(said("voxelSetting: {kernelRadius: 0}").contains("/voxelSetting/kernelRadius"));
        assert!(said("voxelSetting: {binWidth: 5}").contains("/voxelSetting/binWidth"));
        assert!(said("[1, 2]").contains("a map"));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        let error = read("imageType: {Wavelet: {label: 2}}").unwrap_err();
        assert_eq!(crate::Explain::code(&error), "radiomics.unsupported");
    }

    #[test]
    fn integers_and_floats_stay_apart_in_the_report() {
        let settings = read("setting: {binWidth: 5, geometryTolerance: 0.5, normalize: yes}").unwrap();
        let get = |key: &str| settings.reported.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        assert_eq!(get("binWidth"), Some(Value::Int(5)));
        assert_eq!(get("geometryTolerance"), Some(Value::Float(0.5)));
        assert!(settings.normalize);
        assert_eq!(settings.bins, Bins::Width(5.0));
        assert_eq!(read("setting: {weightingNorm: infinity}").unwrap().weighting, Some(Weighting::Infinity));
    }

    #[test]
    fn hostile_text_is_an_error_and_not_a_crash() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"- ".repeat(100_000)).is_err());
        assert!(read(&"{a: ".repeat(50_000)).is_err());
        assert!(read("a: &x [1]\nb: *x").is_err());
        assert!(read("a: [1\n").is_err());
        assert!(read(&"x".repeat(1 << 19)).is_err());
    }
}
