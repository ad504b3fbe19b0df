"""Generated C on the instruction sets of the targets, under QEMU."""

from __future__ import annotations

import sys
from pathlib import Path

import emulator
import pytest
from generated import in_tflm, made, random_samples, residual
from random_graphs import random_graph
from support import mlperf_tiny

from deploy import flatbuffer
from deploy.graph import Graph
from deploy.runtime.stack import stack_of

CORES = pytest.mark.parametrize(
    "core", [emulator.M3, emulator.M4, emulator.M55], ids=lambda c: c.name
)
FLAGS = ("-O2",)


def check(core: emulator.Core, graph: Graph, folder: Path, *, fed: bool) -> emulator.Ran:
    lacking = emulator.missing(core)
    if lacking is not None:
        pytest.skip(lacking)
    model = made(graph, fed=fed)
    samples = random_samples(graph, 2)
    ran = emulator.run_on(core, model, samples, in_tflm(graph, samples), folder, flags=FLAGS)
    assert ran.equal == ran.samples == 2
    assert ran.static_bytes == model.static_bytes
    if core is emulator.RISC_V:
        return ran
    # Measured from the frame of what calls the model on, and with what memcpy takes.
    stack = stack_of(model.files, name=model.name, core=core.name).size_bytes
    assert stack is not None
    assert stack <= ran.stack_bytes <= stack + 40 < 2048
    return ran


@CORES
@pytest.mark.parametrize("fed", [False, True])
def test_a_residual_network(core: emulator.Core, fed: bool, tmp_path: Path) -> None:
    check(core, residual(), tmp_path, fed=fed)


@CORES
def test_operators_of_a_random_graph(core: emulator.Core, tmp_path: Path) -> None:
    check(core, random_graph(5, operators=(14, 14)), tmp_path, fed=False)


def test_vectors_make_no_gap_between_arena_and_counters(tmp_path: Path) -> None:
    """Where the compiler vectorises it aligns arrays more strictly."""
    check(emulator.M55_VECTORS, residual(), tmp_path, fed=True)


@pytest.mark.parametrize("fed", [False, True])
def test_risc_v(fed: bool, tmp_path: Path) -> None:
    graph = residual() if fed else random_graph(5, operators=(14, 14))
    assert check(emulator.RISC_V, graph, tmp_path, fed=fed).instructions > 10_000


@CORES
def test_keyword_spotting(core: emulator.Core, tmp_path: Path) -> None:
    """The stated figure of memory: at most 9,000 bytes."""
    graph = flatbuffer.read_file(mlperf_tiny("kws_ref_model"))
    assert check(core, graph, tmp_path, fed=True).static_bytes <= 9000


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
