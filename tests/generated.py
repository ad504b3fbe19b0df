"""Generated C in tests: compiled with the sanitizers, compared with TFLM byte for byte."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from c_compilers import require
from int8_graphs import Int8GraphMaker

from deploy import flatbuffer
from deploy.backends.c import build
from deploy.backends.c.build import GeneratedModel, generate
from deploy.graph import Activation, Graph, Operator, Tensor
from deploy.passes import run_passes
from deploy.runtime import compiled, tflm

ROOMY = 1 << 24
FLAGS = (
    *("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"),
    *("-Wshadow", "-fsanitize=address,undefined", "-fno-sanitize-recover"),
)
_KERNELS = Path(build.__file__).with_name("kernels")

Samples = list[list[np.ndarray]]


def made(graph: Graph, *, name: str = "model", fed: bool = False) -> GeneratedModel:
    """Returns the C of a graph after the passes."""
    return generate(run_passes(graph), model_name=name, fed=fed)


def random_samples(graph: Graph, count: int = 3, *, seed: int = 0) -> Samples:
    """Returns inputs of the graph's shapes over the whole range of their types."""
    rng = np.random.default_rng(seed)
    samples: Samples = []
    for _ in range(count):
        sample = []
        for tensor in (graph.tensors[i] for i in graph.inputs):
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


def in_c(model: GeneratedModel, samples: Samples) -> Samples:
    """Returns what the generated C makes of the samples, under the sanitizers."""
    require("gcc")
    own = {
        name: text
        for name, text in model.files.items()
        if not (name.startswith("fmc_") and name.endswith(".c"))
    }
    return compiled.run(
        own,
        samples,
        name=model.name,
        graph=model.graph,
        fed_rows=model.fed_rows,
        flags=(*FLAGS, "-O0"),
        libraries=(str(_kernel_library()),),
    )


@functools.cache
def _kernel_library() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fmc-kernels-"))
    sources = sorted(_KERNELS.glob("*.c"))
    command = ["gcc", *FLAGS, "-c", *map(str, sources)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    objects = [f"{source.stem}.o" for source in sources]
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


def assert_c_is_tflm(graph: Graph, *, fed: bool = False, seed: int = 0) -> GeneratedModel:
    """Checks that the C of a graph and TFLM agree; returns the C."""
    model = made(graph, fed=fed)
    samples = random_samples(graph, seed=seed)
    assert equal(in_tflm(graph, samples), in_c(model, samples))
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
