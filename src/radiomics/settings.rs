//! Settings of an extraction: PyRadiomics' parameter files, key for key. What is not computed is refused by name.

use super::filters::{FilterSettings, ImageType};
use super::table::{Definition, Offer};
use super::{RadiomicsError, Value, firstorder, glcm, glrlm, glszm, neighborhood, schema, shape, shape2d};
use sha2::{Digest, Sha256};

/// A family of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `firstorder`.
    FirstOrder,
    /// `glcm`.
    Glcm,
    /// `gldm`.
    Gldm,
    /// `glrlm`.
    Glrlm,
    /// `glszm`.
    Glszm,
    /// `ngtdm`.
    Ngtdm,
    /// `shape`.
    Shape,
    /// `shape2D`.
    Shape2D,
}

impl Class {
    /// All classes in PyRadiomics' order.
    pub const ALL: [Class; 8] = [
        Class::FirstOrder,
        Class::Glcm,
        Class::Gldm,
        Class::Glrlm,
        Class::Glszm,
        Class::Ngtdm,
        Class::Shape,
        Class::Shape2D,
    ];

    /// The name in parameter files and feature names.
    pub fn name(self) -> &'static str {
        match self {
            Class::FirstOrder => "firstorder",
            Class::Glcm => "glcm",
            Class::Gldm => "gldm",
            Class::Glrlm => "glrlm",
            Class::Glszm => "glszm",
            Class::Ngtdm => "ngtdm",
            Class::Shape => "shape",
            Class::Shape2D => "shape2D",
        }
    }

    /// What the class offers, in the order in which PyRadiomics computes it.
    pub(super) fn definitions(self) -> &'static [Definition] {
        match self {
            Class::FirstOrder => &firstorder::FEATURES,
            Class::Glcm => &glcm::FEATURES,
            Class::Gldm => &neighborhood::GLDM,
            Class::Glrlm => &glrlm::FEATURES,
            Class::Glszm => &glszm::FEATURES,
            Class::Ngtdm => &neighborhood::NGTDM,
            Class::Shape => &shape::FEATURES,
            Class::Shape2D => &shape2d::FEATURES,
        }
    }
}

/// Unit and IBSI code of a feature, by the name that an extraction gives it (`wavelet-LLH_glcm_JointEntropy`), as in
/// [`super::Feature`]. `None` for a name that no extraction gives.
pub fn unit_and_ibsi(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    let mut parts = name.splitn(3, '_');
    let (_image_type, class, feature) = (parts.next()?, parts.next()?, parts.next()?);
    let class = Class::ALL.into_iter().find(|c| c.name() == class)?;
    class.definitions().iter().find(|d| d.name == feature).map(|d| (d.unit, d.ibsi))
}

/// How gray levels are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bins {
    /// `binWidth`: bins of this width, from multiples of it.
    Width(f64),
    /// `binCount`: this number of bins between minimum and maximum.
    Count(usize),
}

/// `weightingNorm`: how far a neighbor is, for weighted matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// Sum of the three distances.
    Manhattan,
    /// Straight distance.
    Euclidean,
    /// Largest of the three distances.
    Infinity,
    /// All angles alike, in one matrix.
    None,
}

impl Weighting {
    /// Length in mm of an offset, (z, y, x).
    pub(super) fn distance(self, angle: [i32; 3], spacing: [f64; 3]) -> f64 {
        let d: [f64; 3] = std::array::from_fn(|a| f64::from(angle[a].abs()) * spacing[a]);
        match self {
            Weighting::Manhattan => d[0] + d[1] + d[2],
            Weighting::Euclidean => (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt(),
            Weighting::Infinity => d[0].max(d[1]).max(d[2]),
            Weighting::None => 1.0,
        }
    }
}

/// `interpolator`: how an image is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolator {
    /// `sitkNearestNeighbor`.
    Nearest,
    /// `sitkLinear`.
    Linear,
    /// `sitkBSpline`, of order 3.
    BSpline,
    /// `sitkGaussian`.
    Gaussian,
    /// `sitkLabelGaussian`.
    LabelGaussian,
    /// `sitkHammingWindowedSinc`.
    HammingSinc,
    /// `sitkCosineWindowedSinc`.
    CosineSinc,
    /// `sitkWelchWindowedSinc`.
    WelchSinc,
    /// `sitkLanczosWindowedSinc`.
    LanczosSinc,
    /// `sitkBlackmanWindowedSinc`.
    BlackmanSinc,
}

/// `resegmentMode`: what the limits of `resegmentRange` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResegmentMode {
    /// Values of the image.
    Absolute,
    /// Fractions of the region's maximum.
    Relative,
    /// Standard deviations around the region's mean.
    Sigma,
}

/// `voxelSetting`: what only voxel-based extraction reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voxelwise {
    /// `kernelRadius`, voxels.
    pub kernel_radius: usize,
    /// `maskedKernel`: only voxels of the region count in a kernel.
    pub masked_kernel: bool,
    /// `initValue`: the value outside the region.
    pub init_value: f64,
    /// `voxelBatch`: voxels that PyRadiomics computes together; none means all. It decides some GLCM features at the border.
    pub batch: Option<usize>,
}

/// Settings of one extraction; the names of PyRadiomics are in the docs of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `label`.
    pub label: u32,
    /// `label_channel`: of a mask with several values per voxel, the one to read ([`crate::volume::decode_channel`]).
    pub label_channel: usize,
    /// `binWidth` or, where given, `binCount`.
    pub bins: Bins,
    /// `minimumROIDimensions`.
    pub minimum_dimensions: usize,
    /// `minimumROISize`.
    pub minimum_size: Option<usize>,
    /// `geometryTolerance`.
    pub geometry_tolerance: f64,
    /// `correctMask`.
    pub correct_mask: bool,
    /// `additionalInfo`.
    pub additional_info: bool,
    /// `normalize`.
    pub normalize: bool,
    /// `normalizeScale`.
    pub normalize_scale: f64,
    /// `removeOutliers`.
    pub remove_outliers: Option<f64>,
    /// `resampledPixelSpacing`, mm (x, y, z; x, y for a plane); 0 keeps an axis.
    pub resampled_spacing: Option<Vec<f64>>,
    /// `interpolator`; none switches resampling off.
    pub interpolator: Option<Interpolator>,
    /// `preCrop`.
    pub pre_crop: bool,
    /// `padDistance`, voxels.
    pub pad_distance: usize,
    /// `distances`, voxels.
    pub distances: Vec<usize>,
    /// `force2D`.
    pub force_2d: bool,
    /// `force2Ddimension`: 0 = z, 1 = y, 2 = x.
    pub force_2d_dimension: usize,
    /// `resegmentRange`: one or two limits, ascending.
    pub resegment_range: Option<Vec<f64>>,
    /// `resegmentMode`.
    pub resegment_mode: ResegmentMode,
    /// `resegmentShape`.
    pub resegment_shape: bool,
    /// `voxelArrayShift`.
    pub voxel_array_shift: f64,
    /// `symmetricalGLCM`.
    pub symmetrical_glcm: bool,
    /// `weightingNorm`.
    pub weighting: Option<Weighting>,
    /// `gldm_a`.
    pub gldm_a: usize,
    /// `voxelSetting`.
    pub voxel: Voxelwise,
    /// Classes and their listed features (none: the usual ones), in the order of the file.
    pub classes: Vec<(Class, Vec<String>)>,
    /// Images that features are computed on, in the order of the file, and the settings that hold for each alone.
    pub images: Vec<(ImageType, Vec<(String, Value)>)>,
    /// What the filters read: `sigma`, `wavelet` and so on.
    pub filters: FilterSettings,
    /// Whether the image is a plane (two axes: 0 = y, 1 = x); set by the image, not by a file.
    pub(super) planar: bool,
    /// `setting` as PyRadiomics reports it: its defaults, then the keys of the file.
    pub(super) reported: Vec<(String, Value)>,
}

impl Default for Settings {
    fn default() -> Settings {
        // PyRadiomics without a parameter file leaves shape2D out; with one that lists no class it counts.
        let usual = Class::ALL.into_iter().filter(|class| *class != Class::Shape2D).map(|class| (class, Vec::new()));
        Settings {
            label: 1,
            label_channel: 0,
            bins: Bins::Width(25.0),
            minimum_dimensions: 2,
            minimum_size: None,
            geometry_tolerance: 1e-6,
            correct_mask: false,
            additional_info: true,
            normalize: false,
            normalize_scale: 1.0,
            remove_outliers: None,
            resampled_spacing: None,
            interpolator: Some(Interpolator::BSpline),
            pre_crop: false,
            pad_distance: 5,
            distances: vec![1],
            force_2d: false,
            force_2d_dimension: 0,
            resegment_range: None,
            resegment_mode: ResegmentMode::Absolute,
            resegment_shape: false,
            voxel_array_shift: 0.0,
            symmetrical_glcm: true,
            weighting: None,
            gldm_a: 0,
            voxel: Voxelwise { kernel_radius: 1, masked_kernel: true, init_value: 0.0, batch: None },
            classes: usual.collect(),
            images: vec![(ImageType::Original, Vec::new())],
            filters: FilterSettings::default(),
            planar: false,
            reported: schema::reported_defaults(),
        }
    }
}

impl Settings {
    /// Reads a parameter file of PyRadiomics, YAML or JSON. Keys, types and ranges are checked as PyRadiomics does; what
    /// metwatch does not compute is refused with its path.
    pub fn from_yaml(text: &str) -> Result<Settings, RadiomicsError> {
        schema::read(text, &[])
    }

    /// The settings of a parameter file (its text; none for the defaults), with single settings in place of the file's, as
    /// PyRadiomics' command line takes them ([`super::read_overrides`]).
    pub fn with_overrides(text: Option<&str>, overrides: &[(String, Value)]) -> Result<Settings, RadiomicsError> {
        // Without a file PyRadiomics enables the usual classes; a file without classes enables shape2D as well.
        schema::read(
            text.unwrap_or("featureClass: {firstorder: , glcm: , gldm: , glrlm: , glszm: , ngtdm: , shape: }"),
            overrides,
        )
    }

    /// The same settings for another label (PyRadiomics' `label` argument).
    pub fn with_label(mut self, label: u32) -> Settings {
        self.label = label;
        schema::report(&mut self.reported, "label", Value::Int(i64::from(label)));
        self
    }

    /// Everything that decides the values of an extraction ([`Settings::voxel`] decides only maps), one line each, whatever
    /// the file looked like.
    pub fn canonical_text(&self) -> String {
        // The channel only says where the mask comes from.
        let Settings { reported: _, additional_info: _, voxel: _, label_channel: _, .. } = self;
        let counts = |(class, _): &&(Class, Vec<String>)| *class != Class::Shape2D || self.force_2d;
        let class = |(class, features): &(Class, Vec<String>)| format!("{}[{}]", class.name(), features.join(","));
        let classes: Vec<String> = self.classes.iter().filter(counts).map(class).collect();
        format!(
            "metwatch.radiomics/1\nconvention pyradiomics-3.1.0\n{}label {}\nbins {:?}\nminimum {} {:?}\n\
             geometry {:?} {}\nnormalize {} {:?} {:?}\nresample {:?} {:?} {} {}\ndistances {:?}\nforce2d {} {}\n\
             resegment {:?} {:?} {}\nshift {:?}\nglcm {} {:?}\ngldm {}\nclasses {}\n",
            self.images_text(),
            self.label,
            self.bins,
            self.minimum_dimensions,
            self.minimum_size,
            self.geometry_tolerance,
            self.correct_mask,
            self.normalize,
            self.normalize_scale,
            self.remove_outliers,
            self.resampled_spacing,
            self.interpolator,
            self.pre_crop,
            self.pad_distance,
            self.distances,
            self.force_2d,
            self.force_2d_dimension,
            self.resegment_range,
            self.resegment_mode,
            self.resegment_shape,
            self.voxel_array_shift,
            self.symmetrical_glcm,
            self.weighting,
            self.gldm_a,
            classes.join(" "),
        )
    }

    /// The lines on image types; without filters their settings decide nothing.
    fn images_text(&self) -> String {
        let own = |own: &[(String, Value)]| Value::Map(own.to_vec()).to_python();
        let lines: String = self
            .images
            .iter()
            .map(|(image, settings)| match settings.as_slice() {
                [] => format!("image {}\n", image.name().to_lowercase()),
                settings => format!("image {} {}\n", image.name().to_lowercase(), own(settings)),
            })
            .collect();
        let filtered = self.images.iter().any(|(image, _)| *image != ImageType::Original);
        if filtered { format!("{lines}filters {:?}\n", self.filters) } else { lines }
    }

    /// The settings for one image type: its own override the general ones.
    pub(super) fn with_own(&self, own: &[(String, Value)]) -> Result<Settings, RadiomicsError> {
        let mut settings = self.clone();
        own.iter().try_for_each(|(key, value)| schema::own_setting(&mut settings, key, value))?;
        Ok(settings)
    }

    /// `imageType` as PyRadiomics reports it.
    pub(super) fn image_types(&self) -> Value {
        Value::Map(self.images.iter().map(|(i, own)| (i.name().into(), Value::Map(own.clone()))).collect())
    }

    /// SHA-256 of [`Settings::canonical_text`], in hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.canonical_text()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// SHA-256, in hexadecimal, of the canonical text and what decides maps.
    pub(super) fn maps_sha256(&self) -> String {
        let text = format!("{}voxel {:?}\n", self.canonical_text(), self.voxel);
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The axis (0 = z, 1 = y, 2 = x) along which `force2D` looks at no neighbors. The axes of a plane count from y.
    pub(super) fn flat_axis(&self) -> Option<usize> {
        let axis = self.force_2d_dimension + usize::from(self.planar);
        (self.force_2d && axis < 3).then_some(axis)
    }

    /// The number of axes that the image has.
    pub(super) fn axes(&self) -> usize {
        if self.planar { 2 } else { 3 }
    }

    /// The axes (0 = z, 1 = y, 2 = x) that a wavelet filters, x first.
    pub(super) fn wavelet_axes(&self) -> Vec<usize> {
        let flat = self.flat_axis();
        (usize::from(self.planar)..3).rev().filter(|axis| flat != Some(*axis)).collect()
    }

    /// The features of a class that are computed, in order, and a warning for each deprecated one.
    pub(super) fn wanted(class: Class, listed: &[String]) -> (Vec<&'static Definition>, Vec<String>) {
        let all = class.definitions();
        if listed.is_empty() {
            return (all.iter().filter(|d| d.offer == Offer::Usual).collect(), Vec::new());
        }
        let (mut found, mut warnings): (Vec<&'static Definition>, Vec<String>) = (Vec::new(), Vec::new());
        for definition in listed.iter().filter_map(|name| all.iter().find(|d| d.name == name)) {
            if definition.offer != Offer::Usual {
                let name = definition.name;
                warnings.push(format!("radiomics.{}: Feature {name} is deprecated, use with caution!", class.name()));
            }
            if definition.offer != Offer::Removed && !found.iter().any(|d| d.name == definition.name) {
                found.push(definition);
            }
        }
        (found, warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_what_decides_the_values() {
        let a = Settings::from_yaml("setting: {binWidth: 25}").unwrap();
        let b = Settings::from_yaml("{\"setting\": {\"binWidth\": 25.0}}").unwrap();
        assert_eq!(a.sha256(), b.sha256());
        assert_ne!(a.sha256(), Settings::from_yaml("setting: {binWidth: 24}").unwrap().sha256());
        assert_eq!(a.sha256().len(), 64);
    }

    #[test]
    fn listed_features_come_in_the_order_of_the_file() {
        let (found, warnings) =
            Settings::wanted(Class::Glcm, &["MCC".into(), "Dissimilarity".into(), "Contrast".into()]);
        assert_eq!(found.iter().map(|d| d.name).collect::<Vec<_>>(), ["MCC", "Contrast"]);
        assert_eq!(warnings, ["radiomics.glcm: Feature Dissimilarity is deprecated, use with caution!"]);
    }

    #[test]
    fn every_class_lists_its_features_in_the_order_of_method_names() {
        for class in Class::ALL {
            let names: Vec<String> = class.definitions().iter().map(|d| format!("get{}FeatureValue", d.name)).collect();
            assert!(names.is_sorted(), "{class:?}");
        }
    }
}
