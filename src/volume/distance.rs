//! Exact Euclidean distances on a grid of voxels.

use ndarray::{Array3, Axis};
use rayon::prelude::*;

/// Squared distance in mm² from the center of each voxel to the nearest voxel of the mask, 0 inside it; infinite everywhere when
/// the mask is empty. Arrays have shape (z, y, x), `spacing_mm` is in voxel order (x, y, z).
///
/// One pass of lower envelopes of parabolas per axis (Felzenszwalb and Huttenlocher 2012, Theory of Computing 8).
pub fn squared_distance_mm2(mask: &Array3<bool>, spacing_mm: [f64; 3]) -> Array3<f64> {
    let mut squared = mask.mapv(|inside| if inside { 0.0 } else { f64::INFINITY });
    for axis in 0..3 {
        let spacing = spacing_mm[2 - axis];
        // In parallel over planes that contain the axis.
        squared.axis_iter_mut(Axis(if axis == 0 { 1 } else { 0 })).into_par_iter().for_each(|mut plane| {
            let along = Axis(if axis == 2 { 1 } else { 0 });
            let n = plane.len_of(along);
            let mut envelope =
                Envelope { line: vec![0.0; n], places: Vec::with_capacity(n), starts: Vec::with_capacity(n) };
            for mut lane in plane.lanes_mut(along) {
                envelope.line.iter_mut().zip(&lane).for_each(|(to, from)| *to = *from);
                envelope.of_lane(spacing, |k, value| lane[k] = value);
            }
        });
    }
    squared
}

struct Envelope {
    line: Vec<f64>,
    /// Which voxels' parabolas form the envelope, and from which position (mm) on each does.
    places: Vec<usize>,
    starts: Vec<f64>,
}

impl Envelope {
    fn of_lane(&mut self, spacing: f64, mut put: impl FnMut(usize, f64)) {
        self.places.clear();
        self.starts.clear();
        for k in (0..self.line.len()).filter(|k| self.line[*k].is_finite()) {
            let at = |k: usize| k as f64 * spacing;
            let mut start = f64::NEG_INFINITY;
            while let (Some(&top), Some(&top_start)) = (self.places.last(), self.starts.last()) {
                // Where the new parabola falls below the one on top.
                let rise = self.line[k] + at(k).powi(2) - self.line[top] - at(top).powi(2);
                start = rise / (2.0 * (at(k) - at(top)));
                if start > top_start {
                    break;
                }
                self.places.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.places.push(k);
            self.starts.push(start);
        }
        if self.places.is_empty() {
            return;
        }
        let mut top = 0;
        for k in 0..self.line.len() {
            let position = k as f64 * spacing;
            while self.starts.get(top + 1).is_some_and(|start| *start <= position) {
                top += 1;
            }
            let from = self.places[top];
            put(k, self.line[from] + (position - from as f64 * spacing).powi(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_equal_the_search_over_all_voxels() {
        let (shape, spacing_mm) = ((7, 9, 11), [0.7, 1.3, 2.5]);
        let mut state = 5u64;
        let mask = Array3::from_shape_simple_fn(shape, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 58 == 0 // one of 64
        });
        let inside: Vec<_> = mask.indexed_iter().filter(|(_, m)| **m).map(|(at, _)| at).collect();
        assert!(inside.len() > 3, "{}", inside.len());
        let found = squared_distance_mm2(&mask, spacing_mm);
        for ((z, y, x), value) in found.indexed_iter() {
            let to = |(a, b, c): &(usize, usize, usize)| {
                let d = |u: usize, v: usize, s: f64| ((u as f64 - v as f64) * s).powi(2);
                d(z, *a, spacing_mm[2]) + d(y, *b, spacing_mm[1]) + d(x, *c, spacing_mm[0])
            };
            let nearest = inside.iter().map(to).fold(f64::INFINITY, f64::min);
            assert!((value - nearest).abs() < 1e-9, "{z} {y} {x}: {value}, {nearest}");
        }
    }

    #[test]
    fn an_empty_mask_is_infinitely_far() {
        let found = squared_distance_mm2(&Array3::from_elem((2, 2, 2), false), [1.0; 3]);
        assert!(found.iter().all(|d| d.is_infinite()));
    }
}
