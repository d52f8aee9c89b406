"""Trains the phantom segmenter, in two stages: python train.py CASES_DIR FIRST.pt; python train.py CASES_DIR OUT.pt --after FIRST.pt.

One thread, seeded. The first stage learns where organs lie; after it, lesions are still called liver and tumors are found in part
(Dice 0 and 0.4 to 0.9). The second goes on with fixed batch statistics, more patches per step round tumors and lesions, and the
noise that a scan really has on this grid.
"""
import argparse
import dataclasses
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from grid import normalize
from network import CLASSES, UNet


@dataclasses.dataclass(frozen=True)
class Stage:
    """What differs between the stages."""

    patch: tuple  # voxels along z, y, x
    batch: int
    steps: int
    rate: float  # largest learning rate
    frozen_from: float  # share of the steps after which batch statistics stay as they are
    centers: tuple  # classes round which patches lie, drawn evenly
    noise_hu_max: float
    blurred: float  # share of blurred patches
    weights: tuple  # of the classes in the cross-entropy


FIRST = Stage((40, 56, 56), 2, 1500, 3e-3, 0.7, (4, 4, 4, 1, 1, 2, 3, 3), 12, 0.2, (0.6, 1.0, 1.6, 1.3, 2.0))
SECOND = Stage((32, 48, 48), 3, 1100, 2e-3, -1, (4, 4, 4, 4, 2, 2, 2, 1, 3, 3), 8, 0.1, (1.0, 1.0, 2.0, 1.2, 2.0))


def load(folder):
    cases = []
    for path in sorted(pathlib.Path(folder).glob("*.npz")):
        data = np.load(path)
        hu, labels = data["hu"].astype(np.float32), data["labels"]
        places = {c: np.argwhere(labels == c) for c in range(1, 5)}
        cases.append((torch.from_numpy(hu), torch.from_numpy(labels.astype(np.int64)), places))
    return cases


def sample(cases, rng, stage):
    """One bent, jittered patch: (hu normalized (1, z, y, x), labels (z, y, x))."""
    hu, labels, places = cases[rng.integers(len(cases))]
    kinds = [c for c in stage.centers if len(places[c])]
    if rng.random() < 0.12:
        center = np.array([rng.integers(n) for n in hu.shape])
    else:
        chosen = places[kinds[rng.integers(len(kinds))]]
        center = chosen[rng.integers(len(chosen))] + rng.integers(-14, 15, 3)
    # An affine map of the patch: scale, small rotations; nothing is mirrored, the liver has its side.
    angles = rng.uniform(-0.15, 0.15, 3)
    scale = rng.uniform(0.82, 1.2, 3)
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = math.cos(angle), math.sin(angle)
        rotation = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        rotation[i, i], rotation[i, j], rotation[j, i], rotation[j, j] = c, -s, s, c
        matrix = matrix @ rotation
    matrix = matrix @ np.diag(scale)
    index = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in stage.patch], indexing="ij"), -1)
    at = index @ matrix.T + center
    grid = torch.from_numpy((2 * at / (np.array(hu.shape) - 1) - 1)[..., ::-1].astype(np.float32).copy())[None]
    x = F.grid_sample(hu[None, None] + 1000, grid, align_corners=True)[0, 0] - 1000
    y = F.grid_sample(labels[None, None].float(), grid, mode="nearest", align_corners=True)[0, 0].long()
    # Contrasts of other scanners, phases and patients: whole image, then organ by organ.
    x = x + float(rng.normal(0, 6))
    offsets = torch.tensor([0.0, rng.normal(0, 14), rng.normal(0, 5), rng.normal(0, 4), rng.normal(0, 4)], dtype=torch.float32)
    offsets[2] += offsets[1]
    x = torch.where(x > -150, x + offsets[y], x)
    x = x + float(np.exp(rng.uniform(math.log(1), math.log(stage.noise_hu_max)))) * torch.randn(x.shape)
    if rng.random() < stage.blurred:
        x = F.avg_pool3d(x[None, None], 3, 1, 1)[0, 0]
    return torch.from_numpy(normalize(x.numpy()).astype(np.float32))[None], y


def loss_of(logits, labels, stage):
    cross = F.cross_entropy(logits, labels, weight=torch.tensor(stage.weights))
    p = logits.softmax(1)
    truth = F.one_hot(labels, len(CLASSES)).permute(0, 4, 1, 2, 3).float()
    dims = (0, 2, 3, 4)
    overlap, total = (p * truth).sum(dims), (p + truth).sum(dims)
    present = truth.sum(dims) > 0
    dice = 1 - (2 * overlap[present] / total[present].clamp_min(1e-6)).mean()
    return cross + dice


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases")
    parser.add_argument("out")
    parser.add_argument("--after", help="weights of the first stage: trains the second")
    parser.add_argument("--steps", type=int, help="fewer, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stage = SECOND if arguments.after else FIRST
    steps = arguments.steps or stage.steps
    torch.set_num_threads(1)
    # Each stage draws patches of its own.
    torch.manual_seed(arguments.seed + bool(arguments.after))
    rng = np.random.default_rng(arguments.seed + bool(arguments.after))
    cases = load(arguments.cases)
    model = UNet().to(memory_format=torch.channels_last_3d)
    before = {"steps": 0, "seconds": 0.0}
    if arguments.after:
        before = torch.load(arguments.after)
        model.load_state_dict(before["weights"])
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, weight_decay=1e-2)
    began = time.time()
    for step in range(steps):
        rate = min(1, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * rate + 1e-5
        model.train()
        if step > stage.frozen_from * steps:  # the folded network has fixed statistics: train with them
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm3d):
                    module.eval()
        batch = [sample(cases, rng, stage) for _ in range(stage.batch)]
        x = torch.stack([b[0] for b in batch]).to(memory_format=torch.channels_last_3d)
        loss = loss_of(model(x), torch.stack([b[1] for b in batch]), stage)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        keep = min(0.99, (step + 1) / (step + 10))
        for k, v in model.state_dict().items():
            average[k] = keep * average[k] + (1 - keep) * v if v.dtype.is_floating_point else v
        if step % 50 == 0 or step + 1 == steps:
            print(f"step {step} loss {loss.item():.3f} {time.time() - began:.0f} s", flush=True)
            seconds = before["seconds"] + time.time() - began
            torch.save({"weights": average, "steps": before["steps"] + step + 1, "seed": arguments.seed, "seconds": seconds}, arguments.out)


if __name__ == "__main__":
    main()
