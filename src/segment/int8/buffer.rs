//! Activations as the int8 engine keeps them: channels last, with a rim of neutral voxels, so that no kernel asks where the border is.

/// Voxels of one or several tensors side by side. Memory order is z, y, x, channel; a 2-D image has one slice.
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    /// Values, the rim included, and a few beyond them that a kernel may read.
    pub values: Vec<T>,
    /// Voxels along z, y, x without the rim.
    pub size: [usize; 3],
    /// Rim before and after each axis, in voxels.
    pub rim: [[usize; 2]; 3],
    /// Channels of a voxel: a tensor is a range of them, and a concatenation costs nothing.
    pub channels: usize,
}

/// Values beyond the last voxel.
const SLACK: usize = super::tile::SLACK;

impl<T: Copy + Default + PartialEq + Send + Sync> Buffer<T> {
    /// Takes memory of any length and content for a new buffer; voxels have old values until they are written.
    pub fn within(mut memory: Vec<T>, size: [usize; 3], rim: [[usize; 2]; 3], channels: usize) -> Buffer<T> {
        let whole: [usize; 3] = std::array::from_fn(|a| rim[a][0] + size[a] + rim[a][1]);
        memory.resize(whole.iter().product::<usize>() * channels + SLACK, T::default());
        Buffer { values: memory, size, rim, channels }
    }

    /// Voxels along z, y, x with the rim.
    pub fn whole(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.rim[a][0] + self.size[a] + self.rim[a][1])
    }

    /// Values of one row of voxels along x, the rim included.
    pub fn row_len(&self) -> usize {
        self.whole()[2] * self.channels
    }

    /// Index of the first channel of a voxel; `low` voxels before the first are those of the rim.
    pub fn index(&self, zyx: [usize; 3], low: [usize; 3]) -> usize {
        let whole = self.whole();
        let at: [usize; 3] = std::array::from_fn(|a| zyx[a] + self.rim[a][0] - low[a]);
        ((at[0] * whole[1] + at[1]) * whole[2] + at[2]) * self.channels
    }

    /// Where row number `row` (of all rows, rim included) lies: its z and y, or nothing in the rim.
    pub fn row(&self, row: usize) -> Option<[usize; 2]> {
        let rows = self.whole()[1];
        let inside = |at: usize, a: usize| at.checked_sub(self.rim[a][0]).filter(|at| *at < self.size[a]);
        Some([inside(row / rows, 0)?, inside(row % rows, 1)?])
    }

    /// Fills the rim of `n` channels from `first` on.
    pub fn fill_rim(&mut self, first: usize, n: usize, value: T) {
        let (channels, size, rim, whole) = (self.channels, self.size, self.rim, self.whole());
        let row_len = self.row_len();
        let fill = |voxels: &mut [T]| voxels.chunks_exact_mut(channels).for_each(|v| v[first..first + n].fill(value));
        for row in 0..whole[0] * whole[1] {
            let inside = self.row(row).is_some();
            let voxels = &mut self.values[row * row_len..][..row_len];
            if inside {
                let (low, rest) = voxels.split_at_mut(rim[2][0] * channels);
                fill(low);
                fill(&mut rest[size[2] * channels..]);
            } else {
                fill(voxels);
            }
        }
    }
}
