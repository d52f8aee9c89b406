//! GLSZM: sizes of connected zones of equal gray level.

use super::discretize::{Levels, Row, SLACK};
use super::settings::Settings;
use super::size_matrix::SizeMatrix;
use super::table::{Definition, usual};
use super::wide::twice;
use std::sync::OnceLock;

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

/// Earlier neighbors of a voxel (z, y, x), in scan order.
const EARLIER: [[i32; 3]; 13] = [
    [-1, -1, -1],
    [-1, -1, 0],
    [-1, -1, 1],
    [-1, 0, -1],
    [-1, 0, 0],
    [-1, 0, 1],
    [-1, 1, -1],
    [-1, 1, 0],
    [-1, 1, 1],
    [0, -1, -1],
    [0, -1, 0],
    [0, -1, 1],
    [0, 0, -1],
];

/// For every set of earlier neighbors (bit k: [`EARLIER`] k) the same set with one neighbor for each group that touches: the
/// others are in its zone already.
fn representatives() -> &'static [u16] {
    static TABLE: OnceLock<Vec<u16>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let touch = |a: [i32; 3], b: [i32; 3]| (0..3).all(|i| (a[i] - b[i]).abs() <= 1);
        let near = EARLIER.map(|a| (0..13).fold(0u16, |set, k| set | u16::from(touch(a, EARLIER[k])) << k));
        let one_each = |mut set: u16| {
            let mut found = 0;
            while set != 0 {
                let first = set & set.wrapping_neg();
                let (mut group, mut before) = (first, 0);
                while group != before {
                    before = group;
                    group = (0..13).filter(|k| before & 1 << k != 0).fold(before, |g, k| g | near[k]) & set;
                }
                found |= first;
                set &= !group;
            }
            found
        };
        (0..1 << 13).map(one_each).collect()
    })
}

/// Zones by level and size. Voxels get numbers in scan order, a new one where no earlier neighbor is equal; numbers that meet
/// are joined, the smaller one wins. Only the numbers of the last two slices are kept.
fn zones(levels: &Levels, settings: &Settings) -> SizeMatrix {
    let steps: Vec<(u16, isize)> = (0..13)
        .filter(|k| settings.flat_axis().is_none_or(|axis| EARLIER[*k][axis] == 0))
        .map(|k| (1 << k, levels.step(EARLIER[k])))
        .collect();
    let representatives = representatives();
    let [_, py, px] = levels.padded();
    let plane = py * px;
    // Numbers by place in the slice, this slice's after those of the one before.
    let mut numbers = vec![0u32; 2 * plane];
    let mut zones = Zones { parent: Vec::new(), size: Vec::new(), level: Vec::new() };
    let mut equal = Vec::new();
    let offsets = EARLIER.map(|angle| levels.step(angle));
    for z in 0..levels.shape[0] {
        let (before, now) = numbers.split_at_mut(plane);
        before.copy_from_slice(now);
        let base = (z + levels.pad) * plane;
        for row in levels.rows(z) {
            equal_neighbors(&levels.data, &row, &steps, &mut equal);
            let center = &levels.data[row.at..row.at + row.len];
            let at = row.at - base + plane;
            for (x, (level, set)) in center.iter().zip(equal.iter()).enumerate().filter(|(_, (level, _))| **level != 0)
            {
                let mut set = representatives[usize::from(*set)];
                let mut number = u32::MAX;
                while set != 0 {
                    let k = set.trailing_zeros() as usize;
                    set &= set - 1;
                    let other = numbers[(at + x).saturating_add_signed(offsets[k])];
                    // What is stored are roots, so neighbors of one zone mostly hold the same number.
                    if other != number {
                        number = if number == u32::MAX { zones.root(other) } else { zones.join(number, other) };
                    }
                }
                if number == u32::MAX {
                    number = zones.add(*level);
                }
                numbers[at + x] = number;
                zones.size[number as usize] += 1;
            }
        }
    }
    zones.matrix(levels)
}

twice! {
    /// For every voxel of a row the set of steps whose neighbors have its level, as bits.
    equal_neighbors => equal_plain, (data: &[u16], row: &Row, steps: &[(u16, isize)], equal: &mut Vec<u16>)
}

#[inline(always)]
fn equal_plain(data: &[u16], row: &Row, steps: &[(u16, isize)], equal: &mut Vec<u16>) {
    equal.clear();
    for at in (row.at..row.at + row.len).step_by(SLACK) {
        let Some(center) = data[at..].first_chunk::<SLACK>() else { continue };
        let mut sets = [0u16; SLACK];
        for (bit, step) in steps {
            let Some(other) = data[at.saturating_add_signed(*step)..].first_chunk::<SLACK>() else { continue };
            for l in 0..SLACK {
                sets[l] |= u16::from(center[l] == other[l]).wrapping_neg() & bit; // no branch, so that many go at once
            }
        }
        equal.extend_from_slice(&sets);
    }
    equal.truncate(row.len);
}

/// Numbers of zones, by number.
struct Zones {
    parent: Vec<u32>,
    size: Vec<u32>,
    level: Vec<u16>,
}

/// Zones up to this size are counted in a table, larger ones are sorted.
const SMALL: usize = 64;

impl Zones {
    fn add(&mut self, level: u16) -> u32 {
        let number = self.parent.len() as u32; // fewer than voxels, which GRID_MAX keeps below 2^32
        self.parent.push(number);
        self.size.push(0);
        self.level.push(level);
        number
    }

    fn root(&mut self, mut number: u32) -> u32 {
        while self.parent[number as usize] != number {
            let above = self.parent[self.parent[number as usize] as usize];
            self.parent[number as usize] = above;
            number = above;
        }
        number
    }

    /// Joins a root with another number; gives the root of both.
    fn join(&mut self, root: u32, other: u32) -> u32 {
        let other = self.root(other);
        let first = root.min(other);
        self.parent[root as usize] = first;
        self.parent[other as usize] = first;
        first
    }

    /// Every number's voxels go to the one it was joined to, which is smaller.
    fn matrix(mut self, levels: &Levels) -> SizeMatrix {
        let mut small = vec![0u32; (levels.ng + 1) * (SMALL + 1)];
        let mut large = Vec::new();
        for number in (0..self.parent.len()).rev() {
            let (parent, size) = (self.parent[number] as usize, self.size[number]);
            let level = usize::from(self.level[number]);
            if parent != number {
                self.size[parent] += size;
            } else if size as usize <= SMALL {
                small[level * (SMALL + 1) + size as usize] += 1;
            } else {
                large.push((level, size));
            }
        }
        large.sort_unstable();
        let mut cells: Vec<(f64, f64, f64)> = Vec::new();
        for level in &levels.present {
            let row = &small[usize::from(*level) * (SMALL + 1)..][..SMALL + 1];
            let cell = |(size, n): (usize, &u32)| (f64::from(*level), size as f64, f64::from(*n));
            cells.extend(row.iter().enumerate().filter(|(_, n)| **n > 0).map(cell));
        }
        cells.extend(large.chunk_by(|a, b| a == b).map(|c| (c[0].0 as f64, f64::from(c[0].1), c.len() as f64)));
        SizeMatrix { cells }
    }
}
