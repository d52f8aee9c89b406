"""One training sample from a torso: bent anatomy, drawn contrasts, textures, acquisition (domain randomization as in SynthSeg, Billot 2023).

Everything is drawn from one seeded generator, so sample number n of a seed is always the same.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

from tissues import CLASS_OF, MEAN_HU, PHASE_SHARES, SPREAD_HU, T
from torso import MM

AIR_HU = -1000.0


def field(rng, shape, knots):
    """Smooth noise of unit spread at its knots: (z, y, x), `knots` voxels apart (a number or one per axis)."""
    knots = np.broadcast_to(knots, 3)
    coarse = torch.from_numpy(rng.standard_normal([max(2, int(math.ceil(n / k)) + 1) for n, k in zip(shape, knots)]).astype(np.float32))
    return F.interpolate(coarse[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def blur(x, sigmas):
    """Gaussian blur, sigma in voxels per axis (z, y, x)."""
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.15:
            continue
        r = max(1, int(3 * sigma + 0.5))
        k = torch.exp(-0.5 * (torch.arange(-r, r + 1) / sigma) ** 2)
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], pad[axis] = 2 * r + 1, r
        x = F.conv3d(F.pad(x[None, None], [p for q in pad[::-1] for p in (q, q)], mode="replicate"), (k / k.sum()).view(shape))[0, 0]
    return x


def rotation(rng, degrees):
    matrix = np.eye(3)
    for axis, angle in enumerate(rng.uniform(-degrees, degrees, 3) * math.pi / 180):
        i, j = [k for k in range(3) if k != axis]
        r = np.eye(3)
        r[i, i], r[i, j], r[j, i], r[j, j] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        matrix = matrix @ r
    return matrix


def warp(rng, tissue, points, shape, mm, strength=1.0, spread_mm=25, near_liver=0.65):
    """The torso's tissues on a bent patch of `shape` voxels of `mm`: (z, y, x) uint8, and the voxels where the torso ends (air).

    `points`: voxels of the liver and of other organs; one of them lies near the patch's middle in most samples.
    Left and right are never exchanged: the liver has its side.
    """
    axes = [torch.arange(n, dtype=torch.float32) * mm - (n - 1) * mm / 2 for n in shape]
    p = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # mm from the patch's middle
    matrix = rotation(rng, 12 * strength) @ np.diag(1 / (rng.uniform(0.82, 1.22) * rng.uniform(0.9, 1.1, 3)))
    matrix = matrix @ (np.eye(3) + np.triu(rng.uniform(-0.1, 0.1, (3, 3)), 1) * strength)
    q = torch.einsum("ij,jzyx->izyx", torch.from_numpy(matrix.astype(np.float32)), p)
    for knot_mm, sd in ((160, 16), (80, 11), (40, 5), (20, 2)):
        sd = sd * strength * rng.uniform(0.3, 1.2)
        q = q + sd * torch.stack([field(rng, shape, knot_mm / mm) for _ in range(3)])
    liver, others = points
    draw = rng.random()
    if draw < near_liver + 0.7 * (1 - near_liver):
        chosen = liver if draw < near_liver else others
        center = chosen[rng.integers(len(chosen))] * MM + rng.normal(0, spread_mm, 3)
    else:
        center = np.array([rng.uniform(0.1, 0.9) * n for n in tissue.shape]) * MM
    # Swelling and shrinking round a point: livers, stomachs and bellies differ most in size.
    for _ in range(rng.integers(0, 3)):
        at = torch.tensor(rng.uniform(-0.5, 0.5, 3) * np.array(shape) * mm, dtype=torch.float32).view(3, 1, 1, 1)
        d2 = ((p - at) ** 2).sum(0)
        q = q + strength * float(rng.uniform(-0.32, 0.32)) * (q - at) * torch.exp(-d2 / (2 * float(rng.uniform(30, 70)) ** 2))
    index = torch.round((q + torch.tensor(center, dtype=torch.float32).view(3, 1, 1, 1)) / MM).long()
    limit = torch.tensor(tissue.shape).view(3, 1, 1, 1)
    inside = ((index >= 0) & (index < limit)).all(0)
    index = torch.minimum(index.clamp_min(0), limit - 1)
    flat = (index[0] * tissue.shape[1] + index[1]) * tissue.shape[2] + index[2]
    out = torch.from_numpy(tissue.reshape(-1))[flat]
    out[~inside] = 0
    return out, ~inside


def draw_means(rng, phase):
    means = MEAN_HU[:, phase] + rng.standard_normal(len(MEAN_HU)) * SPREAD_HU
    if phase > 0:  # how much contrast medium, how late
        native = MEAN_HU[:, 0]
        soft = means > -60
        means = np.where(soft, native + (means - native) * rng.uniform(0.75, 1.15), means)
    means[T["left_kidney"]] = means[T["right_kidney"]]
    if rng.random() < 0.1:  # fatty liver
        means[T["liver"]] -= rng.uniform(15, 60)
    if rng.random() < 0.2:
        means = means + np.where(means > -200, rng.normal(0, 28, len(means)), 0)
    if rng.random() < 0.3:  # the heart as bright as the liver: its underside is the classic mistake
        means[T["heart"]] = means[T["liver"]] + rng.normal(0, 12)
    return means


def near(mask, r):
    """Dilation by r voxels (box)."""
    return F.max_pool3d(mask[None, None].float(), 2 * r + 1, 1, r)[0, 0] > 0.5


def fill_bowel(rng, hu, tissue, mm):
    """Gas, stool, water and contrast medium inside stomach and bowel, a wall round them."""
    shape = tissue.shape
    height = torch.linspace(-1, 1, shape[1]).view(1, -1, 1)  # front to back
    for name, gas in (("stomach", 0.35), ("colon", 0.45), ("small_bowel", 0.12)):
        organ = tissue == T[name]
        if not organ.any():
            continue
        lumen = organ & ~near(~organ, 1) if mm <= 4.5 or rng.random() < 0.5 else organ
        kind = field(rng, shape, rng.uniform(25, 70) / mm)
        fluid = torch.full(shape, float(rng.choice([rng.uniform(0, 45), rng.uniform(20, 90), rng.uniform(120, 450)], p=[0.5, 0.25, 0.25])))
        if name == "colon":  # stool: soft with specks of gas
            stool = rng.uniform(-30, 90) + rng.uniform(20, 120) * field(rng, shape, rng.uniform(6, 14) / mm)
            fluid = torch.where(kind > rng.uniform(-0.8, 0.8), stool, fluid)
        elif rng.random() < 0.5:  # food, mixed contrast medium
            fluid = fluid + rng.uniform(10, 60) * field(rng, shape, rng.uniform(10, 25) / mm)
        collapsed = kind < rng.uniform(-2.5, 0.2)
        hu = torch.where(lumen & ~collapsed, fluid, hu)
        up = field(rng, shape, 60 / mm) * 0.6 - height
        hu = torch.where(lumen & (up > rng.uniform(-0.3, 1.2) + (0.5 - gas)), torch.tensor(float(rng.uniform(-1000, -850))), hu)
    return hu


def vessels(rng, shape, knot, width):
    """Branching curves: where two smooth fields are both near zero."""
    return (field(rng, shape, knot).abs() < width) & (field(rng, shape, knot).abs() < width)


def lesions(rng, hu, liver, mm, most=7, radius_mm=(4, 45)):
    """Round, lobed, sometimes ring-shaped lesions: (HU, number of the lesion per voxel or 0, contrast of each in HU).

    Contrast priors: quantiles of lesion minus liver in crlm_features.
    """
    places = liver.nonzero()
    number = torch.zeros(liver.shape, dtype=torch.uint8)
    contrasts = []
    if len(places) < 50:
        return hu, number, contrasts
    base = float(hu[liver].mean())
    for n in range(1, int(rng.integers(1, most + 1)) + 1):
        radius = float(np.exp(rng.uniform(math.log(radius_mm[0]), math.log(radius_mm[1]))))
        center = places[rng.integers(len(places))]
        r = int(radius * 1.6 / mm) + 2
        box = tuple(slice(max(0, int(c) - r), int(c) + r + 1) for c in center)
        axes = [torch.arange(s.start, min(s.stop, n_)) - int(c) for s, n_, c in zip(box, liver.shape, center)]
        d = torch.sqrt(sum((g * mm * float(rng.uniform(0.8, 1.25))) ** 2 for g in torch.meshgrid(*axes, indexing="ij")))
        d = d / radius + 0.18 * field(rng, d.shape, max(2, radius / mm))
        inside = (d < 1) & liver[box]
        contrast = float(np.interp(rng.random(), [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], [-90, -67, -44, -28, -14, -5, 25]))
        new = torch.where(inside, torch.tensor(base + contrast), hu[box])
        if rng.random() < 0.3:  # a ring of enhanced rim
            new = torch.where(inside & (d > 0.7), torch.tensor(base + float(rng.normal(5, 15))), new)
        hu[box] = new
        number[box][inside] = n
        contrasts.append(contrast)
    return hu, number, contrasts


def streaks(rng, shape, hu_max):
    """Dark and bright lines in the plane through a point or along rows (arms, implants, contrast in bowel)."""
    z, y, x = [torch.arange(n, dtype=torch.float32) for n in shape]
    angle = rng.normal(0, 0.12) if rng.random() < 0.6 else rng.uniform(0, math.pi)
    u = y.view(-1, 1) * math.cos(angle) - x.view(1, -1) * math.sin(angle)
    u = (u - u.min()) / (u.max() - u.min()) * 2 - 1
    lines = int(rng.integers(8, 60))
    profile = torch.from_numpy(rng.standard_normal((1, 1, max(2, shape[0] // int(rng.integers(1, 12)) + 1), lines)).astype(np.float32))
    grid_z = torch.linspace(-1, 1, shape[0]).view(-1, 1, 1).expand(shape)
    out = F.grid_sample(profile, torch.stack([u.expand(shape), grid_z], -1).reshape(1, shape[0], -1, 2), align_corners=True).reshape(shape)
    envelope = torch.exp(-((u - float(rng.uniform(-0.6, 0.6))) / float(rng.uniform(0.15, 0.8))) ** 2)
    return out * envelope * float(rng.uniform(8, hu_max))


def paint(rng, tissue, mm, lesion_share=0.45, **lesion_options):
    """HU image (float, (z, y, x)) of a tissue map, before the scanner; number of the lesion per voxel, contrast of each lesion."""
    shape = tissue.shape
    phase = int(rng.choice(4, p=PHASE_SHARES))
    means = draw_means(rng, phase)
    hu = torch.from_numpy(means.astype(np.float32))[tissue.long()]
    liver, bone = tissue == T["liver"], tissue == T["bone"]
    # Spongy bone inside, denser outside; mottled lungs; fat and muscle in streaks.
    hu = torch.where(bone, hu + float(rng.uniform(40, 160)) * field(rng, shape, 12 / mm), hu)
    hu = torch.where(bone & near(tissue == T["muscle"], 1), hu + float(rng.uniform(0, 300)), hu)
    hu = torch.where(tissue == T["lung"], hu + float(rng.uniform(10, 70)) * field(rng, shape, 15 / mm), hu)
    if rng.random() < 0.7:
        lung_vessels = vessels(rng, shape, 25 / mm, 0.25) & (tissue == T["lung"])
        hu = torch.where(lung_vessels, torch.tensor(float(means[T["vein"]])), hu)
    kidney = (tissue == T["right_kidney"]) | (tissue == T["left_kidney"])
    if phase in (1, 2) and kidney.any():  # cortex brighter than medulla
        hu = torch.where(kidney & near(~kidney, 1), hu + float(rng.uniform(0, 60)), hu)
    muscle_fat = (tissue == T["muscle"]) & (field(rng, shape, 14 / mm) > rng.uniform(0.8, 2.2))
    hu = torch.where(muscle_fat, hu - float(rng.uniform(10, 90)), hu)
    fat_strands = (tissue == T["fat"]) & (field(rng, shape, 12 / mm) > rng.uniform(0.9, 2.4))
    hu = torch.where(fat_strands, hu + float(rng.uniform(20, 130)), hu)
    hu = fill_bowel(rng, hu, tissue, mm)
    hu = torch.where(liver, hu + float(rng.uniform(0, 9)) * field(rng, shape, 40 / mm) + float(rng.uniform(0, 6)) * field(rng, shape, 10 / mm), hu)
    if phase > 0 or rng.random() < 0.6:
        tree = vessels(rng, shape, rng.uniform(22, 40) / mm, rng.uniform(0.1, 0.28)) & liver
        hu = torch.where(tree, hu + float(rng.uniform(-14, 4) if phase == 0 else rng.uniform(-15, 60)), hu)
    number, contrasts = torch.zeros(shape, dtype=torch.uint8), []
    if rng.random() < lesion_share:
        hu, number, contrasts = lesions(rng, hu, liver, mm, **lesion_options)
    hu = hu + float(rng.uniform(0, 8)) * field(rng, shape, 20 / mm) * (tissue > 0)
    return hu, number, contrasts


def scan(rng, hu, labels, ended, mm, streak_share=0.35, cut_share=0.4):
    """What the scanner does: blur, streaks, noise, field of view, coverage. Returns HU and labels."""
    shape = hu.shape
    thick = rng.uniform(0.2, 1.1) if rng.random() < 0.5 else rng.uniform(0.2, 0.6)
    in_plane = rng.uniform(0.2, 0.65)
    hu = blur(hu, (thick, in_plane, in_plane))
    hu = hu + float(rng.normal(0, 4)) + float(rng.uniform(0, 14)) * field(rng, shape, 120 / mm)
    if rng.random() < streak_share:
        for _ in range(rng.integers(1, 3)):
            hu = hu + streaks(rng, shape, 70 if rng.random() < 0.4 else 25) * (hu > -900)
    sigma = float(np.exp(rng.uniform(math.log(2.5), math.log(32))))
    white = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    if rng.random() < 0.5:
        smooth = blur(white, (rng.uniform(0, 0.8), rng.uniform(0.4, 1.1), rng.uniform(0.4, 1.1)))
        white = smooth / smooth.std()
    hu = hu + sigma * white
    outside = ended.clone()
    z, y, x = [torch.arange(n, dtype=torch.float32) for n in shape]
    if rng.random() < 0.25:  # a small round field of view
        r = rng.uniform(110, 220) / mm
        cy, cx = shape[1] / 2 + rng.normal(0, 25) / mm, shape[2] / 2 + rng.normal(0, 25) / mm
        outside |= ((y.view(-1, 1) - cy) ** 2 + (x.view(1, -1) - cx) ** 2 > r * r)[None]
    if rng.random() < cut_share:  # the scan begins or ends inside the patch
        thickness = int(max(36 / mm, rng.uniform(36 / mm, shape[0])))
        first = int(rng.integers(-thickness // 2, shape[0] - thickness // 2))
        outside |= ((z < first) | (z >= first + thickness)).view(-1, 1, 1)
    hu = torch.where(outside, torch.tensor(AIR_HU), hu)
    labels = torch.where(outside, torch.tensor(0), labels)
    return hu, labels


def normalize(hu):
    """What the first network sees."""
    return (hu.clamp(-200, 300) - 50) / 100


def sample(seed, torsos, shape, mm):
    """(input (1, z, y, x), classes (z, y, x)) of one seed; `torsos`: list of anatomies, each a list of (tissue, liver points, other points)."""
    rng = np.random.default_rng(seed)
    anatomy = torsos[rng.integers(len(torsos))]
    tissue, *points = anatomy[rng.integers(len(anatomy))]
    tissue, ended = warp(rng, tissue, points, shape, mm)
    for name in ("gallbladder", "spleen"):
        if rng.random() < 0.12:  # removed by surgery
            tissue[tissue == T[name]] = T["fat"]
    hu, _, _ = paint(rng, tissue, mm)
    labels = torch.from_numpy(CLASS_OF)[tissue.long()]
    hu, labels = scan(rng, hu, labels, ended, mm)
    return normalize(hu)[None], labels
