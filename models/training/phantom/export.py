"""Writes the segmenter package: python export.py MODEL.pt PACKAGE_DIR [--metrics metrics.json] [--commit HASH].

Batch norm is folded, weights become int8 per output channel (DequantizeLinear on the weights only: f32 arithmetic), logits go out.
"""
import argparse
import hashlib
import json
import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from network import UNet

GATE = pathlib.Path(__file__).with_name("gate.toml")


def fold(model):
    """Conv + BatchNorm -> Conv, in place of each block's first two members."""
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


def golden(path):
    import onnxruntime

    shape, seed, stride = (16, 24, 24), 7, 37
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": lcg(seed, int(np.prod(shape))).reshape(1, 1, *shape)})[0]
    return {"shape_zyx": shape, "seed": seed, "input": "lcg", "stride": stride, "tolerance": 1e-3,
            "logits": [round(float(v), 6) for v in logits.ravel()[::stride]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("--metrics", type=pathlib.Path)
    parser.add_argument("--commit", default="unknown")
    arguments = parser.parse_args()
    saved = torch.load(arguments.model)
    model = UNet()
    model.load_state_dict(saved["weights"])
    model = fold(model.eval())
    arguments.package.mkdir(parents=True, exist_ok=True)
    path = str(arguments.package / "model.onnx")
    axes = {2: "z", 3: "y", 4: "x"}
    torch.onnx.export(model, torch.zeros(1, 1, 16, 24, 24), path, dynamo=False, opset_version=17, input_names=["input"],
                      output_names=["logits"], dynamic_axes={"input": axes, "logits": axes})
    quantize(path)
    (arguments.package / "golden.json").write_text(json.dumps(golden(path)))
    hashes = {f: hashlib.sha256((arguments.package / f).read_bytes()).hexdigest() for f in ("model.onnx", "golden.json")}
    metrics = json.loads(arguments.metrics.read_text()) if arguments.metrics else {}
    labels = [(1, "liver", "10200004"), (2, "liver_lesion", "108369006"), (3, "colon", "71854001"), (4, "colorectal_tumor", "363406005")]
    lines = [
        'schema = "metwatch.segmenter/1"',
        'id = "abdomen-phantom"',
        'version = "0.1.0"',
        'disclaimer = "demonstration, not for clinical use"',
        'intended_use = "shows the line from scanner to alert on synthetic phantoms; on patients its labels mean nothing"',
        f'training = "64 synthetic phantoms of `metwatch phantom` (seeds 1000 to 1063), no patient data; {saved["steps"]} steps of 2 or 3 patches at 4 mm, the last {saved["steps"] - 1500} with fixed batch statistics, '
        f'seed {saved["seed"]}, {saved["seconds"] / 60:.0f} minutes of one CPU core; commit {arguments.commit}"',
        "", "[files]", *[f'"{name}" = "{digest}"' for name, digest in hashes.items()],
        "", "[io]", 'input = "input"', 'output = "logits"',
        "", "[plan]", "spacing_mm = [4.0, 4.0, 4.0]", "pad_multiple = 8", "clip_hu = [-200.0, 300.0]", "center_hu = 50.0", "scale_hu = 100.0",
        "", "[quantization]", 'weights = "int8 per channel"', 'arithmetic = "f32"',
    ]
    for value, region, snomed in labels:
        lines += ["", "[[labels]]", f"value = {value}", f'region = "{region}"', f'snomed = "{snomed}"']
    lines += ["", GATE.read_text().strip(), "", "[metrics]", *[f"{k} = {v}" for k, v in metrics.items()]]
    (arguments.package / "manifest.toml").write_text("\n".join(lines) + "\n")
    print({k: v[:12] for k, v in hashes.items()}, (arguments.package / "model.onnx").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
