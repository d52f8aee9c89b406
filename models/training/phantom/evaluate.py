"""Dice of a segmenter package on unseen phantoms, through the shipped program: python evaluate.py METWATCH PACKAGE METRICS.json [--seeds 1 8].

`metwatch phantom` with its default options, `metwatch segment --model PACKAGE`, hard Dice on the scan's own grid. Lesions count as liver in
`liver`. Writes the means and the least values as a flat table for the manifest.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np

from make_data import FIRST_SEED, phantom, read_zyx

REGIONS = {"liver": (1, 2), "liver_lesion": (2,), "colon": (3,), "colorectal_tumor": (4,)}
DEFAULT = ((512, 512, 128), (0.75, 0.75, 2.5))


def dice(found, truth, values):
    """Hard Dice of the union of label values; NaN where the truth has none of them."""
    a, b = np.isin(found, values), np.isin(truth, values)
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)) if b.any() else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metwatch")
    parser.add_argument("package")
    parser.add_argument("metrics", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 8), metavar=("FIRST", "LAST"))
    arguments = parser.parse_args()
    if arguments.seeds[1] >= FIRST_SEED:
        parser.error(f"seeds from {FIRST_SEED} on are for training: they prove nothing")
    rows = []
    for seed in range(arguments.seeds[0], arguments.seeds[1] + 1):
        with tempfile.TemporaryDirectory() as folder:
            _, truth = phantom(arguments.metwatch, seed, folder, *DEFAULT)
            out = os.path.join(folder, "found.nii.gz")
            command = [arguments.metwatch, "segment", os.path.join(folder, "ct.nii.gz"), "--out", out, "--model", arguments.package]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            found = read_zyx(out)
        rows.append([dice(found, truth, values) for values in REGIONS.values()])
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(REGIONS, rows[-1])), flush=True)
    table = np.array(rows)
    metrics = {"n_unseen_phantoms": float(len(rows))}
    for name, column in zip(REGIONS, table.T):
        metrics[f"dice_{name}_mean"] = round(float(np.nanmean(column)), 4)
        metrics[f"dice_{name}_least"] = round(float(np.nanmin(column)), 4)
    arguments.metrics.write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
