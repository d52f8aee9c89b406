"""Writes tests/data/segment_engine: python engine_references.py DIR (needs dynamic_network_architectures 0.4, torch, onnx, onnxruntime).

Small networks with random weights, as nnU-Net's own classes build them and torch.onnx.export writes them, and two from unets.py; for each
the logits of onnxruntime on seeded inputs. NAME.onnx and NAME.json (versions, cases).
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from onnx import helper, numpy_helper
from torch import nn

from tiny import lcg
from unets import unet

LOGITS_MAX = 1500


def nnunet(rank, norm):
    conv = nn.Conv2d if rank == 2 else nn.Conv3d
    names = {"instance": (nn.InstanceNorm2d, nn.InstanceNorm3d), "batch": (nn.BatchNorm2d, nn.BatchNorm3d)}
    return conv, dict(norm_op=names[norm][rank - 2], norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
                      nonlin_kwargs={"inplace": True}, conv_bias=True, deep_supervision=False)


def plain_2d():
    conv, rest = nnunet(2, "instance")
    return PlainConvUNet(1, 3, [5, 9, 16], conv, 3, [1, 2, 2], 2, 2, 2, **rest), 1


def plain_3d_anisotropic():
    conv, rest = nnunet(3, "instance")
    kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    return PlainConvUNet(1, 3, [4, 6, 8], conv, kernels, [1, [1, 2, 2], 2], 2, 3, 2, **rest), 1


def plain_3d_batch_norm():
    conv, rest = nnunet(3, "batch")
    return PlainConvUNet(3, 2, [8, 16], conv, 3, [1, 2], 1, 2, 1, **rest), 3


def residual_3d():
    conv, rest = nnunet(3, "instance")
    return ResidualEncoderUNet(2, 3, [4, 6, 8], conv, 3, [1, 2, [1, 2, 2]], [1, 2, 2], 3, 1, **rest), 2


def exported(make, path):
    torch.manual_seed(3)
    model, channels = make()
    for module in model.modules():
        if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            if module.track_running_stats:
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
    model.eval()
    rank = 2 if any(isinstance(m, nn.Conv2d) for m in model.modules()) else 3
    axes = {2: "z", 3: "y", 4: "x"} if rank == 3 else {2: "y", 3: "x"}
    torch.onnx.export(model, torch.zeros(1, channels, *[16] * rank), path, dynamo=False, opset_version=17, input_names=["input"],
                      output_names=["logits"], dynamic_axes={"input": axes, "logits": axes})


def with_int8_weights(path):
    """The built-in network, thinner; weights of convolutions as int8 with one scale per output channel."""
    model = unet(3, (8, 12, 16), 5, norm=False, first_again=False)
    graph, first = model.graph, []
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            axis = 0 if node.op_type == "Conv" else 1
            tensor = next(t for t in graph.initializer if t.name == node.input[1])
            weights = numpy_helper.to_array(tensor)
            scale = np.abs(weights).max(tuple(a for a in range(weights.ndim) if a != axis)) / 127
            shape = [-1 if a == axis else 1 for a in range(weights.ndim)]
            quantized = np.round(weights / scale.reshape(shape)).astype(np.int8)
            graph.initializer.remove(tensor)
            parts = {"int8": quantized, "scale": scale.astype(np.float32), "zero": np.zeros(len(scale), np.int8)}
            names = [f"{tensor.name}_{part}" for part in parts]
            graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in zip(names, parts.values()))
            first.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    nodes = first + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


CASES = {
    "plain_2d": (lambda p: exported(plain_2d, p), [(1, 48, 40), (1, 4, 20), (1, 64, 36)]),
    "plain_3d_anisotropic": (lambda p: exported(plain_3d_anisotropic, p), [(1, 6, 20, 28), (1, 2, 8, 4), (1, 10, 12, 36)]),
    "plain_3d_batch_norm": (lambda p: exported(plain_3d_batch_norm, p), [(3, 6, 10, 14), (3, 2, 2, 2)]),
    "residual_3d": (lambda p: exported(residual_3d, p), [(2, 6, 12, 20), (2, 4, 8, 8)]),
    "int8_weights": (with_int8_weights, [(1, 8, 12, 20), (1, 4, 4, 52)]),
    "relu_2d": (lambda p: onnx.save(unet(2, (8, 16), 2, norm=False), p), [(1, 30, 22), (1, 2, 62)]),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    versions = {m.__name__: m.__version__ for m in (torch, onnx, onnxruntime)}
    for name, (write, shapes) in CASES.items():
        path = folder / f"{name}.onnx"
        write(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        cases = []
        for seed, shape in enumerate(shapes, 11):
            values = lcg(seed, int(np.prod(shape))).reshape(1, *shape)
            logits = session.run(["logits"], {"input": values})[0]
            stride = max(1, logits.size // LOGITS_MAX)
            cases.append({"seed": seed, "shape": shape, "output": logits.shape[1:], "stride": stride,
                          "logits": [float(f"{v:.7g}") for v in logits.ravel()[::stride]]})
        (folder / f"{name}.json").write_text(json.dumps({"versions": versions, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
