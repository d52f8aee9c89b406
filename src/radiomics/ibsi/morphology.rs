//! Morphology (HCUG): the surface, axes and enclosing bodies of the region, and how intensities lie in it.

use super::enclosing::{ellipsoid_area, smallest_box, smallest_ellipsoid};
use super::hull::Hull;
use super::prepare::Extent;
use super::spatial::moran_and_geary;
use super::table::{Aggregation, Definition, Family, Table, define};
use crate::radiomics::shape::{Mesh, axes};
use ndarray::ArrayView3;
use std::f64::consts::PI;

const DEFINITIONS: [Definition; 29] = [
    define("morph_volume", "volume_mesh", "RNU0", "mm3"),
    define("morph_vol_approx", "volume_voxel_counting", "YEKZ", "mm3"),
    define("morph_area_mesh", "surface_area_mesh", "C0JK", "mm2"),
    define("morph_av", "surface_to_volume_ratio", "2PR5", "1/mm"),
    define("morph_comp_1", "compactness_1", "SKGS", ""),
    define("morph_comp_2", "compactness_2", "BQWJ", ""),
    define("morph_sph_dispr", "spherical_disproportion", "KRCK", ""),
    define("morph_sphericity", "sphericity", "QCFX", ""),
    define("morph_asphericity", "asphericity", "25C7", ""),
    define("morph_com", "centre_of_mass_shift", "KLMA", "mm"),
    define("morph_diam", "maximum_3d_diameter", "L0JK", "mm"),
    define("morph_pca_maj_axis", "major_axis_length", "TDIC", "mm"),
    define("morph_pca_min_axis", "minor_axis_length", "P9VJ", "mm"),
    define("morph_pca_least_axis", "least_axis_length", "7J51", "mm"),
    define("morph_pca_elongation", "elongation", "Q3CK", ""),
    define("morph_pca_flatness", "flatness", "N17B", ""),
    define("morph_vol_dens_aabb", "volume_density_axis_aligned_bounding_box", "PBX1", ""),
    define("morph_area_dens_aabb", "area_density_axis_aligned_bounding_box", "R59B", ""),
    define("morph_vol_dens_ombb", "volume_density_oriented_minimum_bounding_box", "ZH1A", ""),
    define("morph_area_dens_ombb", "area_density_oriented_minimum_bounding_box", "IQYR", ""),
    define("morph_vol_dens_aee", "volume_density_approximate_enclosing_ellipsoid", "6BDE", ""),
    define("morph_area_dens_aee", "area_density_approximate_enclosing_ellipsoid", "RDD2", ""),
    define("morph_vol_dens_mvee", "volume_density_minimum_volume_enclosing_ellipsoid", "SWZ1", ""),
    define("morph_area_dens_mvee", "area_density_minimum_volume_enclosing_ellipsoid", "BRI8", ""),
    define("morph_vol_dens_conv_hull", "volume_density_convex_hull", "R3ER", ""),
    define("morph_area_dens_conv_hull", "area_density_convex_hull", "7T7F", ""),
    define("morph_integ_int", "integrated_intensity", "99N0", "I mm3"),
    define("morph_moran_i", "morans_i_index", "N365", ""),
    define("morph_geary_c", "gearys_c_measure", "NPT7", ""),
];

/// Appends all features. `region` is the morphological mask, `inside` the intensity mask; all have the shape (z, y, x) of
/// the region's box. `spacing` in mm, (z, y, x).
pub(super) fn compute(
    values: ArrayView3<f64>,
    region: ArrayView3<bool>,
    inside: ArrayView3<bool>,
    spacing: [f64; 3],
    table: &mut Table,
) {
    let mesh = Mesh::new(region, spacing);
    let (v, a) = (mesh.volume, mesh.area);
    let n = region.iter().filter(|m| **m).count() as f64;
    let known = || values.iter().zip(inside).filter(|(_, m)| **m).map(|(v, _)| *v);
    let mean = known().sum::<f64>() / known().count() as f64;
    // IBSI's values rest on the sample covariance (n - 1); PyRadiomics divides by n. Below 0 are rounding errors.
    let length = |eigenvalue: f64| 4.0 * (eigenvalue * n / (n - 1.0)).max(0.0).sqrt();
    let [least, minor, major] = axes(region, spacing).map(length);
    let semi = [major, minor, least].map(|length| 0.5 * length);
    let hull = Hull::new(mesh.vertices, spacing);
    let aligned = Extent::new(region).map(|e| std::array::from_fn(|a| e.size[a] as f64 * spacing[a]));
    let over = |body: Option<[f64; 2]>| body.map_or([f64::NAN; 2], |[volume, area]| [v / volume, a / area]);
    let [aabb_v, aabb_a] = over(aligned.map(of_box));
    let [ombb_v, ombb_a] = over(hull.as_ref().and_then(smallest_box).map(of_box));
    let [aee_v, aee_a] = over(of_ellipsoid(semi));
    let [mvee_v, mvee_a] = over(hull.as_ref().and_then(|h| smallest_ellipsoid(&h.corners)).and_then(of_ellipsoid));
    let [hull_v, hull_a] = over(hull.as_ref().map(|h| [h.volume, h.area]));
    let [moran, geary] = moran_and_geary(values, inside, spacing);
    let sphere = (36.0 * PI * v * v).cbrt();
    let features = [
        v,
        n * spacing.iter().product::<f64>(),
        a,
        a / v,
        v / (PI.sqrt() * a.powf(1.5)),
        36.0 * PI * v * v / (a * a * a),
        a / sphere,
        sphere / a,
        a / sphere - 1.0,
        center_shift(values, region, inside, spacing),
        hull.as_ref().map_or(f64::NAN, Hull::diameter),
        major,
        minor,
        least,
        minor / major,
        least / major,
        aabb_v,
        aabb_a,
        ombb_v,
        ombb_a,
        aee_v,
        aee_a,
        mvee_v,
        mvee_a,
        hull_v,
        hull_a,
        v * mean,
        moran,
        geary,
    ];
    table.push(Family::Morphology, &DEFINITIONS, Aggregation::VOLUME, &features);
}

/// Volume and surface of a box.
fn of_box([a, b, c]: [f64; 3]) -> [f64; 2] {
    [a * b * c, 2.0 * (a * b + b * c + c * a)]
}

/// Volume and surface of an ellipsoid with these semi-axes, the longest first; `None` for a flat one.
fn of_ellipsoid(semi: [f64; 3]) -> Option<[f64; 2]> {
    (semi[2] > 0.0).then(|| [4.0 / 3.0 * PI * semi.iter().product::<f64>(), ellipsoid_area(semi)])
}

/// Distance in mm between the center of the region and that of its intensities.
fn center_shift(values: ArrayView3<f64>, region: ArrayView3<bool>, inside: ArrayView3<bool>, spacing: [f64; 3]) -> f64 {
    let (mut n, mut place) = (0.0, [0.0; 3]);
    let (mut weight, mut weighted) = (0.0, [0.0; 3]);
    for ((((z, y, x), region), inside), v) in region.indexed_iter().zip(inside).zip(values) {
        let at = [z, y, x].map(|i| i as f64);
        if *region {
            n += 1.0;
            place.iter_mut().zip(at).for_each(|(sum, at)| *sum += at);
        }
        if *inside {
            weight += v;
            weighted.iter_mut().zip(at).for_each(|(sum, at)| *sum += v * at);
        }
    }
    (0..3).map(|a| ((place[a] / n - weighted[a] / weight) * spacing[a]).powi(2)).sum::<f64>().sqrt()
}

pub(super) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - b[1] * a[2], a[2] * b[0] - b[2] * a[0], a[0] * b[1] - b[0] * a[1]]
}

pub(super) fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|d| a[d] - b[d])
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr3};

    #[test]
    fn a_bar_of_voxels() {
        let mut table = Table::default();
        let mask = Array3::from_elem((1, 1, 4), true);
        let inside = arr3(&[[[true, true, true, false]]]);
        let values = arr3(&[[[1.0, 1.0, 2.0, 9.0]]]);
        compute(values.view(), mask.view(), inside.view(), [1.0, 1.0, 2.0], &mut table);
        let value = |tag: &str| table.value(tag).unwrap();
        assert_eq!(value("morph_vol_approx"), 8.0);
        // Centers at 3 mm (of 0, 2, 4, 6) and at (0 + 2 + 2 x 4) / 4 = 2.5 mm.
        assert!((value("morph_com") - 0.5).abs() < 1e-12);
        // Variance of the centers: (9 + 1 + 1 + 9) / 3; the other axes are flat.
        assert!((value("morph_pca_maj_axis") - 4.0 * (20.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(value("morph_pca_flatness"), 0.0);
        assert!(value("morph_vol_dens_aee").is_nan());
        // The mesh is convex: its own hull. It spans 8 mm.
        assert!((value("morph_vol_dens_conv_hull") - 1.0).abs() < 1e-12);
        assert!((value("morph_area_dens_conv_hull") - 1.0).abs() < 1e-12);
        assert!((value("morph_diam") - 8.0).abs() < 1e-12);
        assert!((value("morph_vol_dens_aabb") - value("morph_volume") / 8.0).abs() < 1e-12);
        assert!((value("morph_integ_int") - value("morph_volume") * 4.0 / 3.0).abs() < 1e-12);
    }
}
