"""Maps that generated C makes more than once, where that saves memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from generated import assert_c_is_tflm, equal, expanding, in_c, in_tflm, random_samples
from int8_graphs import Int8GraphMaker
from random_graphs import random_graph

import deploy
from deploy import flatbuffer
from deploy.backends.c import again
from deploy.backends.c.build import GeneratedModel, generate, generated, lay_out
from deploy.backends.c.lowering import lower
from deploy.backends.c.replay import replay
from deploy.backends.c.rows_again import inner_macs, made_by_its_reader
from deploy.graph import Activation, Graph, Padding
from deploy.macs import graph_macs
from deploy.passes import run_passes
from deploy.runtime import litert

LIMITS = (1.0, 1.06, 1.10, 1.3, 2.0, 3.0)


def gated(size: int = 16, channels: int = 16) -> Graph:
    """A stem whose map waits until its means have made a gate for it."""
    make = Int8GraphMaker(0)
    x = make.input((1, size, size, 3))
    x = make.conv(x, channels=channels, kernel=(3, 3), activation=Activation.RELU)
    gate = make.unary("LOGISTIC", make.fully_connected(make.mean(x), units=channels))
    x = make.binary("MUL", x, make.reshape(gate, (1, 1, 1, channels)))
    x = make.conv(x, channels=32, kernel=(3, 3), stride=(2, 2))
    x = make.conv(x, channels=32, kernel=(3, 3))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=5)])


def with_skip(size: int = 16) -> Graph:
    """An encoder and a decoder: the first map waits for the last."""
    make = Int8GraphMaker(1)
    first = make.conv(make.input((1, size, size, 1)), channels=8, kernel=(3, 3))
    x = make.conv(first, channels=16, kernel=(3, 3), stride=(2, 2))
    x = make.conv(x, channels=32, kernel=(3, 3), stride=(2, 2))
    x = make.fully_connected(make.mean(x), units=32)
    x = make.reshape(x, (1, 1, 1, 32))
    x = make.transpose_conv(
        x, channels=8, kernel=(size, size), stride=(size, size), padding=Padding.VALID
    )
    x = make.concatenation([x, make.requantize(first, make.quantization(x))], axis=3)
    return make.build(outputs=[make.conv(x, channels=2, kernel=(3, 3))])


def made(graph: Graph, limit: float, *, fed: bool = False) -> GeneratedModel:
    return generate(run_passes(graph), model_name="model", fed=fed, max_macs=limit)


@pytest.mark.parametrize("draw", [gated, with_skip])
def test_a_map_that_waits_is_made_again(draw) -> None:
    graph = draw()
    once, twice = made(graph, 1.0), made(graph, 2.0)
    assert twice.static_bytes < 0.8 * once.static_bytes
    assert twice.made_again
    assert not once.made_again
    ratio = graph_macs(twice.source) / graph_macs(run_passes(graph))
    assert 1.0 < ratio <= 2.0
    assert len(twice.source.operators) > len(once.source.operators)
    samples = random_samples(graph)
    assert equal(in_tflm(graph, samples), in_c(twice, samples))


@pytest.mark.parametrize("fed", [False, True])
def test_a_reader_makes_the_rows_of_an_expansion_itself(fed: bool) -> None:
    graph = expanding()
    once, again = made(graph, 1.0, fed=fed), made(graph, 3.0, fed=fed)
    program = again.layout.program
    inner = [step.inner for step in program.steps if step.inner is not None]
    assert inner
    # Three rows for each of 16, but for the first and the last, which have two.
    assert {(i.rows, i.map_rows) for i in inner} == {(3 * 16 - 2, 16)}
    each = 16 * 16 * 6 * 40
    assert inner_macs(again.graph, program) == len(inner) * (each * 46 // 16 - each)
    assert again.made_again
    assert again.static_bytes < once.static_bytes - 16 * 40
    samples = random_samples(graph)
    assert equal(in_tflm(graph, samples), in_c(again, samples))


def test_rows_are_made_by_their_reader_only_where_that_is_possible() -> None:
    program = lower(run_passes(expanding()))
    places = {step.output: n for n, step in enumerate(program.steps)}
    fused = {m for m in places if made_by_its_reader(program, m) is not None}
    opcodes = {expanding().operators[program.steps[places[m]].operator].opcode for m in fused}
    # The last map has its sums for a reader.
    assert opcodes == {"CONV_2D", "DEPTHWISE_CONV_2D"}
    assert max(places) not in fused
    (first, second) = (program.steps[1].output, program.steps[4].output)
    twice = made_by_its_reader(made_by_its_reader(program, first), second)
    assert sum(step.inner is not None for step in twice.steps) == 2
    assert len(twice.steps) == len(program.steps) - 2


@pytest.mark.parametrize("seed", range(10))
def test_a_reader_makes_rows_of_any_window_itself(seed: int) -> None:
    """Every map whose reader can make its rows, at once; windows of several rows on both sides."""
    graph = run_passes(chain(seed))
    program = lower(graph)
    for m in sorted(program.producers(), reverse=seed % 2 == 0):
        program = made_by_its_reader(program, m) or program
    inner = [step.inner for step in program.steps if step.inner is not None]
    assert inner
    fed = program.inputs[0] if seed in (1, 3) else None
    model = generated(graph, graph, lay_out(program, fed=fed), model_name="model")
    samples = random_samples(graph)
    assert equal(in_tflm(graph, samples), in_c(model, samples))


def test_a_row_stands_apart_from_scratch_that_its_kernel_reads_in_another_order() -> None:
    """A depthwise convolution with several channels for each: no lead is known for its row."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 9, 6, 2)), channels=6)
    x = make.conv(make.depthwise(x, kernel=(3, 3), multiplier=2), channels=3)
    graph = run_passes(make.build(outputs=[make.fully_connected(make.mean(x), units=3)]))
    program = lower(graph)
    program = made_by_its_reader(program, program.steps[0].output)
    layout = lay_out(program, fed=program.inputs[0])
    assert program.steps[0].inner.lead_bytes is None
    (placed,) = [r.placed for r in layout.regions if r.placed.schedule.scratch_bytes]
    row = program.steps[0].output
    assert placed.schedule.lines[row] == 1
    begin, size = placed.offsets[row], program.maps[row].row_bytes
    scratch, used = placed.scratch, program.steps[0].scratch_bytes
    assert begin + size <= scratch or scratch + used <= begin
    replay(layout)


def test_rows_that_only_some_windows_read_are_made_once() -> None:
    """A PAD wider than the kernel: the windows beside the map read no row, and none is made."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 6, 6, 2)), channels=4)
    x = make.pad(x, ((0, 0), (4, 4), (0, 0), (0, 0)))
    x = make.conv(x, channels=3, kernel=(2, 1), padding=Padding.VALID)
    program = lower(run_passes(make.build(outputs=[x])))
    assert len(program.steps) == 2
    assert made_by_its_reader(program, program.steps[0].output) is None


def chain(seed: int) -> Graph:
    """Windows of several rows, one behind the other; strides, pads, rows left over."""
    make = Int8GraphMaker(seed)
    rng = make.rng
    x = make.input((1, int(rng.integers(9, 18)), 7, 3))
    for turn in range(4):
        padding = Padding.SAME if turn or rng.random() < 0.5 else Padding.VALID
        window = {
            "kernel": (int(rng.integers(2, 7)), int(rng.integers(1, 4))),
            "stride": (int(rng.integers(1, 3)), 1),
            "padding": padding,
        }
        if seed % 3 == 1 and turn == 0:
            # Windows of rows that are not the first lie above the map, too.
            window |= {"kernel": (6, 1), "stride": (2, 1), "padding": Padding.SAME}
        kind = int(rng.integers(4))
        if kind < 2:
            x = make.conv(x, channels=int(rng.integers(2, 9)), **window)
        elif kind == 2:
            x = make.depthwise(x, **window)
        else:
            x = make.pool(x, **window)
        if turn == 1:
            x = make.transpose_conv(x, channels=2, stride=(1, 2))
    if seed % 3 == 0:
        _, height, _, _ = make.shape(x)
        x = make.conv(x, channels=2, kernel=(height, 1), padding=Padding.VALID)
    return make.build(outputs=[x])


def test_the_graph_with_clones_computes_the_same() -> None:
    graph = run_passes(gated())
    cloned = made(gated(), 2.0).source
    samples = random_samples(graph)
    wanted = litert.run(flatbuffer.write(graph), samples)
    assert equal(wanted, litert.run(flatbuffer.write(cloned), samples))


@pytest.mark.parametrize("seed", range(7))
def test_a_higher_limit_never_takes_more_memory(seed: int) -> None:
    draws = gated, with_skip, expanding
    graph = draws[seed](12) if seed < len(draws) else random_graph(399 + seed)
    found = [made(graph, limit) for limit in LIMITS]
    sizes = [model.static_bytes for model in found]
    assert sizes == sorted(sizes, reverse=True)
    own = graph_macs(run_passes(graph))
    for limit, model in zip(LIMITS, found, strict=True):
        again = inner_macs(model.graph, model.layout.program)
        assert graph_macs(model.source) + again <= limit * own


def test_nothing_is_made_again_for_nothing() -> None:
    """A chain, and a map whose readers stand side by side."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 12, 12, 3)), channels=8, kernel=(3, 3))
    y = make.conv(x, channels=8, kernel=(3, 3))
    x = make.binary("ADD", x, y)
    graph = make.build(outputs=[make.fully_connected(make.mean(x), units=3)])
    assert not made(graph, 3.0).made_again


def test_rows_that_are_fed_are_not_asked_for_again() -> None:
    """The image is gone where the gate is known: the fed form makes no map again."""
    model = made(gated(), 2.0, fed=True)
    assert not model.made_again
    assert_c_is_tflm(gated(), fed=True)


def test_clones_go_in_front_of_the_late_reader() -> None:
    graph = run_passes(gated())
    x = graph.operators[0].outputs[0]
    late = graph.consumers()[x][-1]
    clone = again.Again(x, late, (0,)).apply(graph)
    assert [op.opcode for op in clone.operators].count("CONV_2D") == 4
    assert clone.operators[late].inputs == graph.operators[0].inputs
    assert clone.operators[late + 1].inputs[0] == clone.operators[late].outputs[0]
    assert clone.operators[:late] == graph.operators[:late]
    names = [tensor.name for tensor in clone.tensors]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("draw", [gated, expanding])
def test_the_plan_says_so_and_can_be_verified(draw, tmp_path: Path) -> None:
    path = tmp_path / "drawn.tflite"
    path.write_bytes(flatbuffer.write(draw()))
    out = tmp_path / "out"
    report = deploy.plan(path, runtime="c", max_macs=2.0, out=out).report
    once = deploy.plan(path, runtime="c", max_macs=1.0).report
    assert report.arena_bytes < once.arena_bytes
    assert 1.0 < report.macs_ratio <= 2.0
    assert report.max_macs == 2.0
    assert not report.proven_optimal
    assert once.macs_ratio == 1.0
    assert {region.halo for region in report.regions} == {"some rows made again"}
    assert "of programs that make the same rows" in (out / "report.txt").read_text()
    deploy.verify(out)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
