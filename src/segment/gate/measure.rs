//! What the gate measures on the scan's own grid.

use super::{Measures, OnGrid};
use crate::volume::{LabelMap, Region, Volume};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

/// Above this no bone is left, only metal (dense cortical bone ends near 2000 HU).
const METAL_HU: f32 = 2500.0;
/// Values at or below this are the scanner's padding: what lies beside them was cut off by the field of view.
const PADDING_HU: f32 = -1500.0;
/// Bins of a histogram, 1 HU each from -1024.
const HISTOGRAM_BINS: usize = 4096;
/// An aorta or spleen of fewer voxels says nothing.
const ORGAN_VOXELS_MIN: u64 = 200;

/// Label values of the regions that are counted; 0 where the model has none.
#[derive(Clone, Copy)]
struct Values {
    liver: u8,
    lesion: u8,
    aorta: u8,
    spleen: u8,
}

/// Sums over one slice of the array, and, added in slice order, over all: the same for any number of threads.
struct Tally {
    /// Liver voxels per index along the body axis.
    areas: Vec<u64>,
    /// Voxels of metal per index along the body axis.
    metal: Vec<u64>,
    /// Liver without lesions, HU -1024 to 3071; then the aorta.
    liver: Vec<u64>,
    aorta: Vec<u64>,
    /// Differences between neighbors along x inside the liver, without sign, rounded to 1 HU.
    differences: Vec<u64>,
    n_liver: u64,
    n_body: u64,
    n_air: u64,
    n_spleen: u64,
    /// Faces of liver voxels at an end of the array along x, y, z, or beside padding.
    edge_faces: [u64; 3],
    /// Sums of voxel indices x, y, z.
    liver_at: [u64; 3],
    body_at: [u64; 3],
    spleen_at: [u64; 3],
}

impl Tally {
    fn new(n_along: usize) -> Tally {
        Tally {
            areas: vec![0; n_along],
            metal: vec![0; n_along],
            liver: vec![0; HISTOGRAM_BINS],
            aorta: vec![0; HISTOGRAM_BINS],
            differences: vec![0; HISTOGRAM_BINS],
            n_liver: 0,
            n_body: 0,
            n_air: 0,
            n_spleen: 0,
            edge_faces: [0; 3],
            liver_at: [0; 3],
            body_at: [0; 3],
            spleen_at: [0; 3],
        }
    }

    /// `ends`: whether the slice is the first or last of the array. `body_axis`: index into x, y, z.
    fn slice(
        &mut self,
        (z, ends): (usize, bool),
        hu: ArrayView2<f32>,
        labels: ArrayView2<u8>,
        values: Values,
        body_axis: usize,
    ) {
        let bin = |hu: f32| (hu.clamp(-1024.0, 3071.0) + 1024.0) as usize;
        let (n_y, n_x) = hu.dim();
        ndarray::Zip::indexed(labels).and(hu).for_each(|(y, x), &label, &value| {
            let at = [x, y, z];
            if value > -300.0 {
                self.n_body += 1;
                (0..3).for_each(|a| self.body_at[a] += at[a] as u64);
                self.metal[at[body_axis]] += u64::from(value > METAL_HU);
            }
            self.n_air += u64::from(value < -800.0);
            if label == 0 {
                return;
            }
            if label == values.spleen {
                self.n_spleen += 1;
                (0..3).for_each(|a| self.spleen_at[a] += at[a] as u64);
            } else if label == values.aorta {
                self.aorta[bin(value)] += 1;
            } else if label == values.liver || label == values.lesion {
                self.n_liver += 1;
                self.areas[at[body_axis]] += 1;
                (0..3).for_each(|a| self.liver_at[a] += at[a] as u64);
                let padded = |y: usize, x: usize| hu[[y, x]] <= PADDING_HU;
                let beside_x = [x == 0 || padded(y, x - 1), x + 1 == n_x || padded(y, x + 1)];
                let beside_y = [y == 0 || padded(y - 1, x), y + 1 == n_y || padded(y + 1, x)];
                self.edge_faces[0] += beside_x.iter().filter(|b| **b).count() as u64;
                self.edge_faces[1] += beside_y.iter().filter(|b| **b).count() as u64;
                self.edge_faces[2] += u64::from(ends);
            }
            if label == values.liver {
                self.liver[bin(value)] += 1;
                if x > 0 && labels[[y, x - 1]] == values.liver {
                    let difference = (value - hu[[y, x - 1]]).abs().round();
                    self.differences[(difference as usize).min(HISTOGRAM_BINS - 1)] += 1;
                }
            }
        });
    }

    fn add(mut self, other: Tally) -> Tally {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        add(&mut self.areas, &other.areas);
        add(&mut self.metal, &other.metal);
        add(&mut self.liver, &other.liver);
        add(&mut self.aorta, &other.aorta);
        add(&mut self.edge_faces, &other.edge_faces);
        add(&mut self.liver_at, &other.liver_at);
        add(&mut self.body_at, &other.body_at);
        add(&mut self.spleen_at, &other.spleen_at);
        add(&mut self.differences, &other.differences);
        self.n_liver += other.n_liver;
        self.n_body += other.n_body;
        self.n_air += other.n_air;
        self.n_spleen += other.n_spleen;
        self
    }
}

/// Measures a segmentation on the volume's own grid and adds what was measured on the network's.
pub fn measure(volume: &Volume, labels: &LabelMap, on_grid: OnGrid) -> Measures {
    let g = &volume.geometry;
    let value = |region| labels.scheme.value_of(region).unwrap_or(0);
    let values = Values {
        liver: value(Region::Liver),
        lesion: value(Region::LiverLesion),
        aorta: value(Region::Aorta),
        spleen: value(Region::Spleen),
    };
    // The source axis closest to the body axis (LPS z).
    let body_axis = (0..3).max_by(|a, b| g.direction[2][*a].abs().total_cmp(&g.direction[2][*b].abs())).unwrap_or(2);
    let last = g.size[2].saturating_sub(1);
    let slices =
        volume.hu.axis_iter(Axis(0)).into_par_iter().zip(labels.labels.axis_iter(Axis(0)).into_par_iter()).enumerate();
    let tallies: Vec<Tally> = slices
        .map(|(z, (hu, labels))| {
            let mut tally = Tally::new(g.size[body_axis]);
            tally.slice((z, z == 0 || z == last), hu, labels, values, body_axis);
            tally
        })
        .collect();
    let t = tallies.into_iter().fold(Tally::new(g.size[body_axis]), Tally::add);
    let center_mm = |sum: [u64; 3], n: u64| g.position_mm(sum.map(|s| s as f64 / n.max(1) as f64));
    let largest = t.areas.iter().copied().max().unwrap_or(0).max(1) as f64;
    let ends = [t.areas.first(), t.areas.last()].map(|n| n.copied().unwrap_or(0) as f64 / largest);
    let voxels = labels.labels.len().max(1) as f64;
    let voxel_mm3 = g.voxel_mm3();
    let face_cm2 = |axis: usize| voxel_mm3 / g.spacing_mm[axis] / 100.0;
    let side_axes = (0..3).filter(|axis| *axis != body_axis);
    let metal = t.metal.iter().zip(&t.areas).filter(|(_, area)| **area > 0).map(|(n, _)| n).sum::<u64>();
    let n_aorta: u64 = t.aorta.iter().sum();
    let liver_mm = center_mm(t.liver_at, t.n_liver);
    Measures {
        liver_ml: t.n_liver as f64 * voxel_mm3 / 1000.0,
        liver_hu: median(&t.liver),
        aorta_hu: if n_aorta < ORGAN_VOXELS_MIN { f64::NAN } else { median(&t.aorta) },
        noise_hu: noise(&t.differences),
        z_extent_mm: g.size[body_axis] as f64 * g.spacing_mm[body_axis],
        slice_spacing_mm: g.spacing_mm[body_axis],
        cut: ends[0].max(ends[1]),
        cut_other_end: ends[0].min(ends[1]),
        side_cut_cm2: side_axes.map(|axis| t.edge_faces[axis] as f64 * face_cm2(axis)).sum(),
        right_of_center_mm: center_mm(t.body_at, t.n_body)[0] - liver_mm[0],
        right_of_spleen_mm: if t.n_spleen < ORGAN_VOXELS_MIN {
            f64::NAN
        } else {
            center_mm(t.spleen_at, t.n_spleen)[0] - liver_mm[0]
        },
        body_share: t.n_body as f64 / voxels,
        air_share: t.n_air as f64 / voxels,
        metal_ml: metal as f64 * voxel_mm3 / 1000.0,
        tumor_ml: labels.volume_ml(Region::ColorectalTumor),
        on_grid,
    }
}

/// Standard deviation of noise by the median difference of neighbors, which vessels and the liver's edge hardly move: the difference
/// of two voxels has sqrt 2 times the deviation of one, and its median is 0.6745 of its own. NaN without any.
fn noise(differences: &[u64]) -> f64 {
    let half = differences.iter().sum::<u64>() as f64 / 2.0;
    let mut below = 0.0;
    for (k, n) in differences.iter().enumerate() {
        let n = *n as f64;
        if n > 0.0 && below + n >= half {
            // A bin holds what rounds to it.
            let median = (k as f64 - 0.5 + (half - below) / n).max(0.0);
            return median / (0.6745 * std::f64::consts::SQRT_2);
        }
        below += n;
    }
    f64::NAN
}

/// Median HU of a histogram that starts at -1024; NaN when it is empty.
fn median(histogram: &[u64]) -> f64 {
    let total: u64 = histogram.iter().sum();
    let mut seen = 0;
    for (k, n) in histogram.iter().enumerate() {
        seen += n;
        if total > 0 && 2 * seen >= total {
            return k as f64 - 1024.0;
        }
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Geometry, LabelScheme};
    use ndarray::{Array3, s};

    #[test]
    fn the_median_of_a_histogram() {
        let mut histogram = vec![0; 4096];
        (histogram[1024 + 100], histogram[1024 + 110], histogram[1024 + 120]) = (2, 5, 1);
        assert_eq!(median(&histogram), 110.0);
        assert!(median(&[0; 4096]).is_nan());
    }

    #[test]
    fn noise_of_a_known_deviation_is_found_whatever_the_edges_do() {
        // |N(0, 1)| times 10 sqrt 2, by its quantiles: two voxels with noise of 10 HU each; one of ten lies at an edge.
        let mut differences = vec![0; HISTOGRAM_BINS];
        for (k, share) in [(0.125661, 1), (0.385320, 1), (0.674490, 1), (1.036433, 1), (1.644854, 1)] {
            differences[(k * 10.0 * 2f64.sqrt()).round() as usize] += share * 18;
        }
        assert!((noise(&differences) - 10.0).abs() < 1.0, "{}", noise(&differences));
        differences[900] += 10;
        assert!((noise(&differences) - 10.0).abs() < 2.0, "{}", noise(&differences));
        assert!(noise(&[0; 4]).is_nan());
    }

    /// A liver of 6 x 10 x 4 voxels of 2 x 2 x 5 mm that touches the low end of x; metal beside it and in another slice.
    #[test]
    fn what_is_measured_of_a_drawn_box() {
        let geometry = Geometry {
            size: [20, 20, 8],
            spacing_mm: [2.0, 2.0, 5.0],
            origin_mm: [0.0; 3],
            direction: Geometry::IDENTITY,
        };
        let mut hu = Array3::from_elem((8, 20, 20), 40.0);
        let mut labels = Array3::<u8>::zeros((8, 20, 20));
        labels.slice_mut(s![2..6, 5..15, 0..6]).fill(1);
        labels.slice_mut(s![2..6, 5..15, 12..18]).fill(2); // a spleen on the left
        for ((_, _, x), value) in hu.slice_mut(s![2..6, 5..15, 0..6]).indexed_iter_mut() {
            *value = if x % 2 == 0 { 100.0 } else { 120.0 }; // neighbors differ by 20
        }
        hu[[3, 0, 0]] = 3000.0;
        hu[[7, 0, 0]] = 3000.0; // no liver in this slice
        hu.slice_mut(s![3, 4, 0..6]).fill(-2000.0); // padding beside six voxels of the liver
        let entries = vec![(1, Region::Liver, String::new()), (2, Region::Spleen, String::new())];
        let labels = LabelMap { labels, geometry: geometry.clone(), scheme: LabelScheme { entries } };
        let m = measure(&Volume { hu, geometry }, &labels, OnGrid::default());
        assert!((m.liver_ml - 240.0 * 0.02).abs() < 1e-12);
        assert!((m.noise_hu - 20.0 / 0.6745 / 2f64.sqrt()).abs() < 0.1, "{}", m.noise_hu);
        assert!((m.metal_ml - 0.02).abs() < 1e-12);
        // 40 faces of 2 x 5 mm at the end of the array, 6 of 2 x 5 mm beside padding.
        assert!((m.side_cut_cm2 - 4.6).abs() < 1e-9, "{}", m.side_cut_cm2);
        assert!((m.right_of_spleen_mm - 24.0).abs() < 1e-9);
        assert_eq!((m.cut, m.slice_spacing_mm, m.z_extent_mm), (0.0, 5.0, 40.0));
        assert!(m.aorta_hu.is_nan());
    }
}
