"""The trainings behind ResNet-8's tables: an arm from its float network to its figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import resnet8_cifar10
from accuracy_tables import accuracies, accuracy
from keras import layers
from resnet8_arms import CONTROL, Arm, Maps, Recipe
from walk import Data

import keras_fmc as fmc
from deploy.convert import to_int8_tflite
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan

BATCH = 64
CALIBRATION = 256
SAMPLES = 64
"""Of the test set, on which the converted model is compared with its rounding in Keras."""
EPOCHS = {"base": 4, "codes": 2, "quantised": 1}
QUANTISED_RATE = 3e-4
PUBLISHED_RATES = (0.01, 0.003, 0.001)
LOSS = "sparse_categorical_crossentropy"


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
        started = time.perf_counter()
        keras.utils.set_random_seed(self.seed)
        model = make()
        print(f"training {name}", flush=True)
        few = data.x_validation[:1000], data.y_validation[:1000]
        notes = {"start_validation": accuracy(model, *few)}
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
        self.keep(name, model, started, **notes)
        return model

    def keep(self, name: str, model: keras.Model, started: float, **notes: float) -> None:
        """Saves a model, and beside it what it took (since it was taken up again, if it was)."""
        notes["seconds"] = round(time.perf_counter() - started, 1)
        (self.folder / f"{name}.json").write_text(json.dumps(notes) + "\n")
        model.save(self.folder / f"{name}.keras")

    def noted(self, *names: str) -> dict[str, float]:
        """Seconds of all stages of these names, and the accuracy at the start of the first."""
        paths = [self.folder / f"{name}.json" for name in names]
        notes = [json.loads(path.read_text()) for path in paths if path.exists()]
        found = {"seconds": sum(note["seconds"] for note in notes)}
        starts = [note["start_validation"] for note in notes if "start_validation" in note]
        return {**found, **({"start_validation": starts[0]} if starts else {})}

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
        # Arms without codes have their first stage in common.
        first = f"{name}-codes" if arm.codes else f"{self.seed}-float"
        stages = [first, f"{name}-quantised"]
        if arm.published:
            model = published(self, first, base, plan)
            return {**figures, **self.noted(first), **accuracies(model, self.data)}

        def coded() -> keras.Model:
            return fmc.insert_bottlenecks(
                base,
                plan,
                calibration=self.calibration,
                initializer=arm.recipe.start,
                seed=self.seed,
            ).model

        options = {"recipe": arm.recipe, "teacher": base}
        fitted = self.trained(first, coded, epochs=self.epochs["codes"], **options)
        if arm.name == CONTROL:
            stages[1] = f"{self.seed}-float-longer"
            fitted = self.trained(
                stages[1],
                lambda: fitted,
                epochs=self.epochs["quantised"],
                rate=QUANTISED_RATE,
                **options,
            )
        found = accuracies(fitted, self.data)
        if not arm.quantised:
            return {**figures, **self.noted(*stages), **found}
        qat = self.trained(
            stages[1],
            lambda: fmc.quantize(fitted, calibration=self.calibration),
            epochs=self.epochs["quantised"],
            rate=QUANTISED_RATE,
            **options,
        )
        figures |= {f"fitted_{split}": value for split, value in found.items()}
        figures |= {**self.noted(*stages), **accuracies(qat, self.data)}
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
    other arms have; SGD of momentum 0.9 at their 0.01, halved where the loss stands still. From
    a random start that rate may lead nowhere, so lower ones are tried as well, each as long, and
    the best in validation counts. Their codes are float here, too.
    """
    path = stages.folder / f"{name}.keras"
    if path.exists():
        return fmc.load_model(path)
    started = time.perf_counter()
    print(f"training {name}", flush=True)
    found = [_published_at(rate, stages, base, plan) for rate in PUBLISHED_RATES]
    model = max(found, key=lambda m: accuracies(m, stages.data)["validation"])
    stages.keep(name, model, started)
    return model


def _published_at(
    rate: float, stages: Stages, base: keras.Model, plan: CompressionPlan
) -> keras.Model:
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
        trained = {layer.name: layer.get_weights() for layer in model.layers}
        for done in fresh.inserted:
            if done.layer in trained:
                fresh.model.get_layer(done.layer).set_weights(trained[done.layer])
        model = fmc.freeze_base(fresh.model)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS)
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


def first(data: Data, split: str, count: int) -> Data:
    """The data with the first images of a split only."""
    names = (f"x_{split}", f"y_{split}")
    return dataclasses.replace(data, **{name: getattr(data, name)[:count] for name in names})
