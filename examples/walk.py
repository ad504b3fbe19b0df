"""The whole way of a model, as the examples share it: train, squeeze, quantise, plan, compare.

Each step is a call of the public interface and the user's own ``model.fit``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import deploy
import keras_fmc as fmc


@dataclass(frozen=True)
class Data:
    """Images as float32 [N, H, W, C] and integer labels; the test set is used once, at the end."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Epochs:
    """How long each stage trains."""

    float_model: int
    rewritten: int
    quantised: int


@dataclass(frozen=True)
class Outcome:
    """What the table shows."""

    rows: tuple[tuple[str, float], ...]
    before: deploy.Result
    strips: deploy.Result
    after: deploy.Result
    out: Path


def fit(
    model: keras.Model, data: Data, *, epochs: int, rate: float, batch: int, title: str
) -> keras.Model:
    """Trains with Adam and cosine decay and keeps the weights that did best in validation."""
    if epochs == 0:
        return model
    print(f"\n{title}: {epochs} epochs on {len(data.x_train):,} images of {data.name}")
    steps = epochs * -(-len(data.x_train) // batch)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    best = _BestWeights()
    model.fit(
        data.x_train,
        data.y_train,
        validation_data=(data.x_validation, data.y_validation),
        epochs=epochs,
        batch_size=batch,
        callbacks=[best],
    )
    return model


class _BestWeights(keras.callbacks.Callback):
    """Restores the weights of the epoch with the best validation accuracy."""

    def __init__(self) -> None:
        super().__init__()
        self.best = -1.0
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        del epoch
        if logs and logs["val_accuracy"] > self.best:
            self.best, self.weights = logs["val_accuracy"], self.model.get_weights()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        del logs
        self.model.set_weights(self.weights)


def walk(
    build: Callable[[], keras.Model],
    data: Data,
    *,
    ceiling: float | str,
    epochs: Epochs,
    out: str | Path,
    board: str,
    batch: int = 64,
    rate: float = 1e-3,
    float_rate: float = 2e-3,
    resume: bool = False,
) -> Outcome:
    """Takes a Keras model to a planned int8 model and measures every stage on the test set.

    Every trained stage is saved in ``out``; with ``resume`` the stages that are there are loaded.
    """
    out = Path(out)
    calibration = data.x_train[:500]
    rows = []

    def stage(
        name: str, make: Callable[[], keras.Model], *, epochs: int, rate: float
    ) -> keras.Model:
        path = out / f"{name.split()[0]}.keras"
        if resume and path.exists():
            print(f"\n{name}: loaded from {path}")
            model = keras.saving.load_model(path)
        else:
            model = fit(make(), data, epochs=epochs, rate=rate, batch=batch, title=name)
            out.mkdir(parents=True, exist_ok=True)
            model.save(path)
        rows.append((name, accuracy(model, data)))
        return model

    def squeeze() -> keras.Model:
        plan = fmc.choose_bottlenecks(model, ceiling=ceiling)
        print(plan.to_text())
        return fmc.insert_bottlenecks(model, plan, calibration=calibration).model

    model = stage("float", build, epochs=epochs.float_model, rate=float_rate)
    print(fmc.profile(model).to_text())
    small = stage("bottlenecks", squeeze, epochs=epochs.rewritten, rate=rate)
    qat = stage(
        "quantised (QAT)",
        lambda: fmc.quantize(small, calibration=calibration),
        epochs=epochs.quantised,
        rate=rate / 10,
    )
    print("\nPlanning the unchanged model, quantised after training")
    before = deploy.convert(
        model, calibration=calibration, board=board, out=out / "before", progress=True, strips=False
    )
    assert before.content is not None
    strips = deploy.plan(before.content, board=board, out=out / "strips", progress=True)
    print("Planning the model with bottlenecks")
    after = deploy.convert(qat, board=board, out=out / "after", progress=True)
    rows.append(("int8 on the device", int8_accuracy(after, data)))
    return Outcome(tuple(rows), before, strips, after, out)


def accuracy(model: keras.Model, data: Data) -> float:
    """Returns top-1 accuracy on the test set."""
    scores = model.predict(data.x_test, batch_size=256, verbose=0)
    return float(np.mean(np.argmax(scores, -1) == data.y_test))


def int8_accuracy(result: deploy.Result, data: Data) -> float:
    """Returns top-1 accuracy on the test set of the emitted model in LiteRT's kernels."""
    from deploy.runtime import litert

    assert result.content is not None
    port = result.report.inputs[0]
    assert port.scale is not None
    assert port.zero_point is not None
    codes = np.round(data.x_test / port.scale) + port.zero_point
    codes = np.clip(codes, -128, 127).astype(np.int8)
    outputs = litert.run(result.content, [[x[None]] for x in codes])
    return float(np.mean([np.argmax(o[0]) for o in outputs] == data.y_test))


def print_table(outcome: Outcome, data: Data) -> None:
    """Prints what every stage scored and what the arena takes before and after."""
    before, after = outcome.before.report, outcome.after.report
    print(f"\n{data.name}: {len(data.y_test):,} test images")
    print(f"| {'stage':<20} | {'test accuracy':>13} |\n|{'-' * 22}|{'-' * 15}|")
    for stage, value in outcome.rows:
        print(f"| {stage:<20} | {value:>13.2%} |")
    base = before.baseline
    assert base is not None
    print(f"\n{before.board}, {before.runtime}, {before.kernels}")
    print(f"| {'model':<36} | {'arena':>8} | {'head':>8} | {'tail':>8} | {'MACs':>12} |")
    print(f"|{'-' * 38}|{'-' * 10}|{'-' * 10}|{'-' * 10}|{'-' * 14}|")
    for name, r in (
        ("unchanged, TFLM's own plan", base),
        ("unchanged, planned", before),
        ("unchanged, strips and plan", outcome.strips.report),
        ("with bottlenecks, strips and plan", after),
    ):
        print(
            f"| {name:<36} | {r.arena_bytes:>8,} | {r.head_bytes:>8,} | {r.tail_bytes:>8,} "
            f"| {r.macs:>12,} |"
        )
    print(f"\n{after.verified_reason}.")
    print(f"Report: {outcome.out / 'after' / 'report.html'}")
