//! What PyRadiomics reports about image and mask beside the features.

use super::Value;
use super::region::{Grid, Roi};
use crate::volume::Scalar;
use ndarray::Array3;
use sha1::{Digest, Sha1};

/// Collects `diagnostics_*` in order; does nothing when they are switched off.
pub(super) struct Notes {
    pub entries: Vec<(String, Value)>,
    pub on: bool,
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
            let mut hash = Hash::default();
            image.voxels.iter().for_each(|v| hash.put(*v));
            self.add("Image-original_Hash", Value::Text(hash.finish()));
            self.add("Image-original_Dimensionality", Value::Text("3D".into()));
        }
        self.add(format!("Image-{stage}_Spacing"), Value::floats(&image.geometry.spacing_mm));
        self.add(format!("Image-{stage}_Size"), Value::ints(&image.geometry.size));
        self.values(&format!("Image-{stage}"), image.voxels.iter().map(|v| v.as_f64()));
    }

    fn values(&mut self, name: &str, values: impl Iterator<Item = f64>) {
        let start = (0usize, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        let (n, sum, low, high) =
            values.fold(start, |(n, sum, low, high), v| (n + 1, sum + v, low.min(v), high.max(v)));
        self.add(format!("{name}_Mean"), Value::Float(sum / n as f64));
        self.add(format!("{name}_Minimum"), Value::Float(low));
        self.add(format!("{name}_Maximum"), Value::Float(high));
    }

    /// Box, voxels, parts and center of a region at one stage; with an image also the values under it.
    pub fn mask<T: Scalar>(&mut self, image: Option<&Grid<T>>, roi: &Roi, stage: &str) {
        if !self.on {
            return;
        }
        self.add(format!("Mask-{stage}_Spacing"), Value::floats(&roi.geometry.spacing_mm));
        self.add(format!("Mask-{stage}_Size"), Value::ints(&roi.geometry.size));
        let Some((bounds, n)) = roi.bounds() else { return };
        self.add(format!("Mask-{stage}_BoundingBox"), Value::ints(&[bounds.first, bounds.size].concat()));
        self.add(format!("Mask-{stage}_VoxelNum"), Value::Int(n as i64));
        self.add(format!("Mask-{stage}_VolumeNum"), Value::Int(parts(roi) as i64));
        let mut sums = [0u64; 3];
        for ((z, y, x), _) in roi.inside.indexed_iter().filter(|(_, inside)| **inside) {
            [x, y, z].iter().zip(&mut sums).for_each(|(v, sum)| *sum += *v as u64);
        }
        let center = sums.map(|sum| sum as f64 / n as f64);
        self.add(format!("Mask-{stage}_CenterOfMassIndex"), Value::floats(&center));
        self.add(format!("Mask-{stage}_CenterOfMass"), Value::floats(&roi.geometry.position_mm(center)));
        if let Some(image) = image {
            let under = image.voxels.iter().zip(&roi.inside).filter(|(_, inside)| **inside);
            self.values(&format!("Mask-{stage}"), under.map(|(v, _)| v.as_f64()));
        }
    }
}

/// SHA-1 over raw voxels, little endian, x fastest (`SimpleITK.Hash`).
#[derive(Default)]
pub(super) struct Hash {
    sha: Sha1,
    buffer: Vec<u8>,
}

impl Hash {
    /// Appends one voxel.
    pub fn put<T: Scalar>(&mut self, voxel: T) {
        voxel.put_le(&mut self.buffer);
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

/// Number of parts that touch by face, edge or corner.
fn parts(roi: &Roi) -> usize {
    let Some((bounds, _)) = roi.bounds() else { return 0 };
    let view = roi.inside.view();
    let inside = super::region::part(&view, bounds);
    let (nz, ny, nx) = inside.dim();
    let mut seen = Array3::from_elem((nz, ny, nx), false);
    let (mut n, mut stack) = (0, Vec::new());
    for (start, is) in inside.indexed_iter() {
        if !*is || seen[start] {
            continue;
        }
        n += 1;
        seen[start] = true;
        stack.push(start);
        while let Some((z, y, x)) = stack.pop() {
            for z in z.saturating_sub(1)..(z + 2).min(nz) {
                for y in y.saturating_sub(1)..(y + 2).min(ny) {
                    for x in x.saturating_sub(1)..(x + 2).min(nx) {
                        if inside[(z, y, x)] && !seen[(z, y, x)] {
                            seen[(z, y, x)] = true;
                            stack.push((z, y, x));
                        }
                    }
                }
            }
        }
    }
    n
}
