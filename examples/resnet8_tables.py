"""What learned codes cost in ResNet-8 on CIFAR-10, trained well: points of accuracy lost.

    python examples/resnet8_tables.py [--data cifar10_jpeg.npz] [--weights pretrainedResnet.h5]
        [--seeds 3] [--out FOLDER] [--table]

One float network is adapted to the images first. From it every arm of every seed is trained as
long as any other and on the same images: with its codes in float, then quantised. "Lost" is
counted from an arm without codes that stays in float and is trained in the same way, teacher
included. Of several codes the best one is that of the best mean accuracy in validation; its test
accuracy counts, and the test set is used for nothing else. Weights given by --weights have seen the
validation images, as MLPerf's reference was trained on all of CIFAR-10's training images.

A training that was stopped goes on with the epoch where it was, from what lies under --out; results
go to a JSON file after each arm, all arms of a seed before those of the next. --smoke does the
same with a handful of images, to see that it runs; --table prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
import resnet8_cifar10
import tensorflow as tf
from accuracy_tables import accuracies
from resnet8_arms import ARMS, BIT, CONTROL, HALF, INGREDIENT_ARMS, LOW, NONE, QUARTER, Arm
from resnet8_training import EPOCHS, Stages, first
from walk import Data

IMAGES = {"base": 45_000, "arms": 30_000}
RESULTS = Path(__file__).resolve().with_suffix(".json")


def run(seed: int, arms: Sequence[Arm], data: Data, results: Results, options: Any) -> None:
    stages = Stages(seed, data, options)
    left = [arm for arm in arms if not results.has(arm, seed)]
    if not left:
        return
    base = stages.base()
    if not results.entries:
        figures = {**stages.noted("base"), **accuracies(base, data)}
        results.add(name="base", group=NONE, seed=0, **figures)
    for arm in left:
        figures = stages.arm(arm, base)
        results.add(name=arm.name, group=arm.group, seed=seed, **figures)
        keras.backend.clear_session()


class Results:
    """Entries in a JSON file, and what they were made on."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        found = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.about: str = found.get("about", "")
        self.entries: list[dict[str, Any]] = found.get("entries", [])

    def has(self, arm: Arm, seed: int) -> bool:
        return bool(self.of(arm, seed))

    def of(self, arm: Arm, seed: int | None = None) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self.entries
            if (entry["name"], entry["group"]) == (arm.name, arm.group)
            and seed in (None, entry["seed"])
        ]

    def add(self, **entry: Any) -> None:
        self.entries.append(entry)
        print(entry, flush=True)
        text = json.dumps({"about": self.about, "entries": self.entries}, indent=1) + "\n"
        self.path.write_text(text)

    def lost(self, arm: Arm) -> list[float]:
        """Points of test accuracy lost against the float arm, for each seed that has both."""
        control = {entry["seed"]: entry["test"] for entry in self.of(ARMS[0])}
        return [
            100 * (control[entry["seed"]] - entry["test"])
            for entry in self.of(arm)
            if entry["seed"] in control
        ]

    def best(self, arms: Sequence[Arm]) -> Arm | None:
        """The arm of the best mean accuracy in validation."""
        there = [arm for arm in arms if self.lost(arm)]

        def mean(arm: Arm) -> float:
            return float(np.mean([entry["validation"] for entry in self.of(arm)]))

        return max(there, key=mean, default=None)


def arms_of(group: str) -> tuple[Arm, ...]:
    return tuple(arm for arm in ARMS if arm.group == group and not arm.published)


def projections_of(group: str) -> tuple[Arm, ...]:
    """Arms with fewer numbers of eight bits, and no fewer bits."""
    return tuple(
        arm
        for arm in arms_of(group)
        if all(code is not None and code.share and code.bits == 8 for code in arm.codes)
    )


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.2f}{spread}"


def percent(entries: Sequence[dict[str, Any]], key: str) -> str:
    values = [100 * entry[key] for entry in entries if key in entry]
    return mean_and_spread(values) if values else ""


def print_arms(results: Results, arms: Sequence[Arm]) -> None:
    print(
        "| compressed | maps stored as | bytes | start | in float | validation | test | int8 | ",
        end="",
    )
    print("lost | seeds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for arm in arms:
        group = results.of(arm)
        if not group:
            continue
        lost = results.lost(arm)
        cells = (
            arm.group,
            "Price & Tanner's recipe" if arm.published else arm.name,
            f"{group[0]['stored_bytes']:,} of {group[0]['map_bytes']:,}"
            if group[0].get("map_bytes")
            else "",
            *(
                percent(group, key)
                for key in (
                    "start_validation",
                    "fitted_test",
                    "validation",
                    "test",
                    "device_test",
                )
            ),
            mean_and_spread(lost) if lost and arm.name != CONTROL else "",
            str(len(group)),
        )
        print(f"| {' | '.join(cells)} |")


def figures(results: Results) -> list[tuple[str, str, str, float, bool]]:
    """(what, by which arm, reach, value, whether it is reached), as far as they are known."""
    found = []

    def least(what: str, arms: Sequence[Arm], reach: float) -> None:
        arm = results.best(arms)
        if arm is not None:
            lost = float(np.mean(results.lost(arm)))
            found.append((what, arm.name, f"{reach} or less", lost, lost <= reach))

    for group, best, projection in ((HALF, 0.3, 0.5), (QUARTER, 1.5, 4.5)):
        least(f"{group}, best code", arms_of(group), best)
        least(f"{group}, projection alone", projections_of(group), projection)
    least("2.5 bits a value on every stored map", arms_of(LOW), 1.0)

    def ahead(what: str, arms: Sequence[Arm], other: Arm, reach: float) -> None:
        arm = results.best(arms)
        if arm is None or not results.lost(other):
            return
        gain = float(np.mean(results.lost(other)) - np.mean(results.lost(arm)))
        found.append((what, arm.name, f"ahead by {reach} or more", gain, gain >= reach))

    plain, *others = arms_of(BIT)
    ahead("1 bit a value, against plain QAT", others, plain, 2.0)
    for arm in ARMS:
        if arm.published:
            what = f"{arm.group}, projection alone against Price & Tanner's recipe"
            ahead(what, projections_of(arm.group), arm, 0.0)
    for arm in ARMS:
        group = [entry for entry in results.of(arm) if "device_test" in entry]
        if group:
            lost = 100 * float(np.mean([e["fitted_test"] - e["device_test"] for e in group]))
            what = "int8 on the device against the fitted float model"
            found.append(
                (
                    what,
                    ": ".join(filter(None, (arm.group, arm.name))),
                    "0.2 or less",
                    lost,
                    lost <= 0.2,
                )
            )
    return found


def print_table(results: Results) -> None:
    print(f"{results.about}\n")
    base = next(entry for entry in results.entries if entry["name"] == "base")
    print(f"Before: {100 * base['validation']:.2f} validation, {100 * base['test']:.2f} test.\n")
    print_arms(results, ARMS)
    print("\n| points of test accuracy | code, chosen in validation | reach | is | reached |")
    print("|---|---|---|---|---|")
    for what, arm, reach, value, reached in figures(results):
        print(f"| {what} | {arm} | {reach} | {value:.2f} | {'yes' if reached else 'no'} |")
    if any(results.of(arm) for arm in INGREDIENT_ARMS):
        print()
        print_arms(results, INGREDIENT_ARMS)
    minutes = sum(entry["seconds"] for entry in results.entries) / 60
    print(f"\n{len(results.entries)} runs, {minutes:.0f} minutes of training")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="cifar10_jpeg.npz; default: Keras' loader")
    parser.add_argument("--weights", help="pretrainedResnet.h5; default: trained from nothing")
    parser.add_argument("--out", default=str(Path(tempfile.gettempdir()) / "resnet8_tables"))
    parser.add_argument("--results", default=str(RESULTS))
    parser.add_argument("--seeds", type=int, default=3)
    for name, defaults in (("images", IMAGES), ("epochs", EPOCHS)):
        parser.add_argument(
            f"--{name}",
            type=int,
            nargs=len(defaults),
            default=list(defaults.values()),
            metavar=tuple(defaults),
        )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a handful of images")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    results = Results(options.results)
    if not options.table:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if options.smoke:
            options.images, options.epochs = [64, 64], [1, 1, 1]
        data = resnet8_cifar10.load(options.data, train_images=options.images[0])
        if options.smoke:
            data = first(first(data, "validation", 16), "test", 16)
        epochs = " / ".join(map(str, options.epochs))
        results.about = (
            f"ResNet-8, {data.name}: {options.images[0]:,} images for the base and "
            f"{options.images[1]:,} for the arms, {len(data.y_validation):,} for validation, "
            f"{len(data.y_test):,} for the test; {epochs} epochs ({' / '.join(EPOCHS)}); "
            f"{platform.machine()}, {options.threads} thread(s)"
        )
        for seed in range(options.seeds):
            run(seed, ARMS, data, results, options)
            if seed == 0:
                run(seed, INGREDIENT_ARMS, data, results, options)
    if results.entries:
        print_table(results)


if __name__ == "__main__":
    main()
