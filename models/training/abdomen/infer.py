"""The shipped rules of src/segment in NumPy: to the network's grid, two networks, cleaning, back to the scan's grid.

For figures during development and as a second opinion on the Rust code; axis-aligned scans only.
"""
import pathlib
import tomllib

import nibabel
import numpy as np
import onnxruntime
from scipy import ndimage

AIR_HU, PADDING_HU = -1000.0, -1500.0
CORNERS = np.ones((3, 3, 3))


def read_ct(path):
    """HU (z, y, x) in LPS order (z up, y to the back, x to the patient's left) and spacing (z, y, x) of a NIfTI file or a DICOM folder."""
    path = pathlib.Path(path)
    if not path.is_dir():
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return np.ascontiguousarray(np.asanyarray(image.dataobj)[::-1, ::-1].transpose()), np.array(image.header.get_zooms()[:3][::-1], float)
    import pydicom

    slices = [pydicom.dcmread(file) for file in sorted(path.iterdir()) if file.is_file()]
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    slices.sort(key=lambda s: float(np.dot(normal, np.array(s.ImagePositionPatient, float))))
    places = [float(np.dot(normal, np.array(s.ImagePositionPatient, float))) for s in slices]
    hu = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]).astype(np.float32)
    spacing = [float(np.median(np.diff(places))), *map(float, slices[0].PixelSpacing)]
    axes = np.array([normal, column, row])  # rows: array axes z, y, x as directions in LPS
    order = [int(np.argmax(np.abs(axes[:, lps]))) for lps in (2, 1, 0)]
    if np.abs(axes).max(1).min() < 0.99:
        raise SystemExit(f"{path}: the scan is tilted; this script takes axis-aligned scans (metwatch itself takes both)")
    hu = hu.transpose(order)
    for k, axis in enumerate(order):
        if axes[axis, 2 - k] < 0:
            hu = np.flip(hu, k)
    return np.ascontiguousarray(hu), np.array([spacing[axis] for axis in order])


def linear(values, at, axis, outside=None):
    """Linear interpolation along an axis at positions `at` (voxels); `outside` replaces what lies over half a voxel beyond the ends."""
    n = values.shape[axis]
    clipped = np.clip(at, 0, n - 1)
    low = np.minimum(clipped.astype(int), max(0, n - 2))
    high = np.minimum(low + 1, n - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    f = (clipped - low).astype(np.float32).reshape(shape)
    out = np.take(values, low, axis) * (1 - f) + np.take(values, high, axis) * f
    if outside is not None:
        out = np.where(((at < -0.5) | (at > n - 0.5)).reshape(shape), np.float32(outside), out)
    return out


class Grid:
    """The network's grid over a box of `n` voxels of `spacing` (z, y, x)."""

    def __init__(self, n, spacing, mm, multiple):
        self.n, self.spacing, self.mm = np.array(n), np.array(spacing), np.array(mm, float)
        self.size = np.ceil(self.n * self.spacing / self.mm - 1e-9).astype(int)
        self.padded = -(-self.size // multiple) * multiple

    def sample(self, hu):
        hu = np.where(hu <= PADDING_HU, np.float32(AIR_HU), hu).astype(np.float32)
        for axis in (2, 1, 0):
            sigma = max(0.0, 0.42 * (self.mm[axis] / self.spacing[axis] - 1))
            if sigma > 0:
                hu = ndimage.gaussian_filter1d(hu, sigma, axis, mode="nearest", truncate=3.0)
            m = self.size[axis]
            at = (np.arange(m) - (m - 1) / 2) * self.mm[axis] / self.spacing[axis] + (self.n[axis] - 1) / 2
            hu = linear(hu, at, axis, AIR_HU)
        out = np.full(self.padded, AIR_HU, np.float32)
        out[tuple(slice(0, m) for m in self.size)] = hu
        return out

    def back(self, values):
        """Values (z, y, x) of the grid at the scan's voxels."""
        for axis in range(3):
            m = self.size[axis]
            at = (np.arange(self.n[axis]) - (self.n[axis] - 1) / 2) * self.spacing[axis] / self.mm[axis] + (m - 1) / 2
            values = linear(np.take(values, np.arange(m), axis), at, axis)
        return values


def softmax(logits):
    e = np.exp(logits - logits.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


def parts_of(mask):
    """Components (26 neighbors): label image and sizes, sizes[0] = 0."""
    parts, _ = ndimage.label(mask, CORNERS)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts, sizes


def one_liver(p, liver=1, extra=()):
    """Keeps the largest component of liver (with `extra` classes), fills enclosed background under 20 mL; `p` is changed in place."""
    classes = p.argmax(0)
    organ = np.isin(classes, (liver, *extra))
    parts, sizes = parts_of(organ)
    if sizes.max(initial=0) == 0:
        return
    lost = organ & (parts != sizes.argmax())
    p[:, lost] = 0
    p[0, lost] = 1
    organ &= ~lost
    holes, n = ndimage.label(ndimage.binary_fill_holes(organ) & ~organ & (classes == 0))
    if n:
        p[:, holes > 0] = 0
        p[liver, holes > 0] = 1


def organ_probabilities(run, plan, hu, spacing):
    """Class probabilities on the first network's grid, cleaned; and the grid."""
    grid = Grid(hu.shape, spacing, plan["spacing_mm"][::-1], plan["pad_multiple"])
    x = (np.clip(grid.sample(hu), *plan["clip_hu"]) - plan["center_hu"]) / plan["scale_hu"]
    p = softmax(run(x[None, None].astype(np.float32))[0])
    one_liver(p)
    return p, grid


def labels_on_scan(p, grid):
    """Class of each voxel of the scan: largest probability, interpolated linearly."""
    best, labels = None, None
    for c in range(len(p)):
        values = grid.back(p[c])
        if best is None:
            best, labels = values, np.zeros(values.shape, np.uint8)
        else:
            better = values > best
            labels[better] = c
            best = np.maximum(best, values)
    return labels


def refine(run, plan, hu, spacing, p_liver, first_grid, labels, lesion_value):
    """The second network: moves the liver's surface, marks lesions in `labels` (in place). Returns candidates (mL, probability, center)."""
    places = np.argwhere(np.isin(labels, (1, lesion_value)))
    if not len(places):
        return []
    margin = np.ceil(plan["margin_mm"] / spacing).astype(int)
    low = np.maximum(places.min(0) - margin, 0)
    high = np.minimum(places.max(0) + 1 + margin, hu.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    grid = Grid(high - low, spacing, plan["spacing_mm"][::-1], plan["pad_multiple"])
    fine = grid.sample(hu[box])
    # The first stage's liver on this grid.
    liver = p_liver
    for axis in range(3):
        m, mf = grid.padded[axis], first_grid.size[axis]
        mm = (np.arange(m) - (grid.size[axis] - 1) / 2) * grid.mm[axis]
        center = ((low[axis] + high[axis] - 1) / 2 - (hu.shape[axis] - 1) / 2) * spacing[axis]
        liver = linear(liver, (mm + center) / first_grid.mm[axis] + (mf - 1) / 2, axis)
    if not (liver > 0.5).any():
        return []
    median = np.median(fine[liver > 0.5])
    x = np.clip((fine - median) / plan["scale_hu"], -plan["clip"], plan["clip"])[None]
    if plan.get("liver_channel"):
        x = np.concatenate([x, liver[None]])
    p = softmax(run(x[None].astype(np.float32))[0])
    inside = liver > 0.5
    far_out = ndimage.distance_transform_edt(~inside, grid.mm) > plan["band_mm"]
    far_in = ndimage.distance_transform_edt(inside, grid.mm) > plan["band_mm"]
    p[:, far_out] = 0
    p[0, far_out] = 1
    p[0, far_in] = 0
    total = p.sum(0)
    p[:, far_in] /= np.maximum(total[far_in], 1e-6)
    lesion = len(plan["classes"]) > 1
    one_liver(p, 1, (2,) if lesion else ())
    found = []
    if lesion:
        parts, sizes = parts_of(p.argmax(0) == 2)
        for part in np.nonzero(sizes)[0]:
            where = parts == part
            ml, probability = sizes[part] * np.prod(grid.mm) / 1000, float(p[2][where].mean())
            if ml < plan["lesion_ml_min"] or probability < plan["lesion_probability_min"]:
                p[:, where] = 0
                p[1, where] = 1
            else:
                center = (np.argwhere(where).mean(0) - (grid.size - 1) / 2) * grid.mm / spacing + (low + high - 1) / 2
                found.append((ml, probability, center.round(1).tolist()))
    fine_labels = labels_on_scan(p, grid)
    part = labels[box]
    values = np.array([0, 1, lesion_value], np.uint8)
    labels[box] = np.where(fine_labels > 0, values[fine_labels], np.where(np.isin(part, (1, lesion_value)), 0, part))
    return sorted(found, reverse=True)


class Package:
    """A segmenter package folder."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.manifest = tomllib.loads((folder / "manifest.toml").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        open_ = lambda name: onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
        session = open_("model.onnx")
        self.run = lambda x: session.run(["logits"], {"input": x})[0]
        self.value = {row["region"]: row["value"] for row in self.manifest["labels"]}
        self.plan, self.second = self.manifest["plan"], self.manifest.get("refine")
        if self.second:
            session_2 = open_(self.second["file"])
            self.run_2 = lambda x: session_2.run(["logits"], {"input": x})[0]

    def segment(self, hu, spacing, second=True):
        """Labels on the scan's grid, candidates of lesions, and mean entropy inside the liver in nats."""
        p, grid = organ_probabilities(self.run, self.plan, hu, spacing)
        liver = p.argmax(0) == 1
        entropy = float(-(p * np.log(np.maximum(p, 1e-9))).sum(0)[liver].mean()) if liver.any() else float("nan")
        labels = labels_on_scan(p, grid)
        found = []
        if second and self.second:
            found = refine(self.run_2, self.second, hu, spacing, p[1], grid, labels, self.value.get("liver_lesion", 255))
        return labels, found, entropy
