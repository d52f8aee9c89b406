//! The quality gate: may this segmentation carry a risk? Measures first, then limits from the package, then sentences.

mod image;
mod limits;
mod measure;
mod phase;
mod stability;

pub use image::{Image, image};
pub use limits::{Expected, ExpectedRegion, ImageLimits, Limits};
pub use measure::measure;
pub use phase::{Phase, phase};
pub use stability::{Calibration, disagreement, disturbed};

use crate::volume::Region;
use ndarray::Array3;

/// What was measured. A figure that could not be measured is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// Liver with its lesions.
    pub liver_ml: f64,
    /// Median HU inside the liver, lesions left out.
    pub liver_hu: f64,
    /// Median HU inside the aorta, where the network has one.
    pub aorta_hu: f64,
    /// Noise of one voxel inside the liver, from the differences of neighbors (less than the truth where noise is correlated).
    pub noise_hu: f64,
    /// Extent of the scan along the body axis.
    pub z_extent_mm: f64,
    /// Distance between slices along the body axis.
    pub slice_spacing_mm: f64,
    /// Liver area in the end slice that holds more of it, relative to the largest area.
    pub cut: f64,
    /// The same for the other end slice: above 0 only if the liver is cut at both ends.
    pub cut_other_end: f64,
    /// Surface of the liver at the sides of the scan or beside the scanner's padding.
    pub side_cut_cm2: f64,
    /// How far the liver's center lies to the patient's right of the body's center.
    pub right_of_center_mm: f64,
    /// The same of the spleen's center, where the network has one.
    pub right_of_spleen_mm: f64,
    /// Share of voxels that are body (above -300 HU).
    pub body_share: f64,
    /// Share of voxels below -800 HU: the air round a patient.
    pub air_share: f64,
    /// Metal (over 2500 HU) in the slices that hold liver.
    pub metal_ml: f64,
    /// Colorectal tumor.
    pub tumor_ml: f64,
    /// What was measured on the network's grid.
    pub on_grid: OnGrid,
}

impl Measures {
    /// The contrast phase that the blood and the liver show.
    pub fn phase(&self) -> Phase {
        phase(self.aorta_hu, self.liver_hu)
    }
}

/// How sure the network is of one region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certainty {
    /// Which.
    pub region: Region,
    /// Mean entropy inside it, nats.
    pub entropy: f64,
    /// 1 - Dice between the answers to the image and to the image moved, blurred and with noise.
    pub disagreement: f64,
    /// The Dice that volumes with such measures had when the package was calibrated.
    pub expected_dice: f64,
}

/// What is measured on the network's grid, where neither the scanner's noise nor its voxel size matters much.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OnGrid {
    /// Mean entropy inside the liver, nats.
    pub entropy: f64,
    /// Share of the raw liver outside its largest component.
    pub fragments: f64,
    /// Of all voxels from -150 to 0 HU the share above -60 HU: fine structures between fat and organs. Patients have 34 to 57 %
    /// (four CTs, one of them a head; a slab of one 29 %), 40 phantoms of three voxel sizes 5 to 15 % (2026-11-25), so it tells a
    /// network's own world from another. Without any such voxel it is 1.
    pub between_share: f64,
    /// What the image shows whatever the network says.
    pub image: Image,
    /// Per region that was found and that the package is calibrated for.
    pub certainty: Vec<Certainty>,
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

    /// `accept`, `accept with notes` or `refuse`.
    pub fn outcome(&self) -> &'static str {
        match (self.reasons.is_empty(), self.notes.is_empty()) {
            (false, _) => "refuse",
            (true, true) => "accept",
            (true, false) => "accept with notes",
        }
    }
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
    let (image, i) = (&m.on_grid.image, &l.image);
    if image.fat_share < i.fat_share_refuse_under {
        reason(
            "gate.no-fat",
            format!(
                "only {:.1} % of the body has the HU of fat: this is no CT of a patient, or its HU are wrong",
                100.0 * image.fat_share
            ),
        );
    }
    if image.dense_share > i.dense_share_refuse_over {
        reason(
            "gate.hu-scale",
            format!(
                "{:.0} % of the body is denser than 300 HU: the HU scale is wrong (a rescale intercept left out?), or this is no abdomen",
                100.0 * image.dense_share
            ),
        );
    }
    if m.slice_spacing_mm > i.slice_spacing_mm_refuse_over {
        reason("gate.thick-slices", format!("slices {:.1} mm apart are too far for a volume", m.slice_spacing_mm));
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
    if m.on_grid.entropy > l.entropy_refuse_over {
        reason(
            "gate.uncertain",
            format!(
                "the network is unsure about the liver (mean entropy {:.2} nats, limit {:.2})",
                m.on_grid.entropy, l.entropy_refuse_over
            ),
        );
    }
    if m.on_grid.fragments > l.fragments_refuse_over {
        reason(
            "gate.fragments",
            format!("{:.0} % of what looked like liver lies in separate pieces", 100.0 * m.on_grid.fragments),
        );
    }
    if m.liver_hu.is_nan() {
        reason("gate.liver-hu", "what was found is all lesion and no liver".into());
    } else if m.liver_hu < l.liver_hu_refuse_under || m.liver_hu > l.liver_hu_refuse_over {
        reason("gate.liver-hu", format!("the liver's median of {:.0} HU is implausible", m.liver_hu));
    }
    if m.right_of_center_mm < i.right_of_center_mm_refuse_under {
        reason(
            "gate.liver-side",
            "the liver does not lie on the patient's right: orientation or segmentation is wrong".into(),
        );
    }
    if image.lung_ml > i.lung_ml_counts_from && image.lung_above_mm < i.lung_above_mm_refuse_under {
        reason("gate.upside-down", "the lungs lie below the liver: head and feet are exchanged".into());
    }
    if image.bone_behind_mm < i.bone_behind_mm_refuse_under {
        reason(
            "gate.back-to-front",
            "the bones lie before the middle of the body: front and back are exchanged".into(),
        );
    }
    if m.side_cut_cm2 > i.side_cut_cm2_refuse_over {
        reason(
            "gate.liver-side-cut",
            format!(
                "{:.0} cm2 of the liver's surface lie at the side of the scan: part of it is missing",
                m.side_cut_cm2
            ),
        );
    }
    if m.noise_hu > i.noise_hu_refuse_over {
        reason("gate.noise", format!("noise of {:.0} HU inside the liver hides everything", m.noise_hu));
    }
    if let (Some(expected), Some(liver)) = (&l.expected, expected_liver(m))
        && liver < expected.refuse_under
    {
        reason(
            "gate.expected-dice",
            format!(
                "volumes on which the network was as unsure as here had a liver Dice of about {liver:.2}, less than {:.2}",
                expected.refuse_under
            ),
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
    if m.on_grid.between_share.is_nan() || m.on_grid.between_share > l.between_share_refuse_over {
        let (found, most) = (100.0 * m.on_grid.between_share, 100.0 * l.between_share_refuse_over);
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
    if m.on_grid.entropy > l.entropy_note_over {
        note(
            "gate.entropy",
            format!("the network is less sure than usual about the liver (mean entropy {:.2} nats)", m.on_grid.entropy),
        );
    }
    if m.on_grid.fragments > l.fragments_note_over {
        note(
            "gate.pieces",
            format!("{:.0} % of what looked like liver was removed as separate pieces", 100.0 * m.on_grid.fragments),
        );
    }
    if m.cut > l.cut_note_over {
        note(
            "gate.liver-edge",
            "the liver touches an end of the scan: its volume and shape are not complete and must not be used".into(),
        );
    }
    match m.phase() {
        Phase::PortalVenous => {}
        Phase::Unknown if m.liver_hu < l.liver_hu_note_under => {
            note("gate.phase", format!("a liver of {:.0} HU is probably not in the portal-venous phase", m.liver_hu));
        }
        Phase::Unknown => {}
        phase => note(
            "gate.phase",
            format!(
                "the contrast phase looks {} (aorta {:.0} HU, liver {:.0} HU), not portal-venous: brightness and texture differ \
                 from what a nomogram of portal-venous scans knows",
                phase.name(),
                m.aorta_hu,
                m.liver_hu
            ),
        ),
    }
    if let (Some(expected), Some(liver)) = (&l.expected, expected_liver(m))
        && liver < expected.note_under
    {
        note(
            "gate.expected-dice-low",
            format!("a liver Dice of about {liver:.2} is expected where the network is as unsure as here"),
        );
    }
    if m.right_of_spleen_mm < 0.0 {
        // A note only: networks find the spleen less surely than the liver.
        note("gate.spleen-side", "what looks like spleen lies to the right of the liver".into());
    }
    if m.slice_spacing_mm > i.slice_spacing_mm_note_over {
        note("gate.slice-spacing", format!("slices {:.1} mm apart blur shape and texture", m.slice_spacing_mm));
    }
    if m.noise_hu > i.noise_hu_note_over {
        note("gate.noisy", format!("noise of {:.0} HU inside the liver changes its texture", m.noise_hu));
    }
    if m.metal_ml > i.metal_ml_note_over {
        note("gate.metal", format!("{:.1} mL of metal lie in the slices of the liver: streaks cross it", m.metal_ml));
    }
    if image.bands_hu > i.bands_hu_note_over {
        note(
            "gate.streaks",
            format!(
                "bands of {:.0} HU run from side to side through the liver (arms beside the body, metal)",
                image.bands_hu
            ),
        );
    }
    if m.side_cut_cm2 > i.side_cut_cm2_note_over {
        note(
            "gate.liver-side-edge",
            format!(
                "{:.0} cm2 of the liver's surface lie at the side of the scan: its volume and shape are not complete",
                m.side_cut_cm2
            ),
        );
    }
    if m.tumor_ml > l.tumor_ml_note_over {
        note("gate.tumor-volume-unusual", format!("the colorectal tumor of {:.0} mL is unusual", m.tumor_ml));
    }
    if m.tumor_ml == 0.0 {
        note("gate.no-tumor", "no colorectal tumor is marked: the risk is computed without tumor features".into());
    }
    gate
}

fn expected_liver(m: &Measures) -> Option<f64> {
    let liver = m.on_grid.certainty.iter().find(|c| c.region == Region::Liver)?;
    Some(liver.expected_dice).filter(|dice| dice.is_finite())
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
        image: ImageLimits {
            fat_share_refuse_under: 0.01,
            dense_share_refuse_over: 0.3,
            bone_behind_mm_refuse_under: -5.0,
            right_of_center_mm_refuse_under: 20.0,
            lung_above_mm_refuse_under: -20.0,
            lung_ml_counts_from: 200.0,
            noise_hu_note_over: 40.0,
            noise_hu_refuse_over: 120.0,
            slice_spacing_mm_note_over: 5.5,
            slice_spacing_mm_refuse_over: 10.5,
            side_cut_cm2_note_over: 5.0,
            side_cut_cm2_refuse_over: 40.0,
            metal_ml_note_over: 0.1,
            bands_hu_note_over: 8.0,
        },
        expected: Some(Expected { note_under: 0.9, refuse_under: 0.8, regions: Vec::new() }),
    };

    fn good() -> Measures {
        Measures {
            liver_ml: 1500.0,
            liver_hu: 110.0,
            aorta_hu: 150.0,
            noise_hu: 12.0,
            z_extent_mm: 320.0,
            slice_spacing_mm: 2.5,
            cut: 0.0,
            cut_other_end: 0.0,
            side_cut_cm2: 0.0,
            right_of_center_mm: 55.0,
            right_of_spleen_mm: 110.0,
            body_share: 0.4,
            air_share: 0.5,
            metal_ml: 0.0,
            tumor_ml: 20.0,
            on_grid: on_grid(),
        }
    }

    fn on_grid() -> OnGrid {
        let liver = Certainty { region: Region::Liver, entropy: 0.1, disagreement: 0.01, expected_dice: 0.96 };
        OnGrid { entropy: 0.1, fragments: 0.0, between_share: 0.1, image: seen(), certainty: vec![liver] }
    }

    fn seen() -> Image {
        Image {
            fat_share: 0.3,
            dense_share: 0.04,
            lung_ml: 1500.0,
            lung_above_mm: 90.0,
            bone_behind_mm: 25.0,
            bands_hu: 3.0,
        }
    }

    fn with_image(image: Image) -> Measures {
        Measures { on_grid: OnGrid { image, ..on_grid() }, ..good() }
    }

    fn expecting(expected_dice: f64) -> Measures {
        let mut measures = good();
        measures.on_grid.certainty[0].expected_dice = expected_dice;
        measures
    }

    fn codes(gate: &Gate) -> Vec<&'static str> {
        gate.notes.iter().map(|n| n.code).collect()
    }

    #[test]
    fn a_good_study_passes_without_a_note() {
        assert_eq!(judge(&good(), &LIMITS), Gate::default());
    }

    #[test]
    fn each_limit_has_its_code() {
        let on_grid = |change: fn(&mut OnGrid)| {
            let mut measures = good();
            change(&mut measures.on_grid);
            measures
        };
        let cases = [
            (Measures { body_share: 0.01, ..good() }, "gate.no-body"),
            (Measures { liver_hu: f64::NAN, ..good() }, "gate.liver-hu"),
            (Measures { cut: 0.1, cut_other_end: 0.1, ..good() }, "gate.liver-cut"),
            (Measures { liver_ml: 200.0, ..good() }, "gate.liver-volume"),
            (on_grid(|m| m.entropy = 0.7), "gate.uncertain"),
            (on_grid(|m| m.fragments = 0.5), "gate.fragments"),
            (Measures { liver_hu: 1100.0, ..good() }, "gate.liver-hu"),
            (Measures { z_extent_mm: 40.0, ..good() }, "gate.short-scan"),
            (Measures { cut: 0.9, ..good() }, "gate.liver-cut"),
            (Measures { right_of_center_mm: -50.0, ..good() }, "gate.liver-side"),
            (on_grid(|m| m.between_share = 0.4), "gate.other-world"),
            (Measures { liver_ml: 0.0, ..good() }, "gate.no-liver"),
            (with_image(Image { fat_share: 0.0, ..seen() }), "gate.no-fat"),
            (with_image(Image { dense_share: 0.9, ..seen() }), "gate.hu-scale"),
            (with_image(Image { lung_above_mm: -80.0, ..seen() }), "gate.upside-down"),
            (with_image(Image { bone_behind_mm: -25.0, ..seen() }), "gate.back-to-front"),
            (Measures { side_cut_cm2: 120.0, ..good() }, "gate.liver-side-cut"),
            (Measures { noise_hu: 200.0, ..good() }, "gate.noise"),
            (Measures { slice_spacing_mm: 15.0, ..good() }, "gate.thick-slices"),
            (expecting(0.7), "gate.expected-dice"),
        ];
        for (measures, code) in cases {
            let gate = judge(&measures, &LIMITS);
            assert!(gate.reasons.iter().any(|r| r.code == code), "{code}: {gate:?}");
        }
        let notes = [
            (Measures { aorta_hu: 40.0, liver_hu: 50.0, ..good() }, "gate.phase"),
            (Measures { aorta_hu: 320.0, liver_hu: 70.0, ..good() }, "gate.phase"),
            (Measures { slice_spacing_mm: 7.0, ..good() }, "gate.slice-spacing"),
            (Measures { noise_hu: 60.0, ..good() }, "gate.noisy"),
            (Measures { right_of_spleen_mm: -110.0, ..good() }, "gate.spleen-side"),
            (Measures { metal_ml: 1.0, ..good() }, "gate.metal"),
            (Measures { side_cut_cm2: 9.0, ..good() }, "gate.liver-side-edge"),
            (with_image(Image { bands_hu: 15.0, ..seen() }), "gate.streaks"),
            (expecting(0.85), "gate.expected-dice-low"),
        ];
        for (measures, code) in notes {
            let gate = judge(&measures, &LIMITS);
            assert!(gate.accepts() && codes(&gate) == [code], "{code}: {gate:?}");
        }
        // A little lung, or none, says nothing about up and down.
        assert!(judge(&with_image(Image { lung_ml: 50.0, lung_above_mm: -80.0, ..seen() }), &LIMITS).accepts());
        assert!(judge(&with_image(Image::default()), &LIMITS).accepts());
        let large = judge(&Measures { tumor_ml: 240.0, ..good() }, &LIMITS);
        assert!(large.accepts() && large.notes[0].code == "gate.tumor-volume-unusual");
        let noted = Measures { liver_hu: 45.0, aorta_hu: f64::NAN, cut: 0.1, tumor_ml: 0.0, ..good() };
        let noted = judge(&noted, &LIMITS);
        assert!(noted.accepts());
        assert_eq!(codes(&noted), ["gate.liver-edge", "gate.phase", "gate.no-tumor"]);
    }

    #[test]
    fn the_share_between_fat_and_organs() {
        // -100 and -80 HU are fat, -30 lies between; air and muscle do not count: 1 of 3.
        let hu = Array3::from_shape_vec((1, 1, 5), vec![-1000.0, -100.0, -80.0, -30.0, 50.0]).expect("five values");
        assert_eq!(between_share(&hu), 1.0 / 3.0);
        assert_eq!(between_share(&Array3::zeros((1, 1, 1))), 1.0);
    }
}
