"""Writes tests/data/segmenter-tiny, the segmenter package of the unit tests: python tiny.py DIR (needs onnx, onnxruntime, numpy).

No training: two 1x1x1 convolutions give each class a peak at one HU, so a test can draw an image and know its labels.
liver 97 to 123 HU, lesion 47 to 73, colon 7 to 33, tumor 187 to 213, everything else background.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LABELS = [("liver", "10200004", 110), ("liver_lesion", "108369006", 60), ("colon", "71854001", 20), ("colorectal_tumor", "363406005", 200)]
BACKGROUND_LOGIT, PEAK_LOGIT, SLOPE = 2.0, 6.0, 30.0


def lcg(seed, n):
    """The golden input: src/segment/engine.rs makes the same numbers."""
    out, s = np.empty(n, np.float32), seed
    for k in range(n):
        s = (s * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = np.float32((s >> 33) / 2**30 - 1.0)
    return out


def network(path):
    """logit = PEAK - SLOPE |v - peak|, where |a| = relu(a) + relu(-a)."""
    peaks = [(hu - 50) / 100 for _, _, hu in LABELS]
    first = np.array([[1], [-1]] * len(peaks), np.float32)
    shift = np.array([sign * p for p in peaks for sign in (-1, 1)], np.float32)
    second = np.zeros((1 + len(peaks), 2 * len(peaks)), np.float32)
    for k in range(len(peaks)):
        second[1 + k, 2 * k : 2 * k + 2] = -SLOPE
    weights = {
        "w1": first.reshape(-1, 1, 1, 1, 1),
        "b1": shift,
        "w2": second.reshape(*second.shape, 1, 1, 1),
        "b2": np.array([BACKGROUND_LOGIT] + [PEAK_LOGIT] * len(peaks), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["distance"], kernel_shape=[1, 1, 1]),
        helper.make_node("Relu", ["distance"], ["sides"]),
        helper.make_node("Conv", ["sides", "w2", "b2"], ["logits"], kernel_shape=[1, 1, 1]),
    ]
    value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, "z", "y", "x"])
    graph = helper.make_graph(nodes, "tiny", [value("input", 1)], [value("logits", 1 + len(peaks))],
                              [numpy_helper.from_array(w, name) for name, w in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    network(path)
    shape, seed, stride = (8, 8, 16), 3, 41
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": lcg(seed, int(np.prod(shape))).reshape(1, 1, *shape)})[0]
    golden = {"shape_zyx": shape, "seed": seed, "input": "lcg", "stride": stride, "tolerance": 1e-3,
              "logits": [round(float(v), 5) for v in logits.ravel()[::stride]]}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    digest = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "golden.json")}
    labels = "".join(f'\n[[labels]]\nvalue = {k + 1}\nregion = "{r}"\nsnomed = "{code}"\n' for k, (r, code, _) in enumerate(LABELS))
    (folder / "manifest.toml").write_text(f'''schema = "metwatch.segmenter/1"
id = "tiny"
version = "0.0.1"
disclaimer = "demonstration, not for clinical use"
intended_use = "unit tests: labels by HU alone"
training = "none: written by models/training/tiny.py"

[files]
"model.onnx" = "{digest["model.onnx"]}"
"golden.json" = "{digest["golden.json"]}"

[io]
input = "input"
output = "logits"

[plan]
spacing_mm = [4.0, 4.0, 4.0]
pad_multiple = 8
clip_hu = [-200.0, 300.0]
center_hu = 50.0
scale_hu = 100.0

[quantization]
weights = "f32"
arithmetic = "f32"
{labels}
[gate]
liver_ml_refuse_under = 400.0
liver_ml_refuse_over = 4000.0
liver_ml_note_under = 800.0
liver_ml_note_over = 3000.0
entropy_refuse_over = 0.6
entropy_note_over = 0.35
fragments_refuse_over = 0.3
fragments_note_over = 0.15
liver_hu_refuse_under = 0.0
liver_hu_refuse_over = 200.0
liver_hu_note_under = 80.0
z_extent_mm_refuse_under = 120.0
cut_refuse_over = 0.4
cut_note_over = 0.02
tumor_ml_note_over = 150.0
between_share_refuse_over = 1.0

[metrics]
dice_liver = 1.0
''')


if __name__ == "__main__":
    main()
