"""The second network: liver surface and lesions at 2 mm. python lesions.py TORSO_DIR RUN_DIR trains it (goes on where it was interrupted).

python lesions.py TORSO_DIR RUN_DIR --evaluate N: recall of synthetic lesions by size and contrast and false marks per liver on N unseen
livers, and the operating point (component size, mean probability) with at most one false mark per liver.
"""
import argparse
import json
import pathlib

import numpy as np
import torch

from infer import parts_of
from network import LESION_CHANNELS, UNet
from sample import blur, field, paint, scan, warp
from tissues import T
from train import fit, load_torsos

# What the package's manifest says about it (src/segment/package.rs, [refine]).
PLAN = {
    "file": "refine.onnx", "golden": "refine_golden.json", "input": "input", "output": "logits", "classes": ["liver", "liver_lesion"],
    "spacing_mm": [2.0, 2.0, 2.0], "pad_multiple": 8, "margin_mm": 20.0, "band_mm": 6.0, "scale_hu": 40.0, "clip": 3.0,
    "lesion_ml_min": 0.3, "lesion_probability_min": 0.6, "liver_channel": True,
}
STAGES = [(2.0, (40, 56, 56), 3, 800, 3e-3)]
WHOLE = (80, 112, 112)  # voxels of 2 mm: what --evaluate calls a liver
UNSEEN = 1_000_000  # first number of the evaluation's samples; training uses [seed, stage, step, k]


def fissures(rng, hu, liver, mm):
    """Sheets and strands of fat in the liver (ligaments, hilum): liver to the truth, never a lesion."""
    for _ in range(rng.integers(0, 3)):
        near = field(rng, hu.shape, 30 / mm) > rng.uniform(0, 1)
        sheet = (field(rng, hu.shape, rng.uniform(40, 80) / mm).abs() < rng.uniform(0.02, 0.09)) & near & liver
        hu = torch.where(sheet, hu - float(rng.uniform(20, 150)), hu)
    return hu


def first_stage_liver(rng, liver, mm):
    """What the first network would say: the liver on a coarse grid, with errors at the edges, false and missing parts."""
    p = liver.float()
    p = blur(p, [rng.uniform(1.0, 2.2)] * 3)
    p = p + float(rng.uniform(0, 0.35)) * field(rng, liver.shape, rng.uniform(16, 50) / mm) * (p > 0.02) * (p < 0.98)
    for _ in range(rng.integers(0, 3)):  # a lump too much or too little
        lump = field(rng, liver.shape, 40 / mm) > rng.uniform(1.2, 2.4)
        p = torch.where(lump, torch.tensor(float(rng.random() < 0.5)), p)
    p = blur(p, [0.8] * 3)
    return torch.sigmoid((p - float(rng.uniform(0.4, 0.6))) * float(rng.uniform(8, 20)))


def sample(seed, torsos, shape, mm, lesion_share=0.85, whole=False):
    """(input (2, z, y, x), classes (z, y, x)); `whole`: also lesion numbers, contrasts and the noise in the liver, for the evaluation."""
    rng = np.random.default_rng(seed)
    anatomy = torsos[rng.integers(len(torsos))]
    tissue, *points = anatomy[rng.integers(len(anatomy))]
    tissue, ended = warp(rng, tissue, points, shape, mm, spread_mm=5, near_liver=1.0)
    if whole and int((tissue == T["liver"]).sum()) * mm**3 < 5e5:  # less than half a liter is no liver to count marks on
        return sample([*seed, 1], torsos, shape, mm, lesion_share, whole)
    liver = tissue == T["liver"]
    hu, number, contrasts = paint(rng, tissue, mm, lesion_share, radius_mm=(3, 30))
    hu = fissures(rng, hu, liver & (number == 0), mm)
    labels = liver.long() + (number > 0)
    hu, labels = scan(rng, hu, labels, ended, mm, streak_share=0.5, cut_share=0.15)
    p = first_stage_liver(rng, labels > 0, mm)
    inside = p > 0.5
    median = hu[inside].median() if inside.any() else hu.median()
    x = torch.stack([((hu - median) / PLAN["scale_hu"]).clamp(-PLAN["clip"], PLAN["clip"]), p])
    if not whole:
        return x, labels
    healthy = labels == 1
    return x, labels, torch.where(labels == 2, number, 0), contrasts, float(hu[healthy].std()) if healthy.any() else 1.0


def evaluate(model, torsos, livers):
    """Unseen livers: lesions (diameter, contrast / noise, marks that hit), marks (mL, probability, true or false), liver Dice before and after."""
    rows, marks, surfaces = [], [], []
    for k in range(livers):
        x, labels, number, contrasts, noise = sample([UNSEEN, k], torsos, WHOLE, PLAN["spacing_mm"][0], whole=True)
        with torch.no_grad():
            p = model(x[None].to(memory_format=torch.channels_last_3d)).softmax(1)[0].numpy()
        classes = p.argmax(0)
        dice = lambda mask, truth: float(2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum()))
        organ = labels.numpy() > 0
        surfaces.append((dice(x[1].numpy() > 0.5, organ), dice(classes > 0, organ)))
        parts, sizes = parts_of(classes == 2)
        ids = np.nonzero(sizes)[0]
        number = number.numpy()
        ml = PLAN["spacing_mm"][0] ** 3 / 1000
        for part in ids:
            where = parts == part
            true = bool((number[where] > 0).mean() >= 0.1)
            marks.append({"liver": k, "part": int(part), "ml": sizes[part] * ml, "p": float(p[2][where].mean()), "true": true})
        for n, contrast in enumerate(contrasts, 1):
            where = number == n
            count = int(where.sum())
            if count * ml < 0.05:  # overwritten by another lesion, or outside the scan
                continue
            overlap = np.bincount(parts[where], minlength=len(sizes))
            found = [int(part) for part in ids if overlap[part] >= 0.2 * count]
            rows.append({"liver": k, "mm": 2 * (count * ml * 1000 * 0.75 / np.pi) ** (1 / 3), "cnr": abs(contrast) / max(noise, 1), "found": found})
    return rows, marks, surfaces


def operating_point(rows, marks, livers):
    """The (mL, probability) with the most lesions over 10 mm found at no more than one false mark per liver."""
    best, large = None, [r for r in rows if r["mm"] > 10]
    if not large:
        return None
    for ml in (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0):
        for p in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95):
            kept = {(m["liver"], m["part"]) for m in marks if m["ml"] >= ml and m["p"] >= p}
            false = sum(not m["true"] and m["ml"] >= ml and m["p"] >= p for m in marks) / livers
            recall = np.mean([any((r["liver"], part) in kept for part in r["found"]) for r in large])
            if false <= 1 and (best is None or recall > best[0]):
                best = (float(recall), false, ml, p)
    return best


def table(rows, marks, livers, ml, p):
    kept = {(m["liver"], m["part"]) for m in marks if m["ml"] >= ml and m["p"] >= p}
    hit = lambda r: any((r["liver"], part) in kept for part in r["found"])
    out = {"false_marks_per_liver": sum(not m["true"] and m["ml"] >= ml and m["p"] >= p for m in marks) / livers}
    for low, high in ((0, 10), (10, 20), (20, 200)):
        for weak, strong in ((0, 1), (1, 2), (2, 1e9)):
            inside = [hit(r) for r in rows if low <= r["mm"] < high and weak <= r["cnr"] < strong]
            name = f"recall_{low}_to_{high}_mm_contrast_{weak:g}_to_{strong:g}_noise"
            out[name] = [round(float(np.mean(inside)), 3) if inside else None, len(inside)]
    over_10 = [hit(r) for r in rows if r["mm"] > 10]
    out["recall_over_10_mm"] = [round(float(np.mean(over_10)), 3) if over_10 else 0.0, len(over_10)]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torsos")
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--only", action="append")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", type=int, metavar="N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    torsos = load_torsos(arguments.torsos, arguments.only)
    model = UNet(LESION_CHANNELS, 3, 2)
    if arguments.evaluate:
        model.load_state_dict(torch.load(arguments.run / "model.pt")["weights"])
        model.eval()
        half = arguments.evaluate // 2  # the point is chosen on one half and reported on the other
        rows, marks, surfaces = evaluate(model, torsos, arguments.evaluate)
        pick = lambda entries, first: [e for e in entries if (e["liver"] < half) == first]
        point = operating_point(pick(rows, True), pick(marks, True), half)
        before, after = np.mean(surfaces, 0)
        report = {"point": point, "livers": arguments.evaluate - half, "liver_dice_made_up_first_stage": round(before, 4), "liver_dice": round(after, 4)}
        if point:
            report |= table(pick(rows, False), pick(marks, False), arguments.evaluate - half, point[2], point[3])
        (arguments.run / "marks.json").write_text(json.dumps({"rows": rows, "marks": marks}) + "\n")  # to choose another point without a new pass
        (arguments.run / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report, indent=1))
        return
    stages = [(*STAGES[0][:3], arguments.steps, STAGES[0][4])] if arguments.steps else STAGES
    draw = lambda seed, stage: sample(seed, torsos, stage[1], stage[0])
    fit(model, draw, stages, torch.tensor([1.0, 1.0, 2.0]), arguments.run, arguments.seed)


if __name__ == "__main__":
    main()
