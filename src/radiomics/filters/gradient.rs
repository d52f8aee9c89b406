//! Magnitude of the gradient by central differences, as ITK computes it.

use crate::radiomics::region::{Bounds, Grid};
use crate::volume::Scalar;
use ndarray::{Array3, ArrayView3};

/// Per mm, or per voxel without `use_spacing`; 32 bit values. Beyond the border the image continues with its edge.
pub(super) fn magnitude<T: Scalar>(image: &Grid<T>, bounds: Bounds, use_spacing: bool) -> Array3<f64> {
    let view: ArrayView3<T> = image.voxels.view();
    let size = image.geometry.size;
    let half = image.geometry.spacing_mm.map(|mm| 0.5 / if use_spacing { mm } else { 1.0 });
    let [x0, y0, z0] = bounds.first;
    let [nx, ny, nz] = bounds.size;
    Array3::from_shape_fn((nz, ny, nx), |(z, y, x)| {
        let at = [x0 + x, y0 + y, z0 + z];
        let mut sum = 0.0;
        for a in 0..3 {
            let (mut before, mut after) = (at, at);
            before[a] = at[a].saturating_sub(1);
            after[a] = (at[a] + 1).min(size[a] - 1);
            let value = |[x, y, z]: [usize; 3]| view[[z, y, x]].as_f64();
            let slope = half[a] * value(after) - half[a] * value(before);
            sum += slope * slope;
        }
        f64::from(sum.sqrt() as f32)
    })
}
