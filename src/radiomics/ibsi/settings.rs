//! What is done to image and mask before features are computed, and which textures are computed.

use crate::radiomics::RadiomicsError;
use serde::Deserialize;
use toml::{Table as Map, Value};
use yaml_rust2::scanner::{Scanner, TokenType};
use yaml_rust2::{Yaml, YamlLoader};

/// Settings longer than this are refused; real ones have a few hundred bytes.
const TEXT_MAX: usize = 1 << 16;
/// Neighbors grow with the cube of the distance.
const DISTANCE_MAX: usize = 8;

/// How values between voxel centers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest voxel.
    Nearest,
    /// Bilinear or trilinear.
    Linear,
    /// Cubic spline through all voxels (bicubic or tricubic).
    Cubic,
}

/// In which neighborhoods textures are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approach {
    /// In every slice: aggregations 2D and 2.5D.
    Planar,
    /// In the volume: aggregations 3D.
    Volume,
    /// All aggregations.
    Both,
}

impl Approach {
    /// Whether 2D and 2.5D textures are computed.
    pub fn has_planar(self) -> bool {
        self != Approach::Volume
    }

    /// Whether 3D textures are computed.
    pub fn has_volume(self) -> bool {
        self != Approach::Planar
    }
}

/// How intensities become gray levels (IBSI 4R0B).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bins {
    /// Not at all: intensities are levels already (whole and positive). For the intensity-volume histogram: steps of 1.
    None,
    /// Fixed bin size (FBS, Q3RU), from the lower bound of [`Settings::range`], else from the lowest intensity.
    Width(f64),
    /// Fixed bin number (FBN, K15C), between lowest and highest intensity.
    Number(usize),
}

/// One configuration. Every field is a key of the text form; keys that are left out have the values of [`Settings::phantom`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The label of the region in a mask.
    pub label: u32,
    /// In which neighborhoods textures are computed.
    pub approach: Approach,
    /// New distance of voxel centers in mm, (x, y, z); 0 keeps an axis. `None`: no interpolation.
    pub spacing_mm: Option<[f64; 3]>,
    /// For the image.
    pub image_interpolation: Interpolation,
    /// For the mask.
    pub mask_interpolation: Interpolation,
    /// A voxel of the new grid belongs to the region from this part of it on (E8H9).
    pub mask_threshold: f64,
    /// Rounds intensities to whole numbers after interpolation (68QD); for HU.
    pub round_intensities: bool,
    /// Re-segmentation of the intensity mask (USB3), closed; `inf` or `-inf` leaves a side open.
    pub range: Option<[f64; 2]>,
    /// Takes intensities out that lie farther from the mean than this many standard deviations (7ACA).
    pub outliers_sd: Option<f64>,
    /// For the intensity histogram and textures.
    pub discretization: Bins,
    /// For the intensity-volume histogram.
    pub ivh: Bins,
    /// Chebyshev distance of neighbors in GLCM, NGTDM and NGLDM.
    pub distance: usize,
    /// Largest difference of levels that counts as dependent in NGLDM.
    pub coarseness: u16,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            label: 1,
            approach: Approach::Both,
            spacing_mm: None,
            image_interpolation: Interpolation::Linear,
            mask_interpolation: Interpolation::Linear,
            mask_threshold: 0.5,
            round_intensities: false,
            range: None,
            outliers_sd: None,
            discretization: Bins::None,
            ivh: Bins::None,
            distance: 1,
            coarseness: 0,
        }
    }
}

impl Settings {
    /// For the digital phantom: intensities are gray levels, and nothing is done to them.
    pub fn phantom() -> Settings {
        Settings::default()
    }

    /// Configuration A: slices as they are, [-500, 400] HU, bins of 25 HU.
    pub fn config_a() -> Settings {
        Settings {
            approach: Approach::Planar,
            range: Some([-500.0, 400.0]),
            discretization: Bins::Width(25.0),
            ..Settings::default()
        }
    }

    /// Configuration B: slices at 2 mm, [-500, 400] HU, 32 bins.
    pub fn config_b() -> Settings {
        Settings {
            spacing_mm: Some([2.0, 2.0, 0.0]),
            round_intensities: true,
            discretization: Bins::Number(32),
            ..Settings::config_a()
        }
    }

    /// Configuration C: volume at 2 mm, [-1000, 400] HU, bins of 25 HU; intensity-volume histogram in bins of 2.5 HU.
    pub fn config_c() -> Settings {
        Settings {
            range: Some([-1000.0, 400.0]),
            discretization: Bins::Width(25.0),
            ivh: Bins::Width(2.5),
            ..Settings::config_d().without_outliers()
        }
    }

    /// Configuration D: volume at 2 mm, within 3 standard deviations, 32 bins.
    pub fn config_d() -> Settings {
        Settings {
            approach: Approach::Volume,
            spacing_mm: Some([2.0; 3]),
            round_intensities: true,
            outliers_sd: Some(3.0),
            discretization: Bins::Number(32),
            ..Settings::default()
        }
    }

    /// Configuration E: as D with cubic splines, [-1000, 400] HU too; intensity-volume histogram in 1000 bins.
    pub fn config_e() -> Settings {
        Settings {
            image_interpolation: Interpolation::Cubic,
            range: Some([-1000.0, 400.0]),
            ivh: Bins::Number(1000),
            ..Settings::config_d()
        }
    }

    fn without_outliers(self) -> Settings {
        Settings { outliers_sd: None, ..self }
    }

    /// Reads TOML such as `range = [-500, 400]`, `discretization = { width = 25 }`, `ivh = "none"`; keys are the fields.
    pub fn from_toml(text: &str) -> Result<Settings, RadiomicsError> {
        if text.len() > TEXT_MAX {
            return Err(refused("they are longer than 64 KiB"));
        }
        let settings: Settings = toml::from_str(text).map_err(refused)?;
        settings.checked()
    }

    /// Reads YAML (or JSON) with the same keys: `discretization: {width: 25}`. Anchors and aliases are refused.
    pub fn from_yaml(text: &str) -> Result<Settings, RadiomicsError> {
        if text.len() > TEXT_MAX {
            return Err(refused("they are longer than 64 KiB"));
        }
        let mut depth = 0usize;
        for token in Scanner::new(text.chars()) {
            match token.1 {
                TokenType::Alias(_) | TokenType::Anchor(_) => return Err(refused("anchors and aliases are not read")),
                TokenType::BlockSequenceStart
                | TokenType::BlockMappingStart
                | TokenType::FlowSequenceStart
                | TokenType::FlowMappingStart => depth += 1,
                _ => {}
            }
            if depth > 16 {
                return Err(refused("there are too many lists and maps"));
            }
        }
        let documents = YamlLoader::load_from_str(text).map_err(refused)?;
        let root = documents.first().map_or_else(|| Ok(Value::Table(Map::new())), value)?;
        let Value::Table(map) = root else { return Err(refused("they are no map of keys")) };
        let settings: Settings = map.try_into().map_err(refused)?;
        settings.checked()
    }

    /// The settings, if every number lies in its range.
    pub(super) fn checked(self) -> Result<Settings, RadiomicsError> {
        let spacing = self.spacing_mm.is_none_or(|s| s.iter().all(|v| v.is_finite() && *v >= 0.0));
        let range = self.range.is_none_or(|[low, high]| low <= high);
        let bins = |bins: Bins| match bins {
            Bins::None => true,
            Bins::Width(width) => width.is_finite() && width > 0.0,
            Bins::Number(n) => n >= 1,
        };
        let faults = [
            (!spacing, "spacing_mm must hold positive distances, or 0 to keep an axis"),
            (!range, "range must be ascending"),
            (!bins(self.discretization) || !bins(self.ivh), "bins must have a positive width or number"),
            (self.outliers_sd.is_some_and(|sd| sd.is_nan() || sd <= 0.0), "outliers_sd must be positive"),
            (!(self.mask_threshold > 0.0 && self.mask_threshold <= 1.0), "mask_threshold must lie above 0 and up to 1"),
            (!(1..=DISTANCE_MAX).contains(&self.distance), "distance must be 1 to 8"),
        ];
        match faults.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(refused(why)),
            None => Ok(self),
        }
    }
}

/// An error with its reason.
pub(super) fn refused(why: impl ToString) -> RadiomicsError {
    RadiomicsError::Ibsi(why.to_string().trim_end().to_string())
}

/// A YAML value as TOML would hold it.
fn value(yaml: &Yaml) -> Result<Value, RadiomicsError> {
    Ok(match yaml {
        Yaml::Boolean(v) => Value::Boolean(*v),
        Yaml::Integer(v) => Value::Integer(*v),
        Yaml::Real(_) => Value::Float(yaml.as_f64().ok_or_else(|| refused("a number is not one"))?),
        Yaml::String(v) => Value::String(v.clone()),
        Yaml::Array(values) => Value::Array(values.iter().map(value).collect::<Result<_, _>>()?),
        Yaml::Hash(entries) => {
            let mut map = Map::new();
            for (key, entry) in entries.iter().filter(|(_, entry)| !entry.is_null()) {
                let key = key.as_str().ok_or_else(|| refused("a key is not a word"))?;
                map.insert(key.into(), value(entry)?);
            }
            Value::Table(map)
        }
        _ => return Err(refused("there is a value that is no number, word, list or map")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_written_in_a_few_lines() {
        let toml = "approach = 'volume'\nspacing_mm = [2, 2, 2]\nround_intensities = true\nimage_interpolation = 'cubic'\n\
                    range = [-1000, 400]\noutliers_sd = 3\ndiscretization = { number = 32 }\nivh = { number = 1000 }";
        assert_eq!(Settings::from_toml(toml), Ok(Settings::config_e()));
        let yaml = "approach: planar\nrange: [-500, 400]\ndiscretization: {width: 25}\nivh: none\nspacing_mm:\n";
        assert_eq!(Settings::from_yaml(yaml), Ok(Settings::config_a()));
        assert_eq!(Settings::from_yaml(""), Ok(Settings::phantom()));
        let open = Settings::from_yaml("range: [0, .inf]").unwrap();
        assert_eq!(open.range, Some([0.0, f64::INFINITY]));
    }

    #[test]
    fn misspelt_keys_and_impossible_values_are_refused() {
        for text in ["binwidth = 25", "distance = 0", "discretization = { width = 0 }", "range = [1, 0]", "label = -1"]
        {
            assert!(Settings::from_toml(text).is_err(), "{text}");
        }
        for text in ["binwidth: 25", "a: &a 1\nb: *a", "distance: nine", "- 1", "outliers_sd: .nan"] {
            assert!(Settings::from_yaml(text).is_err(), "{text}");
        }
    }
}
