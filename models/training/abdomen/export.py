"""Writes the segmenter package with its card: python export.py PACKAGE --organs RUN/model.pt [--lesions RUN] [--figures FILE ...].

Batch norm is folded; weights become int8 per output channel (DequantizeLinear on the weights, f32 arithmetic); logits go out.
`metwatch model quantize` makes the activations integer as well.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from card import card
from lesions import PLAN as REFINE_PLAN
from network import LESION_CHANNELS, ORGAN_CHANNELS, UNet
from tissues import CLASSES

HERE = pathlib.Path(__file__).resolve().parent
SNOMED = {
    "liver": "10200004", "liver_lesion": "108369006", "colon": "71854001", "spleen": "78961009", "right_kidney": "9846003",
    "left_kidney": "18639004", "lung": "39607008", "aorta": "15825003", "bone": "272673000",
}


def fold(model):
    """Conv + BatchNorm -> Conv."""
    for block in [m for m in model.modules() if isinstance(m, torch.nn.Sequential)]:
        if len(block) == 3 and isinstance(block[1], torch.nn.BatchNorm3d):
            block[0] = torch.nn.utils.fuse_conv_bn_eval(block[0], block[1])
            block[1] = torch.nn.Identity()
    return model


def quantize(path):
    """Weights of Conv and ConvTranspose to int8, one scale per output channel."""
    model = onnx.load(path)
    graph = model.graph
    weights = {i.name: i for i in graph.initializer}
    for node in list(graph.node):
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        name = node.input[1]
        w = numpy_helper.to_array(weights[name])
        axis = 0 if node.op_type == "Conv" else 1  # (out, in, ...) and (in, out, ...)
        scale = np.abs(w).max(axis=tuple(a for a in range(w.ndim) if a != axis)) / 127
        scale = np.maximum(scale, 1e-12).astype(np.float32)
        shape = [1] * w.ndim
        shape[axis] = -1
        q = np.clip(np.rint(w / scale.reshape(shape)), -127, 127).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.extend([
            numpy_helper.from_array(q, name + "_int8"),
            numpy_helper.from_array(scale, name + "_scale"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), name + "_zero"),
        ])
        graph.node.insert(0, helper.make_node("DequantizeLinear", [name + "_int8", name + "_scale", name + "_zero"], [name], axis=axis))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def lcg(seed, n):
    """The golden input: src/segment/engine.rs makes the same numbers."""
    out, s = np.empty(n, np.float32), seed
    for k in range(n):
        s = (s * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = np.float32((s >> 33) / 2**30 - 1.0)
    return out


def golden(path, channels, shape):
    seed, stride = 7, 37
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": lcg(seed, channels * int(np.prod(shape))).reshape(1, channels, *shape)})[0]
    return {"shape_zyx": shape, "seed": seed, "input": "lcg", "stride": stride, "tolerance": 1e-3,
            "logits": [round(float(v), 6) for v in logits.ravel()[::stride]]}


def write_network(saved, channels, inputs, classes, path, golden_path):
    model = UNet(channels, classes, inputs)
    model.load_state_dict(saved["weights"])
    model = fold(model.eval())
    multiple = 2 ** (len(channels) - 1)
    shape = (multiple, 2 * multiple, 2 * multiple)
    axes = {2: "z", 3: "y", 4: "x"}
    torch.onnx.export(model, torch.zeros(1, inputs, *shape), str(path), dynamo=False, opset_version=17, input_names=["input"],
                      output_names=["logits"], dynamic_axes={"input": axes, "logits": axes})
    quantize(str(path))
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    if kinds - {"Conv", "ConvTranspose", "Concat", "Relu", "DequantizeLinear"}:
        raise SystemExit(f"{path}: the integer engine does not know {sorted(kinds)}")
    golden_path.write_text(json.dumps(golden(path, inputs, shape)) + "\n")


def trained(saved):
    """What a run has done, in words."""
    stage, step = saved["at"]
    done = [row[3] if k < stage else step if k == stage else 0 for k, row in enumerate(saved["stages"])]
    steps = " + ".join(f"{n} steps at {row[0]:g} mm" for n, row in zip(done, saved["stages"]) if n)
    return f"{steps}, batch {saved['stages'][0][2]}, seed {saved['seed']}, {saved['seconds'] / 60:.0f} minutes of a shared CPU core"


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("--organs", required=True)
    parser.add_argument("--lesions", type=pathlib.Path, help="run folder of lesions.py: model.pt and, if measured, evaluation.json")
    parser.add_argument("--figures", type=pathlib.Path, action="append", default=[], help="figures.json of evaluate_real.py: the first is of this package, more of other weights go to the card only")
    parser.add_argument("--anatomies", default="the SPL Abdominal Atlas and the label map of TotalSegmentator's example_ct")
    parser.add_argument("--version", default="0.1.0")
    arguments = parser.parse_args()
    package = arguments.package
    package.mkdir(parents=True, exist_ok=True)
    organs = torch.load(arguments.organs)
    write_network(organs, ORGAN_CHANNELS, 1, len(CLASSES), package / "model.onnx", package / "golden.json")
    files, regions, training = ["model.onnx", "golden.json"], CLASSES[1:], "organs: " + trained(organs)
    plan, evaluation = dict(REFINE_PLAN), None
    if arguments.lesions:
        saved = torch.load(arguments.lesions / "model.pt")
        write_network(saved, LESION_CHANNELS, 2, 3, package / plan["file"], package / plan["golden"])
        files += [plan["file"], plan["golden"]]
        regions = regions + ["liver_lesion"]
        training += "; lesions: " + trained(saved)
        measured = arguments.lesions / "evaluation.json"
        if measured.exists():
            evaluation = json.loads(measured.read_text())
            if evaluation["point"]:
                plan["lesion_ml_min"], plan["lesion_probability_min"] = evaluation["point"][2:]
    figures = [row for path in arguments.figures for row in json.loads(path.read_text())]
    text = card(arguments.version, arguments.anatomies, training[0].upper() + training[1:] + ".", figures, evaluation)
    (package / "CARD.md").write_text(text)
    files.append("CARD.md")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"
    lines = [
        'schema = "metwatch.segmenter/1"',
        'id = "abdomen"',
        f'version = "{arguments.version}"',
        'disclaimer = "demonstration, not for clinical use"',
        'intended_use = "liver and gate organs on CT of an adult abdomen; liver lesions are candidates for review; no colorectal tumor"',
        f'training = "synthetic CT (domain randomization) from {arguments.anatomies}; {training}; scripts of commit {commit}"',
        "", "[files]", *[f'"{f}" = "{hashlib.sha256((package / f).read_bytes()).hexdigest()}"' for f in files],
        "", "[io]", 'input = "input"', 'output = "logits"',
        "", "[plan]", "spacing_mm = [4.0, 4.0, 4.0]", "pad_multiple = 16", "clip_hu = [-200.0, 300.0]", "center_hu = 50.0", "scale_hu = 100.0",
        "", "[quantization]", 'weights = "int8 per channel"', 'arithmetic = "f32"',
    ]
    for value, region in enumerate(regions, 1):
        lines += ["", "[[labels]]", f"value = {value}", f'region = "{region}"', f'snomed = "{SNOMED[region]}"']
    if arguments.lesions:
        lines += ["", "[refine]", *[f"{key} = {toml(value)}" for key, value in plan.items()]]
    metrics = {}
    for row in json.loads(arguments.figures[0].read_text()) if arguments.figures else []:
        seen = "_training_anatomy" if row["role"].startswith("training") else ""
        for key in ("dice", "hd95_mm", "mean_surface_mm", "volume_error"):
            if key in row:
                metrics[f"liver_{key}_{row['name']}{seen}"] = float(row[key])
    if evaluation and evaluation["point"]:
        metrics["synthetic_lesion_recall_over_10_mm"] = evaluation["recall_over_10_mm"][0]
        metrics["synthetic_false_marks_per_liver"] = evaluation["false_marks_per_liver"]
    lines += ["", (HERE.parent / "gate_abdomen.toml").read_text().strip(), "", "[metrics]", *[f"{json.dumps(k)} = {v}" for k, v in metrics.items()]]
    (package / "manifest.toml").write_text("\n".join(lines) + "\n")
    print({f: (package / f).stat().st_size for f in files})


if __name__ == "__main__":
    main()
