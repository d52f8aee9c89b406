"""The network's grid: the same rule as src/segment/resample.rs, in NumPy."""
import numpy as np
from scipy import ndimage

AIR_HU = -1000.0


def to_grid(hu_zyx, spacing_xyz, target_mm, multiple, labels_zyx=None):
    """Resamples an axis-aligned LPS volume (z, y, x) onto the network's grid.

    Centered on the source's box, size = ceil(extent / target), padded at the high ends to a multiple with air.
    Returns (hu, labels or None) as float32 and uint8 arrays.
    """
    spacing = np.array(spacing_xyz[::-1], float)
    n = np.array(hu_zyx.shape)
    hu = np.where(hu_zyx <= -1500, AIR_HU, hu_zyx).astype(np.float32)
    sigma = [max(0.0, 0.42 * (target_mm / s - 1)) for s in spacing]
    hu = ndimage.gaussian_filter(hu, sigma, mode="nearest", truncate=3.0)
    size = np.ceil(n * spacing / target_mm - 1e-9).astype(int)
    axes = [((np.arange(m) - (m - 1) / 2) * target_mm / s + (k - 1) / 2) for m, s, k in zip(size, spacing, n)]
    for axis, at in enumerate(axes):
        hu = _linear(hu, at, axis)
    padded = -(-size // multiple) * multiple
    out = np.full(padded, AIR_HU, np.float32)
    out[tuple(slice(0, m) for m in size)] = hu
    if labels_zyx is None:
        return out, None
    nearest = [np.clip(np.rint(at).astype(int), 0, k - 1) for at, k in zip(axes, n)]
    labels = np.zeros(padded, np.uint8)
    labels[tuple(slice(0, m) for m in size)] = labels_zyx[np.ix_(*nearest)]
    return out, labels


def _linear(values, at, axis):
    """Linear interpolation along one axis; places up to half a voxel outside take the edge, others air."""
    n = values.shape[axis]
    low = np.clip(np.floor(at).astype(int), 0, n - 1)
    high = np.clip(low + 1, 0, n - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    fraction = np.clip(at - low, 0, 1).astype(np.float32).reshape(shape)
    out = np.take(values, low, axis) * (1 - fraction) + np.take(values, high, axis) * fraction
    outside = ((at < -0.5) | (at > n - 0.5)).reshape(shape)
    return np.where(outside, np.float32(AIR_HU), out)


def normalize(hu):
    """What the network sees."""
    return (np.clip(hu, -200, 300) - 50) / 100
