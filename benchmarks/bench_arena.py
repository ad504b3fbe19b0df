"""What strips do for arena, head and time; `make bench-arena`.

Every planned model runs in the tflite_micro wheel before its line is printed: at exactly the
predicted arena, and not 16 bytes below it, with the outputs of the model without strips. Where a
figure of the aims is missed, the bound of the plan that was found stands beside it: no placement
of these strips needs less, so only other strips could.
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

import numpy as np

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from benchmarks.random_models import mobilenet_v2, squeezenet  # noqa: E402
from deploy.backends.tflm.arena import predict_arena  # noqa: E402
from deploy.backends.tflm.embed import embed  # noqa: E402
from deploy.backends.tflm.strips import StripChoice, choose_strips  # noqa: E402
from deploy.flatbuffer import read_file, write  # noqa: E402
from deploy.graph import Graph  # noqa: E402
from deploy.passes import Context, run_passes  # noqa: E402
from deploy.runtime import tflm  # noqa: E402
from deploy.targets import target  # noqa: E402
from keras_fmc.errors import VerificationError  # noqa: E402

_WHEEL, _M4 = target(board="host"), target(board="nano33ble")
_ROOMY = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Model:
    """A model and what is aimed for, in bytes; None where the figure is only reported."""

    name: str
    graph: Callable[[Path], Graph]
    head: int | None = None
    wheel: int | None = None
    m4: int | None = None
    small: bool = True


def _file(stem: str) -> Callable[[Path], Graph]:
    return lambda folder: read_file(folder / f"{stem}.tflite")


_INPUT_227, _INPUT_224 = 227 * 227 * 3, 224 * 224 * 3

MODELS = (
    Model("ResNet-8", _file("pretrainedResnet_quant"), 16_384, 40_000, 32_000),
    Model("VWW", _file("vww_96_int8"), 34_816, 80_000, 66_000),
    Model("KWS", _file("kws_ref_model"), 9_600, 24_272),
    Model(
        "MobileNetV2 0.35, 144x144",
        lambda folder: mobilenet_v2(width=0.35, size=144),
        80_000,
        small=False,
    ),
    Model(
        "SqueezeNet 1.1, 227x227", lambda folder: squeezenet(), _INPUT_227 * 13 // 10, small=False
    ),
    Model(
        "MobileNetV2 1.0, 224x224",
        lambda folder: mobilenet_v2(width=1.0, size=224),
        _INPUT_224 * 13 // 10,
        small=False,
    ),
)


def checked(graph: Graph, choice: StripChoice) -> tuple[bytes, int]:
    """The planned model and the arena it needs in the wheel, both as they really ran."""
    content = write(embed(choice.graph, choice.memory.offsets))
    predicted = predict_arena(
        choice.graph, offsets=choice.memory.offsets, target=_WHEEL
    ).arena_bytes
    samples = tflm.random_inputs(write(graph))
    whole = tflm.run(write(graph), samples, arena_bytes=_ROOMY)
    strips = tflm.run(content, samples, arena_bytes=predicted)
    if not all(
        np.array_equal(a, b)
        for before, after in zip(whole, strips, strict=True)
        for a, b in zip(before, after, strict=True)
    ):
        raise VerificationError("an output byte differs with strips")
    smallest = tflm.smallest_arena(content)
    if smallest != predicted:
        raise VerificationError(
            "the model needs another arena than predicted", expected=predicted, received=smallest
        )
    return content, predicted


def time_ratio(graph: Graph, content: bytes, *, repeats: int) -> float:
    """Time of one inference with strips by that without: the best of several, by turns."""
    from tflite_micro.python.tflite_micro import runtime

    sample = tflm.random_inputs(write(graph), samples=1)[0]
    models = []
    for model in (write(graph), content):
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=_ROOMY)
        for position, values in enumerate(sample):
            interpreter.set_input(values, position)
        models.append(interpreter)
    best = [float("inf"), float("inf")]
    for _ in range(repeats):
        for number, interpreter in enumerate(models):
            begin = time.perf_counter()
            interpreter.invoke()
            best[number] = min(best[number], time.perf_counter() - begin)
    return best[1] / best[0]


def against(value: int, aim: int | None, bound: int) -> str:
    """A figure, its aim, and where it is missed what the strips found cannot go below."""
    if aim is None:
        return f"{value:,}"
    if value <= aim:
        return f"{value:,} (aim {aim:,}: reached)"
    return f"{value:,} (aim {aim:,}: missed; bound {bound:,})"


def measure(model: Model, folder: Path) -> str:
    graph = model.graph(folder)
    plain = predict_arena(graph, offsets=None, target=_WHEEL)
    graph = run_passes(graph, Context(_WHEEL.kernels))
    begin = time.perf_counter()
    arena = choose_strips(graph, target=_WHEEL)
    seconds = time.perf_counter() - begin
    content, wheel = checked(graph, arena)
    m4 = choose_strips(graph, target=_M4)
    checked(graph, m4)
    head = choose_strips(graph, target=_WHEEL, minimise="head")
    checked(graph, head)
    ratio = time_ratio(graph, content, repeats=7 if model.small else 2)
    cells = (
        model.name,
        f"{plain.head_bytes:,} / {plain.arena_bytes:,}",
        against(head.memory.head_bytes, model.head, head.memory.lower_bound_bytes),
        f"{head.macs_ratio:.3f}",
        against(wheel, model.wheel, arena.memory.lower_bound_bytes + arena.arena.tail_bytes),
        f"{arena.macs_ratio:.3f}",
        against(m4.arena.arena_bytes, model.m4, m4.memory.lower_bound_bytes + m4.arena.tail_bytes),
        f"{m4.macs_ratio:.3f}",
        f"{len(graph.operators)} / {len(arena.graph.operators)}",
        f"{ratio:.2f}",
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = _ROOT.parent / "shared" / "models" / "mlperf_tiny"
    parser.add_argument("--models", type=Path, default=default, help="folder of the .tflite files")
    parser.add_argument("--only", default="", help="part of a model's name")
    parser.add_argument("--small", action="store_true", help="leave out the large models")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"tflite_micro {tflm.version()}. Bytes; MACs as a multiple of the model's.\n"
    )
    columns = (
        "model",
        "TFLM: head / arena in the wheel",
        "head, --minimise=head",
        "MACs",
        "arena in the wheel",
        "MACs",
        f"arena predicted, {_M4.board.core}",
        "MACs",
        "operators: before / with strips",
        "time with strips / without",
        "seconds to plan",
    )
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for model in MODELS:
        if arguments.only.lower() in model.name.lower() and (model.small or not arguments.small):
            print(measure(model, arguments.models), flush=True)


if __name__ == "__main__":
    main()
