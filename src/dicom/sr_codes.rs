//! Codes of the structured report: concepts of the templates, features (IBSI), units (UCUM).

use super::source::Code;
use crate::risk::ClinicalKey;
use crate::volume::Region;
use sha2::{Digest, Sha256};

/// Our own coding scheme, for what no public one has.
pub const PRIVATE: &str = "99METWATCH";

/// The concept of a feature: its IBSI code, or one of ours made from its name, which is the meaning then.
pub fn feature<'a>(name: &'a str, ibsi: Option<&'a str>, private: &'a str) -> Code<'a> {
    match ibsi {
        Some(code) => (code, "IBSI", ibsi_meaning(code).unwrap_or(name)),
        None => (private, PRIVATE, name),
    }
}

/// A name as a code value, which has at most 16 characters: itself, or its beginning and 8 hexadecimal digits of its hash.
pub fn private_value(name: &str) -> String {
    if name.chars().count() <= 16 {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(name.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{}-{hash}", name.chars().take(7).collect::<String>())
}

/// A unit in UCUM. `I` is the unit of the image: HU for the original image, an arbitrary one for a filtered image.
pub fn unit(unit: &str, original: bool) -> (String, String) {
    let known = match unit {
        "" => ("1", "no units"),
        "bit" => ("bit", "bit"),
        "mm" => ("mm", "millimeter"),
        "mm2" => ("mm2", "square millimeter"),
        "mm3" => ("mm3", "cubic millimeter"),
        "1/mm" => ("/mm", "per millimeter"),
        "mL" => ("mL", "milliliter"),
        "mo" => ("mo", "month"),
        "I" if original => ("[hnsf'U]", "Hounsfield unit"),
        "I^2" if original => ("[hnsf'U]2", "square Hounsfield unit"),
        "I^2 mm3" if original => ("[hnsf'U]2.mm3", "square Hounsfield unit cubic millimeter"),
        "I" | "I^2" => ("[arb'U]", "arbitrary unit"),
        "I^2 mm3" => ("[arb'U].mm3", "arbitrary unit cubic millimeter"),
        other => (other, other),
    };
    (known.0.chars().take(16).collect(), known.1.to_owned())
}

/// Where a region lies.
pub fn site(region: Region) -> Code<'static> {
    match region {
        Region::Liver | Region::LiverLesion => ("10200004", "SCT", "Liver"),
        Region::Colon | Region::ColorectalTumor => ("71854001", "SCT", "Colon"),
        organ => (organ.snomed(), "SCT", organ.title()),
    }
}

/// The concept of a clinical value, in LOINC; its unit in UCUM, or `None` for a yes or no.
pub fn clinical(key: ClinicalKey) -> (Code<'static>, Option<(&'static str, &'static str)>) {
    match key {
        ClinicalKey::AfpNgPerMl => (
            ("1834-1", "LN", "Alpha-1-Fetoprotein [Mass/volume] in Serum or Plasma"),
            Some(("ng/mL", "nanogram per milliliter")),
        ),
        ClinicalKey::DissectedLymphNodes => {
            (("21894-1", "LN", "Regional lymph nodes examined [#] Specimen"), Some(("1", "no units")))
        }
        ClinicalKey::PerineuralInvasion => (("92837-4", "LN", "Perineural invasion in Cancer specimen"), None),
        ClinicalKey::TumorNodules => (("84886-1", "LN", "Tumor deposits in Colorectal cancer specimen"), None),
    }
}

/// A clinical value as people say it: what it is, and the value with its unit.
pub fn clinical_text(key: ClinicalKey, value: f64) -> (&'static str, String) {
    let yes_or_no = if value > 0.5 { "yes" } else { "no" }.to_owned();
    match key {
        ClinicalKey::AfpNgPerMl => (clinical_name(key), format!("{value} ng/mL")),
        ClinicalKey::DissectedLymphNodes => (clinical_name(key), value.to_string()),
        ClinicalKey::PerineuralInvasion | ClinicalKey::TumorNodules => (clinical_name(key), yes_or_no),
    }
}

/// What a clinical value is, for people.
pub fn clinical_name(key: ClinicalKey) -> &'static str {
    match key {
        ClinicalKey::AfpNgPerMl => "alpha-fetoprotein",
        ClinicalKey::DissectedLymphNodes => "dissected lymph nodes",
        ClinicalKey::PerineuralInvasion => "perineural invasion",
        ClinicalKey::TumorNodules => "tumor nodules",
    }
}

/// What a code of the Image Biomarker Standardisation Initiative means: as in DICOM CID 218, else as in its manual.
fn ibsi_meaning(code: &str) -> Option<&'static str> {
    IBSI.binary_search_by(|(own, _)| (*own).cmp(code)).ok().map(|index| IBSI[index].1)
}

/// Ascending by code.
#[rustfmt::skip]
const IBSI: &[(&str, &str)] = &[
    ("0GBI", "Small Distance Emphasis"), ("1128", "Intensity Robust Mean Absolute Deviation"),
    ("12CE", "Intensity Histogram Maximum Gradient"), ("1GSF", "Minimum Intensity"),
    ("1PFV", "Grey level variance of NGLDM"), ("1PR8", "Intensity Histogram Minimum Gray Level"),
    ("1QCO", "Normalized Inverse Difference Moment of GLCM"), ("1X9X", "Strength of NGTDM"),
    ("22OV", "Short Runs Emphasis"), ("25C7", "Asphericity"), ("2OJQ", "Intensity Range"),
    ("2PR5", "Surface to Volume Ratio"), ("3KUM", "Long Run High Gray Level Emphasis"),
    ("3NCY", "Intensity Histogram Maximum Gray Level"), ("3NSA", "Zone Size Variance"), ("48P8", "Large Zone Emphasis"),
    ("4FUA", "Intensity Mean Absolute Deviation"), ("4JP3", "Zone Size Nonuniformity"),
    ("4RNL", "Intensity Histogram Median Absolute Deviation"), ("5GN9", "High Gray Level Zone Emphasis"),
    ("5QRC", "Small Zone Emphasis"), ("5RAI", "Small Zone Low Gray Level Emphasis"),
    ("5SPA", "Normalized grey level non-uniformity of NGLDM"), ("5Z3W", "Intensity Histogram Range"),
    ("5ZWQ", "Root Mean Square Intensity"), ("60VM", "Joint Average of GLCM"), ("65HE", "Contrast of NGTDM"),
    ("6BDE", "Volume Density in Approximate Enclosing Ellipsoid"), ("6XV8", "Dependence count percentage"),
    ("7HP3", "Normalized Grey Level Non-uniformity of Distance Zone Counts"), ("7J51", "Least Axis in 3D Length"),
    ("7NFM", "Cluster Shade of GLCM"), ("7T7F", "Area Density in Convex Hull"),
    ("7TET", "Intensity Coefficient of Variation"), ("7WT1", "Zone Distance Variance"), ("84IY", "Maximum Intensity"),
    ("88K1", "Intensity Histogram Skewness"), ("8CE5", "Gray Level Variance in Runs"),
    ("8DWT", "90th Intensity Percentile"), ("8E6O", "Intensity Histogram Maximum Gradient Gray Level"),
    ("8S9J", "Dissimilarity of GLCM"), ("8ZQL", "Angular Second Moment of GLCM"), ("99N0", "Integrated Intensity"),
    ("9QMG", "High dependence high grey level emphasis"), ("9S40", "Quartile Coefficient of Dispersion"),
    ("9ZK5", "Run Percentage"), ("A7WM", "Large Distance Low Grey Level Emphasis"), ("ACUI", "Contrast of GLCM"),
    ("AE86", "Cluster Prominence of GLCM"), ("AMMC", "Intensity Histogram Mode"),
    ("BJ5W", "Intensity Histogram Uniformity"), ("BQWJ", "Compactness 2"),
    ("BRI8", "Area Density in Minimum Volume Enclosing Ellipsoid"), ("BYLV", "Gray Level Variance in Size Zones"),
    ("C0JK", "Surface Area of Mesh"), ("C3I7", "Intensity Histogram Kurtosis"), ("CAS9", "Dependence count energy"),
    ("CH89", "Intensity Histogram Variance"), ("CWYJ", "Intensity Histogram Coefficient of Variation"),
    ("D2ZX", "Intensity Histogram Mean Absolute Deviation"), ("D3YU", "Difference Variance of GLCM"),
    ("DG8W", "Cluster Tendency of GLCM"), ("DKNJ", "Small Distance High Grey Level Emphasis"),
    ("DNX2", "Dependence count variance"), ("E8JP", "Inverse Variance of GLCM"), ("ECT3", "Intensity Variance"),
    ("EQ3F", "Low dependence low grey level emphasis"), ("FCBV", "Dependence count entropy"),
    ("FP8K", "Grey level non-uniformity of NGLDM"), ("G3QZ", "High Gray Level Run Emphasis"),
    ("GBDU", "Zone Distance Entropy"), ("GD3A", "Short Run High Gray Level Emphasis"),
    ("GPMT", "Intensity Histogram 10th Percentile"), ("GU8N", "Zone Size Entropy"), ("GYBY", "Joint Maximum of GLCM"),
    ("HDEZ", "Complexity of NGTDM"), ("HJ9O", "Run Entropy"), ("HTZT", "Short Run Low Gray Level Emphasis"),
    ("HW1V", "Small Zone High Gray Level Emphasis"), ("IATH", "Normalized Zone Distance Non-uniformity"),
    ("IB1Z", "Inverse Difference of GLCM"), ("IC23", "Normalized Run Length Nonuniformity"),
    ("IMOQ", "High dependence emphasis"), ("IPH6", "Intensity Kurtosis"),
    ("IQYR", "Area Density in Oriented Minimum Bounding Box"), ("IVPO", "Long Run Low Gray Level Emphasis"),
    ("J17V", "Large Zone High Gray Level Emphasis"), ("JA6D", "Low dependence high grey level emphasis"),
    ("JN9H", "Second Measure of Information Correlation of GLCM"),
    ("JNSA", "Gray Level Nonuniformity of Size Zone Counts"), ("K26C", "High Grey Level Zone Emphasis"),
    ("KE2A", "Intensity Skewness"), ("KLMA", "Centre of Mass Shift"),
    ("KLTH", "Large Distance High Grey Level Emphasis"), ("KRCK", "Spherical Disproportion"),
    ("L0JK", "Maximum 3D Diameter of a Mesh"), ("MB4I", "Large Distance Emphasis"), ("N17B", "Flatness"),
    ("N365", "Moran's I Index"), ("N72L", "Intensity Median Absolute Deviation"), ("N8CA", "Intensity Energy"),
    ("NBZI", "High dependence low grey level emphasis"), ("NDRX", "Normalized Inverse Difference of GLCM"),
    ("NI2N", "Correlation of GLCM"), ("NPT7", "Geary's C Measure"), ("NQ30", "Busyness of NGTDM"),
    ("NTRS", "Difference Entropy of GLCM"), ("OAE7", "High grey level count emphasis"),
    ("OEEB", "Sum Variance of GLCM"), ("OKJI", "Dependence count non-uniformity normalized"),
    ("OVBL", "Normalized Gray Level Nonuniformity in Runs"), ("OZ0C", "Intensity Histogram 90th Percentile"),
    ("P30P", "Size Zone Percentage"), ("P6QZ", "Sum Entropy of GLCM"), ("P9VJ", "Minor Axis in 3D Length"),
    ("PBX1", "Volume Density in Frame of Reference Axis Aligned Bounding Box"), ("Q3CK", "Elongation"),
    ("Q4LE", "Mean Intensity"), ("QCDE", "Coarseness of NGTDM"), ("QCFX", "Sphericity"),
    ("QG58", "10th Intensity Percentile"), ("QK93", "Grey Level Variance in Distance Zones"),
    ("QWB0", "Autocorrelation of GLCM"), ("R3ER", "Volume Density in Convex Hull"),
    ("R59B", "Area Density in Frame of Reference Axis Aligned Bounding Box"),
    ("R5YN", "Gray Level Nonuniformity in Runs"), ("R8DG", "First Measure of Information Correlation of GLCM"),
    ("RDD2", "Area Density in Approximate Enclosing Ellipsoid"),
    ("RHQZ", "Intensity Histogram Minimum Gradient Gray Level"), ("RNU0", "Volume of Mesh"),
    ("RUVG", "Small Distance Low Grey Level Emphasis"), ("S1RA", "Low Grey Level Zone Emphasis"),
    ("SALO", "Intensity Interquartile Range"), ("SKGS", "Compactness 1"),
    ("SLWD", "Intensity Histogram Quartile Coefficient of Dispersion"), ("SODN", "Low dependence emphasis"),
    ("SWZ1", "Volume Density in Minimum Volume Enclosing Ellipsoid"), ("SXLW", "Run Length Variance"),
    ("TDIC", "Major Axis in 3D Length"), ("TF7R", "Difference Average of GLCM"),
    ("TL9H", "Low grey level count emphasis"), ("TLU2", "Intensity Histogram Entropy"),
    ("TU9B", "Joint Entropy of GLCM"), ("UR99", "Joint Variance of GLCM"), ("V294", "Zone Distance Non-uniformity"),
    ("V3SW", "Low Gray Level Run Emphasis"), ("VB3A", "Normalized Zone Size Nonuniformity"),
    ("VFT7", "Grey Level Non-uniformity of Distance Zone Counts"), ("VIWW", "Distance Zone Percentage"),
    ("VQB3", "Intensity Histogram Minimum Gradient"), ("W4KF", "Long Runs Emphasis"),
    ("W92Y", "Run Length Nonuniformity"), ("WF0Z", "Inverse Difference Moment of GLCM"),
    ("WIFQ", "Intensity Histogram Median"), ("WR0O", "Intensity Histogram Interquartile Range"),
    ("WRZB", "Intensity Histogram Robust Mean Absolute Deviation"), ("X6K6", "Intensity Histogram Mean"),
    ("XMSY", "Low Gray Level Zone Emphasis"), ("Y12H", "Median Intensity"),
    ("Y1RO", "Normalized Gray Level Nonuniformity of Size Zone Counts"), ("YEKZ", "Volume from Voxel Summation"),
    ("YH51", "Large Zone Low Gray Level Emphasis"), ("Z87G", "Dependence count non-uniformity"),
    ("ZGXS", "Sum Average of GLCM"), ("ZH1A", "Volume Density in Oriented Minimum Bounding Box"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_public_codes_where_there_are_any() {
        assert!(IBSI.windows(2).all(|w| w[0].0 < w[1].0), "the table is not sorted");
        let name = "original_shape_MeshVolume";
        assert_eq!(feature(name, Some("RNU0"), "x"), ("RNU0", "IBSI", "Volume of Mesh"));
        assert_eq!(feature(name, Some("ZZZZ"), "x"), ("ZZZZ", "IBSI", name));
        let private = private_value("original_shape_Maximum2DDiameterRow");
        assert_eq!(private, "origina-5fe87d21");
        assert_eq!(feature("original_glcm_MCC", None, "c"), ("c", PRIVATE, "original_glcm_MCC"));
        assert_eq!(private_value("POINTS"), "POINTS");
    }

    #[test]
    fn units_are_ucum() {
        assert_eq!(unit("I", true).0, "[hnsf'U]");
        assert_eq!(unit("I", false).0, "[arb'U]");
        assert_eq!(unit("", true), ("1".into(), "no units".into()));
        assert!(unit("I^2 mm3", true).0.len() <= 16);
    }
}
