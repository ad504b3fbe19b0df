"""The source is run first, as it is in its file; blame falls where it belongs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import cli, flatbuffer, pipeline
from deploy.backends.tflm.defects import warnings_of
from deploy.backends.tflm.embed import embed
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.proof import evidence, source
from deploy.proof.samples import sample_inputs
from deploy.proof.source import run_source
from deploy.report import summary
from deploy.runtime import isolation, tflm
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError, VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.single_operators import single_operator

pytestmark = pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs the wheel")


def chain() -> Graph:
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 8, 8, 3)), channels=4, kernel=(3, 3))
    return make.build(outputs=[make.conv(x, channels=2)])


def pool_of_two_zero_points() -> Graph:
    """TensorFlow Lite Micro refuses it; nothing else is wrong with it."""
    make = Int8GraphMaker(0)
    graph = make.build(outputs=[make.pool(make.input((1, 8, 8, 3)))])
    tensors = list(graph.tensors)
    output = graph.outputs[0]
    tensors[output] = dataclasses.replace(tensors[output], quantization=Quantization((0.5,), (17,)))
    return graph.replace(tensors=tuple(tensors))


def test_a_source_that_the_runtime_refuses_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer.write(pool_of_two_zero_points()))
    assert cli.main(["plan", str(path), "--strips=false", f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert f"TensorFlow Lite Micro cannot run {path} as it is" in error
    assert "AVERAGE_POOL_2D (number 0)" in error
    assert "not its plan" in error
    assert len(error.strip().splitlines()) == 2


@pytest.mark.parametrize(
    "failure",
    [
        isolation.CrashedError("ended", received="signal SIGSEGV"),
        isolation.CrashedError("run did not return within 120 seconds"),
        VerificationError("TensorFlow Lite Micro fails to invoke the model", received="oh"),
    ],
)
def test_a_source_that_fails_is_bad_input(
    failure: VerificationError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr(source.tflm, "run", run)
    with pytest.raises(UnsupportedModelError, match="not its plan") as info:
        run_source(flatbuffer.write(chain()), chain())
    assert info.value.exit_code == 2
    assert str(failure.received or failure.what) in str(info.value)


def test_a_plan_that_fails_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain()
    content = flatbuffer.write(graph)
    ran = run_source(content, graph)
    assert ran.warnings == ()
    tensors = list(graph.tensors)
    weights = graph.operators[0].inputs[1]
    data = bytes(reversed(tensors[weights].data or b""))
    tensors[weights] = dataclasses.replace(tensors[weights], data=data)
    other = flatbuffer.write(graph.replace(tensors=tuple(tensors)))
    with pytest.raises(VerificationError, match="differs from the source model's"):
        evidence.collect(other, ran, graph=graph, predicted_bytes=4096)
    refused = flatbuffer.write(pool_of_two_zero_points())
    with pytest.raises(VerificationError, match="refuses the planned model"):
        evidence.collect(refused, ran, graph=graph, predicted_bytes=4096)


def test_a_source_that_never_computes_the_same_is_bad_input() -> None:
    graph = chain()
    ran = run_source(flatbuffer.write(graph), graph)
    changed = [[values + 1 for values in outputs] for outputs in ran.outputs]
    with pytest.raises(UnsupportedModelError, match="other outputs of the same inputs"):
        source.check_repeats(dataclasses.replace(ran, outputs=changed))
    source.check_repeats(ran)


def space_to_batch(*, padded: bool) -> Graph:
    """One row and one column are padded by it, or before it."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 5, 8, 4)), channels=4, kernel=(3, 3))
    if not padded:
        x = make.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])
    paddings = [[0, 1], [0, 1]] if padded else [[0, 0], [0, 0]]
    inputs = [x, make.integers("blocks", [1, 3]), make.integers("paddings", paddings)]
    options, quantization = Options("SpaceToBatchNDOptions"), make.quantization(x)
    y = make.operator("SPACE_TO_BATCH_ND", inputs, (3, 6, 3, 4), quantization, options)
    return make.build(outputs=[y])


def test_padding_that_tflm_never_sets_is_warned_of_and_the_models_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    padded, kernels = space_to_batch(padded=True), target(board="nano33ble").kernels
    (warning,) = warnings_of(padded, kernels)
    assert "SpaceToBatchND of TensorFlow Lite Micro pads with a value that is never set" in warning
    content = flatbuffer.write(padded)

    def differs(*_: object, **__: object) -> None:
        raise VerificationError("an output differs")

    monkeypatch.setattr(evidence, "_compare", differs)
    with pytest.raises(UnsupportedModelError, match="SPACE_TO_BATCH_ND #1") as raised:
        pipeline.plan(content, board="nano33ble", strips=False)
    assert "batch_size=1" in str(raised.value)
    monkeypatch.undo()

    def smallest(content: bytes, **_: object) -> int:
        raise VerificationError("output 0 differs in an arena of 1,824 bytes")

    monkeypatch.setattr(summary.tflm, "smallest_arena", smallest)
    with pytest.raises(UnsupportedModelError, match=r"another arena.* 1,824 bytes.*batch_size=1"):
        summary._measured_baseline(padded, content, 1824)
    monkeypatch.undo()
    plain = space_to_batch(padded=False)
    assert warnings_of(plain, kernels) == ()
    source.check_repeats(run_source(flatbuffer.write(plain), plain))


def test_a_model_that_only_tflm_runs_is_planned_with_a_warning() -> None:
    # LiteRT's reference kernels lack ELU.
    graph = single_operator("ELU")
    (warning,) = run_source(flatbuffer.write(graph), graph).warnings
    assert warning.startswith("not compared with LiteRT")
    assert "\n" not in warning


def test_a_wrong_plan_of_the_file_is_not_followed() -> None:
    graph = chain()
    plain = flatbuffer.write(graph)
    expected = run_source(plain, graph)
    # Everything on one place: the first convolution writes over what it has yet to read.
    offsets = [-1 if t.is_constant else 0 for t in graph.tensors]
    own = embed(graph, offsets)
    ran = run_source(flatbuffer.write(own), own, without_plan=plain)
    assert ran.warnings[0].startswith("the memory plan that the model brings is wrong")
    for want, found in zip(expected.outputs, ran.outputs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(want, found, strict=True))


def test_versions_that_the_reference_kernels_do_not_know_are_compared_all_the_same() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 3, 3, 8))
    options = Options("DepthToSpaceOptions", (("block_size", 2),))
    quantization = make.quantization(x)
    y = make.operator("DEPTH_TO_SPACE", [x], (1, 6, 6, 2), quantization, options, version=2)
    graph = make.build(outputs=[y])
    assert run_source(flatbuffer.write(graph), graph).warnings == ()


def test_samples_have_both_ends_of_every_type_and_do_not_fill_the_memory() -> None:
    tensors = (
        Tensor("a", (1, 5), "int8", Quantization((0.5,), (3,))),
        Tensor("b", (2, 2), "bool"),
        Tensor("c", (3,), "int16"),
    )
    samples = sample_inputs(Graph(tensors, (), inputs=(0, 1, 2), outputs=()))
    assert len(samples) == 17
    for sample in samples:
        assert [(s.shape, str(s.dtype)) for s in sample] == [(t.shape, t.dtype) for t in tensors]
    assert [list(samples[i][0].ravel()) for i in (0, 1, 2)] == [[-128] * 5, [127] * 5, [3] * 5]
    assert list(samples[3][0].ravel()) == [-128, 127, -128, 127, -128]
    assert list(samples[4][0].ravel()) == [-128, -128, -128, 127, 127]
    assert {bool(v) for s in samples for v in s[1].ravel()} == {False, True}
    large = Graph((Tensor("x", (1, 2**24), "int8"),), (), inputs=(0,), outputs=())
    assert sum(s[0].nbytes for s in sample_inputs(large)) <= 256 * 2**20


def test_a_model_with_bool_inputs_is_planned() -> None:
    make = Int8GraphMaker(0)
    shape = (1, 4, 4, 2)
    flags = make.graph.tensor(Tensor("flags", shape, "bool"))
    make.inputs.append(flags)
    x, y = make.input(shape), make.input(shape)
    tensors = make.graph.tensors
    tensors[y] = dataclasses.replace(tensors[y], quantization=make.quantization(x))
    out = make.graph.tensor(Tensor("out", shape, "int8", make.quantization(x)))
    make.graph.operator(Operator("SELECT_V2", (flags, x, y), (out,), Options("SelectV2Options")))
    import deploy

    result = deploy.plan(flatbuffer.write(make.build(outputs=[out])), strips=False)
    assert result.report.verified


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
