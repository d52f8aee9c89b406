"""Writes the segmenter packages of the unit tests: python tiny.py tests/data (needs onnx, onnxruntime, numpy).

No training: two 1x1x1 convolutions give each class a peak at one HU, so a test can draw an image and know its labels.
segmenter-tiny: liver 97 to 123 HU, lesion 47 to 73, colon 7 to 33, tumor 187 to 213, everything else background.
segmenter-tiny-refined: the first network sees liver from 47 to 123 HU and no lesion; the second sees liver within 20 HU of the
median and lesion 50 HU below it (within 15), the latter only where the first saw liver.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# region, SNOMED CT code, HU of the peak, HU from the peak to where the background wins
LABELS = [("liver", "10200004", 110, 40 / 3), ("liver_lesion", "108369006", 60, 40 / 3), ("colon", "71854001", 20, 40 / 3), ("colorectal_tumor", "363406005", 200, 40 / 3)]
FIRST = [("liver", "10200004", 85, 38.0), ("colon", "71854001", 20, 40 / 3), ("colorectal_tumor", "363406005", 200, 40 / 3)]
BACKGROUND_LOGIT, PEAK_LOGIT = 2.0, 6.0
REFINE = """
[refine]
file = "refine.onnx"
golden = "refine_golden.json"
input = "input"
output = "logits"
classes = ["liver", "liver_lesion"]
spacing_mm = [2.0, 2.0, 2.0]
pad_multiple = 8
margin_mm = 16.0
band_mm = 8.0
scale_hu = 40.0
clip = 3.0
lesion_ml_min = 1.0
lesion_probability_min = 0.6
liver_channel = true
"""


def lcg(seed, n):
    """The golden input: src/segment/engine.rs makes the same numbers."""
    out, s = np.empty(n, np.float32), seed
    for k in range(n):
        s = (s * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = np.float32((s >> 33) / 2**30 - 1.0)
    return out


def network(path, peaks, slopes, also=0.0):
    """logit = PEAK - slope |v - peak|, where |a| = relu(a) + relu(-a). `also`: the last class loses this where channel 2 is 0."""
    channels = 2 if also else 1
    first = np.zeros((2 * len(peaks) + channels - 1, channels), np.float32)
    first[: 2 * len(peaks), 0] = [1, -1] * len(peaks)
    shift = np.array([sign * p for p in peaks for sign in (-1, 1)] + [1.0] * (channels - 1), np.float32)
    second = np.zeros((1 + len(peaks), len(shift)), np.float32)
    for k, slope in enumerate(slopes):
        second[1 + k, 2 * k : 2 * k + 2] = -slope
    if also:
        first[-1, 1], second[-1, -1] = -1, -also
    weights = {
        "w1": first.reshape(*first.shape, 1, 1, 1),
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
    graph = helper.make_graph(nodes, "tiny", [value("input", channels)], [value("logits", 1 + len(peaks))],
                              [numpy_helper.from_array(w, name) for name, w in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_golden(model, to, channels):
    shape, seed, stride = (8, 8, 16), 3, 41
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    data = lcg(seed, channels * int(np.prod(shape))).reshape(1, channels, *shape)
    logits = session.run(["logits"], {"input": data})[0]
    golden = {"shape_zyx": shape, "seed": seed, "input": "lcg", "stride": stride, "tolerance": 1e-3,
              "logits": [round(float(v), 5) for v in logits.ravel()[::stride]]}
    to.write_text(json.dumps(golden) + "\n")


def package(folder, name, labels, n_first, refine=""):
    folder.mkdir(parents=True, exist_ok=True)
    slope = lambda hu, unit: (PEAK_LOGIT - BACKGROUND_LOGIT) / hu * unit
    first = labels[:n_first]
    network(folder / "model.onnx", [(hu - 50) / 100 for _, _, hu, _ in first], [slope(to, 100) for *_, to in first])
    write_golden(folder / "model.onnx", folder / "golden.json", 1)
    if refine:
        network(folder / "refine.onnx", [0.0, -50 / 40], [slope(20, 40), slope(15, 40)], also=20.0)
        write_golden(folder / "refine.onnx", folder / "refine_golden.json", 2)
    digest = "".join(f'"{f.name}" = "{hashlib.sha256(f.read_bytes()).hexdigest()}"\n' for f in sorted(folder.iterdir()) if f.suffix in (".onnx", ".json"))
    labels = "".join(f'\n[[labels]]\nvalue = {k + 1}\nregion = "{r}"\nsnomed = "{code}"\n' for k, (r, code, *_) in enumerate(labels))
    (folder / "manifest.toml").write_text(f'''schema = "metwatch.segmenter/1"
id = "{name}"
version = "0.0.1"
disclaimer = "demonstration, not for clinical use"
intended_use = "unit tests: labels by HU alone"
training = "none: written by models/training/tiny.py"

[files]
{digest}
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
{refine}{labels}
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


def main():
    folder = pathlib.Path(sys.argv[1])
    package(folder / "segmenter-tiny", "tiny", LABELS, len(LABELS))
    package(folder / "segmenter-tiny-refined", "tiny-refined", FIRST + [LABELS[1]], len(FIRST), REFINE)


if __name__ == "__main__":
    main()
