//! Gray level size zone and distance zone matrices (9SAK, VMDZ): connected zones of one level, their sizes, and their
//! distance to the border of the region.

use super::levels::{Levels, offsets};
use super::runs::size_features;
use super::settings::Settings;
use super::table::{Aggregation, Definition, Family, Table, average, define};
use crate::radiomics::size_matrix::SizeMatrix;
use ndarray::ArrayView3;
use std::collections::BTreeMap;

const N: usize = 16;
const SIZES: [Definition; N] = [
    define("szm_sze", "small_zone_emphasis", "5QRC", ""),
    define("szm_lze", "large_zone_emphasis", "48P8", ""),
    define("szm_lgze", "low_grey_level_zone_emphasis", "XMSY", ""),
    define("szm_hgze", "high_grey_level_zone_emphasis", "5GN9", ""),
    define("szm_szlge", "small_zone_low_grey_level_emphasis", "5RAI", ""),
    define("szm_szhge", "small_zone_high_grey_level_emphasis", "HW1V", ""),
    define("szm_lzlge", "large_zone_low_grey_level_emphasis", "YH51", ""),
    define("szm_lzhge", "large_zone_high_grey_level_emphasis", "J17V", ""),
    define("szm_glnu", "grey_level_non_uniformity", "JNSA", ""),
    define("szm_glnu_norm", "normalised_grey_level_non_uniformity", "Y1RO", ""),
    define("szm_zsnu", "zone_size_non_uniformity", "4JP3", ""),
    define("szm_zsnu_norm", "normalised_zone_size_non_uniformity", "VB3A", ""),
    define("szm_z_perc", "zone_percentage", "P30P", ""),
    define("szm_gl_var", "grey_level_variance", "BYLV", ""),
    define("szm_zs_var", "zone_size_variance", "3NSA", ""),
    define("szm_zs_entr", "zone_size_entropy", "GU8N", "bit"),
];
const DISTANCES: [Definition; N] = [
    define("dzm_sde", "small_distance_emphasis", "0GBI", ""),
    define("dzm_lde", "large_distance_emphasis", "MB4I", ""),
    define("dzm_lgze", "low_grey_level_zone_emphasis", "S1RA", ""),
    define("dzm_hgze", "high_grey_level_zone_emphasis", "K26C", ""),
    define("dzm_sdlge", "small_distance_low_grey_level_emphasis", "RUVG", ""),
    define("dzm_sdhge", "small_distance_high_grey_level_emphasis", "DKNJ", ""),
    define("dzm_ldlge", "large_distance_low_grey_level_emphasis", "A7WM", ""),
    define("dzm_ldhge", "large_distance_high_grey_level_emphasis", "KLTH", ""),
    define("dzm_glnu", "grey_level_non_uniformity", "VFT7", ""),
    define("dzm_glnu_norm", "normalised_grey_level_non_uniformity", "7HP3", ""),
    define("dzm_zdnu", "zone_distance_non_uniformity", "V294", ""),
    define("dzm_zdnu_norm", "normalised_zone_distance_non_uniformity", "IATH", ""),
    define("dzm_z_perc", "zone_percentage", "VIWW", ""),
    define("dzm_gl_var", "grey_level_variance", "QK93", ""),
    define("dzm_zd_var", "zone_distance_variance", "7WT1", ""),
    define("dzm_zd_entr", "zone_distance_entropy", "GBDU", "bit"),
];

/// Appends all features of both matrices. `region`: the morphological mask in the same box, shape (z, y, x).
pub(super) fn compute(levels: &Levels, region: ArrayView3<bool>, settings: &Settings, table: &mut Table) {
    let region = Levels::from_cells(region.mapv(u16::from).view(), settings.distance, 1);
    let (mut sizes, mut distances) = (Vec::new(), Vec::new());
    let mut add = |how: Aggregation, zones: &[Vec<Zone>]| {
        let of = |f: fn(&[Zone]) -> [f64; N]| average(&zones.iter().map(|z| f(z)).collect::<Vec<_>>());
        sizes.push((how, of(by_size)));
        distances.push((how, of(by_distance)));
    };
    if settings.approach.has_planar() {
        let zones = zones(levels, &depth(&region, true), true);
        let mut slices = vec![Vec::new(); levels.shape[0]];
        zones.iter().for_each(|zone| slices[zone.slice].push(*zone));
        add(Aggregation::PLANAR, &slices);
        add(Aggregation::MERGED_SLICES, &[zones]);
    }
    if settings.approach.has_volume() {
        add(Aggregation::SPATIAL, &[zones(levels, &depth(&region, false), false)]);
    }
    sizes.iter().for_each(|(how, values)| table.push(Family::SizeZone, &SIZES, *how, values));
    distances.iter().for_each(|(how, values)| table.push(Family::DistanceZone, &DISTANCES, *how, values));
}

/// Connected voxels of one level.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Zone {
    /// Of its first voxel.
    slice: usize,
    level: u16,
    size: u32,
    /// The smallest of its voxels' distances to the border.
    distance: u16,
}

/// All zones, in the order of their first voxels; linked by faces, edges and corners (in a slice: edges and corners).
fn zones(levels: &Levels, depth: &[u16], planar: bool) -> Vec<Zone> {
    let steps: Vec<isize> = offsets(1, planar).into_iter().map(|o| levels.step(o)).collect();
    let mut rest = levels.data.clone();
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for slice in 0..levels.shape[0] {
        for start in levels.rows(slice).flat_map(|row| row..row + levels.shape[2]) {
            let level = rest[start];
            if level == 0 {
                continue;
            }
            let mut zone = Zone { slice, level, size: 0, distance: u16::MAX };
            rest[start] = 0;
            open.push(start);
            while let Some(at) = open.pop() {
                zone.size += 1;
                zone.distance = zone.distance.min(depth[at]);
                for other in steps.iter().map(|step| at.saturating_add_signed(*step)) {
                    if rest[other] == level {
                        rest[other] = 0;
                        open.push(other);
                    }
                }
            }
            found.push(zone);
        }
    }
    found
}

/// For every voxel of the region (padded, as its levels) how many faces (in a slice: edges) lie between it and the
/// outside, at least 1; the rest is 0. Erosion by erosion, as the manual has it.
fn depth(region: &Levels, planar: bool) -> Vec<u16> {
    let faces: &[[i32; 3]] = if planar { &[[0, 0, 1], [0, 1, 0]] } else { &[[0, 0, 1], [0, 1, 0], [1, 0, 0]] };
    let steps: Vec<isize> = faces.iter().flat_map(|f| [region.step(*f), -region.step(*f)]).collect();
    let mut depth = vec![0u16; region.data.len()];
    let neighbors = |at: usize| steps.iter().map(move |step| at.saturating_add_signed(*step));
    let inside = |at: &usize| region.data[*at] != 0;
    let voxels = (0..region.shape[0]).flat_map(|z| region.rows(z)).flat_map(|row| row..row + region.shape[2]);
    let mut front: Vec<usize> = voxels.filter(|at| inside(at) && neighbors(*at).any(|n| !inside(&n))).collect();
    front.iter().for_each(|at| depth[*at] = 1);
    let mut level = 1u16;
    while !front.is_empty() {
        level = level.saturating_add(1);
        let mut next = Vec::new();
        for at in front {
            for other in neighbors(at) {
                if inside(&other) && depth[other] == 0 {
                    depth[other] = level;
                    next.push(other);
                }
            }
        }
        front = next;
    }
    depth
}

fn by_size(zones: &[Zone]) -> [f64; N] {
    size_features(&matrix(zones.iter().map(|zone| (zone.level, zone.size))))
}

fn by_distance(zones: &[Zone]) -> [f64; N] {
    let mut found = size_features(&matrix(zones.iter().map(|zone| (zone.level, u32::from(zone.distance)))));
    let voxels: u64 = zones.iter().map(|zone| u64::from(zone.size)).sum();
    found[12] = zones.len() as f64 / voxels as f64; // percentage: distances do not add up to voxels
    found
}

fn matrix(zones: impl Iterator<Item = (u16, u32)>) -> SizeMatrix {
    let mut counts: BTreeMap<(u16, u32), u32> = BTreeMap::new();
    zones.for_each(|key| *counts.entry(key).or_default() += 1);
    SizeMatrix { cells: counts.into_iter().map(|((l, s), n)| (f64::from(l), f64::from(s), f64::from(n))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn depth_counts_faces_to_the_outside() {
        let cube = Levels::from_cells(Array3::from_elem((5, 5, 5), 1).view(), 1, 1);
        let (in_space, in_plane) = (depth(&cube, false), depth(&cube, true));
        let at = |z, y, x| cube.row(z, y) + x;
        assert_eq!([in_space[at(2, 2, 2)], in_space[at(1, 2, 2)], in_space[at(0, 2, 2)]], [3, 2, 1]);
        assert_eq!([in_plane[at(0, 2, 2)], in_plane[at(0, 1, 3)], in_plane[at(2, 0, 2)]], [3, 2, 1]);
    }

    #[test]
    fn zones_touch_by_corners_and_take_the_smallest_distance() {
        // A 3 x 3 slice: its center (depth 2) is linked to a corner of the same level (depth 1).
        let cells = ndarray::arr3(&[[[1u16, 2, 2], [2, 1, 2], [2, 2, 2]]]);
        let levels = Levels::from_cells(cells.view(), 1, 2);
        let region = Levels::from_cells(cells.mapv(|_| 1).view(), 1, 1);
        let found = zones(&levels, &depth(&region, true), true);
        let zone = |level, size, distance| Zone { slice: 0, level, size, distance };
        assert_eq!(found, [zone(1, 2, 1), zone(2, 7, 1)]);
        assert!((by_size(&found)[12] - 2.0 / 9.0).abs() < 1e-12);
        assert!((by_distance(&found)[12] - 2.0 / 9.0).abs() < 1e-12);
        assert!(by_distance(&[])[0].is_nan());
    }
}
