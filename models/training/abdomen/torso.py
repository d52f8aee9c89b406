"""Whole torsos from label maps: python torso.py OUT_DIR --atlas LABELS [--labels DIR ...] [--each 24].

A label map shows organs and leaves out fat, skin, lungs, heart, ribs, table, arms. This program adds them, differently each time, and
keeps a pool of finished torsos (uint8 tissues, 3 mm, (z, y, x) in LPS order: z up, y to the back, x to the patient's left).
"""
import argparse
import json
import pathlib

import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from tissues import ATLAS, NUMBERINGS, T

MM = 3.0  # of all torsos
PAD = (30, 26, 40)  # voxels on each side along z (top only), y, x


def load_lps(path):
    """Voxels (z, y, x) and spacing (z, y, x) of a NIfTI file, axes turned to the nearest of LPS."""
    image = nibabel.as_closest_canonical(nibabel.load(path))  # RAS
    voxels = np.asanyarray(image.dataobj)[::-1, ::-1]
    return np.ascontiguousarray(voxels.transpose()), np.array(image.header.get_zooms()[:3][::-1], float)


def resample_nearest(labels, spacing):
    n = np.round(np.array(labels.shape) * spacing / MM).astype(int)
    index = [np.clip(((np.arange(m) + 0.5) * MM / s - 0.5).round().astype(int), 0, k - 1) for m, s, k in zip(n, spacing, labels.shape)]
    return labels[np.ix_(*index)]


def noise(rng, shape, mm, order=1):
    """Smooth noise of about unit spread whose blobs are `mm` large."""
    coarse = rng.standard_normal([int(np.ceil(n * MM / mm)) + 3 for n in shape])
    field = ndimage.zoom(coarse, [(n + 2) / (c - 1) for n, c in zip(shape, coarse.shape)], order=order, grid_mode=False)
    start = [rng.integers(0, f - n + 1) for f, n in zip(field.shape, shape)]
    return field[tuple(slice(s, s + n) for s, n in zip(start, shape))].astype(np.float32)


def hull_per_slice(mask):
    """Convex hull in each slice, smoothed along z; empty slices stay empty."""
    out = np.zeros(mask.shape, np.float32)
    yy, xx = np.mgrid[: mask.shape[1], : mask.shape[2]]
    for k, plane in enumerate(mask):
        points = np.argwhere(plane)
        if len(points) < 20:
            continue
        equations = ConvexHull(points).equations
        inside = np.ones(plane.shape, bool)
        for a, b, c in equations:
            inside &= a * yy + b * xx + c <= 1e-9
        out[k] = inside
    return ndimage.gaussian_filter(out, (3, 1, 1), mode="nearest") > 0.5


def solid_liver(tissue):
    """Vessel-shaped holes of the liver become liver."""
    liver = tissue == T["liver"]
    closed = ndimage.binary_closing(np.pad(liver, 3), iterations=3)[3:-3, 3:-3, 3:-3]
    for k in range(len(closed)):
        closed[k] = ndimage.binary_fill_holes(closed[k])
    tissue[closed & np.isin(tissue, (0, T["vein"], T["portal_vein"], T["aorta"], T["fat"], T["soft"]))] = T["liver"]


def continue_upwards(tissue, first_new):
    """Spine, aorta and back muscles of the highest labeled slice go on to the top."""
    source = max(0, first_new - 3)
    for k in range(first_new, len(tissue)):
        keep = np.isin(tissue[source], (T["bone"], T["disc"], T["aorta"])) | (tissue[source] == T["muscle"])
        put = keep & (tissue[k] == 0)
        tissue[k][put] = tissue[source][put]


def dome(tissue, organs, first_new, rng):
    """Liver and spleen cut off by the scan's upper end get a round top."""
    radius = rng.uniform(45, 75) / MM
    top = first_new - 1
    for name in organs:
        plane = tissue[top] == T[name]
        if plane.sum() < 40:
            continue
        depth = ndimage.distance_transform_edt(plane)
        for h in range(1, int(radius)):
            if top + h >= len(tissue):
                break
            shrink = radius - np.sqrt(radius**2 - h**2)
            put = (depth > shrink) & (tissue[top + h] == 0)
            tissue[top + h][put] = T[name]


def chest(tissue, inner, rng):
    """Lungs over the diaphragm with a recess along the wall, heart on the liver, mediastinum."""
    nz = len(tissue)
    z = np.arange(nz)[:, None, None]
    organs = np.isin(tissue, (T["liver"], T["spleen"], T["stomach"]))
    if not organs.any():
        return
    top = np.where(organs.any(0), nz - 1 - np.argmax(organs[::-1], 0), -1).astype(np.float32)
    highest = int(top.max())
    # The diaphragm: height of the organs, continued to where there are none and smoothed there.
    known = top >= highest - 45
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    surface = ndimage.gaussian_filter(top[tuple(nearest)], 4)
    surface = np.where(known, np.maximum(surface, top), surface - 2)
    empty = inner & (tissue == 0)
    depth = ndimage.distance_transform_edt(inner)
    lung = empty & (z > surface)
    recess = empty & (depth * MM < rng.uniform(0, 13)) & (z > highest - rng.uniform(25, 65) / MM)
    tissue[lung | recess] = T["lung"]
    body_y, body_x = np.nonzero(inner[min(highest, nz - 1)])
    if not len(body_x):
        return
    mid_x, front, back = (body_x.min() + body_x.max()) / 2, body_y.min(), body_y.max()
    depth_y = back - front
    yy, xx = np.mgrid[: tissue.shape[1], : tissue.shape[2]]
    # Heart: left of the middle, in front, flattened by the diaphragm; mostly nothing between it and the liver.
    a, b, c = rng.uniform(40, 62) / MM, rng.uniform(32, 48) / MM, rng.uniform(35, 55) / MM
    cx = mid_x + rng.uniform(5, 35) / MM
    cy = front + depth_y * rng.uniform(0.26, 0.42)
    at = surface[int(np.clip(cy, 0, surface.shape[0] - 1)), int(np.clip(cx, 0, surface.shape[1] - 1))]
    cz = at + c * rng.uniform(0.3, 0.8)
    q = ((xx - cx) / a) ** 2 + ((yy - cy) / b) ** 2
    heart = (q[None] + ((z - cz) / c) ** 2 < 1) & (tissue != T["bone"]) & inner & (tissue == T["lung"])
    gap = rng.choice([0, 0, 0, 1, 2])
    tissue[heart & (z <= surface + gap) & (z > surface)] = T["fat"]
    tissue[heart & (z > surface + gap)] = T["heart"]
    # Pericardial fat and the mediastinum between heart and spine.
    shell = ndimage.binary_dilation(heart, iterations=int(rng.integers(1, 4))) & (tissue == T["lung"]) & (rng.random() < 0.7)
    tissue[shell & (noise(rng, tissue.shape, 40) > 0)] = T["fat"]
    mediastinum = (np.abs(xx - mid_x) < rng.uniform(18, 30) / MM) & (yy > cy)
    tissue[mediastinum[None] & (tissue == T["lung"]) & (z > surface)] = T["fat"]
    gullet = (xx - mid_x - 4) ** 2 + (yy - (front + 0.62 * depth_y)) ** 2 < (rng.uniform(7, 11) / MM) ** 2
    tissue[gullet[None] & np.isin(tissue, (T["fat"], T["lung"])) & (z > surface)] = T["soft"]
    cava = (xx - mid_x + 9) ** 2 + (yy - (front + 0.55 * depth_y)) ** 2 < (rng.uniform(9, 13) / MM) ** 2
    tissue[cava[None] & np.isin(tissue, (T["fat"], T["lung"])) & (z > surface - 2)] = T["vein"]


def ribs(tissue, inner, rng):
    """Slanting bony bands in the wall, from the lungs down to the liver's lower third."""
    liver = np.nonzero((tissue == T["liver"]).any((1, 2)))[0]
    lowest = int(liver.min() + 0.3 * (liver.max() - liver.min())) if len(liver) else len(tissue) // 2
    outside = ndimage.distance_transform_edt(~inner) * MM
    inside = ndimage.distance_transform_edt(inner) * MM
    wall = (outside <= rng.uniform(4, 9)) & (inside <= rng.uniform(0, 3) + 0.1)
    z, y, _ = np.ogrid[: tissue.shape[0], : tissue.shape[1], : tissue.shape[2]]
    slope, period, width = rng.uniform(0.3, 0.7), rng.uniform(20, 28), rng.uniform(7, 11)
    phase = np.mod(z * MM + slope * y * MM + rng.uniform(0, 30), period)
    put = wall & (phase < width) & (z > lowest) & np.isin(tissue, (0, T["muscle"], T["fat"], T["lung"]))
    tissue[put] = T["bone"]


def wall_and_fat(tissue, inner, rng):
    """Muscle wall, subcutaneous fat (thicker in front) and skin round the inner body."""
    outside = ndimage.distance_transform_edt(~inner, sampling=(MM * 1.5, MM, MM))
    muscle_mm, fat_mm = rng.uniform(5, 14), 2 + 30 * rng.beta(1.2, 2)
    y = np.arange(tissue.shape[1])[None, :, None]
    rows = np.nonzero(inner.any((0, 2)))[0]
    front = np.clip(1 - (y - rows.min()) / max(1, rows.max() - rows.min()), 0, 1)
    lumpy = 1 + 0.25 * noise(rng, tissue.shape, 90)
    fat_mm = fat_mm * (0.6 + 0.8 * front) * lumpy
    tissue[(tissue == 0) & (outside > 0) & (outside <= muscle_mm)] = T["muscle"]
    tissue[(tissue == 0) & (outside > 0) & (outside <= muscle_mm + fat_mm)] = T["fat"]
    tissue[(tissue == 0) & (outside > 0) & (outside <= muscle_mm + fat_mm + rng.uniform(2, 4))] = T["skin"]


def peritoneum(tissue, inner, rng):
    """Fat between the organs with loops of small bowel in it."""
    empty = inner & (tissue == 0)
    loops = np.abs(noise(rng, tissue.shape, rng.uniform(25, 40))) < rng.uniform(0.15, 0.5)
    low = np.nonzero((tissue == T["liver"]).any((1, 2)))[0]
    z = np.arange(len(tissue))[:, None, None]
    below = z < (low.max() - 20 if len(low) else len(tissue))
    tissue[empty] = T["fat"]
    if rng.random() < 0.8:
        tissue[ndimage.binary_erosion(empty) & loops & below] = T["small_bowel"]


def bladder(tissue, inner, rng):
    rows = np.nonzero(inner.any((1, 2)))[0]
    if not len(rows):
        return
    cz = rows.min() + rng.uniform(10, 45) / MM
    y, x = np.nonzero(inner[int(min(cz, len(tissue) - 1))])
    if not len(x):
        return
    zz, yy, xx = np.ogrid[: tissue.shape[0], : tissue.shape[1], : tissue.shape[2]]
    cy, cx, r = y.min() + 0.4 * (y.max() - y.min()), (x.min() + x.max()) / 2, rng.uniform(20, 40) / MM
    ball = ((zz - cz) / (0.8 * r)) ** 2 + ((yy - cy) / (0.8 * r)) ** 2 + ((xx - cx) / r) ** 2 < 1
    tissue[ball & np.isin(tissue, (T["fat"], T["small_bowel"], T["colon"], 0))] = T["bladder"]


def arms(tissue, rng):
    """Arms beside the body, hanging down or half raised: muscle round bone under fat."""
    body = tissue > 0
    x = np.nonzero(body.any((0, 1)))[0]
    y = np.nonzero(body.any((0, 2)))[0]
    zz, yy, xx = np.ogrid[: tissue.shape[0], : tissue.shape[1], : tissue.shape[2]]
    for side in (-1, 1):
        if rng.random() < 0.15:
            continue
        r = rng.uniform(32, 50) / MM
        edge = x.min() if side < 0 else x.max()
        cx = edge + side * (r * rng.uniform(0.7, 1.2)) + 0 * zz
        cy = y.min() + rng.uniform(0.35, 0.8) * (y.max() - y.min()) + rng.uniform(-0.25, 0.25) * (zz - tissue.shape[0] / 2)
        d = np.sqrt((xx - cx) ** 2 + (yy - cy) ** 2) / r
        bare = tissue == 0
        shift = rng.uniform(0.05, 0.25)
        bone = np.sqrt((xx - cx - shift * r) ** 2 + (yy - cy) ** 2) < rng.uniform(9, 14) / MM
        tissue[bare & (d < 1)] = T["fat"]
        tissue[bare & (d < rng.uniform(0.75, 0.95))] = T["muscle"]
        tissue[bare & bone & (d < 1)] = T["bone"]


def table(tissue, rng):
    body = tissue > 0
    back = np.nonzero(body.any((0, 2)))[0].max()
    x = np.nonzero(body.any((0, 1)))[0]
    yy, xx = np.mgrid[: tissue.shape[1], : tissue.shape[2]]
    mid = (x.min() + x.max()) / 2
    level = back + rng.uniform(-1, 3) - rng.uniform(0, 0.006) * (xx - mid) ** 2
    plate = (yy >= level) & (yy < level + rng.uniform(1, 4)) & (np.abs(xx - mid) < rng.uniform(180, 260) / MM)
    tissue[plate[None] & (tissue == 0)] = T["table"]


def complete(tissue, body, rng):
    """Adds what a label map lacks. `tissue`: known tissues, padded; `body`: mask of the body where a CT shows it, or None."""
    tissue = tissue.copy()
    labeled = np.nonzero((tissue > 0).any((1, 2)))[0]
    first_new = labeled.max() + 1
    solid_liver(tissue)
    dome(tissue, ("liver", "spleen", "stomach"), first_new, rng)
    continue_upwards(tissue, first_new)
    if body is None:
        inner = hull_per_slice(tissue > 0)
        chest_inner = inner
    else:
        inner = body.copy()
        inner[first_new:] = inner[first_new - 1]
        # The cavity lies inside the wall; above the scan the wall is as thick as a hand's breadth at most.
        chest_inner = ndimage.distance_transform_edt(inner, sampling=(1e3, MM, MM)) > rng.uniform(18, 34)
        fat = inner & ~chest_inner
        depth = ndimage.distance_transform_edt(inner, sampling=(1e3, MM, MM))
        new = np.zeros_like(inner)
        new[first_new:] = True
        skin_fat = rng.uniform(6, 16)
        tissue[new & fat & (tissue == 0) & (depth > skin_fat)] = T["muscle"]
        tissue[new & fat & (tissue == 0)] = T["fat"]
    chest(tissue, chest_inner, rng)
    if body is None:
        bladder(tissue, inner, rng)
        peritoneum(tissue, inner, rng)
        wall_and_fat(tissue, inner, rng)
        ribs(tissue, inner, rng)
    else:
        tissue[inner & (tissue == 0)] = T["fat"]
        extra = ndimage.distance_transform_edt(~(tissue > 0), sampling=(1e3, MM, MM))
        tissue[(tissue == 0) & (extra <= 20 * rng.beta(1, 3))] = T["fat"]
        upper = np.zeros_like(tissue)
        upper[first_new - 10:] = tissue[first_new - 10:]
        ribs(upper, chest_inner & (np.arange(len(tissue)) >= first_new - 10)[:, None, None], rng)
        tissue[upper == T["bone"]] = T["bone"]
    if rng.random() < 0.3:
        arms(tissue, rng)
    if rng.random() < 0.8:
        table(tissue, rng)
    return tissue


def to_tissues(labels, numbering):
    lookup = np.zeros(int(labels.max()) + 1, np.uint8)
    for value, name in numbering.items():
        if value < len(lookup):
            lookup[value] = T[name]
    return lookup[labels]


def pad(array):
    return np.pad(array, ((0, PAD[0]), (PAD[1], PAD[1]), (PAD[2], PAD[2])))


def anatomy(labels_path, ct_path, numbering):
    """Known tissues and body mask (or None) of one case, 3 mm, padded."""
    labels, spacing = load_lps(labels_path)
    tissue = to_tissues(resample_nearest(labels, spacing), numbering)
    if ct_path is None:
        return pad(tissue), None
    hu, spacing = load_lps(ct_path)
    hu = resample_nearest(hu, spacing)
    if hu.shape != tissue.shape:
        raise SystemExit(f"{ct_path} and {labels_path} have different grids")
    body = hu > -300
    for k in range(len(body)):
        opened = ndimage.binary_opening(body[k], iterations=2)
        parts, n = ndimage.label(opened)
        largest = parts == 1 + np.argmax(ndimage.sum(opened, parts, range(1, n + 1))) if n else opened
        body[k] = ndimage.binary_fill_holes(largest)
    smooth = ndimage.gaussian_filter(np.asarray(hu, np.float32), 0.7)
    free = body & (tissue == 0)
    tissue[free & (smooth < -30)] = T["fat"]
    tissue[free & (smooth >= -30)] = T["muscle"]
    tissue[free & (smooth > 180)] = T["bone"]
    tissue[free & (smooth < -400)] = T["lung"]
    tissue[~body] = 0
    return pad(tissue), pad(body)


def anatomies(atlas, folders):
    """Name -> (tissue, body). A folder of cases holds NAME_labels.nii.gz with NAME_ct.nii.gz and labels.json.

    labels.json: {"1": "liver", ...} (names of tissues.py) or {"numbering": "totalsegmentator"}.
    """
    cases = {"atlas": anatomy(atlas, None, ATLAS)}
    for folder in map(pathlib.Path, folders):
        table = json.loads((folder / "labels.json").read_text())
        numbering = NUMBERINGS[table["numbering"]] if "numbering" in table else {int(k): v for k, v in table.items()}
        unknown = set(numbering.values()) - set(T)
        if unknown:
            raise SystemExit(f"{folder}/labels.json: unknown tissues {sorted(unknown)}; known: {', '.join(T)}")
        found = sorted(folder.glob("*_labels.nii.gz"))
        if not found:
            raise SystemExit(f"{folder}: no *_labels.nii.gz")
        for path in found:
            ct = path.with_name(path.name.replace("_labels", "_ct"))
            if not ct.exists():
                ct = path.with_name(path.name.replace("_labels", ""))
            cases[path.name.split("_labels")[0]] = anatomy(path, ct, numbering)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--atlas", required=True)
    parser.add_argument("--labels", action="append", default=[], help="a folder of further cases; may be repeated")
    parser.add_argument("--each", type=int, default=24, help="torsos per anatomy")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, (name, (tissue, body)) in enumerate(anatomies(arguments.atlas, arguments.labels).items()):
        for k in range(arguments.each):
            path = arguments.out / f"{name}-{k:03}.npz"
            if path.exists():
                continue
            rng = np.random.default_rng([arguments.seed, number, k])
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, tissue=complete(tissue, body, rng))
            partial.replace(path)
        print(f"{name}: {arguments.each} torsos {tissue.shape}", flush=True)


if __name__ == "__main__":
    main()
