//! The recipe, the import and whole predictions of small networks that are drawn here; equality with nnU-Net is in tests/nnunet.rs.

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
