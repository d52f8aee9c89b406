//! What an extraction gives: diagnostic rows and features, each with IBSI's codes and the tag of the reference values.

/// A family of features (IBSI manual, chapter 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Not features, but what image and masks were after each step (manual, chapter 5).
    Diagnostics,
    /// Morphology.
    Morphology,
    /// Local intensity.
    LocalIntensity,
    /// Intensity-based statistics.
    Statistics,
    /// Intensity histogram.
    Histogram,
    /// Intensity-volume histogram.
    VolumeHistogram,
    /// Gray level co-occurrence matrix.
    Cooccurrence,
    /// Gray level run length matrix.
    RunLength,
    /// Gray level size zone matrix.
    SizeZone,
    /// Gray level distance zone matrix.
    DistanceZone,
    /// Neighborhood gray tone difference matrix.
    ToneDifference,
    /// Neighboring gray level dependence matrix.
    LevelDependence,
}

impl Family {
    /// All families in the order of a table.
    pub const ALL: [Family; 12] = [
        Family::Diagnostics,
        Family::Morphology,
        Family::LocalIntensity,
        Family::Statistics,
        Family::Histogram,
        Family::VolumeHistogram,
        Family::Cooccurrence,
        Family::RunLength,
        Family::SizeZone,
        Family::DistanceZone,
        Family::ToneDifference,
        Family::LevelDependence,
    ];

    /// IBSI's code; empty for diagnostics.
    pub fn code(self) -> &'static str {
        match self {
            Family::Diagnostics => "",
            Family::Morphology => "HCUG",
            Family::LocalIntensity => "9ST6",
            Family::Statistics => "UHIW",
            Family::Histogram => "ZVCW",
            Family::VolumeHistogram => "P88C",
            Family::Cooccurrence => "LFYI",
            Family::RunLength => "TP0I",
            Family::SizeZone => "9SAK",
            Family::DistanceZone => "VMDZ",
            Family::ToneDifference => "IPET",
            Family::LevelDependence => "REK0",
        }
    }

    /// For tables that people read.
    pub fn name(self) -> &'static str {
        match self {
            Family::Diagnostics => "diagnostics",
            Family::Morphology => "morphology",
            Family::LocalIntensity => "local intensity",
            Family::Statistics => "intensity-based statistics",
            Family::Histogram => "intensity histogram",
            Family::VolumeHistogram => "intensity-volume histogram",
            Family::Cooccurrence => "grey level co-occurrence matrix",
            Family::RunLength => "grey level run length matrix",
            Family::SizeZone => "grey level size zone matrix",
            Family::DistanceZone => "grey level distance zone matrix",
            Family::ToneDifference => "neighbourhood grey tone difference matrix",
            Family::LevelDependence => "neighbouring grey level dependence matrix",
        }
    }
}

/// One row of a [`Table`].
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The family.
    pub family: Family,
    /// The manual's name in lower case, words joined by `_`.
    pub name: &'static str,
    /// IBSI's code of the feature; empty for diagnostics. The four values of the intensity-volume histogram at 10 % and
    /// 90 %, and their differences, have codes of their own (NK6P, ...) beside the general ones (BC2M, ...).
    pub code: &'static str,
    /// IBSI's code of the aggregation: DHQ4 (3D, no textures), 8QNN, 62GR, KOBO, BTW3, SUJT, JJUI, ZW7Z, ITBB, IAZD; empty
    /// for diagnostics.
    pub aggregation: &'static str,
    /// Tag in the reference values: `cm_joint_max_2D_avg`.
    pub tag: String,
    /// The value; NaN where it is undefined for this region.
    pub value: f64,
    /// Unit, empty for a pure number; `I` stands for the unit of the image (HU for CT).
    pub unit: &'static str,
}

/// All rows of one region, diagnostics first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// The value of the row with this tag.
    pub fn value(&self, tag: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.tag == tag).map(|row| row.value)
    }

    /// Appends a family's values, in the order of its definitions.
    pub(super) fn push(&mut self, family: Family, definitions: &[Definition], how: Aggregation, values: &[f64]) {
        for (definition, value) in definitions.iter().zip(values) {
            let tag = if how.suffix.is_empty() {
                definition.tag.to_string()
            } else {
                format!("{}_{}", definition.tag, how.suffix)
            };
            let Definition { name, code, unit, .. } = *definition;
            self.rows.push(Row { family, name, code, aggregation: how.code, tag, value: *value, unit });
        }
    }
}

/// How values or matrices of directions and slices become one: the suffix of the tag and IBSI's code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregation {
    pub suffix: &'static str,
    pub code: &'static str,
}

impl Aggregation {
    const fn new(suffix: &'static str, code: &'static str) -> Aggregation {
        Aggregation { suffix, code }
    }
    /// For diagnostics.
    pub const NONE: Aggregation = Aggregation::new("", "");
    /// One value of the volume, no texture.
    pub const VOLUME: Aggregation = Aggregation::new("", "DHQ4");
    /// Per slice, averaged.
    pub const PLANAR: Aggregation = Aggregation::new("2D", "8QNN");
    /// One matrix of all slices.
    pub const MERGED_SLICES: Aggregation = Aggregation::new("2_5D", "62GR");
    /// One matrix of the volume.
    pub const SPATIAL: Aggregation = Aggregation::new("3D", "KOBO");
    /// Per slice and direction, averaged.
    pub const PLANAR_AVERAGE: Aggregation = Aggregation::new("2D_avg", "BTW3");
    /// Directions of a slice merged, averaged over slices.
    pub const PLANAR_MERGED: Aggregation = Aggregation::new("2D_comb", "SUJT");
    /// Slices of a direction merged, averaged over directions.
    pub const SLICES_AVERAGE: Aggregation = Aggregation::new("2_5D_avg", "JJUI");
    /// All slices and directions merged.
    pub const SLICES_MERGED: Aggregation = Aggregation::new("2_5D_comb", "ZW7Z");
    /// Per direction of the volume, averaged.
    pub const SPATIAL_AVERAGE: Aggregation = Aggregation::new("3D_avg", "ITBB");
    /// All directions of the volume merged.
    pub const SPATIAL_MERGED: Aggregation = Aggregation::new("3D_comb", "IAZD");
}

/// What a family offers.
pub(super) struct Definition {
    pub tag: &'static str,
    pub name: &'static str,
    pub code: &'static str,
    pub unit: &'static str,
}

/// A definition in one line.
pub(super) const fn define(
    tag: &'static str,
    name: &'static str,
    code: &'static str,
    unit: &'static str,
) -> Definition {
    Definition { tag, name, code, unit }
}

/// Means over matrices, feature by feature; a value that is NaN (a matrix without entries) does not count.
pub(super) fn average<const N: usize>(values: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|i| {
        let known = values.iter().map(|v| v[i]).filter(|v| !v.is_nan());
        let (n, sum) = known.fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
        if n == 0 { f64::NAN } else { sum / n as f64 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_matrices_do_not_count_in_an_average() {
        let [a, b] = average(&[[1.0, f64::NAN], [3.0, f64::NAN], [f64::NAN; 2]]);
        assert_eq!(a, 2.0);
        assert!(b.is_nan());
    }
}
