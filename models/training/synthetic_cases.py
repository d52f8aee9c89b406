"""Synthetic CT with its truth as NIfTI, for calibrate_gate.py: python synthetic_cases.py TORSOS OUT_DIR [--count 8] [--seed 90000].

The generator of training (abdomen/sample.py) on seeds that no training uses. HU are what the network sees: clipped to -200..300.
"""
import argparse
import json
import pathlib
import sys

import nibabel
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "abdomen"))
from sample import sample  # noqa: E402
from tissues import CLASSES  # noqa: E402
from train import load_torsos  # noqa: E402

SHAPE, MM = (96, 80, 96), 4.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torsos")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=90000)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torsos = load_torsos(arguments.torsos, None)
    # (z, y, x) to the head, the back and the left: LPS; NIfTI is RAS.
    affine = np.diag([-MM, -MM, MM, 1.0])
    made, seed = 0, arguments.seed
    while made < arguments.count:
        image, labels = sample(seed, torsos, SHAPE, MM)
        seed += 1
        if (labels == 1).sum() * MM**3 < 500e3:
            continue  # hardly any liver in the patch
        hu = image[0].numpy() * 100 + 50
        hu[hu <= -199.5] = -1000
        for name, values in (("", hu.astype(np.float32)), ("_labels", labels.numpy().astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), arguments.out / f"synthetic{made:02}{name}.nii.gz")
        made += 1
    (arguments.out / "labels.json").write_text(json.dumps({str(k): name for k, name in enumerate(CLASSES) if k}))


if __name__ == "__main__":
    main()
