"""Files that no plan can be made of: refused in two lines that name what is wrong and where."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import shared_path

from deploy import cli, flatbuffer, pipeline
from deploy.graph import Graph, Padding, Tensor
from deploy.supported import check_supported
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker

REFUSED = {
    "c02_ptq": r"SPACE_TO_BATCH_ND #12 .*batch_size=1",
    "c02c_a_gap_dyn": r"SPACE_TO_BATCH_ND #1 .*batch_size=1",
    "c02c_c_seq_dyn": r"SPACE_TO_BATCH_ND #1 .*batch_size=1",
    "c14_reshape_m1_None": r"RESHAPE #12 .*batch_size=1",
    "concat_other_size": r"CONCATENATION #0 \(t1\) .* expected \(1, 8, 4, 2\)",
    "reshape_other_size": r"RESHAPE #0 \(t1\) .* t0; expected the elements of \(1, 33\)",
    "slice_outside": r"SLICE #0 \(t1\) .* leaves its input",
    "slice_rank": r"SLICE #0 \(t1\) .* t2; expected 4 values; received 2",
    "input_minus_2": r"CONV_2D #0 reads tensor -2",
    "operator_without_inputs": r"MAX_POOL_2D #0 \(t1\) .* number of inputs; expected 1",
    "stride_0": r"CONV_2D #0 \(t3\) .* stride_h; expected 1 or more; received 0",
    "padding_7": r"CONV_2D #0 \(t3\) .* padding; expected 0 to 1; received 7",
    "huge_input": r"tensor t0 .* too large",
    "conv_output_rows+1": r"CONV_2D #0 \(t3\) .* expected \(1, 12, 12, 8\)",
    "signature_out_of_range": r"signature is tensor 99 of 6",
    "output_is_input": r"output in .* is an input",
    "output_is_constant": r"output t1 .* is a constant",
    "empty_map": r"tensor t0 .* is empty",
    "no_options": r"CONV_2D #0 \(t3\) .* has no options table",
    "scale_nan": r"tensor in .* wrong scale; .* received nan",
    "scale_0": r"tensor in .* wrong scale; .* received 0.0",
    "scale_neg": r"tensor in .* wrong scale; .* received -0.1",
    "zero_point_300": r"tensor in .* wrong zero point; expected -128 to 127; received 300",
    "custom_5000": r"does not have of its own: A+\.\.\.A+ #0 \(t3\)",
    "out_POOL_dw3": r"TensorFlow Lite Micro cannot run .*AVERAGE_POOL_2D",
}


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a search to be told."""
    monkeypatch.delattr(pipeline, "best_plan")


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_file_that_cannot_be_planned(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = shared_path(f"cases/tflite/{name}.tflite")
    out = tmp_path / "out"
    assert cli.main(["plan", str(path), "--board=nano33ble", f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert re.search(REFUSED[name], error.replace("\n", " ")), error
    assert len(error.splitlines()) == 2
    assert len(error) < 1200
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("SignalRfft", r"SignalRfft #0 .* has a wrong fft_length"),
        ("TFLite_Detection_PostProcess", r"TFLite_Detection.* has a wrong number of inputs"),
        ("ethos-u", r"compiled by Vela for an Ethos-U.*plan the \.tflite that Vela was given"),
        ("TFLM_DECODE", r"compressed weights.* plan the \.tflite as it was before"),
        ("FlexErf", r"of TensorFlow itself, which .* cannot run: FlexErf #0"),
        ("edgetpu-custom-op", r"compiled for an Edge TPU.* cannot run"),
        ("Mine", r"not have of its own: Mine #0 .*--custom Mine"),
    ],
)
def test_a_custom_operator_is_told_for_what_it_is(code: str, told: str) -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4))
    graph = make.build(outputs=[make.unary("RELU", x)])
    operator = replace(graph.operators[0], opcode="CUSTOM", custom_code=code, options=None)
    with pytest.raises(UnsupportedModelError) as error:
        check_supported(graph.replace(operators=(operator,)))
    assert re.search(told, str(error.value).replace("\n", " "))
    assert len(str(error.value).splitlines()) == 2


def of_kind(opcode: str, units: int) -> Graph:
    """A model of one operator with odd numbers of weights where ``units`` is odd."""
    make = Int8GraphMaker(units)
    if opcode == "FULLY_CONNECTED":
        return make.build(outputs=[make.fully_connected(make.input((1, 7)), units=units)])
    if opcode == "CONV_2D":
        x = make.input((1, 5, 5, 3))
        return make.build(outputs=[make.conv(x, channels=units, kernel=(3, 3))])
    x = make.input((1, 5, 5, units))
    return make.build(outputs=[make.depthwise(x, kernel=(3, 3))])


def told_by(
    command: str,
    content: bytes,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What a command that refuses a file says, which are two lines."""
    (folder / "model.tflite").write_bytes(content)
    assert cli.main([command, str(folder / "model.tflite"), "--board=nano33ble"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 2, error
    return error.replace("\n", " ")


WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("opcode", WEIGHTED)
@pytest.mark.parametrize("units", [3, 6])
def test_weights_of_4_bits_are_told_for_what_they_are(
    units: int,
    opcode: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = of_kind(opcode, units)
    index = graph.operators[0].inputs[1]
    weights = graph.tensors[index]
    packed = replace(weights, dtype="int4", data=bytes((weights.elements + 1) // 2))
    tensors = tuple(packed if t is weights else t for t in graph.tensors)
    error = told_by("plan", flatbuffer.write(graph.replace(tensors=tensors)), tmp_path, capsys)
    assert f"tensor {weights.name} is int4, two values a byte" in error, units
    assert "Convert again with weights of 8 bits" in error


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("command", ["plan", "profile"])
def test_compressed_weights_are_told_for_what_they_are(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """TFLM's compression leaves the shapes of tensors, whose buffers are then too short for them,
    and metadata of this name: tensorflow/lite/micro/compression/metadata_flatbuffer."""
    graph = of_kind("FULLY_CONNECTED", 4)
    index = graph.operators[0].inputs[1]
    tensors = list(graph.tensors)
    tensors[index] = replace(tensors[index], data=b"short")
    compressed = graph.replace(
        tensors=tuple(tensors), metadata=(("COMPRESSION_METADATA", bytes(16)),)
    )
    error = told_by(command, flatbuffer.write(compressed), tmp_path, capsys)
    assert re.search(r"model\.tflite has compressed weights .* as it was before", error), error


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("opcode", WEIGHTED)
@pytest.mark.parametrize(
    ("types", "told"),
    [
        ({"int8": "uint8"}, r"computes with uint8, .* with int8 quantisation"),
        ({"int8": "float32", "int32": "float32"}, r"is hybrid: int8 weights, .* again with full"),
    ],
)
def test_files_of_the_formats_before_int8_are_told_for_what_they_are(
    opcode: str,
    types: dict[str, str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Maps and biases have other types; the weights, too, unless the file is hybrid."""
    graph = of_kind(opcode, 5)
    keeps = graph.operators[0].inputs[1] if "float32" in types.values() else None
    tensors = tuple(
        t if number == keeps else _retyped(t, types.get(t.dtype, t.dtype))
        for number, t in enumerate(graph.tensors)
    )
    error = told_by("plan", flatbuffer.write(graph.replace(tensors=tensors)), tmp_path, capsys)
    assert re.search(rf"{opcode} #0 .*{told}", error), error


def _retyped(tensor: Tensor, dtype: str) -> Tensor:
    scales = None if dtype == "float32" else tensor.quantization
    if scales is not None and dtype == "uint8":
        scales = replace(scales, zero_points=tuple(128 for _ in scales.zero_points))
    return replace(tensor, dtype=dtype, quantization=scales)


def test_all_custom_operators_that_a_file_needs_are_named_at_once() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4))
    for code in ("Second", "First", "SignalDelay"):
        x = make.unary("RELU", x)
        operator = make.graph.operators[-1]
        own = replace(operator, opcode="CUSTOM", custom_code=code, options=None)
        make.graph.operators[-1] = own
    graph = make.build(outputs=[x])
    with pytest.raises(UnsupportedModelError, match=r"Second #0 .*\n.*--custom First,Second;"):
        check_supported(graph)
    with pytest.raises(UnsupportedModelError, match=r"a kernel for it, plan with --custom First;"):
        check_supported(graph, customs=("Second",))


def test_open_sizes_are_told_for_what_they_are() -> None:
    """The converter has 1 where a model takes inputs of any length."""
    make = Int8GraphMaker(0)
    x = make.input((1, 1, 6, 4))
    make.conv(x, channels=2, kernel=(3, 3), padding=Padding.VALID)
    graph = make.build(outputs=[len(make.graph.tensors) - 1])

    def opened(*signature: int) -> Graph:
        tensors = list(graph.tensors)
        tensors[x] = replace(tensors[x], shape_signature=signature)
        return graph.replace(tensors=tuple(tensors))

    with pytest.raises(
        UnsupportedModelError,
        match=r"open sizes, \(1, \?, 6, 4\) of input_0, which the file has as \(1, 1, 6, 4\): ",
    ):
        check_supported(opened(1, -1, 6, 4))
    with pytest.raises(UnsupportedModelError, match="open batch"):
        check_supported(opened(-1, 1, 6, 4))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
