"""Generated C in tests: compiled with the sanitizers, compared with TFLM byte for byte."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cmsis_nn_library
import numpy as np
import pytest
from c_compilers import require
from int8_graphs import Int8GraphMaker

from deploy import flatbuffer
from deploy.backends.c import build
from deploy.backends.c.build import GeneratedModel, generate
from deploy.backends.c.library import SOURCE, KernelLibrary
from deploy.graph import Activation, Graph, Operator, Tensor
from deploy.passes import run_passes
from deploy.runtime import compiled, tflm
from deploy.targets import kernels as find_kernels

ROOMY = 1 << 24
FLAGS = (
    *("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"),
    *("-Wshadow", "-fsanitize=address,undefined", "-fno-sanitize-recover"),
)
_KERNELS = Path(build.__file__).with_name("kernels")
STAND_IN = Path(build.__file__).with_name("stand_in")

Samples = list[list[np.ndarray]]


def made(
    graph: Graph, *, name: str = "model", fed: bool = False, kernels: str = "portable"
) -> GeneratedModel:
    """Returns the C of a graph after the passes; ``kernels``: a library by the name of its data."""
    library = None if kernels == "portable" else KernelLibrary(find_kernels(kernels))
    return generate(run_passes(graph), model_name=name, fed=fed, library=library)


def random_samples(graph: Graph, count: int = 3, *, seed: int = 0) -> Samples:
    """Returns inputs of the graph's shapes over the whole range of their types."""
    rng = np.random.default_rng(seed)
    samples: Samples = []
    for _ in range(count):
        sample = []
        for tensor in (graph.tensors[i] for i in graph.inputs):
            if tensor.dtype == "float32":
                sample.append(rng.uniform(-8, 8, tensor.shape).astype(np.float32))
                continue
            info = np.iinfo(tensor.dtype)
            values = rng.integers(info.min, info.max, tensor.shape, endpoint=True)
            sample.append(values.astype(tensor.dtype))
        samples.append(sample)
    return samples


def in_tflm(graph: Graph, samples: Samples) -> Samples:
    """Returns what TFLM's reference kernels make of the samples; skips where they are not here."""
    missing = tflm.unavailable_reason()
    if missing is not None:
        pytest.skip(missing)
    return tflm.run(flatbuffer.write(graph), samples, arena_bytes=ROOMY)


def in_c(model: GeneratedModel, samples: Samples, *, real: bool = False) -> Samples:
    """Returns what the generated C makes of the samples, under the sanitizers.

    A model that calls a kernel library gets the stand-in, or with ``real`` the copy that the user
    of the tests has.
    """
    require("gcc")
    own = {
        name: text
        for name, text in model.files.items()
        if not (name.startswith("fmc_") and name.endswith(".c")) or name == SOURCE
    }
    kernels = str(_kernel_library())
    flags: tuple[str, ...] = (*FLAGS, "-O0")
    libraries: tuple[str, ...] = (kernels,)
    if model.uses_library and real:
        flags += (cmsis_nn_library.include(),)
        libraries += (str(cmsis_nn_library.archive("gcc", "-O2")),)
    elif model.uses_library:
        flags += (f"-I{STAND_IN}",)
        libraries = (str(_stand_in_library()), kernels)
    return compiled.run(
        own,
        samples,
        name=model.name,
        graph=model.graph,
        fed_rows=model.fed_rows,
        fed_input=model.fed_input,
        check=model.uses_library,
        flags=flags,
        libraries=libraries,
    )


@functools.cache
def _kernel_library() -> Path:
    return _archive([source for source in _KERNELS.glob("*.c") if source.name != SOURCE])


@functools.cache
def _stand_in_library() -> Path:
    return _archive(list(STAND_IN.glob("*.c")), f"-I{_KERNELS}")


def _archive(sources: list[Path], *options: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fmc-kernels-"))
    command = ["gcc", *FLAGS, *options, "-c", *map(str, sorted(sources))]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    objects = [f"{source.stem}.o" for source in sorted(sources)]
    subprocess.run(["ar", "rcs", "kernels.a", *objects], cwd=folder, check=True)
    return folder / "kernels.a"


def equal(wanted: Sequence[Sequence[np.ndarray]], found: Sequence[Sequence[np.ndarray]]) -> bool:
    """Whether two lists of outputs are the same bytes."""
    return [[a.tobytes() for a in s] for s in wanted] == [[a.tobytes() for a in s] for s in found]


def merged(graphs: Sequence[Graph]) -> Graph:
    """Returns one graph of graphs that have nothing to do with each other."""
    tensors: list[Tensor] = []
    operators: list[Operator] = []
    ends: tuple[list[int], list[int]] = ([], [])
    for graph in graphs:
        by = len(tensors)
        tensors += graph.tensors

        def moved(indices: Sequence[int], by: int = by) -> tuple[int, ...]:
            return tuple(i + by if i >= 0 else i for i in indices)

        operators += [
            dataclasses.replace(op, inputs=moved(op.inputs), outputs=moved(op.outputs))
            for op in graph.operators
        ]
        ends[0].extend(moved(graph.inputs))
        ends[1].extend(moved(graph.outputs))
    return Graph(tuple(tensors), tuple(operators), tuple(ends[0]), tuple(ends[1]))


def assert_c_is_tflm(
    graph: Graph,
    *,
    fed: bool = False,
    seed: int = 0,
    kernels: str = "portable",
    real: bool = False,
) -> GeneratedModel:
    """Checks that the C of a graph and TFLM agree; returns the C."""
    model = made(graph, fed=fed, kernels=kernels)
    samples = random_samples(graph, seed=seed)
    assert equal(in_tflm(graph, samples), in_c(model, samples, real=real))
    return model


def residual(size: int = 16, channels: int = 8) -> Graph:
    """A stem, a residual block of two convolutions, a pool and a classifier."""
    make = Int8GraphMaker(1)
    x = make.input((1, size, size, 3))
    x = make.conv(x, channels=channels, kernel=(3, 3), activation=Activation.RELU)
    y = make.conv(x, channels=channels, kernel=(3, 3), activation=Activation.RELU)
    y = make.conv(y, channels=channels, kernel=(3, 3))
    x = make.binary("ADD", x, y)
    x = make.conv(x, channels=2 * channels, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=5)])


def expanding(size: int = 16) -> Graph:
    """Narrow maps with wide ones between them, as inverted bottlenecks have them."""
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, size, size, 3)), channels=6, kernel=(3, 3))
    for _ in range(2):
        y = make.conv(x, channels=40, activation=Activation.RELU6)
        y = make.depthwise(y, activation=Activation.RELU6)
        x = make.conv(y, channels=6)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=3)])
