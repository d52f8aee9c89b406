//! The quality gate on what is sent by mistake: real head, chest and MR, phantoms of water and noise, and real abdomens that were cut,
//! turned, wrongly scaled or streaked. No result is accepted without a note; and good scans are not refused.

use crate::common::reference;
use metwatch::cli::load_image;
use metwatch::phantom::{self, Options};
use metwatch::segment::{Gate, Package, Segmentation, Segmenter};
use metwatch::service::read_package;
use metwatch::volume::{Geometry, Region, Volume, decode_image};
use ndarray::{Array3, Axis, s};
use std::path::Path;
use std::sync::OnceLock;

/// The segmenters that ship, each with its name.
fn shipped() -> &'static [(&'static str, Segmenter)] {
    static SHIPPED: OnceLock<Vec<(&'static str, Segmenter)>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let load = |name: &'static str| {
            let folder = Path::new("models").join(format!("segmenter-{name}"));
            let mut package = Package::from_files(read_package(&folder).expect("it ships")).expect("it is whole");
            // The gate judges what the first network found; the second one would take most of the time here.
            if package.refine.take().is_some() {
                package.scheme.entries.retain(|(_, region, _)| *region != Region::LiverLesion);
            }
            (name, Segmenter::load(package).expect("its golden vectors hold"))
        };
        metwatch::service::BUILT_IN.into_iter().map(load).collect()
    })
}

fn judged(segmenter: &Segmenter, volume: &Volume) -> Segmentation {
    segmenter.segment(volume, &|_| ()).expect("a volume of numbers is segmented")
}

fn codes(gate: &Gate) -> Vec<&'static str> {
    gate.reasons.iter().chain(&gate.notes).map(|f| f.code).collect()
}

/// Each segmenter refuses the volume; `because` names a code that must be among the reasons.
fn refused(what: &str, volume: &Volume, because: &[&str]) {
    for (name, segmenter) in shipped() {
        let gate = judged(segmenter, volume).gate;
        assert!(!gate.accepts(), "{what} is accepted by {name}: {:?}", codes(&gate));
        let reasons: Vec<_> = gate.reasons.iter().map(|f| f.code).collect();
        let named = because.is_empty() || because.iter().any(|code| reasons.contains(code));
        assert!(named, "{what}: {name} refuses by {reasons:?}, not by one of {because:?}");
    }
}

/// No segmenter accepts the volume without a note.
fn noted(what: &str, volume: &Volume) {
    for (name, segmenter) in shipped() {
        let gate = judged(segmenter, volume).gate;
        assert!(!codes(&gate).is_empty(), "{what} is accepted by {name} without a note");
    }
}

fn nifti(path: &str) -> Volume {
    decode_image(&std::fs::read(reference(path)).expect("readable")).expect("an image").to_volume().expect("numbers")
}

fn example_ct() -> Volume {
    nifti("totalsegmentator/example_ct.nii.gz")
}

fn crlm_1004() -> Volume {
    let mut volume = load_image(&reference("crlm_ct/CRLM-CT-1004")).unwrap_or_else(|e| panic!("{e}"));
    // Every second column and row: a quarter of the work, still finer than the networks' grids.
    volume.hu = volume.hu.slice(s![.., ..;2, ..;2]).to_owned();
    for axis in [0, 1] {
        volume.geometry.size[axis] = volume.hu.len_of(Axis(2 - axis));
        volume.geometry.spacing_mm[axis] *= 2.0;
    }
    volume
}

/// Real abdomens.
fn abdomens() -> [(&'static str, Volume); 2] {
    [("example_ct", example_ct()), ("CRLM-CT-1004", crlm_1004())]
}

fn part(volume: &Volume, axis: usize, from: usize, to: usize) -> Volume {
    let mut geometry = volume.geometry.clone();
    let mut at = [0.0; 3];
    at[2 - axis] = from as f64;
    geometry.origin_mm = volume.geometry.position_mm(at);
    geometry.size[2 - axis] = to - from;
    Volume { hu: volume.hu.slice_axis(Axis(axis), (from..to).into()).to_owned(), geometry }
}

fn with_hu(volume: &Volume, hu: Array3<f32>) -> Volume {
    Volume { hu, geometry: volume.geometry.clone() }
}

/// A number for every voxel from -0.5 to 0.5, the same on every machine.
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
}

fn grid(size: [usize; 3], spacing_mm: [f64; 3]) -> Geometry {
    Geometry { size, spacing_mm, origin_mm: [0.0; 3], direction: Geometry::IDENTITY }
}

#[test]
fn images_of_other_parts_and_other_machines_are_refused() {
    refused("a chest CT", &nifti("ibsi1/ct_phantom/nifti/image/phantom.nii.gz"), &[]);
    for mr in ["brain1", "brain2", "breast1"] {
        refused(
            mr,
            &nifti(&format!("pyradiomics/{mr}_image.nrrd")),
            &["gate.no-air", "gate.hu-scale", "gate.no-fat", "gate.no-body"],
        );
    }
    refused("a crop of a liver", &nifti("clm_example/image.nii.gz"), &[]);
}

#[test]
fn water_noise_and_nothing_are_refused() {
    let geometry = grid([128, 128, 60], [3.0, 3.0, 5.0]);
    let mut state = 7;
    let cylinder = Array3::from_shape_fn(geometry.shape_zyx(), |(_, y, x)| {
        let r = 3.0 * (x as f64 - 63.5).hypot(y as f64 - 63.5);
        let hu = if r < 150.0 {
            0.0
        } else if r < 160.0 {
            120.0
        } else {
            -1000.0
        };
        hu + 20.0 * random(&mut state)
    });
    refused("a water phantom", &Volume { hu: cylinder, geometry: geometry.clone() }, &["gate.no-fat"]);
    for (mean, spread) in [(0.0, 2000.0), (40.0, 60.0), (-300.0, 1500.0)] {
        let hu = Array3::from_shape_simple_fn(geometry.shape_zyx(), || mean + spread * random(&mut state));
        refused("noise", &Volume { hu, geometry: geometry.clone() }, &[]);
    }
    for hu in [-1000.0, 0.0, 60.0] {
        refused(
            "one value",
            &Volume { hu: Array3::from_elem(geometry.shape_zyx(), hu), geometry: geometry.clone() },
            &[],
        );
    }
}

#[test]
fn a_wrong_scale_is_refused() {
    for (what, volume) in abdomens() {
        let shifted = with_hu(&volume, volume.hu.mapv(|hu| hu + 1024.0));
        refused(what, &shifted, &["gate.hu-scale", "gate.no-air", "gate.no-fat"]);
    }
    // A wrong rescale slope, and the values of an 8-bit picture.
    let volume = example_ct();
    refused("a tenth of the HU", &with_hu(&volume, volume.hu.mapv(|hu| hu.max(-1000.0) / 10.0)), &["gate.no-air"]);
    let picture = volume.hu.mapv(|hu| ((hu + 160.0) / 400.0).clamp(0.0, 1.0) * 255.0);
    refused("an 8-bit picture", &with_hu(&volume, picture), &["gate.no-air"]);
}

#[test]
fn abdomens_that_were_turned_are_refused() {
    for (what, volume) in abdomens() {
        for (how, axis) in [("upside down", 0), ("back to front", 1), ("left to right", 2)] {
            let mut turned = volume.clone();
            turned.hu.invert_axis(Axis(axis));
            refused(&format!("{what} {how}"), &turned, &[]);
        }
    }
}

#[test]
fn abdomens_that_were_cut_are_never_accepted_without_a_note() {
    for (what, volume) in abdomens() {
        for axis in 0..3 {
            let n = volume.hu.len_of(Axis(axis));
            for (half, from, to) in [("first", 0, n / 2), ("second", n / 2, n)] {
                noted(&format!("the {half} half of {what} along axis {axis}"), &part(&volume, axis, from, to));
            }
        }
        let n = volume.hu.len_of(Axis(0));
        let slab_mm = 70.0;
        let slices = (slab_mm / volume.geometry.spacing_mm[2]) as usize;
        refused(&format!("a slab of {what}"), &part(&volume, 0, n / 2, n / 2 + slices), &["gate.short-scan"]);
    }
}

#[test]
fn streaks_thick_slices_and_noise_are_noted() {
    for (what, volume) in abdomens() {
        let [_, dy, _] = volume.geometry.spacing_mm;
        let mut streaked = volume.hu.clone();
        for ((_, y, _), hu) in streaked.indexed_iter_mut().filter(|(_, hu)| **hu > -300.0) {
            // Bands from arm to arm, 24 mm apart.
            *hu += 50.0 * (2.0 * std::f64::consts::PI * y as f64 * dy / 24.0).sin() as f32;
        }
        noted(&format!("{what} with streaks"), &with_hu(&volume, streaked));
        let mut state = 11;
        let noisy = volume.hu.mapv(|hu| hu + 400.0 * random(&mut state));
        noted(&format!("{what} with noise of 115 HU"), &with_hu(&volume, noisy));
        let every = (12.0 / volume.geometry.spacing_mm[2]).ceil() as isize;
        let mut thick = with_hu(&volume, volume.hu.slice(s![..;every, .., ..]).to_owned());
        thick.geometry.size[2] = thick.hu.len_of(Axis(0));
        thick.geometry.spacing_mm[2] *= every as f64;
        refused(&format!("{what}, every 12 mm"), &thick, &["gate.thick-slices"]);
    }
}

/// The phantom's network knows phantoms only; a good scan of its world is never refused.
#[test]
fn good_phantoms_are_not_refused() {
    let (_, segmenter) = shipped().iter().find(|(name, _)| *name == "phantom").expect("it ships");
    for seed in 301..309 {
        let gate = judged(segmenter, &phantom::generate(&Options::small(seed), &|_| ()).volume).gate;
        assert!(gate.accepts(), "phantom {seed}: {:?}", codes(&gate));
    }
}
