"""Real nnU-Net v2 folders on made data, and nnU-Net's own predictions from them: the reference of tests/nnunet.rs.

    OMP_NUM_THREADS=1 nice -n 19 python models/training/nnunet_reference.py WORK tests/data/nnunet

Each data set is drawn (bright and dark balls in noise), planned by nnU-Net, its plans made small (patch, features), trained by
nnUNetTrainer itself for two short epochs, exported by nnunet_export.py and used by nnU-Net's own predictor on a volume with odd
sizes, an oblique direction and thick slices. Made on 2026-11-25 with the versions in tests/data/nnunet/versions.json, 10 minutes of one core.
"""

import gzip
import importlib.metadata
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}
WORK = Path(sys.argv[1] if len(sys.argv) > 1 else "out/nnunet").absolute()
for part in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{part}"] = str(WORK / part)

import numpy as np
import SimpleITK as sitk
import torch

torch.set_num_threads(1)
from nnunet_export import export
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing,
    remove_all_but_largest_component_from_segmentation,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# One oblique direction (two turns), column by column as ITK writes it.
C, S = np.cos(0.2), np.sin(0.2)
OBLIQUE = (np.array([[1, 0, 0], [0, C, -S], [0, S, C]]) @ np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]])).ravel()

LIVER = {"background": 0, "liver": 1, "tumor": 2}
DATASETS = {
    # name: channels, labels, spacing xyz of training, size xyz of training, the reference volume's (spacing, size), more
    "Dataset901_Ct": dict(channels={"0": "CT"}, labels=LIVER, spacing=(1.5, 1.5, 2.0), size=(52, 48, 40),
                          test=((1.3, 1.7, 5.0), (61, 53, 23))),
    "Dataset902_Thick": dict(channels={"0": "MRI"}, labels=LIVER, spacing=(1.25, 1.25, 5.0), size=(56, 52, 18),
                             test=((1.1, 1.4, 6.0), (63, 57, 17))),
    "Dataset903_Regions": dict(channels={"0": "T1"}, spacing=(2.0, 2.0, 2.0), size=(44, 44, 40), masked=True,
                               labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
                               regions_class_order=[1, 2, 3], test=((1.9, 2.3, 5.0), (47, 43, 21))),
    "Dataset904_TwoChannels": dict(channels={"0": "CT", "1": "MRI"}, labels=LIVER, spacing=(5.0, 1.5, 1.5), size=(18, 52, 48),
                                   planner="nnUNetPlannerResEncM", test=((5.0, 1.3, 1.7), (19, 57, 53))),
}
# model: data set, configuration, folds, patch, changes of the configuration
MODELS = {
    "2d": ("Dataset901_Ct", "2d", ["0"], [32, 40], {}),
    "3d": ("Dataset901_Ct", "3d_fullres", ["0", "1"], [24, 32, 32], {"spacing": [2.2, 1.8, 1.8]}),
    "thick": ("Dataset902_Thick", "3d_fullres", ["0"], [8, 40, 32], {}),
    "regions": ("Dataset903_Regions", "3d_fullres", ["0"], [24, 24, 32], {}),
    "two": ("Dataset904_TwoChannels", "3d_fullres", ["0"], [8, 32, 32], {}),
}


def draw(rng, spacing, size, channels, labels, masked):
    """Volumes (one per channel, array zyx) and labels: a large ball with a small one inside (and one in that for regions)."""
    extent = np.array(size) * spacing
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size[::-1]], indexing="ij")[::-1], -1) * np.array(spacing)
    center = extent * rng.uniform(0.42, 0.58, 3)
    radius = 0.32 * extent.min() * rng.uniform(0.9, 1.1)
    distance = lambda c, r: np.linalg.norm((grid - c) * rng.uniform(0.85, 1.15, 3), axis=-1) < r
    truth = np.zeros(size[::-1], np.uint8)
    truth[distance(center, radius)] = 1
    inner = center + radius * rng.uniform(-0.3, 0.3, 3)
    truth[distance(inner, 0.5 * radius) & (truth == 1)] = 2
    if "enhancing" in labels:
        truth[distance(inner, 0.28 * radius) & (truth == 2)] = 3
    body = np.linalg.norm((grid - extent / 2) / extent, axis=-1) < 0.47
    volumes = []
    for k in range(channels):
        levels = np.array([40.0, 110.0, 60.0, 150.0]) if k == 0 else np.array([300.0, 380.0, 520.0, 450.0])
        image = levels[truth] + rng.normal(0, 14 if k == 0 else 40, truth.shape)
        # Zero around the head, as skull-stripped images have; else air as CT has it.
        image[~body] = 0 if masked else -1000 + rng.normal(0, 8, (~body).sum()) if k == 0 else 20
        volumes.append(image.astype(np.float32))
    return volumes, truth


def write(path, array, spacing, direction=None, origin=(-31.5, 12.25, 100.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def make_dataset(name, d, n=5):
    folder = WORK / "raw" / name
    if (folder / "dataset.json").exists():
        return
    rng = np.random.default_rng(int(name[7:10]))
    for case in range(n):
        volumes, truth = draw(rng, d["spacing"], d["size"], len(d["channels"]), d["labels"], d.get("masked"))
        if "ignore" in d["labels"]:
            truth[:2] = d["labels"]["ignore"]
        for k, volume in enumerate(volumes):
            write(folder / "imagesTr" / f"case_{case}_{k:04}.nii.gz", volume, d["spacing"])
        write(folder / "labelsTr" / f"case_{case}.nii.gz", truth, d["spacing"])
    volumes, truth = draw(rng, *d["test"], len(d["channels"]), d["labels"], d.get("masked"))
    for k, volume in enumerate(volumes):
        write(folder / "test" / f"test_{k:04}.nii.gz", np.round(volume).astype(np.int16), d["test"][0], OBLIQUE)
    about = {"channel_names": d["channels"], "labels": d["labels"], "numTraining": n, "file_ending": ".nii.gz"}
    if "regions_class_order" in d:
        about["regions_class_order"] = d["regions_class_order"]
    (folder / "dataset.json").write_text(json.dumps(about))


def make_plans(name, d):
    """nnU-Net's own plans, then made small under the name `small`."""
    number, folder = int(name[7:10]), WORK / "preprocessed" / name
    extract_fingerprint_dataset(number, num_processes=1)
    identifier = plan_experiments([number], d.get("planner", "ExperimentPlanner"))
    plans = json.loads((folder / f"{identifier}.json").read_text())
    plans["plans_name"] = "small"
    for model, (of, configuration, _, patch, changes) in MODELS.items():
        if of != name:
            continue
        c = plans["configurations"][configuration]
        c.update(patch_size=patch, batch_size=2, data_identifier=f"small_{configuration}", **changes)
        if d.get("masked"):
            c["use_mask_for_norm"] = [True]
        dim, n = len(patch), 3
        a = c["architecture"]["arch_kwargs"]
        flat = dim == 3 and patch[0] < 16
        a.update(n_stages=n, features_per_stage=[8, 12, 16],
                 kernel_sizes=[[1, 3, 3] if flat else [3] * dim] + [[3] * dim] * 2,
                 strides=[[1] * dim, [1, 2, 2] if flat else [2] * dim, [2] * dim], n_conv_per_stage_decoder=[1] * (n - 1))
        a["n_blocks_per_stage" if "n_blocks_per_stage" in a else "n_conv_per_stage"] = [1, 2, 2] if "n_blocks_per_stage" in a else [2] * n
    (folder / "small.json").write_text(json.dumps(plans))
    configurations = sorted({c for of, c, *_ in MODELS.values() if of == name})
    preprocess_dataset(number, plans_identifier="small", configurations=configurations, num_processes=[1] * len(configurations))


def train(name, configuration, fold):
    folder = WORK / "preprocessed" / name
    plans, about = (json.loads((folder / f).read_text()) for f in ("small.json", "dataset.json"))
    os.environ["nnUNet_n_proc_DA"] = "0"  # augments in this process; the planner wants at least one
    torch.manual_seed(1)
    np.random.seed(1)
    trainer = nnUNetTrainer(plans | {"continue_training": False}, configuration, int(fold), about, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 60, 2
    trainer.initial_lr = 0.02
    trainer.run_training()
    return Path(trainer.output_folder_base)


def predict(results, model, folds, files, out):
    """Labels as nnUNetv2_predict writes them; the preprocessed image and the logits from the same calls that it makes."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(results), tuple(folds))
    predictor.predict_from_files_sequential([[str(f) for f in files]], [str(out / "labels")], overwrite=True)
    configuration = predictor.configuration_manager
    data, _, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(f) for f in files], None, predictor.plans_manager, configuration, predictor.dataset_json)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float().numpy()
    # Channels and classes one after the other along z: nnU-Net's arrays on its own grid, so the header says nothing.
    write(out / "preprocessed.nii.gz", data.reshape(-1, *data.shape[2:]).astype(np.float32), (1, 1, 1))
    write(out / "logits.nii.gz", logits.reshape(-1, *logits.shape[2:]), (1, 1, 1))
    predictor.use_mirroring = False
    predictor.predict_from_files_sequential([[str(f) for f in files]], [str(out / "labels_no_mirror")], overwrite=True)
    (out / "predict_from_raw_data_args.json").unlink()
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labels.nii.gz")))
    print(model, data.shape, logits.shape, np.bincount(labels.ravel()), flush=True)


def main():
    out = Path(sys.argv[2]).absolute()
    only = sys.argv[3:] or list(MODELS)
    for name in sorted({MODELS[m][0] for m in only}):
        make_dataset(name, DATASETS[name])
        if not (WORK / "preprocessed" / name / "small.json").exists():
            make_plans(name, DATASETS[name])
    for model in only:
        name, configuration, folds, _, _ = MODELS[model]
        results = WORK / "results" / name / f"nnUNetTrainer__small__{configuration}"
        for fold in folds:
            if not (results / f"fold_{fold}" / "checkpoint_final.pth").exists():
                train(name, configuration, fold)
        postprocessing = None
        if model == "3d":
            # As nnUNetv2_find_best_configuration writes it: the union of the foreground, then each label.
            f = remove_all_but_largest_component_from_segmentation
            steps = ([f, f], [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}])
            postprocessing = results / f"crossval_results_folds_{'_'.join(folds)}" / "postprocessing.pkl"
            postprocessing.parent.mkdir(exist_ok=True)
            postprocessing.write_bytes(pickle.dumps(steps))
        to = out / model
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        export(results, to, folds, "checkpoint_final.pth", postprocessing)
        files = sorted((WORK / "raw" / name / "test").glob("*.nii.gz"))
        for k, file in enumerate(files):
            shutil.copy(file, to / f"image_{k:04}.nii.gz")
        predict(results, model, folds, files, to)
        for file in ("plans.json", "dataset.json"):
            shutil.copy(results / file, to / file)
        if postprocessing:
            image = sitk.ReadImage(str(to / "labels.nii.gz"))
            cleaned = apply_postprocessing(sitk.GetArrayFromImage(image), *pickle.loads(postprocessing.read_bytes()))
            cleaned = sitk.GetImageFromArray(cleaned)
            cleaned.CopyInformation(image)
            sitk.WriteImage(cleaned, str(to / "labels_postprocessed.nii.gz"), True)
    packages = ("nnunetv2", "torch", "numpy", "scipy", "scikit-image", "SimpleITK", "onnx", "acvl-utils")
    versions = {p: importlib.metadata.version(p) for p in packages}
    (out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
