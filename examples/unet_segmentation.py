"""A U-Net fitted to a memory that it does not fit: mean IoU, arena and MACs of every way.

    python examples/unet_segmentation.py [--seeds 1] [--images 1000] [--epochs 12 5 1] [--table]

The arena asked for is 40% of TFLM's own plan of the model; generated C, whose rows alone need 28%
of it, is asked for 25%. Stages of each seed, each kept under --out and taken from there when the
script is started again; a training that was stopped goes on with the epoch where it was:

    float       the network, trained from nothing
    longer      the same, trained on for as long as the fitted one is: what "lost" is counted from
    plan        `fit_to`, for each runtime
    fitted      with the bottlenecks of the plan, trained towards the float network's outputs
    quantised   by quantisation-aware training, converted and planned; IoU of the int8 model

Results go to a JSON file with what they ran on; --table prints what is there. With --smoke the
same is done with a handful of images, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
import tensorflow as tf
import unet_data
from unet_data import Split
from unet_model import Watch, iou_of, unet

import keras_fmc as fmc
from deploy.convert import to_int8_tflite

IMAGES = {"train": 1000, "validation": 60, "test": 200}
BATCH = 16
EPOCHS = {"float": 12, "fitted": 5, "quantised": 1}
RATES = {"float": 3e-3, "fitted": 1e-3, "quantised": 1e-4}
SHARES = {"tflm": 0.4, "c": 0.25}
"""Of TFLM's own plan."""
BITS = (8,)
"""What-if plans with packing take three times as long."""
BOARD = "nano33ble"
CALIBRATION = 128
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RESULTS = Path(__file__).resolve().with_suffix(".json")


def load(folder: str | None, images: dict[str, int]) -> dict[str, Split]:
    found = unet_data.objects(folder)
    return {
        name: unet_data.compose(found[name], count, seed=seed)
        for seed, (name, count) in enumerate(images.items())
    }


class Stages:
    """The stages of one seed."""

    def __init__(self, seed: int, data: dict[str, Split], options: argparse.Namespace) -> None:
        self.seed, self.data, self.options = seed, data, options
        self.folder = Path(options.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.epochs = dict(zip(EPOCHS, options.epochs, strict=True))

    @property
    def calibration(self) -> np.ndarray:
        return self.data["train"].x[:CALIBRATION]

    def trained(
        self,
        name: str,
        make: Callable[[], keras.Model],
        *,
        epochs: int,
        rate: float,
        teacher: keras.Model | None = None,
    ) -> keras.Model:
        """The model of a stage: from its file, or made and trained."""
        path = self.folder / f"{name}-{self.seed}.keras"
        if path.exists():
            return fmc.load_model(path)
        keras.utils.set_random_seed(self.seed)
        model = make()
        print(f"training {path.stem}", flush=True)
        train = self.data["train"]
        fmc.finetune(
            model,
            train.x,
            train.y,
            loss=LOSS,
            epochs=epochs,
            teacher=teacher,
            rate=rate,
            batch_size=BATCH,
            callbacks=[
                keras.callbacks.BackupAndRestore(path.with_suffix(".backup")),
                Watch(self.data["validation"]),
            ],
        )
        model.save(path)
        return model

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Figures of a stage: from their file, or made."""
        path = self.folder / f"{name}-{self.seed}.json"
        if not path.exists():
            print(f"making {path.stem}", flush=True)
            path.write_text(json.dumps(make(), indent=1) + "\n")
        return json.loads(path.read_text())

    def strips(self, model: keras.Model) -> dict[str, Any]:
        """TFLM's own plan of a model, and the one in strips."""
        report = fmc.convert(model, calibration=self.calibration, board=BOARD).report
        own = report.baseline
        return {
            "own": {"arena_bytes": own.arena_bytes, "macs": own.macs},
            "strips": {
                "arena_bytes": report.arena_bytes,
                "macs": report.macs,
                "test": device_iou(model, self.data["test"], self.calibration),
            },
        }

    def plan(self, model: keras.Model, runtime: str, asked: int) -> dict[str, Any]:
        """What `fit_to` found, as plain data."""
        return fmc.fit_to(
            model,
            calibration=self.calibration,
            board=BOARD,
            runtime=runtime,
            arena_bytes=asked,
            bits=BITS,
            effort=self.options.effort,
            jobs=self.options.threads,
        ).to_dict()

    def int8(self, qat: keras.Model, runtime: str) -> dict[str, Any]:
        report = fmc.convert(qat, board=BOARD, runtime=runtime).report
        return {
            "arena_bytes": report.arena_bytes,
            "macs": report.macs,
            "test": device_iou(qat, self.data["test"]),
        }

    def ious(self, model: keras.Model) -> dict[str, float]:
        return {name: iou_of(model, self.data[name]) for name in ("validation", "test")}


def device_iou(model: keras.Model, data: Split, calibration: np.ndarray | None = None) -> float:
    """Mean IoU of the int8 model; strips, rows and both runtimes compute the same, bit for bit."""
    content = to_int8_tflite(model, calibration=calibration)
    return unet_data.mean_iou(fmc.predict(content, data.x).argmax(-1), data.y)


def run(
    seed: int,
    data: dict[str, Split],
    options: argparse.Namespace,
    keep: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Goes through the stages of a seed; hands over what is known after each."""
    stages = Stages(seed, data, options)
    rate, epochs = RATES, stages.epochs
    base = stages.trained("float", unet, epochs=epochs["float"], rate=rate["float"])
    longer = stages.trained(
        "longer", lambda: clone(base), epochs=epochs["fitted"], rate=rate["fitted"]
    )
    entries: list[dict[str, Any]] = []

    def note(way: str, **values: Any) -> None:
        entries.append({"seed": seed, "way": way, **values})
        print(entries[-1], flush=True)
        keep(entries)

    note("float", **stages.ious(base))
    note("float, trained as long as the fitted one", **stages.ious(longer))
    whole = stages.kept("strips", lambda: stages.strips(base))
    note("TFLM's own plan", runtime="tflm", **whole["own"])
    note("strips alone, post-training int8", runtime="tflm", **whole["strips"])
    for runtime, share in SHARES.items():
        asked = int(share * whole["own"]["arena_bytes"])
        try:
            plan = stages.kept(
                f"plan-{runtime}",
                lambda runtime=runtime, asked=asked: stages.plan(base, runtime, asked),
            )
        except fmc.DoesNotFitError as error:
            note("fitted", runtime=runtime, asked_bytes=asked, refused=str(error))
            continue
        note(
            "in strips or rows, not fitted",
            runtime=runtime,
            asked_bytes=asked,
            arena_bytes=plan["strips_arena_bytes"],
        )
        chosen = fmc.CompressionPlan.from_dict(plan["plan"])
        fitted = stages.trained(
            f"fitted-{runtime}",
            lambda chosen=chosen: (
                fmc.insert_bottlenecks(base, chosen, calibration=stages.calibration).model
            ),
            epochs=epochs["fitted"],
            rate=rate["fitted"],
            teacher=base,
        )
        note("fitted", runtime=runtime, asked_bytes=asked, **stages.ious(fitted))
        qat = stages.trained(
            f"quantised-{runtime}",
            lambda fitted=fitted: fmc.quantize(fitted, calibration=stages.calibration),
            epochs=epochs["quantised"],
            rate=rate["quantised"],
            teacher=base,
        )
        found = stages.kept(
            f"int8-{runtime}", lambda qat=qat, runtime=runtime: stages.int8(qat, runtime)
        )
        note(
            "fitted, int8",
            runtime=runtime,
            asked_bytes=asked,
            predicted_bytes=plan["predicted_arena_bytes"],
            bottlenecks=len(chosen.bottlenecks),
            predicted_loss=plan["predicted_loss"],
            **found,
        )


def clone(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def print_table(results: dict[str, Any]) -> None:
    print(f"\n{results['about']}\n")
    print("| runtime | way | arena, bytes | MACs, M | mean IoU in test, % | seeds |")
    print("|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in results["entries"]:
        groups.setdefault((entry.get("runtime", ""), entry["way"]), []).append(entry)
    for (runtime, way), group in groups.items():
        cells = []
        for key, factor, digits in (("arena_bytes", 1, 0), ("macs", 1e-6, 1), ("test", 100, 2)):
            values = [factor * entry[key] for entry in group if key in entry]
            cells.append(f"{np.mean(values):,.{digits}f}" if values else "")
        refused = " (does not fit)" if any("refused" in entry for entry in group) else ""
        print(f"| {runtime} | {way}{refused} | {' | '.join(cells)} | {len(group)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", default="out/unet", help="of what is trained")
    parser.add_argument("--results", default=str(RESULTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=IMAGES["train"], help="to train on")
    parser.add_argument(
        "--epochs", type=int, nargs=3, default=list(EPOCHS.values()), metavar=tuple(EPOCHS)
    )
    parser.add_argument("--effort", default="quick", help="of fit_to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a handful of images")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    path = Path(options.results)
    results = json.loads(path.read_text()) if path.exists() else {"entries": []}
    if not options.table:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        images = {**IMAGES, "train": options.images}
        if options.smoke:
            images, options.epochs = {"train": 32, "validation": 8, "test": 8}, [1, 1, 1]
        data = load(options.data, images)
        for seed in range(options.seeds):
            if seed in results.setdefault("finished", []):
                continue
            others = [entry for entry in results["entries"] if entry["seed"] != seed]
            results["about"] = (
                f"U-Net 96x96x3, Fashion-MNIST objects on textures, {images['train']:,} training "
                f"images, {' / '.join(map(str, options.epochs))} epochs ({' / '.join(EPOCHS)}), "
                f"{images['test']} test images; {platform.machine()}, {options.threads} thread(s)"
            )

            def keep(entries: list[dict[str, Any]], others: Any = others) -> None:
                results["entries"] = [*others, *entries]
                path.write_text(json.dumps(results, indent=1) + "\n")

            run(seed, data, options, keep)
            results["finished"].append(seed)
            keep([entry for entry in results["entries"] if entry["seed"] == seed])
    if results["entries"]:
        print_table(results)


if __name__ == "__main__":
    main()
