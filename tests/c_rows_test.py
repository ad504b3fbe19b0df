"""Row programs: random graphs against TFLM, what they hold, and what cannot be fed."""

from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest
from c_proofs import is_caught
from generated import (
    assert_c_is_tflm,
    equal,
    in_c,
    in_tflm,
    made,
    random_samples,
    residual,
)
from int8_graphs import Int8GraphMaker
from mixed_graphs import mixed_graph
from random_graphs import random_graph
from row_graphs import row_graph

from deploy.backends.c.assign import Move, assign, safe_moves
from deploy.backends.c.build import lay_out
from deploy.backends.c.layout import place_region
from deploy.backends.c.lowering import lower
from deploy.backends.c.program import Map, RowProgram
from deploy.backends.c.replay import replay
from deploy.backends.c.schedule import ScheduleFacts, play
from deploy.backends.c.search import search
from deploy.graph import Graph, Padding
from deploy.passes import run_passes
from keras_fmc.errors import UnsupportedModelError


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_are_tflms(seed: int) -> None:
    assert_c_is_tflm(random_graph(seed), seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_networks_are_tflms(seed: int) -> None:
    """Signals and images, ends of any type, skips, attention, masks; every other one is fed."""
    assert_c_is_tflm(mixed_graph(seed), fed=bool(seed % 2), seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_windows_that_no_simple_rule_describes_are_tflms(seed: int) -> None:
    """Windows beside the map, rows left over, branches of other heights, ends inside."""
    assert_c_is_tflm(row_graph(seed), seed=seed)


FED_AS_A_WHOLE = frozenset({30, 33, 34, 37, 38, 46})


@pytest.mark.parametrize("seed", range(30, 48))
def test_random_graphs_fed_row_by_row_are_tflms(seed: int) -> None:
    graph = random_graph(seed)
    if seed in FED_AS_A_WHOLE:
        with pytest.raises(UnsupportedModelError, match="needs it as a whole"):
            made(graph, fed=True)
        return
    model = made(graph, fed=True)
    samples = random_samples(graph)
    assert equal(in_tflm(graph, samples), in_c(model, samples))


@pytest.mark.parametrize("seed", range(100, 220))
def test_every_program_passes_the_replay(seed: int) -> None:
    program = lower(run_passes(random_graph(seed)))
    if program.steps:
        traces = replay(lay_out(program, fed=None))
        rows = sum(len(trace.events) for trace in traces)
        assert rows <= sum(program.maps[s.output].rows for s in program.steps)


def test_a_residual_block_holds_rows_and_no_map() -> None:
    """A row of the stem waits for two rows below it: the skip costs no more than the window."""
    windows = {"image": 3, "stem": 3, "first": 3, "second": 1, "sum": 3, "last": 1}
    row = 16 * 8
    model = assert_c_is_tflm(residual(), fed=True)
    region = model.layout.regions[0].placed.schedule
    assert sorted(region.lines.values()) == sorted(windows.values())
    # Rows of three buffers of three rows, an image's three rows and the sums are all there when
    # a row is fed; rows that come and go at once stand where others have ended.
    assert model.layout.arena_bytes < (3 + 3 + 3) * row + 2 * row + 3 * 16 * 3 + 4 * 16
    assert model.layout.arena_bytes >= (2 + 2 + 2) * row
    whole = assert_c_is_tflm(residual())
    assert whole.layout.arena_bytes < model.layout.arena_bytes + 16 * 16 * 3


def test_no_row_is_made_twice() -> None:
    program = lower(run_passes(residual()))
    layout = lay_out(program, fed=None)
    made_rows = [(event.map, event.row) for trace in replay(layout) for event in trace.events]
    assert len(made_rows) == len(set(made_rows))


@pytest.mark.parametrize("seed", range(12))
def test_the_search_is_exact_over_all_choices_of_whole_maps(seed: int) -> None:
    """Every path of cuts, enumerated."""
    program = lower(run_passes(random_graph(seed, operators=(2, 6))))
    last = len(program.steps)
    if not 0 < last <= 9:
        return
    cuts = ScheduleFacts.of(program)

    def height(first: int, stop: int) -> int:
        both = [
            place_region(program, play(cuts, first, stop, fed=None, backwards=backwards))
            for backwards in ((False,) if stop - first == 1 else (False, True))
        ]
        return min(p.height_bytes for p in both if p is not None)

    heights = {pair: height(*pair) for pair in itertools.combinations(range(last + 1), 2)}
    least = min(
        max(heights[pair] for pair in itertools.pairwise((0, *inner, last)))
        for count in range(last)
        for inner in itertools.combinations(range(1, last), count)
    )
    found = search(program, fed=None)
    assert found is not None
    assert found.height_bytes == least
    assert found.lower_bound_bytes <= least
    assert all(region.floor_bytes <= region.height_bytes for region in found.regions)


def test_the_same_graph_gives_the_same_files() -> None:
    assert made(residual()).files == made(residual()).files


def test_a_layout_is_caught_where_a_number_is_wrong() -> None:
    """Every address and every size of a line buffer, changed one by one."""
    program = lower(run_passes(residual()))
    layout = lay_out(program, fed=None)
    caught = tried = 0
    for number, region in enumerate(layout.regions):
        schedule = region.placed.schedule
        for m in region.offsets:
            for other in region.offsets:
                if other != m:
                    offsets = {**region.offsets, m: region.offsets[other]}
                    placed = dataclasses.replace(region.placed, offsets=offsets)
                    tried += 1
                    caught += is_caught(layout, number, placed)
        for m, rows in schedule.lines.items():
            if rows > 1:
                fewer = dataclasses.replace(schedule, lines={**schedule.lines, m: rows - 1})
                placed = dataclasses.replace(region.placed, schedule=fewer)
                assert is_caught(layout, number, placed), (m, rows)
    assert tried > 20
    assert caught > tried // 2


def test_moves_do_not_overwrite_what_waits() -> None:
    maps = tuple(Map(f"m{k}", 1, 8, k) for k in range(2))
    program = RowProgram(maps, (), (), (), (), {})
    up = safe_moves(program, {0: 0, 1: 8}, {0: 8, 1: 16})
    assert up == (Move(1, 8, 16), Move(0, 0, 8))
    assert safe_moves(program, {0: 0, 1: 8}, {0: 8, 1: 0}) is None


def test_an_image_that_is_read_late_cannot_be_fed() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 8, 4))
    y = make.reshape(make.conv(x, channels=4), (1, 256))
    y = make.reshape(make.fully_connected(y, units=256), (1, 8, 8, 4))
    graph = make.build(outputs=[make.binary("ADD", x, y)])
    with pytest.raises(UnsupportedModelError, match=r"ADD #\d+ .* needs it as a whole"):
        made(graph, fed=True)


def two_inputs() -> Graph:
    """An image, and a gate for its channels that stands from the beginning."""
    make = Int8GraphMaker(3)
    gate = make.input((1, 1, 1, 8))
    x = make.conv(make.input((1, 14, 12, 3)), channels=8, kernel=(3, 3))
    x = make.binary("MUL", x, gate)
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=4)])


def test_of_several_inputs_the_image_is_fed() -> None:
    """The largest one, though it is not the first; the other is filled in place before it."""
    model = assert_c_is_tflm(two_inputs(), fed=True)
    assert model.fed_input == 1
    assert model.fed_rows == 14
    header = model.files["model.h"]
    assert "#define MODEL_INPUT1_ROWS 14" in header
    assert "int8_t *model_input0(void);" in header
    assert "Other inputs are filled in place" in header
    assert model.layout.arena_bytes < 14 * 12 * 3


def test_where_no_input_can_be_fed_the_reader_is_named() -> None:
    make = Int8GraphMaker(0)
    images = [make.input((1, 6, 6, 2)), make.input((1, 4, 4, 2))]
    flat = [make.reshape(x, (1, 72 if k == 0 else 32)) for k, x in enumerate(images)]
    graph = make.build(outputs=[make.fully_connected(x, units=3) for x in flat])
    with pytest.raises(UnsupportedModelError, match=r"FULLY_CONNECTED #\d .* needs it as a whole"):
        made(graph, fed=True)


def test_one_row_lies_on_its_side() -> None:
    """A signal of 64 samples runs sample by sample: less than two of its maps."""
    make = Int8GraphMaker(0)
    x = make.input((1, 1, 64, 2))
    for _ in range(3):
        x = make.conv(x, channels=8, kernel=(1, 3), padding=Padding.SAME)
    model = assert_c_is_tflm(make.build(outputs=[make.mean(x)]))
    assert model.layout.arena_bytes < 64 * 2 + 64 * 8
    assert_c_is_tflm(make.build(outputs=[make.mean(x)]), fed=True)


@pytest.mark.parametrize("seed", range(10))
def test_rows_stand_over_what_they_are_made_from(seed: int) -> None:
    """Chains of windows whose one-row buffers begin as near to their inputs as kernels allow."""
    make, rng = Int8GraphMaker(seed), np.random.default_rng(seed)
    x = make.input((1, 14, int(rng.integers(3, 15)), int(rng.integers(1, 9))))
    for turn in range(6):
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        padding = Padding.SAME
        stride = (1, int(rng.integers(1, 3)) if turn < 2 else 1)
        kind = int(rng.integers(4))
        if kind == 0:
            channels = int(rng.integers(1, 13))
            x = make.conv(x, channels=channels, kernel=kernel, stride=stride, padding=padding)
        elif kind == 1:
            x = make.depthwise(x, kernel=kernel, stride=stride, padding=padding)
        else:
            pool = ("AVERAGE_POOL_2D", "MAX_POOL_2D")[kind - 2]
            x = make.pool(x, kind=pool, kernel=kernel, stride=stride, padding=padding)
        x = make.conv(x, channels=int(rng.integers(1, 13)))
    assert_c_is_tflm(make.build(outputs=[make.mean(x)]), fed=bool(seed % 2))


def test_an_output_grows_into_the_row_that_it_is_made_from() -> None:
    """A kernel writes a pixel after it read the window of that pixel, not of the whole row."""
    make = Int8GraphMaker(0)
    x = make.input((1, 24, 24, 3))
    y = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    model = assert_c_is_tflm(make.build(outputs=[y]))
    # Pixel x of 8 bytes ends at 8 (x + 1), its window of 3 channels begins at 3 · 2 x.
    lead = max(8 * (pixel + 1) - 3 * 2 * pixel for pixel in range(12))
    assert model.layout.arena_bytes == 24 * 24 * 3 + -(-lead // 4) * 4
    assert lead < 12 * 8
    proof = model.files["arena_plan.c"]
    assert proof.count("\nFMC_BEHIND(") == 12
    row = f"MODEL_R0_M1_OFFSET, 0, MODEL_M1_ROW_BYTES, {lead}, MODEL_R0_M0_OFFSET, 0,"
    assert f"FMC_BEHIND({row}" in proof


def test_maps_that_pass_each_other_stay() -> None:
    program = lower(run_passes(random_graph(7)))
    found = search(program, fed=None)
    assert found is not None
    layout = assign(program, found, fed=None)
    assert layout.arena_bytes >= found.height_bytes
    replay(layout)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
