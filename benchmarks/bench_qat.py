"""Time and accuracy of quantisation-aware training: float, native, tfmot.

    python benchmarks/bench_qat.py [--quick]

Time: the step of the float model, of the float model after folding, and of the QAT model, run in
turns in one process; the median of each and the ratios. A QAT model has no batch normalisation any
more, so it is held against both: against what the user trained before, and against the same graph
without rounding, which is the stricter.

Accuracy: a float model is trained, quantised with each backend, and trained on for the same number
of epochs with the same optimiser, rate and batches; the test accuracy of the QAT model, and of the
int8 model in LiteRT's reference kernels. The backend "tfmot" runs in the environment that has it:
this one, or .venv-tfmot (make .venv-tfmot/.ready), or FMC_TFMOT_PYTHON.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_fmc as fmc

ROOT = Path(__file__).resolve().parent.parent
FASHION = Path("/usr/share/datasets/fashion-mnist")
TFMOT_PYTHON = Path(os.environ.get("FMC_TFMOT_PYTHON", ROOT / ".venv-tfmot" / "bin" / "python"))
SEEDS = (0, 1, 2)
CALIBRATION = 256

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def small_cnn(size: int, channels: int) -> keras.Model:
    """Five convolutions with BN and ReLU, one of them residual."""

    def unit(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = keras.Input((size, size, channels))
    x = unit(inputs, 16)
    x = layers.Add()([x, unit(x, 16)])
    x = unit(unit(unit(x, 32, 2), 32), 64, 2)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="small_cnn")


def small_mobile(size: int, channels: int) -> keras.Model:
    """Inverted residuals: depthwise convolutions, ReLU6, linear projections."""

    def bn(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.BatchNormalization(momentum=0.9)(x)

    def relu6(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU(6.0)(bn(x))

    inputs = keras.Input((size, size, channels))
    x = relu6(layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(inputs))
    for filters, strides in ((16, 1), (24, 2), (24, 1), (32, 1)):
        y = relu6(layers.Conv2D(3 * x.shape[-1], 1, use_bias=False)(x))
        y = relu6(layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(y))
        y = bn(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.GlobalAveragePooling2D()(relu6(layers.Conv2D(64, 1, use_bias=False)(x)))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="small_mobile")


MODELS = {"small_cnn": small_cnn, "small_mobile": small_mobile}


def digits() -> Split:
    """scikit-learn's digits, each pixel made 4×4."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = np.kron(data.images / 16, np.ones((1, 4, 4)))[..., None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], data.target[order].astype(np.int32)
    return x[:1200], y[:1200], x[1200:], y[1200:]


def fashion_mnist(train: int, test: int) -> Split:
    def read(name: str, offset: int) -> np.ndarray:
        (path,) = FASHION.glob(f"{name}*")
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return np.frombuffer(content, np.uint8, offset=offset)

    def images(name: str) -> np.ndarray:
        return read(name, 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255

    return (
        images("train-images")[:train],
        read("train-labels", 8)[:train].astype(np.int32),
        images("t10k-images")[:test],
        read("t10k-labels", 8)[:test].astype(np.int32),
    )


def interleaved_ms(models: dict[str, keras.Model], x: np.ndarray, rounds: int) -> dict[str, float]:
    """Median milliseconds of a training step of each model, one step of each in turn."""
    y = np.zeros(len(x), np.int32)
    times: dict[str, list[float]] = {name: [] for name in models}
    steps = {}
    for name, model in models.items():
        model.compile(
            keras.optimizers.SGD(1e-4, 0.9), "sparse_categorical_crossentropy", jit_compile=False
        )
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
        steps[name] = (model.train_function, batches)
        for _ in range(5):
            model.train_function(batches)
    for _ in range(rounds):
        for name, (function, batches) in steps.items():
            start = time.perf_counter()
            float(next(iter(tf.nest.flatten(function(batches)))))
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(series)) for name, series in times.items()}


def time_table(rounds: int) -> None:
    cases = (
        ("small CNN 32×32, batch 32", small_cnn(32, 3), 32, 1.25),
        (
            "MobileNetV2 0.35 96×96, batch 16",
            keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=10),
            16,
            1.5,
        ),
    )
    print(f"\n| step of training, ms (median of {rounds}) | float | folded | QAT | QAT / float |")
    print("|---|---|---|---|---|")
    for name, model, batch, bar in cases:
        x = np.random.default_rng(0).random((batch, *model.input_shape[1:]), np.float32)
        models = {
            "float": model,
            "folded": fmc.fold(model).model,
            "qat": fmc.quantize(model, calibration=x),
        }
        ms = interleaved_ms(models, x, rounds)
        ratios = f"{ms['qat'] / ms['float']:.2f} (bar {bar}); {ms['qat'] / ms['folded']:.2f} folded"
        print(f"| {name} | {ms['float']:.1f} | {ms['folded']:.1f} | {ms['qat']:.1f} | {ratios} |")


def fit(model: object, data: Split, *, epochs: int, rate: float, seed: int) -> None:
    """The same batches in the same order for any version of Keras."""
    x, y, _, _ = data
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    total = epochs * -(-len(x) // 64)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), 64):
            cosine = 0.5 * rate * (1 + np.cos(np.pi * step / total))
            model.optimizer.learning_rate.assign(cosine)  # type: ignore[attr-defined]
            batch = order[start : start + 64]
            model.train_on_batch(x[batch], y[batch])  # type: ignore[attr-defined]
            step += 1


def accuracy(model: object, data: Split) -> float:
    outputs = model.predict(data[2], batch_size=256, verbose=0)  # type: ignore[attr-defined]
    return float((outputs.argmax(-1) == data[3]).mean())


def int8_accuracy(model: object, data: Split) -> float:
    from deploy import flatbuffer
    from deploy.convert import to_int8_tflite
    from deploy.runtime import litert

    content = to_int8_tflite(model)
    graph = flatbuffer.read(content)
    quantization = graph.tensors[graph.inputs[0]].quantization
    assert quantization is not None
    codes = np.round(data[2] / quantization.scales[0]) + quantization.zero_points[0]
    codes = np.clip(codes, -128, 127).astype(np.int8)
    outputs = litert.run(content, [[sample[None]] for sample in codes])
    return float((np.array([one[0][0].argmax() for one in outputs]) == data[3]).mean())


def quantised_accuracy(
    path: str, backend: str, data: Split, *, epochs: int, rate: float, seed: int
) -> tuple[float, float, float, float]:
    """Accuracy right after quantising, after training, in int8; seconds of training."""
    keras.utils.set_random_seed(seed)
    tf.random.set_seed(seed)
    model = keras.saving.load_model(path, compile=False)
    qat = fmc.quantize(model, calibration=data[0][:CALIBRATION], backend=backend)
    before = accuracy(qat, data)
    start = time.perf_counter()
    fit(qat, data, epochs=epochs, rate=rate, seed=seed)
    seconds = time.perf_counter() - start
    return before, accuracy(qat, data), int8_accuracy(qat, data), seconds


def has_toolkit() -> bool:
    return all(map(importlib.util.find_spec, ("tensorflow_model_optimization", "tf_keras")))


def accuracy_table(name: str, data: Split, *, float_epochs: int, epochs: int, rate: float) -> None:
    print(
        f"\n{name}: {len(data[0]):,} training and {len(data[2]):,} test images, {float_epochs} "
        f"epochs in float, {epochs} quantised at {rate:g}, seeds {', '.join(map(str, SEEDS))}; "
        "test accuracy %, mean of the seeds (each)"
    )
    print("\n| model | backend | float | quantised | after QAT | int8 | s of QAT |")
    print("|---|---|---|---|---|---|---|")
    backends = ["native", "tfmot"] if has_toolkit() or TFMOT_PYTHON.exists() else ["native"]
    differences: list[float] = []
    for kind, build in MODELS.items():
        rows: dict[str, list[tuple[float, ...]]] = {backend: [] for backend in backends}
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model = build(data[0].shape[1], data[0].shape[-1])
            fit(model, data, epochs=float_epochs, rate=3e-3, seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "float.keras")
                model.save(path)
                options = {"epochs": epochs, "rate": rate, "seed": seed}
                for backend in backends:
                    row = _run(path, backend, data, folder, options)
                    rows[backend].append((accuracy(model, data), *row))
        if len(backends) == 2:
            pairs = zip(rows["native"], rows["tfmot"], strict=True)
            differences += [native[2] - tfmot[2] for native, tfmot in pairs]
        for backend, results in rows.items():
            columns = list(zip(*results, strict=True))
            cells = [
                f"{100 * np.mean(column):.2f} ({', '.join(f'{100 * v:.1f}' for v in column)})"
                for column in columns[:4]
            ]
            print(f"| {kind} | {backend} | {' | '.join(cells)} | {np.mean(columns[4]):.1f} |")
    if len(backends) == 2:
        print(f"\nnative less tfmot after QAT: {_difference(differences)}")
    else:
        print("\ntfmot: not installed; make .venv-tfmot/.ready builds an environment for it")


def _difference(values: list[float]) -> str:
    """Mean in points and its standard error, over models and seeds."""
    points = 100 * np.array(values)
    error = points.std(ddof=1) / np.sqrt(len(points))
    return f"{points.mean():+.2f} ± {error:.2f} points (mean and standard error of {len(points)})"


def _run(
    path: str, backend: str, data: Split, folder: str, options: dict[str, float]
) -> tuple[float, ...]:
    if backend == "native" or has_toolkit():
        return quantised_accuracy(path, backend, data, **options)  # type: ignore[arg-type]
    arrays, results = os.path.join(folder, "data.npz"), os.path.join(folder, "result.json")
    np.savez(arrays, *data)
    job = json.dumps({"model": path, "data": arrays, "result": results, **options})
    command = [str(TFMOT_PYTHON), __file__, "--job", job]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tuple(json.loads(Path(results).read_text()))


def _job(text: str) -> None:
    """One run of the backend "tfmot" for another process."""
    job = json.loads(text)
    loaded = np.load(job.pop("data"))
    data = tuple(loaded[name] for name in loaded.files)
    result = Path(job.pop("result"))
    path = job.pop("model")
    result.write_text(json.dumps(quantised_accuracy(path, "tfmot", data, **job)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits only, fewer rounds")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    if arguments.job:
        _job(arguments.job)
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    time_table(10 if arguments.quick else 60)
    accuracy_table("digits 32×32", digits(), float_epochs=6, epochs=2, rate=5e-4)
    if arguments.quick:
        return
    if FASHION.exists():
        data = fashion_mnist(12_000, 5_000)
        accuracy_table("Fashion-MNIST", data, float_epochs=4, epochs=2, rate=5e-4)
    else:
        print(f"\nFashion-MNIST: not here ({FASHION}); apt-get install dataset-fashion-mnist")


if __name__ == "__main__":
    main()
