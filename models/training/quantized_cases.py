"""Writes tests/data/segment_int8, networks quantized by onnxruntime and what onnxruntime makes of them: python quantized_cases.py DIR.

Needs onnx, onnxruntime, numpy. Weights are random; inputs are the numbers of `lcg` times 2, so only seeds are stored. Each case is NAME.onnx and
a row in cases.json with the logits (float32, as base64) and the step of their quantization. Sizes are odd where the layers allow it.
"""
import base64
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static


def lcg(seed, n):
    """The golden input: src/segment/engine.rs makes the same numbers."""
    out, s = np.empty(n, np.float32), seed
    for k in range(n):
        s = (s * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = np.float32((s >> 33) / 2**30 - 1.0)
    return out


class Net:
    """A network of random weights, layer by layer."""

    def __init__(self, rank, channels, seed):
        self.rank, self.rng = rank, np.random.default_rng(seed)
        self.nodes, self.weights, self.channels, self.n = [], [], {"input": channels}, 0

    def add(self, kind, inputs, channels, **attributes):
        self.n += 1
        name = f"{kind.lower()}_{self.n}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.channels[name] = channels
        return name

    def constant(self, values):
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def conv(self, x, n_out, k=3, stride=1, pads=None, **more):
        n_in, kernel = self.channels[x], [k] * self.rank
        spread = np.exp(self.rng.normal(0, 0.4, (n_out, *[1] * (self.rank + 1))))  # channels of different range
        w = self.rng.normal(0, (2 / (n_in * k**self.rank)) ** 0.5, (n_out, n_in, *kernel)) * spread
        bias = self.rng.normal(0, 0.2, n_out)
        pads = [k // 2] * (2 * self.rank) if pads is None else pads
        return self.add("Conv", [x, self.constant(w), self.constant(bias)], n_out, kernel_shape=kernel, strides=[stride] * self.rank, pads=pads, **more)

    def up(self, x, n_out):
        n_in, kernel = self.channels[x], [2] * self.rank
        w = self.rng.normal(0, (1 / n_in) ** 0.5, (n_in, n_out, *kernel))
        return self.add("ConvTranspose", [x, self.constant(w), self.constant(self.rng.normal(0, 0.1, n_out))], n_out, kernel_shape=kernel, strides=kernel)

    def relu(self, x):
        return self.add("Relu", [x], self.channels[x])

    def leaky(self, x):
        return self.add("LeakyRelu", [x], self.channels[x], alpha=0.01)

    def norm(self, x):
        n = self.channels[x]
        return self.add("InstanceNormalization", [x, self.constant(self.rng.uniform(0.5, 1.5, n)), self.constant(self.rng.normal(0, 0.2, n))], n, epsilon=1e-5)

    def concat(self, *parts):
        return self.add("Concat", list(parts), sum(self.channels[p] for p in parts), axis=1)

    def save(self, output, path):
        axes = ["z", "y", "x"][3 - self.rank :]
        self.nodes.append(helper.make_node("Identity", [output], ["logits"]))
        value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, *axes])
        graph = helper.make_graph(self.nodes, "case", [value("input", self.channels["input"])], [value("logits", self.channels[output])], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        # Identity was only a name: let the last layer have it.
        last = next(n for n in graph.node if n.output[0] == output)
        last.output[0] = "logits"
        graph.node.remove(graph.node[-1])
        del model.graph.node[:]
        model.graph.node.extend(graph.node)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def plain_unet(rank, channels=1):
    net = Net(rank, channels, 1)
    full = net.relu(net.conv("input", 8))
    half = net.relu(net.conv(net.relu(net.conv(full, 12, stride=2)), 20))
    join = net.relu(net.conv(net.concat(net.up(half, 8), full), 10))
    return net, net.conv(join, 3, k=1)


def nnunet(rank, softmax=False):
    net = Net(rank, 2, 2)
    block = lambda x, n, stride=1: net.leaky(net.norm(net.conv(x, n, stride=stride)))
    full = block("input", 7)
    half = block(block(full, 18, 2), 18)
    logits = net.conv(block(net.concat(net.up(half, 7), full), 9), 4, k=1)
    return net, net.add("Softmax", [logits], 4, axis=1) if softmax else logits


def residual():
    net = Net(2, 3, 3)
    x = net.relu(net.conv("input", 16, k=5))
    x = net.relu(net.add("Add", [net.conv(net.relu(net.conv(x, 16)), 16), x], 16))
    x = net.add("MaxPool", [x], 16, kernel_shape=[2, 2], strides=[2, 2])
    x = net.leaky(net.conv(x, 33, dilations=[2, 2], pads=[2] * 4))
    return net, net.conv(net.up(x, 6), 2, k=3)


CASES = {
    # name: network, size, how onnxruntime quantizes it
    "unet_3d_channel": (lambda: plain_unet(3), (6, 10, 14), dict(per_channel=True)),
    "unet_3d_tensor": (lambda: plain_unet(3, 2), (6, 10, 14), dict(per_channel=False)),
    "unet_2d_signed": (lambda: plain_unet(2), (18, 26), dict(per_channel=True, activation_type=QuantType.QInt8)),
    "nnunet_2d": (lambda: nnunet(2), (22, 30), dict(per_channel=True)),
    "nnunet_3d": (lambda: nnunet(3), (6, 10, 10), dict(per_channel=False)),
    "residual_2d": (residual, (18, 22), dict(per_channel=True)),
    "first_layer_real": (lambda: plain_unet(2), (18, 26), dict(per_channel=True, nodes_to_exclude=["conv_1", "relu_2"])),
    "softmax_inside": (lambda: nnunet(2, softmax=True), (22, 30), dict(per_channel=True)),
}


class Reader(CalibrationDataReader):
    def __init__(self, channels, size):
        self.left = [lcg(100 + k, channels * int(np.prod(size))).reshape(1, channels, *size) * 2 for k in range(3)]

    def get_next(self):
        return {"input": self.left.pop()} if self.left else None


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (make, size, how) in CASES.items():
        net, output = make()
        channels = net.channels["input"]
        with tempfile.TemporaryDirectory() as scratch:
            source = f"{scratch}/f32.onnx"
            net.save(output, source)
            how = dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, quant_format=QuantFormat.QDQ,
                       calibrate_method=CalibrationMethod.MinMax, extra_options={"ActivationSymmetric": False}) | how
            quantize_static(source, str(folder / f"{name}.onnx"), Reader(channels, size), **how)
        model = onnx.load(folder / f"{name}.onnx")
        model.doc_string = ""
        onnx.save(model, folder / f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        seed = 7 + len(rows)
        x = lcg(seed, channels * int(np.prod(size))).reshape(1, channels, *size) * 2
        logits = session.run(["logits"], {"input": x})[0][0]
        constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        last = next(n for n in model.graph.node if n.output[0] == "logits")
        step = float(constants[last.input[1]]) if last.op_type == "DequantizeLinear" else 0.0
        before = next((n.input[0] for n in model.graph.node if n.op_type == "Softmax"), None)
        rows.append({"name": name, "channels": channels, "size": size, "seed": seed, "shape": logits.shape, "step": step, "before_softmax": before,
                     "logits": base64.b64encode(logits.astype("<f4").tobytes()).decode()})
        if before:
            # The same network, asked for what softmax reads.
            model.graph.output.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, None))
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            rows[-1]["logits"] = base64.b64encode(session.run([before], {"input": x})[0][0].astype("<f4").tobytes()).decode()
            inner = next(n for n in model.graph.node if n.output[0] == before)
            rows[-1]["step"] = float(constants[inner.input[1]]) if inner.op_type == "DequantizeLinear" else 0.0
    text = json.dumps({"made_by": f"quantized_cases.py with onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}", "cases": rows}, indent=1)
    (folder / "cases.json").write_text(text + "\n")
    for row in rows:
        print(row["name"], row["shape"], row["step"], (folder / f"{row['name']}.onnx").stat().st_size)


if __name__ == "__main__":
    main()
