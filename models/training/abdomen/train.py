"""Trains the organ network: python train.py TORSO_DIR RUN_DIR [--only atlas]; goes on from RUN_DIR/state.pt where it was interrupted.

One thread, seeded: sample n of a run is always the same. 8 mm first, then 6 and 4 mm, each from the averaged weights before.
"""
import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from network import ORGAN_CHANNELS, UNet
from sample import sample
from tissues import CLASSES, T

# (spacing mm, patch (z, y, x), batch, steps, largest learning rate)
STAGES = [
    (8.0, (32, 48, 48), 2, 300, 3e-3),
    (6.0, (32, 48, 64), 2, 300, 2.5e-3),
    (4.0, (48, 64, 80), 2, 700, 2e-3),
    (4.0, (48, 64, 80), 2, 600, 1.5e-3),
    (4.0, (48, 64, 80), 2, 160, 1e-3),
    (4.0, (48, 64, 80), 2, 70, 1e-3),
]
DICE_WEIGHT = {"liver": 3.0}
OTHERS = ("spleen", "right_kidney", "left_kidney", "colon", "aorta")  # a quarter of the patches lie round one of these


def load_torsos(folder, only=None):
    """Torsos by anatomy: [[(tissue, liver points, points of other organs), ...], ...]."""
    anatomies = {}
    for path in sorted(pathlib.Path(folder).glob("*.npz")):
        name = path.stem.rsplit("-", 1)[0]
        if path.name.endswith(".partial.npz") or only and name not in only:
            continue
        tissue = np.load(path)["tissue"]
        liver, others = np.argwhere(tissue == T["liver"]), np.argwhere(np.isin(tissue, [T[organ] for organ in OTHERS]))
        thin = lambda points: points[:: max(1, len(points) // 4000)]
        anatomies.setdefault(name, []).append((tissue, thin(liver), thin(others)))
    if not anatomies:
        raise SystemExit(f"no torsos in {folder}: run torso.py")
    return list(anatomies.values())


def loss_of(logits, labels, weights):
    """Cross-entropy + soft Dice over the classes that are present (no smoothing term: it makes absent classes look learnt)."""
    p = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).permute(0, 4, 1, 2, 3).float()
    dims = (0, 2, 3, 4)
    overlap, total = (p * truth).sum(dims), (p + truth).sum(dims)
    w = weights * (truth.sum(dims) > 0)
    dice = (w * (1 - 2 * overlap / total.clamp_min(1e-6))).sum() / w.sum()
    return F.cross_entropy(logits, labels) + dice


def freeze_statistics(model):
    """The folded network has fixed statistics: train with them."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()


def fit(model, draw, stages, weights, run, seed):
    """The loop of both networks. `draw(sample_seed, stage)` -> (input, labels); `stages` as STAGES. Saves RUN/state.pt and RUN/model.pt."""
    run.mkdir(parents=True, exist_ok=True)
    state_path = run / "state.pt"
    state = torch.load(state_path) if state_path.exists() else None
    model = model.to(memory_format=torch.channels_last_3d)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    at, seconds = [0, 0], 0.0
    if state:
        model.load_state_dict(state["weights"])
        average, at, seconds = state["average"], state["at"], state["seconds"]
        if at[1] == 0:  # between two stages: the next begins from the averaged weights
            model.load_state_dict(average)
    began, last_save = time.time() - seconds, time.time()
    for number in range(at[0], len(stages)):
        mm, shape, batch, steps, rate = stages[number]
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
        if state and state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        start, state = (at[1] if number == at[0] else 0), None
        losses = []
        for step in range(start, steps):
            warm = min(1.0, (step + 1) / 40)
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            model.train()
            if number == len(stages) - 1 and step >= 0.7 * steps:
                freeze_statistics(model)
            pairs = [draw([seed, number, step, k], stages[number]) for k in range(batch)]
            x = torch.stack([p[0] for p in pairs]).to(memory_format=torch.channels_last_3d)
            loss = loss_of(model(x), torch.stack([p[1] for p in pairs]), weights)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            keep = min(0.99, (step + 1) / (step + 10))
            for k, v in model.state_dict().items():
                average[k] = keep * average[k] + (1 - keep) * v if v.dtype.is_floating_point else v
            losses.append(loss.item())
            done = step + 1 == steps
            if done or time.time() - last_save > 120:
                last_save = time.time()
                following = [number + 1, 0] if done else [number, step + 1]
                common = {"at": following, "stages": stages, "seed": seed, "seconds": time.time() - began}
                partial = run / "partial.pt"
                torch.save({**common, "weights": model.state_dict(), "average": average, "optimizer": None if done else optimizer.state_dict()}, partial)
                partial.replace(state_path)
                torch.save({**common, "weights": average}, partial)
                partial.replace(run / "model.pt")
            if step % 25 == 0 or done:
                print(f"{mm} mm step {step} loss {np.mean(losses[-25:]):.3f} {time.time() - began:.0f} s", flush=True)
        model.load_state_dict(average)  # the next grid begins from the averaged weights


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torsos")
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--only", action="append", help="use this anatomy only; may be repeated")
    parser.add_argument("--steps", help="steps per stage, such as 300,300,700,600,160,70")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    stages = STAGES
    if arguments.steps:
        stages = [(*s[:3], int(n), s[4]) for s, n in zip(STAGES, arguments.steps.split(","))]
    torsos = load_torsos(arguments.torsos, arguments.only)
    weights = torch.tensor([DICE_WEIGHT.get(name, 1.0) for name in CLASSES])
    model = UNet(ORGAN_CHANNELS, len(CLASSES))
    fit(model, lambda seed, stage: sample(seed, torsos, stage[1], stage[0]), stages, weights, arguments.run, arguments.seed)


if __name__ == "__main__":
    main()
