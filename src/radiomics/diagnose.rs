//! What PyRadiomics reports about image and mask beside the features.

use super::Value;
use super::region::{Grid, Roi, Run, bounds, runs};
use crate::volume::Scalar;
use sha1::{Digest, Sha1};

/// Collects `diagnostics_*` in order; does nothing when they are switched off.
pub(super) struct Notes {
    pub entries: Vec<(String, Value)>,
    pub on: bool,
    /// Axes that are reported.
    pub axes: usize,
}

impl Notes {
    /// Appends one entry.
    pub fn add(&mut self, name: impl std::fmt::Display, value: Value) {
        if self.on {
            self.entries.push((format!("diagnostics_{name}"), value));
        }
    }

    /// Spacing, size and values of an image at one stage.
    pub fn image<T: Scalar>(&mut self, image: &Grid<T>, stage: &str) {
        if !self.on {
            return;
        }
        if stage == "original" {
            self.add("Image-original_Dimensionality", Value::Text(format!("{}D", self.axes)));
        }
        self.add(format!("Image-{stage}_Spacing"), Value::floats(&image.geometry.spacing_mm[..self.axes]));
        self.add(format!("Image-{stage}_Size"), Value::ints(&image.geometry.size[..self.axes]));
        let whole = image.voxels.as_slice().filter(|_| T::INTEGER).map(|all| (all.len() as f64, summary(all)));
        match whole {
            // Sums of whole numbers are exact in any order.
            Some((n, (sum, low, high))) if n * low.abs().max(high.abs()) < EXACT => {
                self.statistics(&format!("Image-{stage}"), [sum / n, low, high]);
            }
            _ => self.values(&format!("Image-{stage}"), image.voxels.iter().map(|v| v.as_f64())),
        }
    }

    fn values(&mut self, name: &str, values: impl Iterator<Item = f64>) {
        let start = (0usize, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        let (n, sum, low, high) =
            values.fold(start, |(n, sum, low, high), v| (n + 1, sum + v, low.min(v), high.max(v)));
        self.statistics(name, [sum / n as f64, low, high]);
    }

    fn statistics(&mut self, name: &str, values: [f64; 3]) {
        for (what, value) in ["Mean", "Minimum", "Maximum"].into_iter().zip(values) {
            self.add(format!("{name}_{what}"), Value::Float(value));
        }
    }

    /// Box, voxels, parts and center of a region at one stage; with an image also the values under it.
    pub fn mask<T: Scalar>(&mut self, image: Option<&Grid<T>>, roi: &Roi, stage: &str) {
        if !self.on {
            return;
        }
        self.add(format!("Mask-{stage}_Spacing"), Value::floats(&roi.geometry.spacing_mm[..self.axes]));
        self.add(format!("Mask-{stage}_Size"), Value::ints(&roi.geometry.size[..self.axes]));
        let runs = runs(roi.inside.view());
        let Some((bounds, n)) = bounds(&runs) else { return };
        self.add(
            format!("Mask-{stage}_BoundingBox"),
            Value::ints(&[&bounds.first[..self.axes], &bounds.size[..self.axes]].concat()),
        );
        self.add(format!("Mask-{stage}_VoxelNum"), Value::Int(n as i64));
        self.add(format!("Mask-{stage}_VolumeNum"), Value::Int(parts(&runs) as i64));
        let mut sums = [0u64; 3];
        for run in &runs {
            let (n, ends) = (run.len() as u64, (run.start + run.end - 1) as u64);
            [ends * n / 2, run.y as u64 * n, run.z as u64 * n].iter().zip(&mut sums).for_each(|(v, sum)| *sum += v);
        }
        let center = sums.map(|sum| sum as f64 / n as f64);
        self.add(format!("Mask-{stage}_CenterOfMassIndex"), Value::floats(&center[..self.axes]));
        self.add(format!("Mask-{stage}_CenterOfMass"), Value::floats(&roi.geometry.position_mm(center)[..self.axes]));
        if let Some(image) = image {
            let under = image.voxels.iter().zip(&roi.inside).filter(|(_, inside)| **inside);
            self.values(&format!("Mask-{stage}"), under.map(|(v, _)| v.as_f64()));
        }
    }
}

/// Whole numbers below this are exact in f64.
const EXACT: f64 = 9007199254740992.0;

/// Sum, lowest and highest, side by side.
fn summary<T: Scalar>(values: &[T]) -> (f64, f64, f64) {
    const LANES: usize = 16;
    let (mut sums, mut low, mut high) = ([0.0; LANES], [f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut last = [values.first().map_or(0.0, |v| v.as_f64()); LANES];
    last.iter_mut().zip(rest).for_each(|(last, v)| *last = v.as_f64());
    let mut take = |chunk: [f64; LANES]| {
        for l in 0..LANES {
            low[l] = if chunk[l] < low[l] { chunk[l] } else { low[l] };
            high[l] = if chunk[l] > high[l] { chunk[l] } else { high[l] };
            sums[l] += chunk[l];
        }
    };
    chunks.iter().for_each(|chunk| take(chunk.map(|v| v.as_f64())));
    take(last);
    let surplus = last[rest.len()..].iter().sum::<f64>();
    let least = low.into_iter().fold(f64::INFINITY, f64::min);
    (sums.iter().sum::<f64>() - surplus, least, high.into_iter().fold(f64::NEG_INFINITY, f64::max))
}

/// SHA-1 over raw voxels, little endian, x fastest (`SimpleITK.Hash`).
#[derive(Default)]
pub(super) struct Hash {
    sha: Sha1,
    buffer: Vec<u8>,
}

impl Hash {
    /// Appends a row of voxels.
    pub fn put<const N: usize>(&mut self, row: impl ExactSizeIterator<Item = [u8; N]>) {
        let at = self.buffer.len();
        self.buffer.resize(at + row.len() * N, 0);
        self.buffer[at..].as_chunks_mut::<N>().0.iter_mut().zip(row).for_each(|(place, voxel)| *place = voxel);
        if self.buffer.len() >= 1 << 16 {
            self.sha.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// The digest in hexadecimal.
    pub fn finish(mut self) -> String {
        self.sha.update(&self.buffer);
        self.sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Number of parts that touch by face, edge or corner: runs are joined with those they touch in the four rows before theirs.
fn parts(runs: &[Run]) -> usize {
    let mut parent: Vec<usize> = (0..runs.len()).collect();
    let row = |k: usize| (runs[k].z, runs[k].y);
    let Some((bounds, _)) = bounds(runs) else { return 0 };
    let ([_, y0, z0], [_, ny, nz]) = (bounds.first, bounds.size);
    // Where the runs of a row start.
    let mut starts = vec![runs.len(); ny * nz];
    for (k, run) in runs.iter().enumerate().rev() {
        starts[(run.z - z0) * ny + run.y - y0] = k;
    }
    let mut n = runs.len();
    for (k, run) in runs.iter().enumerate() {
        for (dz, dy) in [(0, 1), (1, 1), (1, 0), (1, -1)] {
            let (Some(z), Some(y)) = (run.z.checked_sub(dz), run.y.checked_add_signed(-dy)) else { continue };
            if z < z0 || y < y0 || y >= y0 + ny {
                continue;
            }
            for (other, candidate) in runs.iter().enumerate().skip(starts[(z - z0) * ny + y - y0]) {
                if row(other) != (z, y) || candidate.start > run.end {
                    break;
                }
                if candidate.end >= run.start {
                    let (a, b) = (root(&mut parent, k), root(&mut parent, other));
                    n -= usize::from(a != b);
                    parent[a.max(b)] = a.min(b);
                }
            }
        }
    }
    n
}

fn root(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn parts_touch_by_corners_and_not_across_a_gap() {
        let inside = |places: &[[usize; 3]]| {
            let mut mask = Array3::from_elem((3, 4, 6), false);
            places.iter().for_each(|p| mask[*p] = true);
            parts(&runs(mask.view()))
        };
        assert_eq!(inside(&[[0, 0, 0], [1, 1, 1], [2, 0, 2]]), 1);
        assert_eq!(inside(&[[0, 0, 0], [0, 0, 2], [0, 2, 0], [2, 0, 0]]), 4);
        assert_eq!(inside(&[[0, 0, 0], [0, 0, 2], [1, 1, 1]]), 1);
        assert_eq!(inside(&[[1, 1, 5], [0, 2, 4]]), 1);
        assert_eq!(inside(&[]), 0);
    }
}
