//! What a prediction will need, said before it starts.

use super::recipe::Recipe;
use super::window::Window;

/// A grid beyond this many voxels is a broken header.
const GRID_VOXELS_MAX: f64 = 2e9;

/// What a prediction will do and need.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Shape of the network's grid, in the network's order.
    pub grid: [usize; 3],
    /// Its spacing, in the same order.
    pub spacing_mm: [f64; 3],
    /// Patches, each as often as it is mirrored.
    pub patches: usize,
    /// Passes of a network for one patch: mirrored ones times folds.
    pub passes_per_patch: usize,
    /// Passes at a time.
    pub passes_at_a_time: usize,
    /// Main memory at the peak, the image included.
    pub bytes: u64,
}

/// The sizes that memory depends on.
pub struct Sizes {
    /// Voxels of the image.
    pub image: [usize; 3],
    /// Its cropped part, in the network's order.
    pub crop: [usize; 3],
    /// The network's grid.
    pub grid: [f64; 3],
    /// Its spacing.
    pub spacing_mm: [f64; 3],
    /// Bytes of all networks.
    pub networks: u64,
    /// Whether probabilities are kept.
    pub probabilities: bool,
    /// Whether patches are mirrored.
    pub mirror: bool,
}

impl Estimate {
    /// At most `passes` at a time, fewer where that keeps to `limit` bytes. An error says why there is no grid.
    pub fn of(recipe: &Recipe, sizes: &Sizes, passes: usize, limit: u64) -> Result<Estimate, String> {
        if sizes.grid.iter().any(|n| *n < 1.0) {
            return Err(format!("on the network's grid of {:?} mm nothing of it is left", sizes.spacing_mm));
        }
        if sizes.grid.iter().product::<f64>() > GRID_VOXELS_MAX {
            return Err(format!(
                "the network's grid would have {:?} voxels: check the spacing in its header",
                sizes.grid
            ));
        }
        let grid = sizes.grid.map(|n| n as usize);
        let window = Window::over(grid, recipe);
        let voxels = |n: [usize; 3]| n.iter().map(|n| *n as u64).product::<u64>();
        let (channels, heads) = (recipe.channels.len() as u64, recipe.heads.count() as u64);
        let image = 4 * channels * voxels(sizes.image);
        let resampled = 4 * channels * voxels(grid);
        // While a channel is resampled there is one array more: in plane on the new grid, along the slices on the old
        // one.
        let between = 4 * voxels([sizes.crop[0], grid[1], grid[2]]);
        let plane = voxels([1, window.padded[1], window.padded[2]]);
        let slab = 4 * heads * plane * (window.patch[0] as u64 + 3) + 4 * plane;
        let patch = 4 * (channels + 2 * heads) * voxels(window.patch);
        let pass = patch + activations(recipe);
        let labels = voxels(sizes.image);
        let probabilities = if sizes.probabilities { 4 * heads * labels } else { 0 };
        // The networks' weights lie in memory as read and as prepared for running.
        let fixed = image + resampled + 2 * sizes.networks + (64 << 20);
        let bytes = |passes: usize| fixed + between.max(slab + labels + probabilities + pass * passes as u64);
        let mirrored = if sizes.mirror { 1 << recipe.mirror_axes.len() } else { 1 };
        let passes_at_a_time = (1..=passes.max(1)).rev().find(|n| bytes(*n) <= limit).unwrap_or(1);
        Ok(Estimate {
            grid,
            spacing_mm: sizes.spacing_mm,
            patches: window.n_patches(),
            passes_per_patch: mirrored,
            passes_at_a_time,
            bytes: bytes(passes_at_a_time),
        })
    }
}

/// Bytes of activations of one pass: at the top of a U-Net the skipped features, both parts of the concatenation and
/// its convolution are there at once, below it one set of features per stage.
fn activations(recipe: &Recipe) -> u64 {
    let mut voxels = recipe.patch_size.iter().map(|n| *n as u64).product::<u64>();
    let mut sum = 0;
    for (k, stage) in recipe.stages.iter().enumerate() {
        voxels /= stage.stride.iter().map(|s| *s as u64).product::<u64>().max(1);
        sum += voxels * stage.features as u64 * if k == 0 { 5 } else { 1 };
    }
    // A model whose plans do not say: 32 features on the patch, the most that nnU-Net plans there.
    4 * if recipe.stages.is_empty() { 5 * 32 * voxels } else { sum }
}
