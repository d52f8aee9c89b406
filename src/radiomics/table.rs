//! What an extraction gives: a table of features, and diagnostics of what they were computed from.

use super::Value;
use crate::volume::Region;

/// One feature of one region.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The region, where the caller named it ([`FeatureTable::of`]).
    pub region: Option<Region>,
    /// As PyRadiomics writes it: `original_glcm_JointEntropy`.
    pub name: String,
    /// The value; NaN where the feature is undefined for this region.
    pub value: f64,
    /// Unit, empty for a pure number; `I` stands for the unit of the image (HU for CT).
    pub unit: &'static str,
    /// Code in the reference manual of the Image Biomarker Standardisation Initiative, where the definitions agree.
    pub ibsi: Option<&'static str>,
}

/// Features in PyRadiomics' order, and the settings they were computed with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureTable {
    /// The features.
    pub rows: Vec<Feature>,
    /// SHA-256 of the canonical text of the settings, in hexadecimal.
    pub settings_sha256: String,
}

impl FeatureTable {
    /// The same table, every row marked as of this region.
    pub fn of(mut self, region: Region) -> FeatureTable {
        self.rows.iter_mut().for_each(|row| row.region = Some(region));
        self
    }

    /// The value of the first feature with this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.value)
    }
}

/// What the features were computed from, in PyRadiomics' order and under its names (`diagnostics_Image-original_Size`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Diagnostics {
    /// Name and value.
    pub entries: Vec<(String, Value)>,
}

impl Diagnostics {
    /// The value with this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

/// Everything that one extraction gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extraction {
    /// The features.
    pub features: FeatureTable,
    /// Where they come from; empty with `additionalInfo: false`.
    pub diagnostics: Diagnostics,
    /// PyRadiomics' warnings, in order, with the name of its logger.
    pub warnings: Vec<String>,
}

/// Whether and how PyRadiomics offers a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// Computed unless features are listed.
    Usual,
    /// Computed only when listed.
    Deprecated,
    /// Accepted when listed, but not computed.
    Removed,
}

/// One feature that a family offers.
pub(super) struct Definition {
    pub name: &'static str,
    pub unit: &'static str,
    pub ibsi: Option<&'static str>,
    pub offer: Offer,
}

/// A family's list of features, compactly: name, unit, IBSI code (or "").
pub(super) const fn usual(name: &'static str, unit: &'static str, ibsi: &'static str) -> Definition {
    let ibsi = if ibsi.is_empty() { None } else { Some(ibsi) };
    Definition { name, unit, ibsi, offer: Offer::Usual }
}

/// A feature that is offered, but not by default.
pub(super) const fn offered(offer: Offer, mut definition: Definition) -> Definition {
    definition.offer = offer;
    definition
}
