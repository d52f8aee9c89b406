//! GLSZM: sizes of connected zones of equal gray level.

use super::discretize::{Levels, angles};
use super::settings::Settings;
use super::size_matrix::SizeMatrix;
use super::table::{Definition, usual};
use std::collections::BTreeMap;

/// The features of this family, in the order of PyRadiomics' method names.
pub(super) const FEATURES: [Definition; 16] = [
    usual("GrayLevelNonUniformity", "", "JNSA"),
    usual("GrayLevelNonUniformityNormalized", "", "Y1RO"),
    usual("GrayLevelVariance", "", "BYLV"),
    usual("HighGrayLevelZoneEmphasis", "", "5GN9"),
    usual("LargeAreaEmphasis", "", "48P8"),
    usual("LargeAreaHighGrayLevelEmphasis", "", "J17V"),
    usual("LargeAreaLowGrayLevelEmphasis", "", "YH51"),
    usual("LowGrayLevelZoneEmphasis", "", "XMSY"),
    usual("SizeZoneNonUniformity", "", "4JP3"),
    usual("SizeZoneNonUniformityNormalized", "", "VB3A"),
    usual("SmallAreaEmphasis", "", "5QRC"),
    usual("SmallAreaHighGrayLevelEmphasis", "", "HW1V"),
    usual("SmallAreaLowGrayLevelEmphasis", "", "5RAI"),
    usual("ZoneEntropy", "bit", "GU8N"),
    usual("ZonePercentage", "", "P30P"),
    usual("ZoneVariance", "", "3NSA"),
];

/// All features of this family, over zones whose voxels touch by face, edge or corner (within the plane for `force2D`).
pub(super) fn compute(levels: &Levels, settings: &Settings) -> Vec<(&'static str, f64)> {
    let Some(f) = zones(levels, settings).features() else { return Vec::new() };
    vec![
        ("GrayLevelNonUniformity", f.level_non_uniformity),
        ("GrayLevelNonUniformityNormalized", f.level_non_uniformity_normalized),
        ("GrayLevelVariance", f.level_variance),
        ("HighGrayLevelZoneEmphasis", f.high),
        ("LargeAreaEmphasis", f.large),
        ("LargeAreaHighGrayLevelEmphasis", f.large_high),
        ("LargeAreaLowGrayLevelEmphasis", f.large_low),
        ("LowGrayLevelZoneEmphasis", f.low),
        ("SizeZoneNonUniformity", f.size_non_uniformity),
        ("SizeZoneNonUniformityNormalized", f.size_non_uniformity_normalized),
        ("SmallAreaEmphasis", f.small),
        ("SmallAreaHighGrayLevelEmphasis", f.small_high),
        ("SmallAreaLowGrayLevelEmphasis", f.small_low),
        ("ZoneEntropy", f.entropy),
        ("ZonePercentage", f.percentage),
        ("ZoneVariance", f.size_variance),
    ]
}

/// Zones by level and size. One pass joins every voxel with its equal earlier neighbors; the root of a zone is its first voxel.
fn zones(levels: &Levels, settings: &Settings) -> SizeMatrix {
    let back: Vec<isize> =
        angles(levels.shape, &[1], settings.flat_axis()).iter().map(|angle| -levels.step(*angle)).collect();
    let mut parent = vec![0u32; levels.data.len()];
    for z in 0..levels.shape[0] {
        for row in levels.rows(z) {
            for at in (row.at..row.at + row.len).filter(|at| levels.data[*at] != 0) {
                parent[at] = at as u32;
                for step in &back {
                    let other = at.saturating_add_signed(*step);
                    if levels.data[other] == levels.data[at] {
                        join(&mut parent, at, other);
                    }
                }
            }
        }
    }
    let mut sizes = vec![0u32; levels.data.len()];
    for z in 0..levels.shape[0] {
        for row in levels.rows(z) {
            for at in (row.at..row.at + row.len).filter(|at| levels.data[*at] != 0) {
                sizes[root(&mut parent, at)] += 1;
            }
        }
    }
    let mut cells: BTreeMap<(u16, u32), u32> = BTreeMap::new();
    for (level, size) in levels.data.iter().zip(&sizes).filter(|(_, size)| **size > 0) {
        *cells.entry((*level, *size)).or_default() += 1;
    }
    SizeMatrix { cells: cells.into_iter().map(|((l, s), n)| (f64::from(l), f64::from(s), f64::from(n))).collect() }
}

fn root(parent: &mut [u32], mut at: usize) -> usize {
    while parent[at] as usize != at {
        parent[at] = parent[parent[at] as usize];
        at = parent[at] as usize;
    }
    at
}

fn join(parent: &mut [u32], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    let first = a.min(b);
    parent[a] = first as u32;
    parent[b] = first as u32;
}
