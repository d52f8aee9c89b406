"""U-Nets with random weights as ONNX, without PyTorch: for benches/segment.rs and the engine's references (needs onnx, numpy)."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Layers:
    """An ONNX graph, layer by layer. Weights are drawn as PyTorch's nnU-Net does (He), so that activations keep their size."""

    def __init__(self, rank, seed):
        self.rank, self.rng, self.nodes, self.weights = rank, np.random.default_rng(seed), [], []

    def node(self, kind, inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(self, x, n_in, n_out, kernel=3, stride=1):
        kernel = [kernel] * self.rank if isinstance(kernel, int) else kernel
        stride = [stride] * self.rank if isinstance(stride, int) else stride
        w = self.rng.normal(0, np.sqrt(2 / (n_in * np.prod(kernel))), (n_out, n_in, *kernel))
        inputs = [x, self.weight(w), self.weight(self.rng.normal(0, 0.1, n_out))]
        pads = [k // 2 for k in kernel] * 2
        return self.node("Conv", inputs, kernel_shape=kernel, strides=stride, pads=pads)

    def up(self, x, n_in, n_out, stride=2):
        stride = [stride] * self.rank if isinstance(stride, int) else stride
        w = self.rng.normal(0, np.sqrt(1 / n_in), (n_in, n_out, *stride))
        inputs = [x, self.weight(w), self.weight(self.rng.normal(0, 0.1, n_out))]
        return self.node("ConvTranspose", inputs, kernel_shape=stride, strides=stride)

    def norm(self, x, n):
        scale, bias = self.weight(self.rng.normal(1, 0.1, n)), self.weight(self.rng.normal(0, 0.1, n))
        return self.node("InstanceNormalization", [x, scale, bias], epsilon=1e-5)

    def act(self, x):
        return self.node("LeakyRelu", [x], alpha=0.01)

    def block(self, x, n_in, n_out, stride=1, norm=True):
        x = self.conv(x, n_in, n_out, 3, stride)
        return self.act(self.norm(x, n_out)) if norm else self.node("Relu", [x])

    def residual(self, x, n_in, n_out, stride=1):
        y = self.norm(self.conv(self.block(x, n_in, n_out, stride), n_out, n_out), n_out)
        if stride != 1:
            x = self.node("AveragePool", [x], kernel_shape=[stride] * self.rank, strides=[stride] * self.rank)
        if n_in != n_out:
            x = self.norm(self.conv(x, n_in, n_out, 1), n_out)
        return self.act(self.node("Add", [y, x]))

    def model(self, output, n_in, n_out):
        axes = ["z", "y", "x"][-self.rank :]
        value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, *axes])
        self.nodes.append(helper.make_node("Identity", [output], ["logits"]))
        graph = helper.make_graph(self.nodes, "net", [value("input", n_in)], [value("logits", n_out)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def unet(rank, channels, classes, norm=True, encoder="plain", first_again=True, seed=1):
    """A U-Net as nnU-Net builds it: two convolutions a level (the first with stride), transposed convolutions up."""
    l = Layers(rank, seed)
    x, n, skips = "input", 1, []
    for level, c in enumerate(channels):
        stride = 1 if level == 0 else 2
        if encoder == "residual":
            if level == 0:
                x = l.block(x, n, c)
                n = c
            x = l.residual(x, n, c, stride)
        else:
            x = l.block(x, n, c, stride, norm)
            if level > 0 or first_again:
                x = l.block(x, c, c, 1, norm)
        skips.append(x)
        n = c
    for c, skip in zip(channels[-2::-1], skips[-2::-1]):
        x = l.node("Concat", [l.up(x, n, c), skip], axis=1)
        x = l.block(x, 2 * c, c, 1, norm)
        if encoder == "plain" and norm:
            x = l.block(x, c, c, 1, norm)
        n = c
    return l.model(l.conv(x, n, classes, 1), 1, classes)
