#!/usr/bin/env python3
"""Fits the nomogram package models/nomogram-phantom on a SIMULATED cohort of phantoms (demonstration, not for clinical use).

    python3 models/training/nomogram/fit_nomogram.py --cohort cohort.csv --parameters params.yaml --out models/nomogram-phantom

The cohort table (one row per phantom seed: measured features, clinical values, latent texture) comes from the example
`phantom_cohort`; see README.md beside this file. The outcome is drawn here, by the seed of the phantom, from the known truth.
Needs numpy only. The same table gives the same package, byte for byte.
"""
import argparse
import csv
import hashlib
import json
import pathlib

import numpy as np

DISCLAIMER = "demonstration, not for clinical use"
HORIZON = 60                      # months
MONTHS = [12, 24, 36, 48, 60]
EVENT_RATE = 0.45                 # of the paper's sample, not of patients at large (15 to 25 %)
OUTCOME_SEED = 20260731
RIDGE = 1.0                       # penalty on standardized coefficients: lambda / 2 * sum(beta^2)

# The truth: log hazard per standard deviation (per "yes" for the two findings). Fewer dissected nodes: more understaging.
TRUTH = {"tumor_texture": 1.1, "liver_texture": 0.8, "log_afp": 0.7, "nodes": -0.5, "perineural_invasion": 0.9, "tumor_nodules": 1.1}

TUMOR_ML_MIN = 4                  # smaller tumors (mostly hidden behind an organ) leave too few voxels for a texture

# Radiomic predictors, chosen without an outcome, by how well they follow the latent texture (README.md).
RADIOMIC = [
    # id, label, region, feature, unit, latent texture that it stands for
    ("tumor_correlation", "Tumor gray level correlation", "colorectal_tumor", "original_glcm_Correlation", "", "latent_tumor_texture"),
    ("liver_spread", "Liver interquartile range", "liver", "original_firstorder_InterquartileRange", "HU", "latent_liver_texture"),
    ("liver_homogeneity", "Liver local homogeneity (Idm)", "liver", "original_glcm_Idm", "", "latent_liver_texture"),
]
CLINICAL = [
    # id, label, key, unit, permitted range, transform, ends of the axis (None: from the training data)
    ("afp", "AFP", "afp_ng_per_ml", "ng/mL", [0.05, 1e5], "log", None),
    ("dissected_lymph_nodes", "Dissected lymph nodes", "dissected_lymph_nodes", "nodes", [0, 100], "none", None),
    ("perineural_invasion", "Perineural invasion", "perineural_invasion", "yes/no", [0, 1], "none", [0, 1]),
    ("tumor_nodules", "Tumor nodules", "tumor_nodules", "yes/no", [0, 1], "none", [0, 1]),
]
IMAGE = [p[0] for p in RADIOMIC]
VARIANTS = [
    ("complete", "final", IMAGE + [c[0] for c in CLINICAL]),
    ("image_laboratory", "provisional", IMAGE + ["afp"]),
    ("image", "provisional", IMAGE),
    ("liver_only", "provisional", [p[0] for p in RADIOMIC if p[2] == "liver"]),
]


def six_digits(x):
    """Parameters are rounded before anything is computed with them, so that a person can copy them."""
    return float(f"{float(x):.6g}")


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def logit(p):
    return np.log(p / (1.0 - p))


# ---- the simulated outcome -------------------------------------------------------------------------------------------------

def z(x):
    return (x - x.mean()) / x.std()


def draw_outcome(rows):
    """(months of observation, event) of every phantom: exponential times from the true linear predictor, then censoring."""
    column = lambda name: np.array([float(r[name]) for r in rows])
    eta = (
        TRUTH["tumor_texture"] * z(column("latent_tumor_texture"))
        + TRUTH["liver_texture"] * z(column("latent_liver_texture"))
        + TRUTH["log_afp"] * z(np.log(column("afp_ng_per_ml")))
        + TRUTH["nodes"] * z(column("dissected_lymph_nodes"))
        + TRUTH["perineural_invasion"] * column("perineural_invasion")
        + TRUTH["tumor_nodules"] * column("tumor_nodules")
    )
    low, high = -12.0, 4.0        # log hazard per month that gives the event rate; bisection on the expected rate
    for _ in range(80):
        middle = (low + high) / 2
        expected = (1 - np.exp(-HORIZON * np.exp(middle + eta))).mean()
        low, high = (middle, high) if expected < EVENT_RATE else (low, middle)
    months, event = np.empty(len(rows)), np.empty(len(rows), bool)
    for i, row in enumerate(rows):
        # One generator per phantom: a row's outcome noise does not depend on which other seeds are in the table.
        rng = np.random.default_rng([OUTCOME_SEED, int(row["seed"])])
        onset = rng.exponential(1.0) / np.exp(low + eta[i])
        end_of_study, lost = rng.uniform(60, 96), rng.exponential(400)
        months[i], event[i] = min(onset, end_of_study, lost), onset <= min(end_of_study, lost)
    return months, event, eta


# ---- estimation ------------------------------------------------------------------------------------------------------------

def censoring_weights(months, event):
    """Status at the horizon with inverse probability of censoring weights (0 for patients lost before it)."""
    status = event & (months <= HORIZON)
    known = status | (months >= HORIZON)
    order = np.unique(months[~event])
    def still_observed(t):        # Kaplan-Meier of the censoring, just before t
        steps = [1 - np.sum((months == c) & ~event) / np.sum(months >= c) for c in order if c < t]
        return float(np.prod(steps)) if steps else 1.0
    return status.astype(float), np.array([1 / still_observed(min(t, HORIZON)) if k else 0.0 for t, k in zip(months, known)])


def fit_logistic(x, y, w):
    """Intercept and coefficients of a weighted ridge logistic model by IRLS; the intercept is not penalized."""
    design = np.column_stack([np.ones(len(x)), x])
    beta, penalty = np.zeros(design.shape[1]), np.diag([0.0] + [RIDGE] * x.shape[1])
    for _ in range(100):
        p = sigmoid(design @ beta)
        gradient = design.T @ (w * (y - p)) - penalty @ beta
        step = np.linalg.solve((design.T * (w * p * (1 - p))) @ design + penalty, gradient)
        beta += step
        if np.abs(step).max() < 1e-12:
            break
    return beta[0], beta[1:]


def fit_baseline(lp, months, event):
    """Slope of a Cox model with the linear predictor as its covariate (Newton), and Breslow's survival at its mean."""
    center = six_digits(lp.mean())
    v, slope = lp - center, 0.0
    times = np.sort(months[event])
    for _ in range(50):
        gradient = information = 0.0
        for t in times:
            risk = months >= t
            e = np.exp(slope * v[risk])
            mean = (e @ v[risk]) / e.sum()
            gradient -= mean
            information += (e @ v[risk] ** 2) / e.sum() - mean ** 2
        gradient += v[event].sum()
        slope += gradient / information
        if abs(gradient / information) < 1e-10:
            break
    hazards = [(t, 1 / np.exp(slope * v[months >= t]).sum()) for t in times]
    survival = [np.exp(-sum(h for t, h in hazards if t <= month)) for month in MONTHS]
    return six_digits(slope), center, [six_digits(s) for s in survival]


def auc(score, y, w):
    """Weighted probability that a patient with the event has the higher score; ties count half."""
    cases, controls = (y == 1) & (w > 0), (y == 0) & (w > 0)
    above = (score[cases][:, None] > score[controls]) + 0.5 * (score[cases][:, None] == score[controls])
    weights = w[cases][:, None] * w[controls]
    return float((above * weights).sum() / weights.sum())


def calibration(lp, y, w):
    """Slope, and intercept at slope 1, of the outcome on the linear predictor."""
    design, beta = np.column_stack([np.ones(len(lp)), lp]), np.zeros(2)
    for _ in range(50):
        p = sigmoid(design @ beta)
        beta += np.linalg.solve((design.T * (w * p * (1 - p))) @ design, design.T @ (w * (y - p)))
    large = 0.0
    for _ in range(50):
        p = sigmoid(lp + large)
        large += (w * (y - p)).sum() / (w * p * (1 - p)).sum()
    return float(beta[1]), float(large)


# ---- the package -----------------------------------------------------------------------------------------------------------

def column_of(predictor):
    return predictor["clinical"] if "clinical" in predictor else f"{predictor['region']}_{predictor['feature']}"


def describe_predictors(rows, train):
    """Ranges and standardization of every predictor from the training rows."""
    out = []
    for id_, label, region, feature, unit, _ in RADIOMIC:
        out.append({"id": id_, "label": label, "region": region, "feature": feature, "unit": unit, "transform": "none"})
    for id_, label, key, unit, permitted, transform, axis in CLINICAL:
        out.append({"id": id_, "label": label, "clinical": key, "unit": unit, "permitted_range": permitted, "transform": transform, "axis": axis})
    for p in out:
        raw = np.array([float(rows[i][column_of(p)]) for i in train])
        value = np.log(raw) if p["transform"] == "log" else raw
        p["center"], p["scale"] = six_digits(value.mean()), six_digits(value.std())
        flag = p["unit"] == "yes/no"
        p["training_range"] = [0, 1] if flag else [six_digits(q) for q in np.quantile(raw, [0.05, 0.95])]
        p["axis"] = p.get("axis") or [float(f"{q:.3g}") for q in (raw.min(), raw.max())]
    return out


def standardized(p, raw):
    return ((np.log(raw) if p["transform"] == "log" else raw) - p["center"]) / p["scale"]


def toml_value(v):
    if isinstance(v, str):
        return json.dumps(v, ensure_ascii=False)
    if isinstance(v, list):
        return "[" + ", ".join(toml_value(x) for x in v) + "]"
    return repr(v)


def toml_table(header, pairs):
    return ([f"\n{header}"] if header else []) + [f"{k if k.replace('_', '').isalnum() else json.dumps(k)} = {toml_value(v)}" for k, v in pairs]


def assess(predictors, variant, values):
    """The computation of src/risk/assess.rs, written a second time: golden vectors must not come from what they test."""
    by_id = {p["id"]: p for p in predictors}
    terms = [(by_id[id_], c) for id_, c in variant["coefficients"].items()]
    lp = variant["intercept"] + variant["prior"]["shift"] + sum(c * standardized(p, values[p["id"]]) for p, c in terms)
    axes = [sorted(c * standardized(p, end) for end in p["axis"]) for p, c in terms]
    unit = 100 / max(b - a for a, b in axes)
    points = sum((c * standardized(p, values[p["id"]]) - a) * unit for (p, c), (a, _) in zip(terms, axes))
    b = variant["baseline"]
    survival = [s ** np.exp(b["slope"] * (lp - b["center"])) for s in b["survival"]]
    return {"probability": float(sigmoid(lp)), "linear_predictor": float(lp), "points": float(points), "survival": [float(s) for s in survival]}


def golden_cases(predictors, variants, rows, chosen):
    cases = []
    for variant in variants:
        used = set(variant["coefficients"])
        for i in chosen:
            values, features, clinical = {}, {}, {}
            for p in predictors:
                raw = float(rows[i][column_of(p)])
                if p["id"] not in used:
                    continue
                values[p["id"]] = raw
                if "clinical" in p:
                    clinical[p["clinical"]] = bool(raw) if p["unit"] == "yes/no" else int(raw) if p["unit"] == "nodes" else raw
                else:
                    features.setdefault(p["region"], {})[p["feature"]] = raw
            cases.append({"features": features, "clinical": clinical, "variant": variant["name"], **assess(predictors, variant, values)})
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", required=True, type=pathlib.Path, help="table of the example phantom_cohort")
    parser.add_argument("--parameters", required=True, type=pathlib.Path, help="PyRadiomics parameter file with which the table was measured")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the package")
    parser.add_argument("--held-out", type=float, default=1 / 3, help="share of the seeds (the last ones) kept for testing")
    parser.add_argument("--incidence", type=float, help="local incidence within 60 months: shifts the intercept (prior correction)")
    parser.add_argument("--version", default="0.1.0")
    args = parser.parse_args()

    with open(args.cohort, newline="") as file:
        everyone = sorted(csv.DictReader(file), key=lambda r: int(r["seed"]))
    rows = [r for r in everyone if float(r["tumor_ml"]) >= TUMOR_ML_MIN]
    months, event, eta = draw_outcome(rows)
    n_train = len(rows) - round(len(rows) * args.held_out)
    train, test = np.arange(n_train), np.arange(n_train, len(rows))
    y, w = np.empty(len(rows)), np.empty(len(rows))
    for part in (train, test):
        y[part], w[part] = censoring_weights(months[part], event[part])
    event_rate = six_digits((y * w)[train].sum() / w[train].sum())
    shift = six_digits(logit(args.incidence) - logit(event_rate)) if args.incidence else 0.0
    statement = (
        f"SIMULATED cohort with {100 * event_rate:.0f} % events within {HORIZON} months; 15 to 25 % of patients develop metachronous liver metastasis, "
        + (f"and the intercept was shifted to an incidence of {100 * args.incidence:.0f} %" if args.incidence
           else "so the probability is too high at the bedside; the intercept was not shifted")
    )

    predictors = describe_predictors(rows, train)
    matrix = {p["id"]: standardized(p, np.array([float(r[column_of(p)]) for r in rows])) for p in predictors}
    variants = []
    for name, status, ids in VARIANTS:
        x = np.column_stack([matrix[i] for i in ids])
        intercept, beta = fit_logistic(x[train], y[train], w[train])
        intercept, beta = six_digits(intercept), [six_digits(b) for b in beta]
        lp = intercept + shift + x @ np.array(beta)
        slope, center, survival = fit_baseline(lp[train], months[train], event[train])
        # Tertiles of the training probabilities, to two digits.
        cuts = [round(float(c), 2) for c in np.quantile(sigmoid(lp[train]), [1 / 3, 2 / 3])]
        calibration_slope, in_the_large = calibration(lp[test], y[test], w[test])
        metrics = {
            "auc_train": auc(lp[train], y[train], w[train]),
            "auc_held_out": auc(lp[test], y[test], w[test]),
            "calibration_slope_held_out": calibration_slope,
            "calibration_in_the_large_held_out": in_the_large,
            "brier_held_out": float((w[test] * (sigmoid(lp[test]) - y[test]) ** 2).sum() / w[test].sum()),
        }
        variants.append({
            "name": name, "status": status, "intercept": intercept, "intermediate_from": cuts[0], "high_from": cuts[1],
            "coefficients": dict(zip(ids, beta)),
            "prior": {"event_rate": event_rate, "shift": shift, "statement": statement},
            "baseline": {"months": MONTHS, "survival": survival, "slope": slope, "center": center},
            "metrics": {k: round(v, 4) for k, v in metrics.items()},
        })

    seeds = [int(r["seed"]) for r in rows]
    known_test = w[test] > 0
    metrics = {
        "n_training": len(train), "n_training_events": int(y[train].sum()), "n_held_out": len(test), "n_held_out_events": int(y[test].sum()),
        "auc_held_out_of_the_truth": round(auc(eta[test], y[test], w[test]), 4),
        "held_out_with_known_status": int(known_test.sum()),
    }
    for latent in sorted({p[5] for p in RADIOMIC}):
        x = np.column_stack([np.ones(len(rows))] + [[float(r[f"{p[2]}_{p[3]}"]) for r in rows] for p in RADIOMIC if p[5] == latent])
        truth = np.array([float(r[latent]) for r in rows])
        residual = truth - x @ np.linalg.lstsq(x, truth, rcond=None)[0]
        metrics[f"r_squared_of_{latent}"] = round(float(1 - residual.var() / truth.var()), 4)

    args.out.mkdir(parents=True, exist_ok=True)
    yaml = args.parameters.read_text()
    case_rows = [int(test[np.argmin(eta[test])]), int(test[len(test) // 2]), int(test[np.argmax(eta[test])])]
    golden = {"schema": "metwatch.nomogram-golden/1", "cases": golden_cases(predictors, variants, rows, case_rows)}
    contents = {"golden.json": (json.dumps(golden, indent=1) + "\n").encode()}
    lines = toml_table(None, [
        ("schema", "metwatch.nomogram/1"),
        ("id", "mlm-phantom"),
        ("version", args.version),
        ("disclaimer", DISCLAIMER),
        ("intended_use", "Shows that the line from scan to alert works. The outcome is simulated: says nothing about any patient."),
        ("cohort", f"SIMULATED: {len(rows)} procedural phantoms (metwatch phantom, seeds {seeds[0]} to {seeds[-1]}; the last {len(test)} held out; "
                   f"{len(everyone) - len(rows)} with a tumor under {TUMOR_ML_MIN} mL left out), features measured on 512 x 512 x 128 voxels inside the true masks (masks of a segmenter differ at the edge, and with them the features), "
                   f"outcome drawn from the known truth (texture of tumor and liver, AFP, dissected lymph nodes, perineural invasion, tumor nodules; seed {OUTCOME_SEED}). "
                   f"Logistic models with ridge {RIDGE:g}, censored patients by inverse probability weights."),
        ("outcome", "Metachronous liver metastasis (SIMULATED)"),
        ("horizon_months", HORIZON),
    ])
    lines += toml_table("[files]", [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(contents.items())])
    lines += ["\n[radiomics]", f'parameters = """\n{yaml}"""', f'sha256 = "{hashlib.sha256(yaml.encode()).hexdigest()}"']
    lines += toml_table("[metrics]", metrics.items())
    for p in predictors:
        keys = ["id", "label", "clinical", "region", "feature", "unit", "transform", "permitted_range", "training_range", "axis", "center", "scale"]
        lines += toml_table("[[predictors]]", [(k, p[k]) for k in keys if k in p])
    for v in variants:
        lines += toml_table("[[variants]]", [(k, v[k]) for k in ["name", "status", "intercept", "intermediate_from", "high_from"]])
        for part in ["coefficients", "prior", "baseline", "metrics"]:
            lines += toml_table(f"[variants.{part}]", v[part].items())
    text = "\n".join(lines) + "\n"
    # The seal is the sha256 of the manifest without the seal's own line.
    sealed = text.replace("\n", f'\nseal = "{hashlib.sha256(text.encode()).hexdigest()}"\n', 1)
    (args.out / "manifest.toml").write_text(sealed)
    for name, content in contents.items():
        (args.out / name).write_bytes(content)

    print(f"{len(train)} training phantoms with {metrics['n_training_events']} events, {len(test)} held out with {metrics['n_held_out_events']}; {DISCLAIMER}")
    for key, value in metrics.items():
        print(f"  {key:40} {value}")
    for v in variants:
        m = v["metrics"]
        print(f"{v['name']:18} AUC train {m['auc_train']:.3f} held out {m['auc_held_out']:.3f}  slope {m['calibration_slope_held_out']:.2f}"
              f"  groups from {v['intermediate_from']} and {v['high_from']}  {v['coefficients']}")


if __name__ == "__main__":
    main()
