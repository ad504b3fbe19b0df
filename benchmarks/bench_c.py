"""What generated C needs on a Cortex-M4, compiled and emulated; `make bench-c`.

Static RAM is what arm-none-eabi-size says of the generated code and its kernels, and the report's
own figure has to equal it. Outputs are compared with the tflite_micro wheel before a line is
printed. The stack is painted and looked at; instructions are those of QEMU's -icount. Beside them
stands what the same kernels take where every map stands whole, and below what codes cost, and what
CMSIS-NN takes where FMC_CMSIS_NN names a copy of it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
for folder in (_ROOT / "tests", _ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from benchmarks.random_models import mobilenet_v2, squeezenet  # noqa: E402
from deploy.backends.c.assign import assign  # noqa: E402
from deploy.backends.c.build import GeneratedModel, generate, generated, lay_out  # noqa: E402
from deploy.backends.c.layout import place_region  # noqa: E402
from deploy.backends.c.library import KernelLibrary  # noqa: E402
from deploy.backends.c.lowering import lower  # noqa: E402
from deploy.backends.c.packing import candidates, with_packed  # noqa: E402
from deploy.backends.c.rows_again import inner_macs  # noqa: E402
from deploy.backends.c.schedule import ScheduleFacts, play  # noqa: E402
from deploy.backends.c.search import BestProgram  # noqa: E402
from deploy.flatbuffer import read_file, write  # noqa: E402
from deploy.graph import Activation, Graph  # noqa: E402
from deploy.macs import graph_macs  # noqa: E402
from deploy.passes import run_passes  # noqa: E402
from deploy.runtime import tflm  # noqa: E402
from deploy.targets import kernels  # noqa: E402
from keras_fmc.errors import FmcError, VerificationError  # noqa: E402
from tests import cmsis_nn_library, emulator  # noqa: E402
from tests.code_graphs import bit_planes, code_map, weighed_planes  # noqa: E402
from tests.int8_graphs import Int8GraphMaker  # noqa: E402

_ROOMY = 64 * 2**20
_TINY = ("VWW", "ResNet-8", "KWS", "AD")
"""Run with CMSIS-NN, too."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model and the most static RAM that is aimed for, in bytes."""

    name: str
    graph: Callable[[Path], Graph]
    whole: int
    fed: int | None
    core: emulator.Core = emulator.M4


def _file(stem: str) -> Callable[[Path], Graph]:
    return lambda folder: read_file(folder / f"{stem}.tflite")


MODELS = (
    Model("VWW", _file("vww_96_int8"), 28_200, 14_700),
    Model("ResNet-8", _file("pretrainedResnet_quant"), 16_400, 15_300),
    Model("KWS", _file("kws_ref_model"), 9_000, 9_000),
    Model("AD", _file("ad01_int8"), 800, None),
    Model(
        "MobileNetV2 0.35, 144x144", lambda _: mobilenet_v2(width=0.35, size=144), 67_000, 29_200
    ),
    Model("SqueezeNet 1.1, 227x227", lambda _: squeezenet(), 176_400, 86_500),
    Model(
        "MobileNetV2 1.0, 224x224", lambda _: mobilenet_v2(width=1.0, size=224), 189_200, 131_200
    ),
)


def ran_on(
    core: emulator.Core, graph: Graph, made: GeneratedModel, library: tuple[str, ...] = ()
) -> emulator.Ran:
    """Runs a model on a core; its outputs have to be TFLM's."""
    samples = tflm.random_inputs(write(graph), samples=1)
    wanted = tflm.run(write(graph), samples, arena_bytes=_ROOMY, isolated=True)
    with tempfile.TemporaryDirectory() as scratch:
        ran = emulator.run_on(core, made, samples, wanted, Path(scratch), library=library)
    if ran.equal != 1 or ran.static_bytes != made.static_bytes:
        raise VerificationError("outputs or static memory differ", received=ran)
    return ran


def without_line_buffers(graph: Graph) -> GeneratedModel:
    """The same kernels, each on whole maps, one operator after the other."""
    program = lower(graph)
    cuts = ScheduleFacts.of(program)
    regions = []
    for step in range(len(program.steps)):
        schedule = play(cuts, step, step + 1, fed=None, backwards=False)
        placed = place_region(program, schedule)
        assert placed is not None
        regions.append(placed)
    height = max(region.height_bytes for region in regions)
    layout = assign(program, BestProgram(tuple(regions), height, 0), fed=None)
    return generated(graph, graph, layout, model_name="model")


def measure(model: Model, folder: Path, *, fed: bool, whole: int | None) -> tuple[str, int]:
    """A line of the table, and the instructions without line buffers, which ``whole`` may tell."""
    graph = run_passes(model.graph(folder))
    aim = model.fed if fed else model.whole
    way = "fed" if fed else "in RAM"
    begin = time.process_time()
    try:
        made = generate(graph, model_name="model", fed=fed)
    except FmcError as error:
        return f"| {model.name} | {way} | - | - | - | - | - | - | - | - | {error.received} |", 0
    seconds = time.process_time() - begin
    ran = ran_on(model.core, graph, made)
    whole = whole or ran_on(model.core, graph, without_line_buffers(graph)).instructions
    reached = (
        "" if aim is None else f"{aim:,} ({'reached' if ran.static_bytes <= aim else 'missed'})"
    )
    bound = made.static_bytes - made.layout.arena_bytes + made.layout.lower_bound_bytes
    line = (
        f"| {model.name} | {way} | {ran.static_bytes:,} | {reached} | {bound:,} "
        f"| {ran.stack_bytes:,} | {ran.instructions / 1e6:,.2f} M "
        f"| {ran.instructions / whole:.3f}x | {ran.code_bytes:,} "
        f"| {made.constant_bytes:,} | {seconds:.1f} s |"
    )
    return line, whole


def rows_again(folder: Path, models: Sequence[str], *, limit: float = 1.10) -> None:
    """Prints what rows that are made more than once save within ``limit``; outputs are compared."""
    print(f"\n| model | image | every row once | --max-macs={limit:.2f} | MACs | instructions |")
    print("|---|---|---|---|---|---|")
    for model in MODELS:
        if models and not any(m in model.name for m in models):
            continue
        graph = run_passes(model.graph(folder))
        for fed in (False, True) if model.fed is not None else (False,):
            once = generate(graph, model_name="model", fed=fed).static_bytes
            made = generate(graph, model_name="model", fed=fed, max_macs=limit)
            if not made.made_again:
                print(f"| {model.name} | {'fed' if fed else 'in RAM'} | {once:,} | the same | | |")
                continue
            ran = ran_on(model.core, graph, made)
            macs = graph_macs(made.source) + inner_macs(made.graph, made.layout.program)
            print(
                f"| {model.name} | {'fed' if fed else 'in RAM'} | {once:,} | {ran.static_bytes:,} "
                f"| {macs / graph_macs(graph):.3f}x | {ran.instructions / 1e6:,.2f} M |",
                flush=True,
            )


def by_library(folder: Path, models: Sequence[str]) -> None:
    """Prints what the same row programs take with CMSIS-NN, where a copy is named."""
    print(
        "\n| model | image | core | static RAM | stack | instructions | portable kernels "
        "| portable / CMSIS-NN |\n|---|---|---|---|---|---|---|---|"
    )
    cores = ((emulator.M4, "cmsis-nn-dsp"), (emulator.M55_VECTORS, "cmsis-nn-mve"))
    for model in MODELS:
        if model.name not in models:
            continue
        graph = run_passes(model.graph(folder))
        for fed, (core, name) in itertools.product((False, True), cores):
            if fed and model.fed is None:
                continue
            made = generate(
                graph, model_name="model", fed=fed, library=KernelLibrary(kernels(name))
            )
            archive = cmsis_nn_library.archive("arm-none-eabi-gcc", *core.options, "-O2")
            ran = ran_on(core, graph, made, (cmsis_nn_library.include(), str(archive)))
            own = ran_on(core, graph, generate(graph, model_name="model", fed=fed))
            print(
                f"| {model.name} | {'fed' if fed else 'in RAM'} | {core.name} "
                f"| {ran.static_bytes:,} | {ran.stack_bytes:,} | {ran.instructions / 1e6:,.2f} M "
                f"| {own.instructions / 1e6:,.2f} M | {own.instructions / ran.instructions:.2f}x |",
                flush=True,
            )


def two_convolutions(bits: int | None) -> Graph:
    """3x3 16 -> 32, 1x1 32 -> 16, a map of 32x32x16 codes, 3x3 16 -> 32."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 32, 32, 16)), channels=32, kernel=(3, 3))
    x = code_map(make, x, channels=16, bits=bits) if bits else make.conv(x, channels=16)
    return make.build(outputs=[make.conv(x, channels=32, kernel=(3, 3))])


def codes() -> None:
    """Prints what codes cost in instructions."""
    print("\n| codes | without | with | ratio | a position |\n|---|---|---|---|---|")
    positions = 32 * 32
    for bits in (6, 4, 2, 1):
        graph = two_convolutions(bits)
        taken = []
        for maps in ((), candidates(graph, graph)):
            coded = with_packed(graph, maps)
            layout = lay_out(lower(coded), fed=None)
            made = generated(graph, coded, layout, model_name="model")
            taken.append(ran_on(emulator.M4, graph, made).instructions)
        _say_codes(f"{bits} bits, two convolutions, packed or in int8", *taken, positions)
    plain = two_convolutions(None)
    made = generate(plain, model_name="model")
    base = ran_on(emulator.M4, plain, made).instructions
    graph = gf2_bottleneck()
    stock = generated(graph, graph, lay_out(lower(graph), fed=None), model_name="model")
    operators = ran_on(emulator.M4, graph, stock).instructions - base
    bits = ran_on(emulator.M4, graph, generate(graph, model_name="model")).instructions - base
    name = "GF(2), 16 channels of 8 bits in 32: the bottleneck alone, by stock operators or in bits"
    _say_codes(name, operators, bits, positions)


def gf2_bottleneck() -> Graph:
    """The same two convolutions with 32 stored bits a position between them."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 32, 32, 16)), channels=32, kernel=(3, 3))
    x = make.conv(x, channels=16, activation=Activation.RELU)
    x = bit_planes(make, x, 8)
    for channels in (32, 16 * 8):
        x = code_map(make, x, channels=channels, bits=1, form="threshold")
    x = weighed_planes(make, x, 16, 8)
    return make.build(outputs=[make.conv(x, channels=32, kernel=(3, 3))])


def _say_codes(name: str, before: int, after: int, positions: int) -> None:
    a_position = f"{before / positions:,.0f} -> {after / positions:,.0f}"
    print(
        f"| {name} | {before / 1e6:,.2f} M | {after / 1e6:,.2f} M | {after / before:.4f}x "
        f"| {a_position} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="only models whose names hold one of these")
    shared = Path(os.environ.get("FMC_SHARED", _ROOT.parent / "shared"))
    parser.add_argument("--folder", type=Path, default=shared / "models" / "mlperf_tiny")
    arguments = parser.parse_args()
    lacking = emulator.missing()
    if lacking is not None:
        sys.exit(lacking)
    version = subprocess.run(
        ["arm-none-eabi-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(f"Cortex-M4 of qemu-system-arm, -icount shift=0; gcc {version} -O2, portable kernels.\n")
    print(
        "| model | image | static RAM | aim | bound | stack | instructions | without line buffers "
        "| code | constants | seconds to plan |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        if not arguments.models or any(m in model.name for m in arguments.models):
            whole = None
            for fed in (False, True):
                line, whole = measure(model, arguments.folder, fed=fed, whole=whole)
                print(line, flush=True)
    rows_again(arguments.folder, arguments.models)
    if not arguments.models:
        codes()
    if cmsis_nn_library.folder() is not None:
        by_library(arguments.folder, arguments.models or _TINY)


if __name__ == "__main__":
    main()
