"""Figures and pictures on real CT: python evaluate_real.py PACKAGE CASES.json OUT_DIR [--first-only].

CASES.json: [{"name", "ct": NIfTI file or DICOM folder, "labels": NIfTI or null, "liver": values of the liver, "role": what it was used for,
"others": {region: values}, "note": for the card}]; the last two may be missing.
Per case: liver Dice, 95 % Hausdorff and mean surface distance (mm), volume error, other organs' Dice, the largest axial cross-section,
candidates of lesions; overlays as PNG. Nothing is chosen here: it only measures.
"""
import argparse
import json
import pathlib
import struct
import time
import zlib

import numpy as np
from scipy import ndimage

from infer import Package, read_ct

COLORS = {"liver": (255, 60, 60), "liver_lesion": (255, 240, 0), "colon": (60, 220, 60), "spleen": (190, 80, 255), "right_kidney": (255, 160, 40),
          "left_kidney": (255, 160, 40), "lung": (60, 120, 255), "aorta": (255, 0, 160), "bone": (230, 230, 230)}


def write_png(path, rgb):
    """RGB uint8 (y, x, 3) as PNG."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(rgb, np.uint8))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def surface_distances(a, b, spacing):
    """Distances in mm from the surface of each mask to the other's, both ways together."""
    edge = lambda m: m & ~ndimage.binary_erosion(m, border_value=1)
    ea, eb = edge(a), edge(b)
    to_a, to_b = (ndimage.distance_transform_edt(~e, sampling=spacing) for e in (ea, eb))
    return np.concatenate([to_b[ea], to_a[eb]])


def compare(found, truth, spacing):
    """Dice, HD95, mean surface distance and relative volume error of two masks."""
    box = ndimage.find_objects((found | truth).astype(np.uint8))[0]
    grown = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
    a, b = found[grown], truth[grown]
    d = surface_distances(a, b, spacing) if a.any() and b.any() else np.array([np.nan])
    return {"dice": round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4), "hd95_mm": round(float(np.percentile(d, 95)), 2),
            "mean_surface_mm": round(float(d.mean()), 2), "volume_error": round(float(a.sum() / b.sum() - 1), 4)}


def overlay(hu, labels, values, spacing, truth=None):
    """One plane (row, column) with outlines of the found regions; dotted white: the truth. Pixels are made square, 1 mm."""
    zoom = [s / 1.0 for s in spacing]
    size = [max(1, int(round(n * z))) for n, z in zip(hu.shape, zoom)]
    index = [np.clip((np.arange(m) / z).astype(int), 0, n - 1) for m, z, n in zip(size, zoom, hu.shape)]
    gray = np.clip((ndimage.zoom(hu.astype(np.float32), [m / n for m, n in zip(size, hu.shape)], order=1) + 110) / 350 * 255, 0, 255)
    rgb = np.repeat(gray[..., None], 3, -1)
    for region, value in values.items():
        mask = (labels == value)[np.ix_(*index)]
        if region == "liver" and "liver_lesion" in values:
            mask |= (labels == values["liver_lesion"])[np.ix_(*index)]
        rgb[mask & ~ndimage.binary_erosion(mask)] = COLORS[region]
    if truth is not None:
        mask = truth[np.ix_(*index)]
        edge = mask & ~ndimage.binary_erosion(mask)
        edge &= (np.add.outer(np.arange(size[0]), np.arange(size[1])) // 2 % 2 == 0)
        rgb[edge] = 255
    return rgb


def sheet(hu, labels, values, spacing, truth):
    """Four axial planes over four coronal ones, through the liver."""
    liver = np.argwhere(labels == values["liver"])
    low, high = liver.min(0), liver.max(0)
    at = lambda axis: [int(low[axis] + f * (high[axis] - low[axis])) for f in (0.15, 0.4, 0.6, 0.85)]
    t = lambda k: None if truth is None else truth[k]
    axial = [overlay(hu[k], labels[k], values, spacing[1:], t(k)) for k in at(0)]
    t = lambda k: None if truth is None else truth[::-1, k]
    coronal = [overlay(hu[::-1, k], labels[::-1, k], values, spacing[[0, 2]], t(k)) for k in at(1)]
    return np.concatenate([np.concatenate(axial, 1), np.concatenate(coronal, 1)], 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--first-only", action="store_true", help="without the second network")
    arguments = parser.parse_args()
    package = Package(arguments.package)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = []
    for case in json.loads(arguments.cases.read_text()):
        hu, spacing = read_ct(case["ct"])
        began = time.process_time()
        labels, candidates, entropy = package.segment(hu, spacing, not arguments.first_only)
        seconds = time.process_time() - began
        values = package.value
        liver = np.isin(labels, (values["liver"], values.get("liver_lesion", 255)))
        row = {"name": case["name"], "role": case["role"], "cpu_seconds_python": round(seconds, 1), "entropy_nats": round(entropy, 3),
               "liver_ml": round(float(liver.sum() * np.prod(spacing) / 1000), 1)}
        if case.get("note"):
            row["note"] = case["note"]
        truth = None
        if case.get("labels"):
            labels_true, _ = read_ct(case["labels"])
            truth = np.isin(labels_true, case["liver"])
            row |= compare(liver, truth, spacing)
            for region, others in case.get("others", {}).items():
                a, b = labels == values[region], np.isin(labels_true, others)
                row[f"dice_{region}"] = round(float(2 * (a & b).sum() / max(1, a.sum() + b.sum())), 3)
        areas = liver.sum((1, 2))
        if areas.max():
            k = int(areas.argmax())
            row["largest_section"] = {"slice_from_below": k, "slice_from_above": len(areas) - k, "pixels": int(areas[k]), "mean_hu": round(float(hu[k][liver[k]].mean()), 1)}
            write_png(arguments.out / f"{case['name']}.png", sheet(hu, labels, values, spacing, truth))
        row["candidates"] = [{"ml": round(ml, 2), "probability": round(p, 3), "center_zyx": at, "slice_from_above": round(len(areas) - at[0], 1)} for ml, p, at in candidates]
        report.append(row)
        print(json.dumps(row), flush=True)
    (arguments.out / "figures.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
