//! Where a grid of voxels lies in the patient, and the way between voxel indices and millimetres.

/// Where a grid of voxels lies in the patient (DICOM PS3.3 C.7.6.2; the convention of ITK).
/// Triples are in voxel order (x, y, z) = (column, row, slice); positions are LPS, in mm.
/// Arrays are slice first: an array on this grid has shape [`Geometry::shape_zyx`].
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Number of voxels along x, y, z.
    pub size: [usize; 3],
    /// Distance between voxel centers along x, y, z.
    pub spacing_mm: [f64; 3],
    /// Center of voxel (0, 0, 0).
    pub origin_mm: [f64; 3],
    /// Direction cosines: column `a` is the unit vector along voxel axis `a`, so `direction[row][a]`.
    pub direction: [[f64; 3]; 3],
}

/// Why a geometry was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// A spacing that is zero, negative or not finite.
    #[error("the spacing {0:?} mm is not positive and finite")]
    Spacing([f64; 3]),
    /// Axes that are not unit vectors at right angles.
    #[error("the direction cosines are not orthonormal (off by {0:.4})")]
    Direction(f64),
    /// No voxels along an axis.
    #[error("the size {0:?} has an axis without voxels")]
    Empty([usize; 3]),
}

impl Geometry {
    /// The axes of LPS themselves.
    pub const IDENTITY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    /// Shape of an array on this grid: (slices, rows, columns).
    pub fn shape_zyx(&self) -> (usize, usize, usize) {
        (self.size[2], self.size[1], self.size[0])
    }

    /// Volume of one voxel.
    pub fn voxel_mm3(&self) -> f64 {
        self.spacing_mm.iter().product()
    }

    /// Position (LPS, mm) of a continuous voxel index (x, y, z).
    pub fn position_mm(&self, index_xyz: [f64; 3]) -> [f64; 3] {
        let step: [f64; 3] = std::array::from_fn(|a| index_xyz[a] * self.spacing_mm[a]);
        std::array::from_fn(|row| self.origin_mm[row] + (0..3).map(|a| self.direction[row][a] * step[a]).sum::<f64>())
    }

    /// Continuous voxel index (x, y, z) of a position (LPS, mm); the direction is orthonormal, so its inverse is its transpose.
    pub fn index_of(&self, position_mm: [f64; 3]) -> [f64; 3] {
        let offset: [f64; 3] = std::array::from_fn(|row| position_mm[row] - self.origin_mm[row]);
        std::array::from_fn(|a| {
            (0..3).map(|row| self.direction[row][a] * offset[row]).sum::<f64>() / self.spacing_mm[a]
        })
    }

    /// Checks that the grid has voxels, positive finite spacing and orthonormal axes (within 1e-3, float32 headers are that coarse).
    pub fn check(&self) -> Result<(), GeometryError> {
        if self.size.contains(&0) {
            return Err(GeometryError::Empty(self.size));
        }
        if !self.spacing_mm.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(GeometryError::Spacing(self.spacing_mm));
        }
        let mut off = 0.0f64;
        for a in 0..3 {
            for b in a..3 {
                let dot: f64 = (0..3).map(|row| self.direction[row][a] * self.direction[row][b]).sum();
                let error = (dot - f64::from(u8::from(a == b))).abs();
                off = if error.is_nan() { f64::INFINITY } else { off.max(error) };
            }
        }
        if off > 1e-3 { Err(GeometryError::Direction(off)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feet_first() -> Geometry {
        Geometry {
            size: [4, 3, 2],
            spacing_mm: [0.5, 2.0, 5.0],
            origin_mm: [10.0, 20.0, 30.0],
            direction: [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]],
        }
    }

    #[test]
    fn index_and_position_are_inverse() {
        let g = feet_first();
        assert_eq!(g.position_mm([2.0, 1.0, 1.0]), [9.0, 22.0, 25.0]);
        assert_eq!(g.index_of([9.0, 22.0, 25.0]), [2.0, 1.0, 1.0]);
    }

    #[test]
    fn bad_grids_are_refused() {
        let mut g = feet_first();
        assert_eq!(g.check(), Ok(()));
        g.spacing_mm[2] = 0.0;
        assert!(matches!(g.check(), Err(GeometryError::Spacing(_))));
        g = feet_first();
        g.direction[0][0] = f64::NAN;
        assert!(matches!(g.check(), Err(GeometryError::Direction(_))));
    }
}
