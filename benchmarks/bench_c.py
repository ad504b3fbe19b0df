"""What generated C needs on a Cortex-M4, compiled and emulated; `make bench-c`.

Static RAM is what arm-none-eabi-size says of the generated code and its kernels, and the report's
own figure has to equal it. Outputs are compared with the tflite_micro wheel before a line is
printed. The stack is painted and looked at; instructions are those of QEMU's -icount.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
for folder in (_ROOT / "tests", _ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from benchmarks.random_models import mobilenet_v2, squeezenet  # noqa: E402
from deploy.backends.c.build import generate  # noqa: E402
from deploy.flatbuffer import read_file, write  # noqa: E402
from deploy.graph import Graph  # noqa: E402
from deploy.passes import run_passes  # noqa: E402
from deploy.runtime import tflm  # noqa: E402
from keras_fmc.errors import FmcError, VerificationError  # noqa: E402
from tests import emulator  # noqa: E402

_ROOMY = 64 * 2**20


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


def measure(model: Model, folder: Path, *, fed: bool) -> str:
    """A line of the table."""
    graph = run_passes(model.graph(folder))
    aim = model.fed if fed else model.whole
    way = "fed" if fed else "in RAM"
    begin = time.process_time()
    try:
        made = generate(graph, model_name="model", fed=fed)
    except FmcError as error:
        return f"| {model.name} | {way} | - | - | - | - | - | - | - | {error.received} |"
    seconds = time.process_time() - begin
    samples = tflm.random_inputs(write(graph), samples=1)
    wanted = tflm.run(write(graph), samples, arena_bytes=_ROOMY, isolated=True)
    with tempfile.TemporaryDirectory() as scratch:
        ran = emulator.run_on(model.core, made, samples, wanted, Path(scratch))
    if ran.equal != 1 or ran.static_bytes != made.static_bytes:
        raise VerificationError(f"{model.name}: outputs or static memory differ", received=ran)
    reached = (
        "" if aim is None else f"{aim:,} ({'reached' if ran.static_bytes <= aim else 'missed'})"
    )
    bound = made.static_bytes - made.layout.arena_bytes + made.layout.lower_bound_bytes
    return (
        f"| {model.name} | {way} | {ran.static_bytes:,} | {reached} | {bound:,} "
        f"| {ran.stack_bytes:,} | {ran.instructions / 1e6:,.2f} M | {ran.code_bytes:,} "
        f"| {made.constant_bytes:,} | {seconds:.1f} s |"
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
        "| model | image | static RAM | aim | bound | stack | instructions | code | constants "
        "| seconds to plan |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        if not arguments.models or any(m in model.name for m in arguments.models):
            for fed in (False, True):
                print(measure(model, arguments.folder, fed=fed), flush=True)


if __name__ == "__main__":
    main()
