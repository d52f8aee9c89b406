//! The recipe, the import and whole predictions of small networks that are drawn here; equality with nnU-Net is in
//! tests/nnunet.rs.

use super::*;
use axis::Order;
use recipe::{Channel, Heads, Stage};

/// A 3-D model of one CT channel with liver and tumor.
pub fn recipe() -> Recipe {
    let resampling = |order| Resampling { order, order_z: Order::Nearest, separate_z: None, anisotropy: 3.0 };
    let label = |value, name: &str| Label { value, name: name.into(), region: None };
    Recipe {
        configuration: "3d_fullres".into(),
        trainer: "nnUNetTrainer".into(),
        channels: vec![Channel { name: "CT".into(), normalization: Normalization::None }],
        to_ras: false,
        transpose_forward: [0, 1, 2],
        spacing_mm: vec![2.0, 1.0, 1.0],
        patch_size: vec![16, 32, 32],
        image_resampling: resampling(Order::Cubic),
        logits_resampling: resampling(Order::Linear),
        mirror_axes: vec![0, 1, 2],
        heads: Heads::Labels(3),
        labels: vec![label(1, "liver"), label(2, "tumor")],
        postprocessing: Vec::new(),
        stages: vec![Stage { features: 8, stride: vec![1, 1, 1] }],
    }
}

#[test]
fn slices_are_resampled_apart_where_nnunet_does_it() {
    let rule = |from, to| recipe().image_resampling.separate_axis(from, to);
    assert_eq!(rule([5.0, 1.0, 1.0], [1.0; 3]), Some(0));
    assert_eq!(rule([3.0, 1.0, 1.0], [3.0, 1.0, 1.0]), None, "not above 3");
    assert_eq!(rule([2.0, 1.0, 1.0], [1.0, 1.0, 4.0]), Some(2), "by the new spacing where the old is even");
    assert_eq!(rule([1.0, 5.0, 5.0], [1.0; 3]), None, "two thick axes");
    let forced = |separate_z| Resampling { separate_z, ..recipe().image_resampling };
    assert_eq!(forced(Some(true)).separate_axis([1.0, 2.0, 1.0], [1.0; 3]), Some(1));
    assert_eq!(forced(Some(false)).separate_axis([9.0, 1.0, 1.0], [1.0; 3]), None);
    // Python: round(2.5 / 1.0 * 5) = round(12.5) = 12
    assert_eq!(resample::target_shape([5, 5, 7], [2.5, 1.0, 1.0], [1.0, 2.0, 1.0]), [12.0, 2.0, 7.0]);
}

#[test]
fn an_abdomen_and_a_3d_network_need_less_than_2_gib() {
    let stages = [32, 64, 128, 256, 320, 320].into_iter().enumerate();
    let stages = stages.map(|(k, features)| Stage { features, stride: vec![if k == 0 { 1 } else { 2 }; 3] }).collect();
    let recipe = Recipe { patch_size: vec![64, 128, 128], spacing_mm: vec![1.0, 0.77, 0.77], stages, ..recipe() };
    let sizes = memory::Sizes {
        image: [300, 512, 512],
        crop: [300, 512, 512],
        grid: resample::target_shape([300, 512, 512], [1.0, 0.8, 0.8], [1.0, 0.77, 0.77]),
        spacing_mm: [1.0, 0.77, 0.77],
        networks: 124 << 20,
        probabilities: false,
        mirror: true,
    };
    let estimate = Estimate::of(&recipe, &sizes, 2, 2 << 30).expect("a grid");
    assert_eq!((estimate.grid, estimate.patches, estimate.passes_per_patch), ([300, 532, 532], 9 * 8 * 8, 8));
    assert!(estimate.bytes <= 2 << 30, "{} MiB", estimate.bytes >> 20);
    assert_eq!(estimate.passes_at_a_time, 1, "two would need more");
    let more = Estimate::of(&recipe, &sizes, 2, 8 << 30).expect("a grid");
    assert!(more.passes_at_a_time == 2 && more.bytes > estimate.bytes);
}
