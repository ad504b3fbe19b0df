"""Estimated time: the formula, what an emulated core took, and plans that it bounds."""

from __future__ import annotations

import dataclasses
import math
import sys
from statistics import geometric_mean

import pytest

from deploy import targets
from deploy.backends.tflm.strips import StripChoice, choose_strips
from deploy.backends.tflm.time import graph_time, operator_time, time_ratio
from deploy.flatbuffer import read_file
from deploy.graph import Graph
from deploy.report.brief import to_brief
from deploy.report.html import to_html
from deploy.report.text import to_text
from deploy.targets import kernels, target
from deploy.targets.cores import cores, milliseconds, parse_clock, time_error
from deploy.targets.load_kernels import read_kernels
from deploy.targets.records import Time
from keras_fmc.errors import BadInputError
from tests.int8_graphs import Int8GraphMaker
from tests.report_samples import full_report
from tests.support import MLPERF_TINY, mlperf_tiny

DSP = kernels("cmsis-nn-dsp")
EMULATED = ("host", "mps2an385", "mps2an386", "corstone300")


def small() -> Graph:
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 6, 5, 3)), channels=4, kernel=(3, 3))
    return make.build(outputs=[make.slice(x, (0, 2, 0, 0), (1, 3, 5, 4))])


def test_products_bytes_and_calls_add_up() -> None:
    figures = {"CONV_2D": Time(2.0, 0.5, 7.0), "*": Time(9.0, 3.0, 1.0, asserted_byte=4.0)}
    library = dataclasses.replace(DSP, times=figures)
    products, made = 6 * 5 * 4 * 3 * 3 * 3, 3 * 5 * 4
    assert operator_time(small(), 0, library) == 2 * products + 0.5 * 6 * 5 * 4 + 7
    assert operator_time(small(), 1, library) == 3 * made + 1
    assert operator_time(small(), 1, library, assertions=True) == (3 + 4) * made + 1
    whole = operator_time(small(), 0, library) + operator_time(small(), 1, library)
    assert graph_time(small(), library) == round(whole)


@pytest.mark.parametrize("core", ["Cortex-M4F", "Cortex-M33"])
@pytest.mark.parametrize("model", MLPERF_TINY)
def test_published_latencies_are_within_the_stated_error(core: str, model: str) -> None:
    """The time of a model depends on its shapes, so that the stand-ins take as long."""
    known = cores()[core]
    board = dataclasses.replace(targets.board("nucleol4r5zi"), core=core, clock_hz=known.clock_hz)
    estimate = milliseconds(board, DSP.name, graph_time(read_file(mlperf_tiny(model)), DSP))
    assert estimate is not None
    assert abs(estimate / known.latencies_ms[model] - 1) <= known.error


def factors(core: str) -> dict[str, float]:
    """Model -> cycles for an instruction that its published latency asks for."""
    known = cores()[core]
    found = {}
    for model, latency in known.latencies_ms.items():
        instructions = graph_time(read_file(mlperf_tiny(model)), DSP)
        assert instructions is not None
        found[model] = latency / 1e3 * known.clock_hz / instructions
    return found


@pytest.mark.parametrize("core", ["Cortex-M4F", "Cortex-M33"])
def test_the_stated_error_is_that_of_models_that_were_left_out(core: str) -> None:
    known, asked = cores()[core], factors(core)
    assert known.cycles_per_instruction == pytest.approx(geometric_mean(asked.values()), rel=5e-3)
    off = []
    for model, factor in asked.items():
        others = [other for name, other in asked.items() if name != model]
        off.append(abs(geometric_mean(others) / factor - 1))
    assert known.error == math.ceil(20 * max(off)) / 20


def test_milliseconds_need_core_and_clock() -> None:
    m4 = targets.board("nano33ble")
    assert milliseconds(m4, DSP.name, 64_000) == pytest.approx(
        cores()["Cortex-M4F"].cycles_per_instruction
    )
    assert time_error(m4, DSP.name) == cores()["Cortex-M4F"].error
    assert milliseconds(m4, DSP.name, None) is None
    for board in (targets.board("portentah7"), dataclasses.replace(m4, clock_hz=0)):
        assert milliseconds(board, DSP.name, 64_000) is None
        assert time_error(board, DSP.name) is None
    assert milliseconds(m4, "cmsis-nn-scalar", 64_000) is None
    assert milliseconds(m4, "cmsis-nn-dsp-2026-07", 64_000) is not None
    for board in targets.boards():
        assert bool(board.clock_hz) == (board.name not in EMULATED)


@pytest.mark.parametrize("text", ["64", "64 MHz", "0MHz", "fast"])
def test_a_wrong_clock_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="mine: wrong 'clock'; expected such as"):
        parse_clock(text, "mine")


def test_the_report_says_milliseconds_or_that_there_are_none() -> None:
    report = full_report()
    known = dataclasses.replace(
        report,
        runtime="tflm",
        time_ms=12.345,
        time_error=0.2,
        clock_hz=64_000_000,
        baseline=dataclasses.replace(report.baseline, time_ms=1234.5),
    )
    for text in (to_text(known), to_brief(known)):
        row = next(line for line in text.splitlines() if "time of an inference" in line)
        assert row.split()[-4:] == ["12.3", "ms", "1234", "ms"]
        assert "  at, within" in text
        assert "64 MHz, +-20%" in text
    assert "<dt>time of an inference, 64 MHz, ±20%; as it was 1234 ms</dt><dd>12.3 ms" in to_html(
        known
    )
    unknown = dataclasses.replace(report, runtime="tflm", time_ms=None)
    assert ["time", "no", "figures"] in [line.split() for line in to_text(unknown).splitlines()]
    assert "<dt>time of an inference</dt><dd>no figures</dd>" in to_html(unknown)


def test_without_figures_there_is_no_estimate() -> None:
    unknown = kernels("esp-nn-esp32s3")
    assert graph_time(small(), unknown) is None
    assert time_ratio(small(), small(), unknown) is None


@pytest.mark.parametrize(
    ("library", "name", "measured"),
    # Instructions of the unchanged models on emulated Cortex-M4, M55 and M3 with CMSIS-NN.
    [
        ("dsp", "vww_96_int8", 24_100_000),
        ("dsp", "pretrainedResnet_quant", 29_850_000),
        ("mve", "vww_96_int8", 8_394_400),
        ("mve", "pretrainedResnet_quant", 9_195_280),
        ("mve", "kws_ref_model", 2_324_040),
        ("mve", "ad01_int8", 191_880),
        ("scalar", "vww_96_int8", 31_958_720),
        ("scalar", "pretrainedResnet_quant", 42_009_880),
        ("scalar", "kws_ref_model", 10_534_360),
        ("scalar", "ad01_int8", 955_800),
    ],
)
def test_the_estimate_is_near_what_a_core_took(library: str, name: str, measured: int) -> None:
    found = graph_time(read_file(mlperf_tiny(name)), kernels(f"cmsis-nn-{library}"))
    assert found == pytest.approx(measured, rel=0.15)


def test_a_slice_costs_what_a_core_was_seen_to_take() -> None:
    # Of VWW in strips: 13 slices with and without the assertions of the runtime.
    slices = DSP.times["SLICE"]
    assert slices.output_byte == pytest.approx(4.6, abs=0.1)
    assert slices.output_byte + slices.asserted_byte == pytest.approx(38.5, abs=1.0)


def tall() -> Graph:
    make = Int8GraphMaker(11)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(x, channels=32)
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.mean(x)])


def chosen(**settings: object) -> StripChoice:
    goal = target(board="nano33ble")
    return choose_strips(tall(), target=goal, work=30_000, plan_rounds=0, **settings)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_bound_on_time_holds_and_costs_bytes_at_most() -> None:
    free = chosen()
    ratio = time_ratio(free.graph, tall(), DSP)
    assert ratio is not None
    assert ratio > 1.01
    for bound in (1.0, (1 + ratio) / 2):
        bounded = chosen(max_time=bound)
        assert time_ratio(bounded.graph, tall(), DSP) <= bound
        assert bounded.arena.arena_bytes >= free.arena.arena_bytes
    assert chosen(max_time=ratio).arena.arena_bytes == free.arena.arena_bytes


def test_a_bound_on_time_needs_figures() -> None:
    with pytest.raises(BadInputError, match="time of the esp-nn-esp32s3 kernels is not known"):
        choose_strips(tall(), target=target(board="esp32s3"), max_time=1.1, work=1)


def test_figures_are_counts() -> None:
    data = {"name": "x", "summary": "", "source": "", "extends": "reference"}
    with pytest.raises(BadInputError, match="x: time of ADD: 'product' is not a count"):
        read_kernels({**data, "times": {"ADD": {"product": -1}}}, where="x")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
