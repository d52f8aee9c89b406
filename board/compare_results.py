"""Differences between the results of two architectures, with the tolerance of each. Standard library only."""

import array
import csv
import gzip
import json
import sys
from pathlib import Path

work = Path(sys.argv[1])
x86, arm = work / "x86", work / "arm"
failed = False


def tell(what, figure, limit):
    """Prints one difference; above its limit the comparison fails."""
    global failed
    fine = figure <= limit
    failed |= not fine
    print(f"{'ok  ' if fine else 'FAIL'} {what}: {figure:.3g} (at most {limit:g})")


def voxels(path):
    """Values of a NIfTI-1 file (nifti1.h: datatype at byte 70, vox_offset at 108), as a list."""
    data = gzip.decompress(path.read_bytes())
    code = {2: "B", 4: "h", 16: "f", 512: "H"}[int.from_bytes(data[70:72], "little")]
    start = int(array.array("f", data[108:112])[0])
    return array.array(code, data[start:])


def differing(a, b):
    assert len(a) == len(b) and len(a) > 0
    return sum(p != q for p, q in zip(a, b)), max(abs(p - q) for p, q in zip(a, b))


n, largest = differing(voxels(x86 / "phantom/ct.nii.gz"), voxels(arm / "phantom/ct.nii.gz"))
# Sine and exponential functions of glibc may round the last bit differently; a voxel at a half then turns by one.
tell("phantom: largest difference of a voxel, HU", largest, 1)
print(f"     phantom: {n} voxels differ")
for name in ["labels.nii.gz", "analysis/labels.nii.gz"]:
    a, b = voxels(x86 / name), voxels(arm / name)
    n, _ = differing(a, b)
    # Sums of the convolutions run in another order on another width of registers: 1 of 10,000 labels may turn at a border.
    tell(f"{name}: share of labels that differ", n / sum(v != 0 for v in a), 1e-4)
    print(f"     {name}: {n} of {sum(v != 0 for v in a)} labels differ")


def features(path):
    rows = list(csv.reader(path.open()))
    return {tuple(row[:-1]): row[-1] for row in rows[1:]}


a, b = features(x86 / "analysis/features.csv"), features(arm / "analysis/features.csv")
assert a.keys() == b.keys() and len(a) > 100, (len(a), len(b))
worst, where = 0.0, None
for key, text in a.items():
    try:
        p, q = float(text), float(b[key])
    except ValueError:
        assert text == b[key], (key, text, b[key])
        continue
    relative = abs(p - q) / max(abs(p), abs(q), 1e-12)
    if relative > worst:
        worst, where = relative, key
labels_equal = voxels(x86 / "analysis/labels.nii.gz") == voxels(arm / "analysis/labels.nii.gz")
# With equal labels only the order of sums differs; a label that turns moves a texture feature of a small tumor by far more.
tell(f"features: largest relative difference of {len(a)} ({where})", worst, 1e-9 if labels_equal else 0.05)
p, q = (json.loads((side / "analysis/result.json").read_text()) for side in (x86, arm))
assert p["status"] == q["status"], (p["status"], q["status"])
assert [r["code"] for r in p["reasons"]] == [r["code"] for r in q["reasons"]]
if p["assessment"] and q["assessment"]:
    assert p["assessment"]["group"] == q["assessment"]["group"]
    tell("risk: difference of the probability", abs(p["assessment"]["probability"] - q["assessment"]["probability"]), 1e-3)
    print(f"     risk: {p['assessment']['probability']} {q['assessment']['probability']} ({p['assessment']['group']})")
sys.exit(failed)
