"""Writes what `metwatch model import-nnunet` needs of a model trained with nnU-Net v2: one ONNX network per fold (logits,
deep supervision off, opset 17, axes of any length) and `nnunet.json` with what only the checkpoints know.

    python models/training/nnunet_export.py RESULTS_DIR OUT [--folds 0 1 2 3 4] [--checkpoint checkpoint_final.pth]
    metwatch model import-nnunet RESULTS_DIR --onnx OUT/fold_*.onnx --out PACKAGE

RESULTS_DIR is a trained folder such as nnUNet_results/Dataset003_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres.
Needs nnunetv2 (2.8.1 tried), torch and onnx; it runs on the machine of the training, not on the box.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

FORMAT = "metwatch.nnunet-export/1"
GOLDEN_SEED = 7
GOLDEN_LOGITS = 2000  # per fold, about
GOLDEN_TOLERANCE = 2e-3  # of f32 logits of deep networks between machines; a wrong network differs by whole units


def lcg(seed: int, n: int) -> np.ndarray:
    """Knuth's MMIX generator, upper 31 bits, in [-1, 1): the golden input of metwatch's packages (src/segment/engine.rs)."""
    state, out = seed, np.empty(n, dtype=np.float64)
    for k in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[k] = (state >> 33) / 2**30 - 1
    return out.astype(np.float32)


def golden_shape(configuration) -> list[int]:
    """Twice the network's whole stride per axis, at most the patch: every layer works, in a second."""
    strides = np.prod(np.array(configuration.pool_op_kernel_sizes), axis=0)
    return [int(min(2 * s, p)) for s, p in zip(strides, configuration.patch_size)]


def postprocessing_steps(file: Path) -> list:
    """The steps of a postprocessing.pkl as lists of labels or regions whose union keeps its largest component only."""
    functions, arguments = pickle.loads(file.read_bytes())
    steps = []
    for function, keywords in zip(functions, arguments):
        name = getattr(function, "__name__", str(function))
        if name != "remove_all_but_largest_component_from_segmentation" or keywords.get("background_label", 0) != 0:
            raise SystemExit(f"{file}: the postprocessing function {name} {keywords} is not one that metwatch knows")
        of = keywords["labels_or_regions"]
        of = of if isinstance(of, list) else [of]
        steps.append([[int(v) for v in k] if isinstance(k, (tuple, list)) else int(k) for k in of])
    return steps


def find_postprocessing(results: Path, folds: list[str]) -> Path | None:
    """nnU-Net keeps it in the folder of the cross-validation of exactly these folds."""
    file = results / f"crossval_results_folds_{'_'.join(folds)}" / "postprocessing.pkl"
    return file if file.is_file() else None


def export(results: Path, out: Path, folds: list[str], checkpoint: str, postprocessing: Path | None) -> None:
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(results), tuple(folds), checkpoint)
    configuration = predictor.configuration_manager
    first = torch.load(results / f"fold_{folds[0]}" / checkpoint, map_location="cpu", weights_only=False)
    name = first["init_args"]["configuration"]
    if configuration.previous_stage_name is not None:
        raise SystemExit(f"{name} is the second stage of a cascade: metwatch does not run cascades")
    network, out = predictor.network.eval(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    channels = next(iter(network.parameters())).shape[1]
    shape = [channels, *golden_shape(configuration)]
    x = torch.from_numpy(lcg(GOLDEN_SEED, int(np.prod(shape))).reshape(1, *shape))
    axes = {0: "batch"} | {a + 2: n for a, n in enumerate(["z", "y", "x"][-len(shape) + 1 :])}
    networks, golden, stride = [], [], 1
    for fold, weights in zip(folds, predictor.list_of_parameters):
        network.load_state_dict(weights)
        file = out / f"fold_{fold}.onnx"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = network(x)[0].numpy().ravel()
            torch.onnx.export(network, (x,), str(file), input_names=["image"], output_names=["logits"], opset_version=17,
                              dynamic_axes={"image": axes, "logits": axes}, dynamo=False)
        stride = max(1, len(logits) // GOLDEN_LOGITS)
        golden.append([round(float(v), 6) for v in logits[::stride]])
        networks.append({"fold": fold, "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    tolerance = max(GOLDEN_TOLERANCE, 1e-4 * max(abs(v) for g in golden for v in g))
    mirroring = predictor.allowed_mirroring_axes
    sidecar = {
        "format": FORMAT,
        "versions": {p: importlib.metadata.version(p) for p in ("nnunetv2", "torch", "onnx")},
        "configuration": name,
        "trainer": predictor.trainer_name,
        "checkpoint": checkpoint,
        "inference_allowed_mirroring_axes": None if mirroring is None else [int(a) for a in mirroring],
        "input": "image",
        "output": "logits",
        "networks": networks,
        "postprocessing": postprocessing_steps(postprocessing) if postprocessing else [],
        "golden": {"made_by": "torch", "shape": shape, "seed": GOLDEN_SEED, "input": "lcg", "stride": stride,
                   "tolerance": tolerance, "logits": golden},
    }
    (out / "nnunet.json").write_text(json.dumps(sidecar) + "\n")
    print(f"{out}: {len(folds)} networks of {name}, mirroring {mirroring}, postprocessing {sidecar['postprocessing']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the trained folder, with plans.json and fold_K")
    parser.add_argument("out", type=Path, help="where the networks and nnunet.json go")
    parser.add_argument("--folds", nargs="+", help="which folds (default: all that have the checkpoint)")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--postprocessing", type=Path, help="a postprocessing.pkl (default: that of these folds, if any)")
    parser.add_argument("--no-postprocessing", action="store_true", help="as nnUNetv2_predict, which applies none")
    args = parser.parse_args()
    found = sorted(f.parent.name.removeprefix("fold_") for f in args.results.glob(f"fold_*/{args.checkpoint}"))
    folds = args.folds or [f for f in found if f != "all"] or found
    if missing := [f for f in folds if f not in found] or not folds:
        raise SystemExit(f"{args.results} has no {args.checkpoint} for the folds {missing or 'asked for'}; it has {found}")
    chosen = None if args.no_postprocessing else args.postprocessing or find_postprocessing(args.results, folds)
    export(args.results, args.out, folds, args.checkpoint, chosen)


if __name__ == "__main__":
    main()
