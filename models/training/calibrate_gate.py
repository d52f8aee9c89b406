"""Fits [gate.expected_dice] of a segmenter package: python calibrate_gate.py METWATCH PACKAGE CASES [--regions liver,colon] [--table OUT.csv].

CASES: folder with NAME.nii.gz and NAME_labels.nii.gz of known truth, labels by labels.json ({"1": "liver", ...}). Each image is also degraded
(noise, blur, thick slices, shading, streaks; seeded), segmented by the shipped binary, and compared with its truth. The Dice of a region is then
a plane over what the gate measures, mean entropy and disagreement; both slopes are held at or below zero. Printed: the plane, its mean
absolute error, and what to write into gate.toml. The package must have a [gate.expected_dice] with these regions already (any plane), since
only then both are measured. Needs nibabel, numpy, scipy.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import tempfile
import tomllib

import nibabel
import numpy as np
from scipy import ndimage, optimize


def degraded(hu, spacing, rng):
    """(name, HU) of each version of an image; arrays are (x, y, z)."""
    body = hu > -300
    y = np.arange(hu.shape[1])[None, :, None] * spacing[1]
    yield "as it is", hu
    for sd in (20, 45, 90):
        yield f"noise {sd}", hu + rng.normal(0, sd, hu.shape)
    for mm in (2.5, 5.0):
        yield f"blur {mm} mm", ndimage.gaussian_filter(hu, [mm / s for s in spacing])
    every = max(2, round(10 / spacing[2]))
    thick = ndimage.uniform_filter1d(hu, every, axis=2)[:, :, ::every]
    yield "slices of 10 mm", np.repeat(thick, every, axis=2)[:, :, : hu.shape[2]]
    yield "shading", hu + body * 60 * np.sin(np.linspace(0, np.pi, hu.shape[0]))[:, None, None]
    for hu_max in (30, 70):
        yield f"streaks {hu_max}", hu + body * hu_max * np.sin(2 * np.pi * y / rng.uniform(14, 40))
    yield "contrast down", np.where(body, 40 + 0.45 * (hu - 40), hu)


def measure(metwatch, package, image, folder):
    """Report and labels of one image."""
    ct, labels = folder / "ct.nii.gz", folder / "labels.nii.gz"
    nibabel.save(image, ct)
    command = [metwatch, "segment", ct, "--out", labels, "--model", package, "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return report, np.asarray(nibabel.load(labels).dataobj)


def dice(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metwatch", type=pathlib.Path)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("--regions", default="liver")
    parser.add_argument("--table", type=pathlib.Path)
    arguments = parser.parse_args()
    metwatch, package = arguments.metwatch.resolve(), arguments.package.resolve()
    manifest = tomllib.loads((package / "manifest.toml").read_text())
    values = {row["region"]: row["value"] for row in manifest["labels"]}
    truth_values = {name: int(value) for value, name in json.loads((arguments.cases / "labels.json").read_text()).items()}
    mask = lambda labels, of, region: np.isin(labels, [of[r] for r in ([region, "liver_lesion"] if region == "liver" else [region]) if r in of])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(arguments.cases.glob("*_labels.nii.gz")):
            image = nibabel.load(str(path).replace("_labels", ""))
            truth, hu = np.asarray(nibabel.load(path).dataobj), np.asarray(image.dataobj, np.float32)
            rng = np.random.default_rng(len(rows))
            for name, changed in degraded(hu, image.header.get_zooms()[:3], rng):
                version = nibabel.Nifti1Image(changed.astype(np.float32), image.affine)
                report, found = measure(metwatch, package, version, pathlib.Path(folder))
                for row in report["measures"]["certainty"]:
                    region = row["region"]
                    if region in arguments.regions.split(",") and region in truth_values:
                        score = dice(mask(found, values, region), mask(truth, truth_values, region))
                        rows.append([path.name.split("_labels")[0], name, region, row["entropy"], row["disagreement"], score, report["outcome"]])
                        print(*rows[-1], flush=True)
    if arguments.table:
        with arguments.table.open("w", newline="") as file:
            csv.writer(file).writerows([["case", "version", "region", "entropy", "disagreement", "dice", "outcome"], *rows])
    for region in arguments.regions.split(","):
        of = np.array([row[3:6] for row in rows if row[2] == region], float)
        if len(of) < 8:
            raise SystemExit(f"{region}: {len(of)} measurements are too few")
        design = np.column_stack([np.ones(len(of)), -of[:, 0], -of[:, 1]])
        (intercept, per_nat, per_disagreement), _ = optimize.nnls(design, of[:, 2])
        expected = np.clip(design @ [intercept, per_nat, per_disagreement], 0, 1)
        error = np.abs(expected - of[:, 2])
        print(f"# {region}: {len(of)} volumes, Dice {of[:, 2].min():.3f} to {of[:, 2].max():.3f}, mean absolute error {error.mean():.3f}, largest {error.max():.3f}")
        print(f'[[gate.expected_dice.regions]]\nregion = "{region}"\nplane = {{ intercept = {min(intercept, 1.2):.4f}, per_nat = {-per_nat:.4f}, per_disagreement = {-per_disagreement:.4f} }}')


if __name__ == "__main__":
    main()
