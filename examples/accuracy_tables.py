"""Accuracy at equal stored bits: fewer bits, fewer channels, or GF(2), on data that is at hand.

    python examples/accuracy_tables.py [--data FOLDER] [--pairs fashion-squeezenet ...] [--table]

For each seed, a float baseline is trained; then each way of storing the compressed maps is put in
with ``insert_bottlenecks`` and trained, quantised with ``quantize`` and trained again, all for the
same epochs, batches and learning rates. In the end all other maps are int8. "Stored bits" are bits
for each value of the uncompressed map: 8 is plain int8, 4 is half the memory. Of the ways at equal
stored bits the best is the one that does best in validation; its test accuracy is what counts. The
validation images are part of the training set (of the reference weights of ResNet-8, too), the
test set is used for nothing else.

Results go to a JSON file after every run, so that the script can be stopped and started again;
``--table`` prints what is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import fashion_mnist
import keras
import numpy as np
import resnet8_cifar10
import tensorflow as tf
from keras import layers
from walk import Data

import keras_fmc as fmc
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan

SEEDS = (0, 1, 2)
BATCH = 64
CALIBRATION = 128
RESULTS = Path(__file__).resolve().with_suffix(".json")


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of storing the compressed maps.

    Attributes:
        stored_bits: for each value of the uncompressed map.
        kind, bits, strides: as of `BottleneckSpec`.
        start: initializer of `insert_bottlenecks`.
    """

    name: str
    stored_bits: int
    kind: BottleneckKind
    bits: int
    strides: int = 1
    start: str = "pca"

    def spec(self, name: str, shape: tuple[int, ...]) -> BottleneckSpec:
        channels = shape[-1] * self.strides**2
        if self.kind is BottleneckKind.PLAIN:
            rank = shape[-1]
        elif self.kind is BottleneckKind.GF2:
            rank = channels * self.stored_bits
        else:
            rank = channels * self.stored_bits // self.bits
        return BottleneckSpec(
            name,
            shape,
            rank,
            self.bits,
            self.kind,
            strides=self.strides,
            kernel_size=self.strides,
        )


PLAIN, PROJECTION, GF2 = BottleneckKind.PLAIN, BottleneckKind.PROJECTION, BottleneckKind.GF2
WAYS = (
    Way("plain QAT, 8 bits", 8, PLAIN, 8),
    Way("plain QAT, 4 bits", 4, PLAIN, 4),
    Way("projection, 1/2 of C, 8 bits", 4, PROJECTION, 8),
    Way("projection, C, 4 bits", 4, PROJECTION, 4),
    Way("projection, C, 4 bits", 4, PROJECTION, 4, start="identity"),
    Way("GF(2) 1×1 of 6 bits", 4, GF2, 6),
    Way("plain QAT, 2 bits", 2, PLAIN, 2),
    Way("projection, 1/2 of C, 4 bits", 2, PROJECTION, 4),
    Way("projection, C, 2 bits", 2, PROJECTION, 2),
    Way("projection, C, 2 bits", 2, PROJECTION, 2, start="identity"),
    Way("GF(2) 1×1 of 4 bits", 2, GF2, 4),
    Way("GF(2) 2×2 stride 2 of 4 bits", 2, GF2, 4, strides=2),
    Way("GF(2) 1×1 of 4 bits", 2, GF2, 4, start="identity"),
    Way("GF(2) 1×1 of 4 bits", 2, GF2, 4, start="random"),
    Way("plain QAT, 6 bits", 6, PLAIN, 6),
    Way("projection, 3/4 of C, 8 bits", 6, PROJECTION, 8),
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A network on a data set.

    Attributes:
        maps: those that are compressed.
        float_epochs, float_rate: of the baseline.
        epochs, rate: of every way of storing, before `quantize`, when batch normalisation and all
            maps but the compressed ones are in float.
        quantised_epochs, quantised_rate: after it, when they are as on the device.
    """

    load: Callable[[argparse.Namespace], Data]
    build: Callable[[argparse.Namespace], keras.Model]
    maps: Callable[[keras.Model], tuple[str, ...]]
    float_epochs: int
    float_rate: float
    epochs: int = 2
    rate: float = 1e-3
    quantised_epochs: int = 1
    quantised_rate: float = 1e-4


def small_squeezenet() -> keras.Model:
    """Five fire modules with batch normalisation, for images of 32×32."""

    def conv(x: keras.KerasTensor, filters: int, size: int, strides: int = 1, name: str = ""):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.ReLU(name=name or None)(layers.BatchNormalization(momentum=0.9)(x))

    def fire(x: keras.KerasTensor, squeezed: int, name: str):
        x = conv(x, squeezed, 1, name=f"{name}_squeeze")
        wide = [conv(x, 2 * squeezed, 1), conv(x, 2 * squeezed, 3)]
        return layers.Concatenate()(wide)

    inputs = layers.Input((32, 32, 1))
    x = conv(inputs, 32, 3, 2)
    x = fire(fire(x, 16, "fire2"), 16, "fire3")
    x = layers.MaxPooling2D(2)(x)
    x = fire(fire(x, 24, "fire4"), 24, "fire5")
    x = layers.MaxPooling2D(2)(x)
    x = fire(x, 32, "fire6")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="small_squeezenet")


def resnet8(options: argparse.Namespace) -> keras.Model:
    if options.weights:
        return fmc.load_model(options.weights)
    return resnet8_cifar10.resnet8()


def largest_maps(model: keras.Model) -> tuple[str, ...]:
    """Maps behind a ReLU that are above half of the largest one."""
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, kind="plain", bits=4)
    return tuple(spec.name for spec in plan.bottlenecks if not spec.signed)


PAIRS = {
    "fashion-squeezenet": Pair(
        lambda options: fashion_mnist.load(options.fashion, train_images=8_000),
        lambda options: small_squeezenet(),
        lambda model: ("fire2_squeeze", "fire3_squeeze"),
        float_epochs=8,
        float_rate=3e-3,
    ),
    "cifar10-resnet8": Pair(
        lambda options: resnet8_cifar10.load(options.cifar10, train_images=8_000),
        resnet8,
        largest_maps,
        float_epochs=2,
        float_rate=1e-3,
    ),
}


def train(model: keras.Model, data: Data, *, epochs: int, rate: float, seed: int) -> None:
    """Adam with cosine decay; the order of the images is that of the seed."""
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(data.x_train) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(data.x_train, data.y_train, epochs=epochs, batch_size=BATCH, verbose=0)


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    return float((model.predict(x, batch_size=500, verbose=0).argmax(-1) == y).mean())


def accuracies(model: keras.Model, data: Data) -> dict[str, float]:
    return {
        "validation": accuracy(model, data.x_validation, data.y_validation),
        "test": accuracy(model, data.x_test, data.y_test),
    }


def compressed(model: keras.Model, way: Way, names: tuple[str, ...], data: Data, seed: int):
    """Returns the model with codes, and bytes of the compressed maps before and after."""
    shapes = {item.name: item.shape for item in fmc.profile(model).kept}
    map_bytes = sum(math.prod(shapes[name]) for name in names)
    # QAT has plain codes of 8 bits everywhere.
    as_it_is = way.kind is PLAIN and way.bits == 8
    specs = () if as_it_is else tuple(way.spec(name, shapes[name]) for name in names)
    plan = CompressionPlan(
        model=model.name,
        ceiling_bytes=map_bytes,
        bottlenecks=specs,
        skipped=(),
        head_bytes=0,
        uncompressed_head_bytes=0,
    )
    rewritten = fmc.insert_bottlenecks(
        model, plan, calibration=data.x_train[:CALIBRATION], initializer=way.start, seed=seed
    )
    code_bytes = map_bytes if as_it_is else sum(spec.code_bytes for spec in specs)
    return rewritten.model, map_bytes, code_bytes


def baseline(pair_name: str, pair: Pair, data: Data, seed: int, options) -> keras.Model:
    """The float model of a seed, trained once."""
    path = Path(options.out) / f"{pair_name}-{seed}.keras"
    if path.exists():
        return fmc.load_model(path)
    keras.utils.set_random_seed(seed)
    model = pair.build(options)
    train(model, data, epochs=pair.float_epochs, rate=pair.float_rate, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def run(
    pair_name: str,
    seed: int,
    ways: tuple[Way, ...],
    results: list[dict],
    options: argparse.Namespace,
) -> None:
    done = {(r["pair"], r["way"], r["stored_bits"], r["start"], r["seed"]) for r in results}
    wanted = {(pair_name, way.name, way.stored_bits, way.start, seed) for way in ways}
    if wanted <= done:
        return

    def keep(**entry: object) -> None:
        results.append(entry)
        Path(options.results).write_text(json.dumps(results, indent=1) + "\n")
        print(entry, flush=True)

    pair = PAIRS[pair_name]
    data = pair.load(options)
    about = {
        "pair": pair_name,
        "data": data.name,
        "train_images": len(data.x_train),
        "float_epochs": pair.float_epochs,
        "epochs": [pair.epochs, pair.quantised_epochs],
        "seed": seed,
    }
    started = time.perf_counter()
    model = baseline(pair_name, pair, data, seed, options)
    if (pair_name, "float", 32, "", seed) not in done:
        entry = {**about, "way": "float", "stored_bits": 32, "start": "", **accuracies(model, data)}
        keep(**entry, seconds=round(time.perf_counter() - started, 1))
    names = pair.maps(model)
    for way in ways:
        if (pair_name, way.name, way.stored_bits, way.start, seed) in done:
            continue
        started = time.perf_counter()
        coded, before, after = compressed(model, way, names, data, seed)
        untrained = accuracy(coded, data.x_validation[:1000], data.y_validation[:1000])
        train(coded, data, epochs=pair.epochs, rate=pair.rate, seed=seed)
        qat = fmc.quantize(coded, calibration=data.x_train[:CALIBRATION])
        train(qat, data, epochs=pair.quantised_epochs, rate=pair.quantised_rate, seed=seed)
        keep(
            **about,
            way=way.name,
            stored_bits=way.stored_bits,
            start=way.start,
            **accuracies(qat, data),
            untrained_validation=untrained,
            map_bytes=before,
            stored_bytes=after,
            seconds=round(time.perf_counter() - started, 1),
        )


def grouped(results: list[dict]) -> Iterator[tuple[dict, list[dict]]]:
    """(first entry, entries of all seeds), in the order of `WAYS`."""
    order = {(w.name, w.stored_bits, w.start): i for i, w in enumerate(WAYS)}
    groups: dict[tuple, list[dict]] = {}
    for entry in results:
        groups.setdefault((entry["way"], entry["stored_bits"], entry["start"]), []).append(entry)
    for key in sorted(groups, key=lambda k: (-k[1], order.get(k, -1))):
        yield groups[key][0], groups[key]


def percent(entries: list[dict], key: str) -> str:
    values = 100 * np.array([entry[key] for entry in entries])
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


def print_table(results: list[dict]) -> None:
    for name in sorted({entry["pair"] for entry in results}):
        entries = [entry for entry in results if entry["pair"] == name]
        first = entries[0]
        print(
            f"\n{name} ({first['data']}): {first['train_images']:,} training images, float "
            f"{first['float_epochs']} epochs, then for each way {first['epochs'][0]} epochs with "
            f"codes and {first['epochs'][1]} of QAT; accuracy %, mean ± standard deviation over "
            f"seeds\n"
        )
        print("| bits a value | maps stored as | start | bytes | validation | test | seeds |")
        print("|---|---|---|---|---|---|---|")
        for head, group in grouped(entries):
            stored = f"{head['stored_bytes']:,}" if "stored_bytes" in head else ""
            start = "" if "plain" in head["way"] else head["start"]
            print(
                f"| {head['stored_bits']} | {head['way']} | {start} | {stored} | "
                f"{percent(group, 'validation')} | {percent(group, 'test')} | {len(group)} |"
            )
        print_verdicts(entries)
    minutes = sum(entry["seconds"] for entry in results) / 60
    print(
        f"\n{len(results)} runs, {minutes:.0f} minutes on {platform.machine()}, "
        f"{os.cpu_count()} cores"
    )


def print_verdicts(entries: list[dict]) -> None:
    """Whether the best bottleneck, chosen in validation, beats plain QAT at the same bits."""
    print()
    for bits in (6, 4, 2):
        groups = [group for head, group in grouped(entries) if head["stored_bits"] == bits]
        plain = [group for group in groups if "plain" in group[0]["way"]]
        others = [group for group in groups if "plain" not in group[0]["way"]]
        if not plain or not others:
            continue
        best = max(others, key=lambda group: np.mean([entry["validation"] for entry in group]))
        gain = 100 * (
            np.mean([entry["test"] for entry in best])
            - np.mean([entry["test"] for entry in plain[0]])
        )
        word = "beats" if gain > 0 else "does not beat"
        print(
            f"{bits} bits: {best[0]['way']} ({best[0]['start']} start) {word} plain QAT, by "
            f"{gain:+.2f} points of test accuracy"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--fashion", help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--cifar10", help="cifar10_jpeg.npz; default: Keras' loader")
    parser.add_argument("--weights", help="pretrainedResnet.h5 of MLPerf Tiny")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default="out/accuracy", help="of the float baselines")
    parser.add_argument("--results", default=str(RESULTS))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    path = Path(options.results)
    results = json.loads(path.read_text()) if path.exists() else []
    if not options.table:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        # GF(2) takes by far the longest.
        gf2 = tuple(way for way in WAYS if way.kind is GF2)
        others = tuple(way for way in WAYS if way.kind is not GF2)
        seeds = SEEDS[: options.seeds]
        for ways, seed, name in itertools.product((others, gf2), seeds, options.pairs):
            run(name, seed, ways, results, options)
    print_table(results)


if __name__ == "__main__":
    main()
