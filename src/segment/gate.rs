//! The quality gate: may this segmentation carry a risk? Measures first, then limits from the package, then sentences.

use crate::volume::{LabelMap, Region, Volume};
use ndarray::{Array3, ArrayView2, Axis};
use rayon::prelude::*;

/// Limits of the gate, as a package states them for its network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// A smaller liver is not believed.
    pub liver_ml_refuse_under: f64,
    /// A larger liver is not believed.
    pub liver_ml_refuse_over: f64,
    /// A smaller liver is noted.
    pub liver_ml_note_under: f64,
    /// A larger liver is noted.
    pub liver_ml_note_over: f64,
    /// Mean entropy (nats) inside the liver above which the network does not know what it sees.
    pub entropy_refuse_over: f64,
    /// Mean entropy (nats) that is noted.
    pub entropy_note_over: f64,
    /// Share of the liver in fragments that is refused.
    pub fragments_refuse_over: f64,
    /// Share of the liver in fragments that is noted.
    pub fragments_note_over: f64,
    /// Median HU of the liver, lowest.
    pub liver_hu_refuse_under: f64,
    /// Median HU of the liver, highest.
    pub liver_hu_refuse_over: f64,
    /// Median HU below which the phase is probably not portal-venous.
    pub liver_hu_note_under: f64,
    /// Shortest scan along the body axis.
    pub z_extent_mm_refuse_under: f64,
    /// Liver area in an end slice, relative to its largest slice, that is refused.
    pub cut_refuse_over: f64,
    /// Liver area in an end slice, relative to its largest slice, that is noted.
    pub cut_note_over: f64,
    /// A larger colorectal tumor is noted.
    pub tumor_ml_note_over: f64,
    /// [`Measures::between_share`] above which the image is from another world than the network's.
    pub between_share_refuse_over: f64,
}

impl Limits {
    /// Whether all limits are finite and each refusal lies beyond its note, so that none silently never fires.
    pub fn are_ordered(&self) -> bool {
        let rising = [
            [self.liver_ml_refuse_under, self.liver_ml_note_under],
            [self.liver_ml_note_under, self.liver_ml_note_over],
            [self.liver_ml_note_over, self.liver_ml_refuse_over],
            [self.entropy_note_over, self.entropy_refuse_over],
            [self.fragments_note_over, self.fragments_refuse_over],
            [self.liver_hu_refuse_under, self.liver_hu_note_under],
            [self.liver_hu_note_under, self.liver_hu_refuse_over],
            [self.cut_note_over, self.cut_refuse_over],
            [0.0, self.between_share_refuse_over],
        ];
        self.z_extent_mm_refuse_under.is_finite()
            && self.tumor_ml_note_over.is_finite()
            && rising.iter().all(|[low, high]| high.is_finite() && low.is_finite() && low <= high)
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// Liver with its lesions.
    pub liver_ml: f64,
    /// Median HU inside the liver, lesions left out.
    pub liver_hu: f64,
    /// Mean entropy inside the liver, nats.
    pub entropy: f64,
    /// Share of the raw liver outside its largest component.
    pub fragments: f64,
    /// Extent of the scan along the body axis.
    pub z_extent_mm: f64,
    /// Liver area in the end slice that holds more of it, relative to the largest area.
    pub cut: f64,
    /// The same for the other end slice: above 0 only if the liver is cut at both ends.
    pub cut_other_end: f64,
    /// How far the liver's center lies to the patient's right of the body's center.
    pub right_of_center_mm: f64,
    /// Share of voxels that are body (above -300 HU).
    pub body_share: f64,
    /// Share of voxels below -800 HU: the air round a patient.
    pub air_share: f64,
    /// See [`OnGrid::between_share`].
    pub between_share: f64,
    /// Colorectal tumor.
    pub tumor_ml: f64,
}

/// What is measured on the network's grid, where neither the scanner's noise nor its voxel size matters much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnGrid {
    /// Mean entropy inside the liver, nats.
    pub entropy: f64,
    /// Share of the raw liver outside its largest component.
    pub fragments: f64,
    /// Of all voxels from -150 to 0 HU the share above -60 HU: fine structures between fat and organs. Patients have 34 to 57 %
    /// (four CTs, one of them a head; a slab of one 29 %), 40 phantoms of three voxel sizes 5 to 15 % (2026-11-25), so it tells a network's own world from
    /// another. Without any such voxel it is 1.
    pub between_share: f64,
}

/// [`OnGrid::between_share`] of HU on the network's grid.
pub fn between_share(hu: &Array3<f32>) -> f64 {
    let (mut n_between, mut n_all) = (0u64, 0u64);
    for hu in hu.iter().filter(|hu| (-150.0..0.0).contains(*hu)) {
        n_all += 1;
        n_between += u64::from(*hu > -60.0);
    }
    if n_all == 0 { 1.0 } else { n_between as f64 / n_all as f64 }
}

/// A reason to refuse or a note: stable code, what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable code.
    pub code: &'static str,
    /// What was found and what it means.
    pub sentence: String,
    /// What to do.
    pub advice: &'static str,
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gate {
    /// Not empty: no risk may be computed from this segmentation.
    pub reasons: Vec<Finding>,
    /// Remarks that travel with the result.
    pub notes: Vec<Finding>,
}

impl Gate {
    /// Whether the segmentation may carry a risk.
    pub fn accepts(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Sums over one slice of the array, and, added in slice order, over all: the same for any number of threads.
#[derive(Default)]
struct Tally {
    /// Liver voxels per index along the body axis.
    areas: Vec<u64>,
    /// Liver without lesions, HU -1024 to 3071.
    histogram: Vec<u64>,
    n_liver: u64,
    n_body: u64,
    n_air: u64,
    /// Sums of voxel indices x, y, z.
    liver_at: [u64; 3],
    body_at: [u64; 3],
}

/// Bins of the liver's histogram, 1 HU each from -1024.
const HISTOGRAM_BINS: usize = 4096;

impl Tally {
    fn of_slice(
        z: usize,
        hu: ArrayView2<f32>,
        labels: ArrayView2<u8>,
        values: [u8; 2],
        body_axis: usize,
        n_areas: usize,
    ) -> Tally {
        let mut t = Tally { areas: vec![0; n_areas], histogram: vec![0; HISTOGRAM_BINS], ..Tally::default() };
        ndarray::Zip::indexed(labels).and(hu).for_each(|(y, x), label, &hu| {
            let at = [x, y, z];
            if hu > -300.0 {
                t.n_body += 1;
                (0..3).for_each(|a| t.body_at[a] += at[a] as u64);
            }
            t.n_air += u64::from(hu < -800.0);
            if *label != 0 && values.contains(label) {
                t.n_liver += 1;
                t.areas[at[body_axis]] += 1;
                (0..3).for_each(|a| t.liver_at[a] += at[a] as u64);
                if *label == values[0] {
                    t.histogram[(hu.clamp(-1024.0, 3071.0) + 1024.0) as usize] += 1;
                }
            }
        });
        t
    }

    fn add(mut self, other: Tally) -> Tally {
        let add = |to: &mut Vec<u64>, from: Vec<u64>| {
            to.resize(to.len().max(from.len()), 0);
            to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        };
        add(&mut self.areas, other.areas);
        add(&mut self.histogram, other.histogram);
        for a in 0..3 {
            self.liver_at[a] += other.liver_at[a];
            self.body_at[a] += other.body_at[a];
        }
        self.n_liver += other.n_liver;
        self.n_body += other.n_body;
        self.n_air += other.n_air;
        self
    }
}

/// Measures a segmentation on the volume's own grid and adds what was measured on the network's.
pub fn measure(volume: &Volume, labels: &LabelMap, on_grid: OnGrid) -> Measures {
    let g = &volume.geometry;
    let liver_value = labels.scheme.value_of(Region::Liver).unwrap_or(0);
    let values = [liver_value, labels.scheme.value_of(Region::LiverLesion).unwrap_or(liver_value)];
    // The source axis closest to the body axis (LPS z).
    let body_axis = (0..3).max_by(|a, b| g.direction[2][*a].abs().total_cmp(&g.direction[2][*b].abs())).unwrap_or(2);
    let slices =
        volume.hu.axis_iter(Axis(0)).into_par_iter().zip(labels.labels.axis_iter(Axis(0)).into_par_iter()).enumerate();
    let tallies: Vec<Tally> =
        slices.map(|(z, (hu, labels))| Tally::of_slice(z, hu, labels, values, body_axis, g.size[body_axis])).collect();
    let t = tallies.into_iter().fold(Tally::default(), Tally::add);
    let center_mm = |sum: [u64; 3], n: u64| g.position_mm(sum.map(|s| s as f64 / n.max(1) as f64));
    let largest = t.areas.iter().copied().max().unwrap_or(0).max(1) as f64;
    let ends = [t.areas.first(), t.areas.last()].map(|n| n.copied().unwrap_or(0) as f64 / largest);
    let voxels = labels.labels.len().max(1) as f64;
    Measures {
        liver_ml: t.n_liver as f64 * g.voxel_mm3() / 1000.0,
        liver_hu: median(&t.histogram),
        entropy: on_grid.entropy,
        fragments: on_grid.fragments,
        z_extent_mm: g.size[body_axis] as f64 * g.spacing_mm[body_axis],
        cut: ends[0].max(ends[1]),
        cut_other_end: ends[0].min(ends[1]),
        right_of_center_mm: center_mm(t.body_at, t.n_body)[0] - center_mm(t.liver_at, t.n_liver)[0],
        body_share: t.n_body as f64 / voxels,
        air_share: t.n_air as f64 / voxels,
        between_share: on_grid.between_share,
        tumor_ml: labels.volume_ml(Region::ColorectalTumor),
    }
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

const SOURCE: &str =
    "check that a contrast CT of the whole abdomen was sent; the risk needs an image like those the model was made for";
const REVIEW: &str = "look at the overlay pictures before using any number of this result";

/// Of a model that does not know the liver: its labels carry no risk.
pub fn without_liver() -> Gate {
    let reason = Finding {
        code: "gate.no-liver-label",
        sentence: "the model has no label for the liver, so its labels carry no risk".into(),
        advice: "use them as labels, or use a model that finds the liver",
    };
    Gate { reasons: vec![reason], notes: Vec::new() }
}

/// Judges measures by a package's limits.
pub fn judge(m: &Measures, l: &Limits) -> Gate {
    let mut gate = Gate::default();
    let mut reason = |code, sentence| gate.reasons.push(Finding { code, sentence, advice: SOURCE });
    if m.body_share < 0.02 || m.air_share > 0.98 {
        reason(
            "gate.no-body",
            format!("only {:.1} % of the voxels are body: this is not a CT of a patient", 100.0 * m.body_share),
        );
    }
    if m.air_share < 0.005 && m.body_share > 0.98 {
        reason("gate.no-air", "there is no air round or in the body: the HU scale is wrong or this is no CT".into());
    }
    if m.z_extent_mm < l.z_extent_mm_refuse_under {
        let least = l.z_extent_mm_refuse_under;
        reason(
            "gate.short-scan",
            format!(
                "the scan covers {:.0} mm along the body, less than {least:.0} mm: the liver is not inside",
                m.z_extent_mm
            ),
        );
    }
    if m.liver_ml == 0.0 {
        reason("gate.no-liver", "no liver was found".into());
        return gate;
    }
    if m.liver_ml < l.liver_ml_refuse_under || m.liver_ml > l.liver_ml_refuse_over {
        reason("gate.liver-volume", format!("a liver of {:.0} mL is implausible", m.liver_ml));
    }
    if m.entropy > l.entropy_refuse_over {
        reason(
            "gate.uncertain",
            format!(
                "the network is unsure about the liver (mean entropy {:.2} nats, limit {:.2})",
                m.entropy, l.entropy_refuse_over
            ),
        );
    }
    if m.fragments > l.fragments_refuse_over {
        reason(
            "gate.fragments",
            format!("{:.0} % of what looked like liver lies in separate pieces", 100.0 * m.fragments),
        );
    }
    if m.liver_hu.is_nan() {
        reason("gate.liver-hu", "what was found is all lesion and no liver".into());
    } else if m.liver_hu < l.liver_hu_refuse_under || m.liver_hu > l.liver_hu_refuse_over {
        reason("gate.liver-hu", format!("the liver's median of {:.0} HU is implausible", m.liver_hu));
    }
    if m.right_of_center_mm < 5.0 {
        reason(
            "gate.liver-side",
            "the liver does not lie on the patient's right: orientation or segmentation is wrong".into(),
        );
    }
    if m.cut_other_end > l.cut_note_over {
        reason("gate.liver-cut", "the scan begins and ends inside the liver: most of it is missing".into());
    } else if m.cut > l.cut_refuse_over {
        reason(
            "gate.liver-cut",
            format!("the scan ends inside the liver (end slice {:.0} % of its largest area)", 100.0 * m.cut),
        );
    }
    if m.between_share.is_nan() || m.between_share > l.between_share_refuse_over {
        let (found, most) = (100.0 * m.between_share, 100.0 * l.between_share_refuse_over);
        reason(
            "gate.other-world",
            format!(
                "{found:.0} % of the tissue from -150 to 0 HU lies between fat and organs, where the images that the network was made for \
                 have at most {most:.0} %: it does not know such images, and its labels mean nothing"
            ),
        );
    }
    let mut note = |code, sentence| gate.notes.push(Finding { code, sentence, advice: REVIEW });
    if m.liver_ml < l.liver_ml_note_under || m.liver_ml > l.liver_ml_note_over {
        note("gate.liver-volume-unusual", format!("the liver of {:.0} mL is unusual", m.liver_ml));
    }
    if m.entropy > l.entropy_note_over {
        note(
            "gate.entropy",
            format!("the network is less sure than usual about the liver (mean entropy {:.2} nats)", m.entropy),
        );
    }
    if m.fragments > l.fragments_note_over {
        note(
            "gate.pieces",
            format!("{:.0} % of what looked like liver was removed as separate pieces", 100.0 * m.fragments),
        );
    }
    if m.cut > l.cut_note_over {
        note(
            "gate.liver-edge",
            "the liver touches an end of the scan: its volume and shape are not complete and must not be used".into(),
        );
    }
    if m.liver_hu < l.liver_hu_note_under {
        note("gate.phase", format!("a liver of {:.0} HU is probably not in the portal-venous phase", m.liver_hu));
    }
    if m.tumor_ml > l.tumor_ml_note_over {
        note("gate.tumor-volume-unusual", format!("the colorectal tumor of {:.0} mL is unusual", m.tumor_ml));
    }
    if m.tumor_ml == 0.0 {
        note("gate.no-tumor", "no colorectal tumor was found: the risk is computed without tumor features".into());
    }
    gate
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        liver_ml_refuse_under: 400.0,
        liver_ml_refuse_over: 4000.0,
        liver_ml_note_under: 800.0,
        liver_ml_note_over: 3000.0,
        entropy_refuse_over: 0.6,
        entropy_note_over: 0.35,
        fragments_refuse_over: 0.3,
        fragments_note_over: 0.05,
        liver_hu_refuse_under: 0.0,
        liver_hu_refuse_over: 200.0,
        liver_hu_note_under: 80.0,
        z_extent_mm_refuse_under: 120.0,
        cut_refuse_over: 0.4,
        cut_note_over: 0.02,
        tumor_ml_note_over: 150.0,
        between_share_refuse_over: 0.22,
    };

    fn good() -> Measures {
        Measures {
            liver_ml: 1500.0,
            liver_hu: 110.0,
            entropy: 0.1,
            fragments: 0.0,
            z_extent_mm: 320.0,
            cut: 0.0,
            cut_other_end: 0.0,
            right_of_center_mm: 55.0,
            body_share: 0.4,
            air_share: 0.5,
            between_share: 0.1,
            tumor_ml: 20.0,
        }
    }

    #[test]
    fn a_good_study_passes_without_a_note() {
        assert_eq!(judge(&good(), &LIMITS), Gate::default());
    }

    #[test]
    fn each_limit_has_its_code() {
        let cases: [(Measures, &str); 12] = [
            (Measures { body_share: 0.01, ..good() }, "gate.no-body"),
            (Measures { liver_hu: f64::NAN, ..good() }, "gate.liver-hu"),
            (Measures { cut: 0.1, cut_other_end: 0.1, ..good() }, "gate.liver-cut"),
            (Measures { liver_ml: 200.0, ..good() }, "gate.liver-volume"),
            (Measures { entropy: 0.7, ..good() }, "gate.uncertain"),
            (Measures { fragments: 0.5, ..good() }, "gate.fragments"),
            (Measures { liver_hu: 1100.0, ..good() }, "gate.liver-hu"),
            (Measures { z_extent_mm: 40.0, ..good() }, "gate.short-scan"),
            (Measures { cut: 0.9, ..good() }, "gate.liver-cut"),
            (Measures { right_of_center_mm: -50.0, ..good() }, "gate.liver-side"),
            (Measures { between_share: 0.4, ..good() }, "gate.other-world"),
            (Measures { liver_ml: 0.0, ..good() }, "gate.no-liver"),
        ];
        for (measures, code) in cases {
            let gate = judge(&measures, &LIMITS);
            assert!(gate.reasons.iter().any(|r| r.code == code), "{code}: {gate:?}");
        }
        let large = judge(&Measures { tumor_ml: 240.0, ..good() }, &LIMITS);
        assert!(large.accepts() && large.notes[0].code == "gate.tumor-volume-unusual");
        let noted = judge(&Measures { liver_hu: 45.0, cut: 0.1, tumor_ml: 0.0, ..good() }, &LIMITS);
        assert!(noted.accepts());
        assert_eq!(
            noted.notes.iter().map(|n| n.code).collect::<Vec<_>>(),
            ["gate.liver-edge", "gate.phase", "gate.no-tumor"]
        );
    }

    #[test]
    fn the_share_between_fat_and_organs() {
        // -100 and -80 HU are fat, -30 lies between; air and muscle do not count: 1 of 3.
        let hu = Array3::from_shape_vec((1, 1, 5), vec![-1000.0, -100.0, -80.0, -30.0, 50.0]).expect("five values");
        assert_eq!(between_share(&hu), 1.0 / 3.0);
        assert_eq!(between_share(&Array3::zeros((1, 1, 1))), 1.0);
    }

    #[test]
    fn the_median_of_a_histogram() {
        let mut histogram = vec![0; 4096];
        (histogram[1024 + 100], histogram[1024 + 110], histogram[1024 + 120]) = (2, 5, 1);
        assert_eq!(median(&histogram), 110.0);
        assert!(median(&[0; 4096]).is_nan());
    }
}
