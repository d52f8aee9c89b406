"""onnxruntime beside the own engine: python segment_peer.py FOLDER (needs onnx, onnxruntime, numpy). benches/segment.rs starts it.

Writes NAME.onnx (random weights, seeded), NAME.input and NAME.logits (f32) for each network and prints "NAME CHANNELS SIZES...".
A name that ends in -int8 is the network without that, quantized by quantize_static (QDQ, u8 activations, i8 weights per channel); it is
written beside as NAME without -int8.
Then for each line "NAME THREADS" on stdin it runs the network once and prints the seconds: processor time with one thread (it does not
count what other processes take), else wall time.
"""
import logging
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime

sys.path.append(str(pathlib.Path(__file__).parents[1] / "models" / "training"))
from unets import unet  # noqa: E402

NETWORKS = {
    "unet-2d": (lambda: unet(2, (16, 32, 64, 128), 4, norm=False), (1, 256, 256)),
    "nnunet-2d": (lambda: unet(2, (32, 64, 128, 256, 512, 512), 4), (1, 256, 256)),
    "nnunet-3d-small": (lambda: unet(3, (16, 32, 64, 128), 4), (1, 64, 64, 64)),
    "resenc-3d": (lambda: unet(3, (16, 32, 64, 128), 4, encoder="residual"), (1, 64, 64, 64)),
    "built-in": (lambda: unet(3, (8, 24, 48, 80, 96), 5, norm=False, first_again=False), (1, 96, 80, 96)),
    "nnunet-3d-full": (lambda: unet(3, (32, 64, 128, 256, 320, 320), 4), (1, 128, 128, 128)),
}


INT8 = "-int8"


def quantize(source, target, shape):
    """quantize_static with its defaults for this form, on one batch of noise."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class One(CalibrationDataReader):
        left = [np.random.default_rng(8).normal(0, 1, (1, *shape)).astype(np.float32)]

        def get_next(self):
            return {"input": self.left.pop()} if self.left else None

    logging.disable(logging.WARNING)
    quantize_static(str(source), str(target), One(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning would take the second core while the other engine is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main():
    folder = pathlib.Path(sys.argv[1])
    wanted = sys.argv[2:] or [name + kind for name in NETWORKS for kind in ("", INT8)]
    inputs, sessions = {}, {}
    for name in wanted:
        base = name.removesuffix(INT8)
        make, shape = NETWORKS[base]
        onnx.save(make(), folder / f"{base}.onnx")
        if name != base:
            quantize(folder / f"{base}.onnx", folder / f"{name}.onnx", shape)
        inputs[name] = np.random.default_rng(7).normal(0, 1, (1, *shape)).astype(np.float32)
        inputs[name].tofile(folder / f"{name}.input")
        print(name, *shape, flush=True)
    print("ready", onnxruntime.__version__, flush=True)
    for line in sys.stdin:
        name, threads = line.split()
        key = name, int(threads)
        if key not in sessions:
            if any(known != name for known, _ in sessions):
                sessions.clear()
            sessions[key] = session(folder / f"{name}.onnx", int(threads))
            logits = sessions[key].run(["logits"], {"input": inputs[name]})[0]
            logits.tofile(folder / f"{name}.logits")
        began, cpu = time.perf_counter(), time.thread_time()
        sessions[key].run(["logits"], {"input": inputs[name]})
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - began
        print(cpu if key[1] == 1 else wall, flush=True)


if __name__ == "__main__":
    main()
