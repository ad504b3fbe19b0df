"""`fit_to`: the arena that it promises is met by the trained and converted model, of every kind."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys

import fit_models
import keras
import numpy as np
import pytest
from code_graphs import gate_graph
from keras import layers

from deploy import cli
from deploy.backends.c.build import generate, lay_out
from deploy.backends.c.lowering import lower
from deploy.backends.c.names import static_bytes
from deploy.fit import fit
from deploy.fit.estimate import Question, estimate
from deploy.fit.fit import fit_to
from deploy.fit.search import options_of
from deploy.fit.sites import CodeSite
from deploy.passes import run_passes
from deploy.pipeline import convert
from deploy.settings import PlanSettings
from keras_fmc import (
    BadInputError,
    BottleneckKind,
    CompressionPlan,
    DoesNotFitError,
    UnsupportedModelError,
    insert_bottlenecks,
)

KINDS = {"unet": 3900, "mobilenet_v3": 9000, "heads": 3800}
"""Kinds that differ most, and an arena below what rows alone need; `benchmarks/bench_fit.py` goes
through all of `fit_models.MODELS`, in both runtimes."""


@pytest.mark.parametrize("name", list(KINDS))
def test_the_promise_holds_for_the_trained_and_converted_model(name):
    asked = KINDS[name]
    keras.utils.set_random_seed(0)
    model = fit_models.MODELS[name][0]()
    x = fit_models.samples(model, 8)
    found = fit_to(model, calibration=x, arena_bytes=asked, runtime="c", effort="quick", jobs=1)
    assert found.plan.bottlenecks
    assert found.strips_arena_bytes > asked >= found.arena_bytes
    assert abs(found.predicted_arena_bytes - found.arena_bytes) <= 0.02 * found.arena_bytes
    small = insert_bottlenecks(model, found.plan, calibration=x).model
    small.compile("sgd", "mse")
    outputs = keras.tree.flatten(small(x))
    small.train_on_batch(x, [np.zeros(out.shape) for out in outputs])
    result = convert(small, calibration=x, runtime="c", arena_bytes=asked)
    assert result.report.fits
    assert result.report.arena_bytes == found.arena_bytes


@pytest.fixture(scope="module")
def unet():
    keras.utils.set_random_seed(0)
    model = fit_models.unet()
    return model, fit_models.samples(model, 8)


@pytest.mark.parametrize("bits", [4, 2])
def test_an_estimate_of_generated_c_packs_codes(bits):
    """In earnest it is what is made; a probe finds no less."""
    graph = run_passes(gate_graph(bits=bits)[0])
    settings = PlanSettings(runtime="c")
    earnest, probe = (
        estimate(Question(graph, settings, 1 << 20, in_earnest, os.getpid())).arena_bytes
        for in_earnest in (True, False)
    )
    coded = generate(graph, model_name="model", max_macs=settings.max_macs)
    assert earnest == coded.static_bytes <= probe
    assert earnest < static_bytes(lay_out(lower(graph), fed=None))


def test_the_promise_holds_in_tflm(unet):
    model, x = unet
    whole = convert(model, calibration=x, effort="quick").report.arena_bytes
    asked = int(0.9 * whole)
    found = fit_to(model, calibration=x, arena_bytes=asked, effort="quick", jobs=1, bits=[8])
    assert found.plan.bottlenecks
    assert abs(found.predicted_arena_bytes - found.arena_bytes) <= 0.02 * found.arena_bytes
    small = insert_bottlenecks(model, found.plan, calibration=x).model
    assert convert(small, calibration=x, effort="quick").report.arena_bytes <= asked


def test_where_rows_are_enough_there_is_no_bottleneck(unet):
    model, x = unet
    found = fit_to(model, calibration=x, board="nano33ble", runtime="c", jobs=1)
    assert found.plan.bottlenecks == ()
    assert "no bottleneck is needed" in found.to_text()
    assert found.evaluations == 1


def test_the_result_does_not_depend_on_the_number_of_processes(unet):
    model, x = unet
    asked = 3900
    one, two = (
        fit_to(model, calibration=x, arena_bytes=asked, runtime="c", effort="quick", jobs=jobs)
        for jobs in (1, 2)
    )
    assert one == two
    # A plan that others beat in arena, loss and products is not in the frontier.
    arenas = [point.arena_bytes for point in one.frontier]
    assert arenas == sorted(arenas)
    assert one.frontier[-1].loss == 0
    by_name = {item.name: item for item in one.reasons}
    assert all(by_name[spec.name].code == spec.to_text() for spec in one.plan.bottlenecks)


def test_labels_choose_by_the_loss_of_the_task(unet):
    model, x = unet
    asked = 3900
    labels = np.zeros((8, 24, 24), np.int32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"calibration": x, "arena_bytes": asked, "runtime": "c", "jobs": 1}
    found = fit_to(model, labels=labels, loss=loss, effort="quick", **options)
    assert found.arena_bytes <= asked
    assert any("the same label" in text for text in found.warnings)
    for bad, message in (
        (labels[:5], r"labels of the wrong shape; expected one for each of the 8"),
        (np.zeros((8, 3), np.int32), r"labels do not fit the outputs and the loss"),
    ):
        with pytest.raises(BadInputError, match=message):
            fit_to(model, labels=bad, loss=loss, **options)
    with pytest.raises(BadInputError, match="labels without a loss"):
        fit_to(model, labels=labels, **options)


def test_what_nothing_fits_names_the_smallest_arena_and_what_binds(unet):
    model, x = unet
    with pytest.raises(DoesNotFitError) as caught:
        fit_to(model, calibration=x, arena_bytes=600, runtime="c", effort="quick", jobs=1)
    found = re.search(
        r"at most 600 bytes; received ([\d,]+) bytes at [\d.]+x the multiply-accumulates, with "
        r"(\d+) codes \((.+)\) and a predicted loss of ([\d.]+); in the way: (.+)\.",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    smallest = int(found[1].replace(",", ""))
    whole = convert(model, calibration=x, runtime="c").report.arena_bytes
    assert 600 < smallest < whole
    assert int(found[2]) == found[3].count(" B")
    assert float(found[4]) > 0
    assert found[5] != "operators and their scratch"


def test_bad_input_is_refused_before_anything_is_converted(unet, monkeypatch):
    model, x = unet

    def never(*args, **kwargs):
        raise AssertionError("converted")

    # The package has a function of that name, too.
    module = importlib.import_module("deploy.convert")
    monkeypatch.setattr(module, "to_int8_tflite", never)
    options = {"calibration": x, "arena_bytes": 10_000}
    with pytest.raises(BadInputError, match="board 'host' has no limit to fit"):
        fit_to(model, calibration=x)
    with pytest.raises(BadInputError, match="calibration data of the wrong shape"):
        fit_to(model, calibration=np.zeros((4, 8, 8, 1), np.float32), arena_bytes=10_000)
    with pytest.raises(BadInputError, match=r"widths of codes; expected some of 8, 4, 2 and 1"):
        fit_to(model, bits=[3], **options)
    with pytest.raises(BadInputError, match="number of processes"):
        fit_to(model, jobs=0, **options)
    with pytest.raises(BadInputError, match="no keyword 'arena'"):
        fit_to(model, calibration=x, arena=1)

    class Own(layers.Layer):
        def call(self, inputs):
            return keras.ops.sort(inputs, axis=-1)

    inputs = keras.Input((4, 4, 1))
    with pytest.raises(UnsupportedModelError, match="'mine'"):
        fit_to(keras.Model(inputs, Own(name="mine")(inputs)), calibration=[0.0], arena_bytes=9999)


def test_options_of_a_map_are_smaller_than_it_and_of_every_kind():
    site = CodeSite("m", (4, 4, 8), 0, signed=False, plain=True)
    options = options_of(site, (8, 4))
    assert all(spec.code_bytes < 4 * 4 * 8 for spec in options)
    assert {spec.rank for spec in options if spec.bits == 8} == {1, 2, 3, 4, 6}
    assert [s.code_bytes for s in options if s.kind is BottleneckKind.PLAIN] == [4 * 4 * 4]
    signed = CodeSite("m", (4, 4, 8), 0, signed=True, plain=True)
    assert all(spec.kind is BottleneckKind.PROJECTION for spec in options_of(signed, (8, 4)))
    assert all(spec.bits == 8 for spec in options_of(CodeSite("v", (64,), 0, False, True), (8, 4)))


def test_limits_of_boards():
    board = PlanSettings(board="nano33ble").target().board
    limit = fit._limit_of(PlanSettings(board="nano33ble"))
    assert 0 < limit.size_bytes <= max(m.size_bytes for m in board.memories if not m.external)
    assert fit._limit_of(PlanSettings(arena_bytes=5000)).size_bytes == 5000


def test_the_command_writes_a_plan_that_can_be_inserted(unet, tmp_path, capsys):
    model, x = unet
    model.save(tmp_path / "unet.keras")
    np.save(tmp_path / "x.npy", x[0])
    asked = 3900
    out = tmp_path / "out"
    command = ["fit", str(tmp_path / "unet.keras"), "--calibration", str(tmp_path / "x.npy")]
    command += ["--runtime=c", "--jobs=1", "--effort=quick", f"--out={out}"]
    assert cli.main([*command, f"--arena={asked}"]) == 0
    assert "the same, converted" in capsys.readouterr().out
    written = json.loads((out / "fit.json").read_text())
    plan = CompressionPlan.from_dict(json.loads((out / "compression_plan.json").read_text()))
    assert written["arena_bytes"] <= asked
    assert [s.name for s in plan.bottlenecks] == [m["name"] for m in written["maps"] if m["code"]]
    fitted = keras.models.load_model(out / "fitted.keras")
    assert len(fitted.layers) == len(model.layers) + len(plan.bottlenecks)
    # Neither bad input nor what does not fit leaves anything that looks like a result.
    np.save(tmp_path / "other.npy", x[0][:, :12])
    np.save(tmp_path / "labels.npy", np.zeros((3, 24, 24), np.int32))
    other = ["--calibration", str(tmp_path / "other.npy")]
    few = ["--labels", str(tmp_path / "labels.npy"), "--loss=sparse_categorical_crossentropy"]
    for bad, message in (
        (other, "calibration data of the wrong shape"),
        (few, "labels of the wrong shape"),
        (["--bits=8,3"], "widths of codes"),
        (["--board=nothing"], "nothing"),
    ):
        again = tmp_path / "bad"
        line = [*command, f"--arena={asked}", *bad, f"--out={again}"]
        assert cli.main(line) == 2
        assert message in capsys.readouterr().err
        assert not again.exists() or list(again.iterdir()) == []
    assert cli.main([*command, "--arena=500"]) == 1
    assert list(out.iterdir()) == []
    (out / "fit.txt").write_text("mine")
    assert cli.main([*command, f"--arena={asked}"]) == 2
    assert (out / "fit.txt").read_text() == "mine"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
