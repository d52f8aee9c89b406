//! Image types: the image itself and what PyRadiomics' filters make of it, over a box around the region.
//!
//! A filter sees the whole (cropped or resampled) image and gives the part inside a box; it reads no more than that part
//! depends on, bit for bit.

mod gradient;
mod lbp2d;
mod lbp3d;
mod log;
mod point;
pub(super) mod wavelet;
mod wavelet_table;

use super::region::{Bounds, Grid, Roi, part};
use super::settings::Settings;
use super::{RadiomicsError, Value};
use crate::volume::Scalar;
use ndarray::Array3;

/// An image type (`imageType` of a parameter file).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageType {
    /// No filter.
    Original,
    /// Stationary wavelet transform; eight images per level.
    Wavelet,
    /// Laplacian of Gaussian; one image per sigma.
    LoG,
    /// Squared and scaled back.
    Square,
    /// Square root of the magnitude, scaled back.
    SquareRoot,
    /// Logarithm of the magnitude, scaled back.
    Logarithm,
    /// Exponential, scaled back.
    Exponential,
    /// Magnitude of the gradient.
    Gradient,
    /// Local binary pattern, slice by slice.
    Lbp2d,
    /// Local binary pattern on a sphere; one image per level and one of the kurtosis.
    Lbp3d,
}

impl ImageType {
    /// All image types.
    pub const ALL: [ImageType; 10] = [
        ImageType::Original,
        ImageType::Wavelet,
        ImageType::LoG,
        ImageType::Square,
        ImageType::SquareRoot,
        ImageType::Logarithm,
        ImageType::Exponential,
        ImageType::Gradient,
        ImageType::Lbp2d,
        ImageType::Lbp3d,
    ];

    /// The name in parameter files.
    pub fn name(self) -> &'static str {
        match self {
            ImageType::Original => "Original",
            ImageType::Wavelet => "Wavelet",
            ImageType::LoG => "LoG",
            ImageType::Square => "Square",
            ImageType::SquareRoot => "SquareRoot",
            ImageType::Logarithm => "Logarithm",
            ImageType::Exponential => "Exponential",
            ImageType::Gradient => "Gradient",
            ImageType::Lbp2d => "LBP2D",
            ImageType::Lbp3d => "LBP3D",
        }
    }
}

/// `lbp2DMethod`: what a pattern becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lbp2dMethod {
    /// The pattern's bits as a number.
    Default,
    /// The smallest number that a rotation of the bits gives.
    Ror,
    /// The number of set bits where they lie together, else one more than there are samples.
    Uniform,
    /// The variance of the samples.
    Var,
}

/// What filters read; the names of PyRadiomics are in the docs of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterSettings {
    /// `sigma`, mm. The name of the image shows whether the number was an integer.
    pub sigmas: Vec<Value>,
    /// `start_level`: levels of the wavelet that are computed and not reported.
    pub start_level: usize,
    /// `level`: levels of the wavelet that are reported.
    pub levels: usize,
    /// `wavelet`: the name that PyWavelets gives it.
    pub wavelet: String,
    /// `gradientUseSpacing`: gradient per mm, not per voxel.
    pub gradient_use_spacing: bool,
    /// `lbp2DRadius`, voxels.
    pub lbp_2d_radius: f64,
    /// `lbp2DSamples` on the circle.
    pub lbp_2d_samples: usize,
    /// `lbp2DMethod`.
    pub lbp_2d_method: Lbp2dMethod,
    /// `lbp3DLevels`: orders of the spherical harmonics.
    pub lbp_3d_levels: usize,
    /// `lbp3DIcosphereRadius`, voxels.
    pub lbp_3d_radius: f64,
    /// `lbp3DIcosphereSubdivision`: how often the icosahedron is divided.
    pub lbp_3d_subdivision: usize,
}

impl Default for FilterSettings {
    fn default() -> FilterSettings {
        FilterSettings {
            sigmas: Vec::new(),
            start_level: 0,
            levels: 1,
            wavelet: "coif1".into(),
            gradient_use_spacing: true,
            lbp_2d_radius: 1.0,
            lbp_2d_samples: 8,
            lbp_2d_method: Lbp2dMethod::Uniform,
            lbp_3d_levels: 2,
            lbp_3d_radius: 1.0,
            lbp_3d_subdivision: 1,
        }
    }
}

/// An image that features are computed on, over the box that was asked for.
pub(super) struct Filtered {
    /// As features begin: `original`, `wavelet-LLH`.
    pub name: String,
    /// Shape (z, y, x) of the box.
    pub values: Array3<f64>,
    /// Whether PyRadiomics holds them in 32 bits, which decides the last bit of bin edges.
    pub float32: bool,
}

/// What a filter gives, in order.
pub(super) enum Output {
    Image(Filtered),
    Warning(String),
}

/// The images of one type inside the box `bounds`, which may be any box of the image. `roi` lies on the image's grid.
pub(super) fn apply<T: Scalar>(
    image_type: ImageType,
    image: &Grid<T>,
    roi: &Roi,
    bounds: Bounds,
    settings: &Settings,
) -> Result<Vec<Output>, RadiomicsError> {
    let single = |name: &str, values: Array3<f64>, float32: bool| {
        Ok(vec![Output::Image(Filtered { name: name.into(), values, float32 })])
    };
    match image_type {
        ImageType::Original => {
            let values = part(&image.voxels.view(), bounds).mapv(Scalar::as_f64);
            single("original", values, T::BYTES == 4 && !T::INTEGER)
        }
        ImageType::Square => single("square", point::square(image, bounds), false),
        ImageType::SquareRoot => single("squareroot", point::square_root(image, bounds), false),
        ImageType::Logarithm => single("logarithm", point::logarithm(image, bounds), false),
        ImageType::Exponential => single("exponential", point::exponential(image, bounds), false),
        ImageType::Gradient => {
            single("gradient", gradient::magnitude(image, bounds, settings.filters.gradient_use_spacing), true)
        }
        ImageType::Wavelet => wavelet::transform(image, bounds, &settings.wavelet_axes(), &settings.filters),
        ImageType::LoG => Ok(log::transform(image, bounds, settings.axes(), &settings.filters.sigmas)),
        ImageType::Lbp2d if settings.planar => single("lbp-2D", lbp2d::plane(image, bounds, &settings.filters), false),
        ImageType::Lbp2d => {
            let values = lbp2d::transform(image, bounds, settings.force_2d_dimension, &settings.filters);
            let float32 = T::BYTES == 4 && !T::INTEGER;
            let lbp = Output::Image(Filtered { name: "lbp-2D".into(), values, float32 });
            Ok(mixed(!settings.force_2d, "2D", "3D").into_iter().chain([lbp]).collect())
        }
        ImageType::Lbp3d if settings.planar => Ok(vec![Output::Warning(
            "radiomics.imageoperations: LBP 3D only available for 3 dimensional images, found 2 dimensions".into(),
        )]),
        ImageType::Lbp3d if settings.filters.lbp_3d_levels < 2 => Err(RadiomicsError::BadValue {
            path: "lbp3DLevels".into(),
            value: settings.filters.lbp_3d_levels.to_string(),
            expected: "2 or more (PyRadiomics fails with 1)".into(),
        }),
        ImageType::Lbp3d => {
            let maps = lbp3d::transform(image, roi, bounds, &settings.filters);
            Ok(mixed(settings.force_2d, "3D", "2D").into_iter().chain(maps).collect())
        }
    }
}

/// The warning of a pattern that has other dimensions than the features.
fn mixed(is: bool, pattern: &str, features: &str) -> Option<Output> {
    is.then(|| {
        Output::Warning(format!(
            "radiomics.imageoperations: Calculating Local Binary Pattern in {pattern}, but extracting features in \
             {features}. Use with caution!"
        ))
    })
}
