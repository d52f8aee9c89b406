"""Makes the training cases: python make_data.py METWATCH CASES_DIR [--seeds 1000 1063]. Needs the built `metwatch` program.

Each seed becomes CASES_DIR/SEED.npz on the network's grid: hu (float16) and labels (uint8), both (z, y, x). Cases that exist are kept.
Seeds under 1000 are refused: they belong to tests and to the figures in the manifest.
"""
import argparse
import os
import pathlib
import subprocess
import tempfile

import nibabel
import numpy as np

from grid import to_grid

TARGET_MM, MULTIPLE = 4.0, 8
FIRST_SEED = 1000
# Voxels and millimeters along x, y, z, one after the other: fine and coarse scans, thin and thick slices.
GRIDS = [
    ((256, 256, 128), (1.5, 1.5, 2.5)),
    ((240, 240, 64), (1.6, 1.6, 5.0)),
    ((512, 512, 128), (0.75, 0.75, 2.5)),
    ((200, 200, 107), (2.0, 2.0, 3.0)),
]


def read_zyx(path):
    """Voxels (z, y, x) in LPS order of a NIfTI file that `metwatch phantom` wrote.

    NIfTI is RAS: its x and y are turned here, by the affine's signs. Rotated files are not expected from a phantom.
    """
    image = nibabel.load(path)
    affine = image.affine[:3, :3]
    if np.abs(affine - np.diag(np.diag(affine))).max() > 1e-4:
        raise SystemExit(f"{path} is rotated: not a phantom")
    voxels = np.asanyarray(image.dataobj)
    for axis, sign in enumerate((-1, -1, 1)):  # LPS against RAS
        if affine[axis, axis] * sign < 0:
            voxels = np.flip(voxels, axis)
    return np.ascontiguousarray(voxels.transpose())


def phantom(metwatch, seed, folder, size, spacing_mm):
    """Runs `metwatch phantom`; returns HU and labels (z, y, x).

    Use the spacing asked for, not the header's: NIfTI keeps it in float32, and 240 voxels of 1.6000000238 mm need one more voxel of 4 mm.
    """
    join = lambda values: ",".join(map(str, values))
    command = [metwatch, "phantom", "--seed", str(seed), "--out", folder, "--nifti", "--size", join(size), "--spacing-mm", join(spacing_mm)]
    subprocess.run(command, check=True, env={**os.environ, "RAYON_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    return read_zyx(pathlib.Path(folder) / "ct.nii.gz"), read_zyx(pathlib.Path(folder) / "labels.nii.gz")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metwatch")
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(FIRST_SEED, FIRST_SEED + 63), metavar=("FIRST", "LAST"))
    arguments = parser.parse_args()
    first, last = arguments.seeds
    if first < FIRST_SEED:
        parser.error(f"seeds under {FIRST_SEED} are for tests: never train on them")
    arguments.cases.mkdir(parents=True, exist_ok=True)
    for seed in range(first, last + 1):
        path = arguments.cases / f"{seed}.npz"
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            size, spacing_mm = GRIDS[seed % len(GRIDS)]
            hu, labels = phantom(arguments.metwatch, seed, folder, size, spacing_mm)
        hu, labels = to_grid(hu, spacing_mm, TARGET_MM, MULTIPLE, labels)
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, hu=hu.astype(np.float16), labels=labels)
        partial.replace(path)  # an interrupted run leaves no half case
        print(f"case {seed}: {labels.shape}", flush=True)


if __name__ == "__main__":
    main()
