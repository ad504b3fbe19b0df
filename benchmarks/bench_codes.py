"""What codes cost in time: packed and in strips against the int8 model; `make bench-codes`.

For each model, with one map between wide ones that is read again later:

* the int8 model that does not know of its codes, planned in strips,
* the same model with the map stored packed, planned in strips,

each in an arena of exactly the size planned, outputs equal byte for byte. Time is the best of
several inferences in the tflite_micro wheel (reference kernels on this computer), by turns, and
the ratio is to the int8 model as it comes from the converter, in the same run. Weights are random.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

import keras_fmc as fmc  # noqa: E402
from deploy import flatbuffer  # noqa: E402
from deploy.backends.tflm.arena import predict_arena  # noqa: E402
from deploy.backends.tflm.codes.lower import lower_codes  # noqa: E402
from deploy.backends.tflm.codes.momentary import momentary_maps  # noqa: E402
from deploy.backends.tflm.embed import embed  # noqa: E402
from deploy.backends.tflm.strips import choose_strips  # noqa: E402
from deploy.convert import to_int8_tflite  # noqa: E402
from deploy.graph import Graph  # noqa: E402
from deploy.macs import graph_macs  # noqa: E402
from deploy.memory.plan import MemoryPlan  # noqa: E402
from deploy.outcome import ArenaPrediction  # noqa: E402
from deploy.passes import Context, run_passes  # noqa: E402
from deploy.passes.short_names import shorten_names  # noqa: E402
from deploy.report.charge import stored_codes  # noqa: E402
from deploy.report.occupancy import boxes  # noqa: E402
from deploy.report.report import report_pieces, report_tensors  # noqa: E402
from deploy.runtime import tflm  # noqa: E402
from deploy.targets import target  # noqa: E402
from keras_fmc.errors import VerificationError  # noqa: E402
from keras_fmc.layers.code_quantizer import CodeQuantizer  # noqa: E402
from keras_fmc.layers.gf2 import GF2Bottleneck  # noqa: E402

_WHEEL = target(board="host")
_ROOMY = 16 * 2**20


def _inverted(x: Any, wide: int, filters: int, stride: int) -> Any:
    x = layers.Conv2D(wide, 1, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, stride, padding="same", activation="relu")(x)
    return layers.Conv2D(filters, 1)(x)


def network(size: int, channels: int, code: keras.layers.Layer) -> keras.Model:
    """A small MobileNetV2 whose first projection is stored as a code and skips a block."""
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = code(layers.Conv2D(channels, 1, activation="relu")(x))
    y = _inverted(x, 2 * channels, channels, 1)
    x = layers.Add()([x, y])
    for filters in (32, 48):
        x = _inverted(x, 3 * filters, filters, 2)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x))


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    size: int
    channels: int
    code: Callable[[], keras.layers.Layer]


CASES = (
    Case("4 bits", 48, 32, lambda: CodeQuantizer(4, form="unsigned", momentum=0.9)),
    Case("2 bits", 48, 32, lambda: CodeQuantizer(2, form="unsigned", momentum=0.9)),
    Case(
        "GF(2) 2×2 stride 2, 4 bits",
        48,
        16,
        lambda: GF2Bottleneck(64, bits=4, kernel_size=2, strides=2, momentum=0.9),
    ),
)


@dataclass(frozen=True, slots=True)
class Planned:
    graph: Graph
    memory: MemoryPlan
    arena: ArenaPrediction

    @property
    def content(self) -> bytes:
        return flatbuffer.write(embed(self.graph, self.memory.offsets))


def int8_graph(case: Case) -> Graph:
    keras.utils.set_random_seed(0)
    model = network(case.size, case.channels, case.code())
    images = np.random.default_rng(0).uniform(-1, 1, (8, case.size, case.size, 3))
    images = images.astype(np.float32)
    model(images, training=True)
    content = to_int8_tflite(fmc.quantize(model, calibration=images))
    return run_passes(shorten_names(flatbuffer.read(content)), Context(_WHEEL.kernels))


def in_strips(graph: Graph, limit: float, never_whole: frozenset[str] = frozenset()) -> Planned:
    choice = choose_strips(graph, target=_WHEEL, max_macs=limit, never_whole=never_whole)
    if choice.holds_whole:
        raise VerificationError("no plan was found that unpacks strip by strip")
    return Planned(choice.graph, choice.memory, choice.arena)


def best_times(
    models: list[tuple[bytes, int]], sample: list[np.ndarray], *, repeats: int
) -> list[float]:
    """Seconds of the fastest inference of each model, by turns; outputs must be equal."""
    from tflite_micro.python.tflite_micro import runtime

    interpreters = []
    for content, arena_bytes in models:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena_bytes)
        for position, values in enumerate(sample):
            interpreter.set_input(values, position)
        interpreters.append(interpreter)
    best = [float("inf")] * len(models)
    for _ in range(repeats):
        for number, interpreter in enumerate(interpreters):
            for position, values in enumerate(sample):
                # Plans may overwrite their inputs.
                interpreter.set_input(values, position)
            begin = time.perf_counter()
            interpreter.invoke()
            best[number] = min(best[number], time.perf_counter() - begin)
    outputs = [interpreter.get_output(0) for interpreter in interpreters]
    if not all(np.array_equal(outputs[0], other) for other in outputs[1:]):
        raise VerificationError("an output byte differs between the ways of storing a map")
    return best


def measure(case: Case, repeats: int) -> list[str]:
    graph = int8_graph(case)
    plain = in_strips(graph, 1.10)
    lowered = lower_codes(graph, shared=False)
    packed_graph = run_passes(lowered.graph, Context(_WHEEL.kernels))
    limit = max(1.10 * graph_macs(graph) / graph_macs(packed_graph), 1.0)
    packed = in_strips(packed_graph, limit, momentary_maps(packed_graph, lowered.stored))
    whole = flatbuffer.write(graph)
    unplanned = predict_arena(graph, offsets=None, target=_WHEEL)
    sample = tflm.random_inputs(whole, samples=1)[0]
    models = [(whole, unplanned.arena_bytes)]
    models += [(p.content, p.arena.arena_bytes) for p in (plain, packed)]
    times = best_times(models, sample, repeats=repeats)
    tensors, pieces = report_tensors(packed.memory), report_pieces(packed.memory.pieces)
    codes = stored_codes(packed.graph, lowered.stored, boxes(tensors, pieces), _WHEEL)
    (code,) = codes
    smallest = min(plain.arena.arena_bytes, packed.arena.arena_bytes)
    rows = (
        ("int8 as converted", graph, unplanned, "", "", ""),
        ("int8 in strips", plain.graph, plain.arena, "", "", ""),
        (
            "packed, in strips",
            packed.graph,
            packed.arena,
            f"{code.p_macs:,} / {code.pack_macs:,} / {code.unpack_macs:,} / {code.r_macs:,}",
            f"{code.table_bytes:,}",
            f"{code.operators} ({code.tail_bytes:,})",
        ),
    )
    lines = []
    for (way, built, arena, charged, tables, added), seconds in zip(rows, times, strict=True):
        stored = code.unpacked_bytes if "packed" not in way else code.packed_bytes
        cells = (
            case.name,
            way + (" (the smallest arena)" if arena.arena_bytes == smallest else ""),
            f"{stored:,}",
            f"{arena.head_bytes:,}",
            f"{arena.tail_bytes:,}",
            f"{arena.arena_bytes:,}",
            str(len(built.operators)),
            f"{graph_macs(built) / graph_macs(graph):.3f}",
            charged,
            tables,
            added,
            f"{seconds * 1000:.2f}",
            f"{seconds / times[0]:.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--repeats", type=int, default=15, help="inferences of each model")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"tflite_micro {tflm.version()}. Bytes in the wheel; MACs as a multiple of the model's.\n"
    )
    columns = (
        *("code", "map stored", "bytes of the map", "head", "tail", "arena", "operators", "MACs"),
        *("MACs of P / pack / unpack / R", "tables", "operators added (tail)", "ms", "time"),
    )
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for case in CASES:
        if options.only.lower() in case.name.lower():
            print("\n".join(measure(case, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
