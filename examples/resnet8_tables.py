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
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
import resnet8_cifar10
import tensorflow as tf
from accuracy_tables import accuracies, accuracy
from keras import layers
from walk import Data

import keras_fmc as fmc
from deploy.convert import to_int8_tflite
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan

IMAGES = {"base": 45_000, "arms": 30_000}
BATCH = 64
CALIBRATION = 256
SAMPLES = 64
"""Of the test set, on which the converted model is compared with its rounding in Keras."""
EPOCHS = {"base": 4, "codes": 2, "quantised": 1}
QUANTISED_RATE = 3e-4
LOSS = "sparse_categorical_crossentropy"
RESULTS = Path(__file__).resolve().with_suffix(".json")

Maps = dict[str, tuple[int, ...]]
Specs = Callable[[Maps], list[BottleneckSpec]]


@dataclasses.dataclass(frozen=True)
class Code:
    """How a map is stored.

    Attributes:
        share: of a projection, k as a multiple of C; None for a plain code of all channels.
        gf2: whether k is of bits over GF(2), learned from codes of four bits.
    """

    bits: int | None
    share: float | None = None
    strides: int = 1
    gf2: bool = False

    def spec(self, name: str, shape: tuple[int, ...]) -> BottleneckSpec:
        kind = BottleneckKind.PLAIN if self.share is None else BottleneckKind.PROJECTION
        return BottleneckSpec(
            name,
            shape,
            round(shape[-1] * (self.share or 1)),
            self.bits,
            BottleneckKind.GF2 if self.gf2 else kind,
            strides=self.strides,
            kernel_size=self.strides,
            signed=kind is BottleneckKind.PLAIN and not rectified(name),
        )


def rectified(name: str) -> bool:
    return name.startswith(("activation", "re_lu"))


def stored(maps: Maps, codes: Sequence[Code | None]) -> list[BottleneckSpec]:
    """The maps of the largest size get the first code, those of the next one the second, …"""
    sizes = sorted({int(np.prod(shape)) for shape in maps.values()}, reverse=True)
    by_size = dict(zip(sizes, codes, strict=False))
    found = ((name, shape, by_size.get(int(np.prod(shape)))) for name, shape in maps.items())
    return [code.spec(name, shape) for name, shape, code in found if code is not None]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The ingredients that an arm is trained with."""

    teacher: bool = True
    augment: bool = True
    rate: float | None = None
    ema_momentum: float | None = None
    start: str = "pca"


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way of storing maps, or of training.

    Attributes:
        group: of arms that are compared; "" for those without codes.
        codes: of the maps of each size, the largest first; see `stored`.
        rectified_only: leave out maps that can be negative, of which plain codes of one bit cannot
            be made.
        quantised: whether the last epochs are of QAT; else they are like the others.
        device: whether the test set is also run with the device's rounding, `device_rounding`.
        published: train as Price & Tanner do.
    """

    name: str
    group: str
    codes: tuple[Code | None, ...] = ()
    recipe: Recipe = Recipe()
    rectified_only: bool = False
    quantised: bool = True
    device: bool = False
    published: bool = False

    def specs(self, maps: Maps) -> list[BottleneckSpec]:
        if self.rectified_only:
            maps = {name: shape for name, shape in maps.items() if rectified(name)}
        return stored(maps, self.codes)


HALF, QUARTER, LOW, BIT = "half", "quarter", "2.5 bits", "1 bit"
P8, P4, P2 = Code(8, 1 / 2), Code(4, 1 / 2), Code(2, 1 / 2)
NONE = ""
CONTROL = "float, trained as long"
ARMS = (
    Arm(CONTROL, NONE, quantised=False),
    Arm("int8", NONE, device=True),
    Arm("plain, 4 bits", HALF, (Code(4),), device=True),
    Arm("projection, 1/2 of C, 8 bits", HALF, (P8,)),
    Arm("projection 2x2, 2C of 4 bits; plain, 4 bits", QUARTER, (Code(4, 2, 2), Code(4))),
    Arm("projection, C, 4 bits", HALF, (Code(4, 1),), device=True),
    Arm("projection 2x2, 2C of 8 bits", HALF, (Code(8, 2, 2),)),
    Arm("plain, 2 and 4 bits", QUARTER, (Code(2), Code(4))),
    Arm("plain, 1 bit", BIT, (Code(1),), rectified_only=True),
    Arm("projection 2x2, C of 4 bits", BIT, (Code(4, 1, 2),), rectified_only=True),
    Arm(
        "projection 2x2, 2C and 5/2 C of 4 bits; plain, 4 bits",
        LOW,
        (Code(4, 2, 2), Code(4, 5 / 2, 2), Code(4)),
    ),
    Arm("projection 2x2, C and 2C of 8 bits", QUARTER, (Code(8, 1, 2), Code(8, 2, 2))),
    Arm("published", HALF, (Code(None, 1 / 2),), published=True, quantised=False),
    Arm(
        "published",
        QUARTER,
        (Code(None, 1 / 4), Code(None, 1 / 2)),
        published=True,
        quantised=False,
    ),
    Arm("projection, 1/4 and 1/2 of C, 8 bits", QUARTER, (Code(8, 1 / 4), P8)),
    Arm("projection 2x2, 21/8 C of 6 bits", HALF, (Code(6, 21 / 8, 2),), device=True),
    Arm("plain, 2, 2 and 4 bits", LOW, (Code(2), Code(2), Code(4))),
    Arm("projection, 1/2 of C, 2 bits", BIT, (P2,), rectified_only=True),
    Arm("projection, 1/2 of C of 4 bits and C of 4 bits", QUARTER, (P4, Code(4, 1))),
    Arm(
        "GF(2), 1 of 4 bits",
        BIT,
        (Code(4, 1, gf2=True),),
        Recipe(start="identity"),
        rectified_only=True,
    ),
)

BARE = Recipe(teacher=False, augment=False, rate=1e-3)
INGREDIENTS = {
    "nothing but cosine decay and a start by PCA": BARE,
    "random start": dataclasses.replace(BARE, start="random"),
    "teacher": dataclasses.replace(BARE, teacher=True),
    "augmentation": dataclasses.replace(BARE, augment=True),
    "rate by the start": dataclasses.replace(BARE, rate=None),
    "moving average of weights": dataclasses.replace(BARE, ema_momentum=0.999),
    "teacher, augmentation, rate by the start": Recipe(),
    "all": Recipe(ema_momentum=0.999),
}
INGREDIENT_ARMS = tuple(
    Arm(name, "ingredients", (Code(8, 1 / 4), P8), recipe, quantised=False)
    for name, recipe in INGREDIENTS.items()
)


class Stages:
    """What is trained for one seed, each model from its file where it is there."""

    def __init__(self, seed: int, whole: Data, options: argparse.Namespace) -> None:
        data = first(whole, "train", options.images[1])
        self.seed, self.whole, self.data, self.options = seed, whole, data, options
        self.folder = Path(options.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.epochs = dict(zip(EPOCHS, options.epochs, strict=True))
        self.calibration = data.x_train[:CALIBRATION]

    def trained(
        self,
        name: str,
        make: Callable[[], keras.Model],
        *,
        epochs: int,
        recipe: Recipe,
        rate: float | None = None,
        teacher: keras.Model | None = None,
        data: Data | None = None,
    ) -> keras.Model:
        data = data or self.data
        path = self.folder / f"{name}.keras"
        if path.exists():
            return fmc.load_model(path)
        keras.utils.set_random_seed(self.seed)
        model = make()
        print(f"training {name}", flush=True)
        fmc.finetune(
            model,
            data.x_train,
            data.y_train,
            loss=LOSS,
            epochs=epochs,
            teacher=teacher if recipe.teacher else None,
            augment=augmentation() if recipe.augment else None,
            rate=recipe.rate if rate is None else rate,
            ema_momentum=recipe.ema_momentum,
            batch_size=BATCH,
            callbacks=[keras.callbacks.BackupAndRestore(path.with_suffix(".backup"))],
        )
        model.save(path)
        return model

    def base(self) -> keras.Model:
        """The network that all arms of all seeds start from."""

        def make() -> keras.Model:
            if self.options.weights:
                return fmc.load_model(self.options.weights)
            return resnet8_cifar10.resnet8()

        rate = 1e-3 if self.options.weights else 2e-3
        epochs = self.epochs["base"]
        return self.trained(
            "base", make, epochs=epochs, recipe=Recipe(), rate=rate, data=self.whole
        )

    def arm(self, arm: Arm, base: keras.Model) -> dict[str, Any]:
        """Trains an arm and returns its figures."""
        maps = stored_maps(base)
        plan = plan_of(base, arm.specs(maps))
        figures: dict[str, Any] = {
            "map_bytes": sum(spec.size_bytes for spec in plan.bottlenecks),
            "stored_bytes": sum(spec.code_bytes for spec in plan.bottlenecks),
            "added_weights": sum(added_weights(spec) for spec in plan.bottlenecks),
        }
        name = f"{self.seed}-{file_name(arm)}"
        if arm.published:
            model = published(self, name, base, plan)
            return {**figures, **accuracies(model, self.data)}

        def coded() -> keras.Model:
            model = fmc.insert_bottlenecks(
                base,
                plan,
                calibration=self.calibration,
                initializer=arm.recipe.start,
                seed=self.seed,
            ).model
            few = self.data.x_validation[:1000], self.data.y_validation[:1000]
            figures["untrained_validation"] = accuracy(model, *few)
            return model

        options = {"recipe": arm.recipe, "teacher": base}
        epochs = self.epochs["codes"]
        fitted = self.trained(f"{name}-codes", coded, epochs=epochs, **options)
        if arm.name == CONTROL:
            fitted = self.trained(
                f"{name}-longer",
                lambda: fitted,
                epochs=self.epochs["quantised"],
                rate=QUANTISED_RATE,
                **options,
            )
        found = accuracies(fitted, self.data)
        if not arm.quantised:
            return {**figures, **found}
        qat = self.trained(
            f"{name}-quantised",
            lambda: fmc.quantize(fitted, calibration=self.calibration),
            epochs=self.epochs["quantised"],
            rate=QUANTISED_RATE,
            **options,
        )
        figures |= {f"fitted_{split}": value for split, value in found.items()}
        figures |= accuracies(qat, self.data)
        if arm.device:
            device = fmc.device_rounding(qat)
            figures["device_test"] = accuracy(device, self.data.x_test, self.data.y_test)
            few = self.data.x_test[:SAMPLES]
            int8 = fmc.predict(to_int8_tflite(qat), few)
            same = np.isclose(int8, device.predict(few, verbose=0), rtol=0, atol=1e-6)
            figures["device_equal"] = bool(same.all())
        return figures


def published(stages: Stages, name: str, base: keras.Model, plan: CompressionPlan) -> keras.Model:
    """Price & Tanner's way: random P and R, all else frozen, one map after the other, then all.

    Their four epochs for each map and twenty for all become as many parts of the epochs that the
    other arms have; SGD of momentum 0.9 at 0.01, halved where the loss stands still. Their codes
    are float here, too.
    """
    path = stages.folder / f"{name}-codes.keras"
    if path.exists():
        return fmc.load_model(path)
    print(f"training {name}", flush=True)
    keras.utils.set_random_seed(stages.seed)
    x, y = stages.data.x_train, stages.data.y_train
    pieces = np.array_split(np.arange(len(x)), min(9, len(x)))
    count = len(plan.bottlenecks)
    parts = len(pieces) * (stages.epochs["codes"] + stages.epochs["quantised"])
    each = max(1, round(parts * 4 / (4 * count + 20)))
    augment, rng = augmentation(), np.random.default_rng(stages.seed)
    order: list[np.ndarray] = []
    model = base
    for index in range(1, count + 1):
        fresh = fmc.insert_bottlenecks(
            base,
            dataclasses.replace(plan, bottlenecks=plan.bottlenecks[:index]),
            calibration=stages.calibration,
            initializer="random",
            seed=stages.seed + index,
        )
        for done in fresh.inserted[:-1]:
            fresh.model.get_layer(done.layer).set_weights(model.get_layer(done.layer).get_weights())
        model = fmc.freeze_base(fresh.model)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS)
        best, waited = np.inf, 0
        for _ in range(each if index < count else max(1, parts - each * (count - 1))):
            if not order:
                order = np.array_split(rng.permutation(len(x)), len(pieces))
            part = order.pop()
            seen = np.asarray(augment(x[part]))
            loss = model.fit(seen, y[part], batch_size=BATCH, verbose=0).history["loss"][0]
            waited = 0 if loss < best else waited + 1
            best = min(best, loss)
            if waited == 2:
                model.optimizer.learning_rate.assign(model.optimizer.learning_rate / 2)
                waited = 0
    model.save(path)
    return model


def augmentation() -> keras.Sequential:
    """Mirrored, and moved by up to four pixels into zeros."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(
                1 / 8, 1 / 8, fill_mode="constant", interpolation="nearest"
            ),
        ]
    )  # fmt: skip


def stored_maps(model: keras.Model) -> Maps:
    """The maps that are stored between layers, without the images and what is behind pooling."""
    return {item.name: item.shape for item in fmc.profile(model).kept[1:] if item.size_bytes > 1024}


def plan_of(model: keras.Model, specs: list[BottleneckSpec]) -> CompressionPlan:
    return CompressionPlan(
        model=model.name,
        ceiling_bytes=max((spec.code_bytes for spec in specs), default=0),
        bottlenecks=tuple(specs),
        skipped=(),
        head_bytes=0,
        uncompressed_head_bytes=0,
    )


def added_weights(spec: BottleneckSpec) -> int:
    """Of P and R: C·k each for each position of their window."""
    if spec.kind is BottleneckKind.PLAIN:
        return 0
    channels = spec.shape[-1] * (spec.bits if spec.kind is BottleneckKind.GF2 else 1)
    return 2 * spec.kernel_size**2 * channels * spec.rank


def file_name(arm: Arm) -> str:
    text = f"{arm.group} {arm.name}".strip().lower()
    return "".join(c if c.isalnum() else "_" for c in text)


def run(seed: int, arms: Sequence[Arm], data: Data, results: Results, options: Any) -> None:
    stages = Stages(seed, data, options)
    left = [arm for arm in arms if not results.has(arm, seed)]
    if not left:
        return
    base = stages.base()
    if not results.entries:
        results.add(name="base", group=NONE, seed=0, seconds=0.0, **accuracies(base, data))
    for arm in left:
        started = time.perf_counter()
        figures = stages.arm(arm, base)
        seconds = round(time.perf_counter() - started, 1)
        results.add(name=arm.name, group=arm.group, seed=seed, seconds=seconds, **figures)
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
                    "untrained_validation",
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
        if group and arm.codes:
            lost = 100 * float(np.mean([e["fitted_test"] - e["device_test"] for e in group]))
            what = "int8 on the device against the fitted float model"
            found.append((what, f"{arm.group}: {arm.name}", "0.2 or less", lost, lost <= 0.2))
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
    runs = [entry for entry in results.entries if entry["name"] != "base"]
    minutes = sum(entry["seconds"] for entry in runs) / 60
    print(f"\n{len(runs)} runs, {minutes:.0f} minutes")


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


def first(data: Data, split: str, count: int) -> Data:
    """The data with the first images of a split only."""
    names = (f"x_{split}", f"y_{split}")
    return dataclasses.replace(data, **{name: getattr(data, name)[:count] for name in names})


if __name__ == "__main__":
    main()
