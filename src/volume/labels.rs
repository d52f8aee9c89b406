//! Label maps and what their values mean.

use super::Geometry;
use ndarray::Array3;

/// A part of the body that metwatch knows by name. The first four are what a study is about ([`Region::is_target`]); the others
/// are organs that a network tells apart so that the quality gate can see whether the anatomy is plausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Liver, its lesions included when it is measured as an organ.
    Liver,
    /// A lesion inside the liver.
    LiverLesion,
    /// Colon and rectum.
    Colon,
    /// The primary colorectal tumor.
    ColorectalTumor,
    /// Spleen.
    Spleen,
    /// Kidney on the patient's right.
    RightKidney,
    /// Kidney on the patient's left.
    LeftKidney,
    /// Stomach with its content.
    Stomach,
    /// Gallbladder.
    Gallbladder,
    /// Pancreas.
    Pancreas,
    /// Small intestine with its content.
    SmallBowel,
    /// Urinary bladder.
    Bladder,
    /// Both lungs.
    Lung,
    /// Heart with its chambers.
    Heart,
    /// Aorta, the best place to read the contrast phase.
    Aorta,
    /// Inferior vena cava.
    InferiorVenaCava,
    /// Portal and splenic veins.
    PortalVein,
    /// Vertebral column.
    Spine,
    /// Bones other than the spine, or all of them where a model has no spine.
    Bone,
    /// Skeletal muscle.
    Muscle,
}

/// Region, name in packages and files, title for people, SNOMED CT code.
const TABLE: [(Region, &str, &str, &str); 20] = [
    (Region::Liver, "liver", "Liver", "10200004"),
    (Region::LiverLesion, "liver_lesion", "Liver lesion", "108369006"),
    (Region::Colon, "colon", "Colon", "71854001"),
    (Region::ColorectalTumor, "colorectal_tumor", "Colorectal tumor", "363406005"),
    (Region::Spleen, "spleen", "Spleen", "78961009"),
    (Region::RightKidney, "right_kidney", "Right kidney", "9846003"),
    (Region::LeftKidney, "left_kidney", "Left kidney", "18639004"),
    (Region::Stomach, "stomach", "Stomach", "69695003"),
    (Region::Gallbladder, "gallbladder", "Gallbladder", "28231008"),
    (Region::Pancreas, "pancreas", "Pancreas", "15776009"),
    (Region::SmallBowel, "small_bowel", "Small bowel", "30315005"),
    (Region::Bladder, "bladder", "Urinary bladder", "89837001"),
    (Region::Lung, "lung", "Lungs", "39607008"),
    (Region::Heart, "heart", "Heart", "80891009"),
    (Region::Aorta, "aorta", "Aorta", "15825003"),
    (Region::InferiorVenaCava, "inferior_vena_cava", "Inferior vena cava", "64131007"),
    (Region::PortalVein, "portal_vein", "Portal vein", "32764006"),
    (Region::Spine, "spine", "Spine", "421060004"),
    (Region::Bone, "bone", "Bone", "272673000"),
    (Region::Muscle, "muscle", "Muscle", "127954009"),
];

impl Region {
    /// The regions that a study is about, in the order in which tables list them.
    pub const TARGETS: [Region; 4] = [Region::Liver, Region::LiverLesion, Region::Colon, Region::ColorectalTumor];

    /// All regions.
    pub fn all() -> impl Iterator<Item = Region> {
        TABLE.iter().map(|(region, ..)| *region)
    }

    fn row(self) -> &'static (Region, &'static str, &'static str, &'static str) {
        // The table has the order of the enum; a test holds both together.
        &TABLE[self as usize]
    }

    /// The name in packages, tables and file names.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The region with this [`Region::name`].
    pub fn from_name(name: &str) -> Option<Region> {
        Region::all().find(|r| r.name() == name)
    }

    /// For tables and pictures that people read.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// SNOMED CT code of the structure.
    pub fn snomed(self) -> &'static str {
        self.row().3
    }

    /// Whether a study is about it: it is measured, reported and drawn. Other organs are hints for the quality gate only.
    pub fn is_target(self) -> bool {
        Region::TARGETS.contains(&self)
    }
}

/// What the values of a label map mean: (value, region, SNOMED CT code), ascending by value; 0 is background.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelScheme {
    /// One entry per label value.
    pub entries: Vec<(u8, Region, String)>,
}

impl LabelScheme {
    /// The same scheme with the targets that it lacks, at the next values: for labels that a person made.
    pub fn with_targets(&self) -> LabelScheme {
        let mut scheme = self.clone();
        for region in Region::TARGETS {
            let next = scheme.entries.iter().map(|(value, ..)| *value).max().unwrap_or(0).checked_add(1);
            if let (None, Some(value)) = (scheme.value_of(region), next) {
                scheme.entries.push((value, region, region.snomed().to_string()));
            }
        }
        scheme
    }

    /// The label value of a region, if the model has it.
    pub fn value_of(&self, region: Region) -> Option<u8> {
        self.entries.iter().find(|(_, r, _)| *r == region).map(|(value, _, _)| *value)
    }

    /// The region of a label value.
    pub fn region_of(&self, value: u8) -> Option<Region> {
        self.entries.iter().find(|(v, _, _)| *v == value).map(|(_, region, _)| *region)
    }
}

/// One label per voxel, on the grid of the volume it was made from.
#[derive(Debug, Clone)]
pub struct LabelMap {
    /// Label values, shape (z, y, x) = [`Geometry::shape_zyx`]; 0 is background.
    pub labels: Array3<u8>,
    /// The grid; equal to that of the source volume.
    pub geometry: Geometry,
    /// What the values mean.
    pub scheme: LabelScheme,
}

impl LabelMap {
    /// Mask of one region, shape (z, y, x). The liver as an organ includes its lesions.
    pub fn mask(&self, region: Region) -> Array3<bool> {
        let own = self.scheme.value_of(region);
        let inner = if region == Region::Liver { self.scheme.value_of(Region::LiverLesion) } else { None };
        self.labels.mapv(|v| v != 0 && (Some(v) == own || Some(v) == inner))
    }

    /// Only what a study is about: without the organs that are hints for the gate ([`Region::is_target`]).
    pub fn targets(&self) -> LabelMap {
        let entries = self.scheme.entries.iter().filter(|(_, region, _)| region.is_target()).cloned().collect();
        let scheme = LabelScheme { entries };
        let keep: [bool; 256] =
            std::array::from_fn(|value| u8::try_from(value).is_ok_and(|value| scheme.region_of(value).is_some()));
        let labels = self.labels.mapv(|value| if keep[usize::from(value)] { value } else { 0 });
        LabelMap { labels, geometry: self.geometry.clone(), scheme }
    }

    /// Volume of one region in milliliters.
    pub fn volume_ml(&self, region: Region) -> f64 {
        self.mask(region).iter().filter(|m| **m).count() as f64 * self.geometry.voxel_mm3() / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_regions_has_the_order_of_the_enum() {
        for (k, (region, name, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*region as usize, k, "{name}");
            assert_eq!(Region::from_name(name), Some(*region));
        }
        assert_eq!(Region::all().filter(|r| r.is_target()).collect::<Vec<_>>(), Region::TARGETS);
    }

    #[test]
    fn hints_are_left_out_and_missing_targets_are_added() {
        let entry = |value, region: Region| (value, region, region.snomed().to_string());
        let scheme =
            LabelScheme { entries: vec![entry(1, Region::Liver), entry(2, Region::Spleen), entry(3, Region::Colon)] };
        let labels = Array3::from_shape_vec((1, 1, 4), vec![1, 2, 3, 0]).unwrap();
        let geometry =
            Geometry { size: [4, 1, 1], spacing_mm: [1.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
        let targets = LabelMap { labels, geometry, scheme: scheme.clone() }.targets();
        assert_eq!(targets.labels.as_slice(), Some(&[1, 0, 3, 0][..]));
        assert_eq!(targets.scheme.value_of(Region::Spleen), None);
        let more = scheme.with_targets();
        assert_eq!([Region::LiverLesion, Region::ColorectalTumor].map(|r| more.value_of(r)), [Some(4), Some(5)]);
        assert_eq!(more.entries[..3], scheme.entries);
    }
}
