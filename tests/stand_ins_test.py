"""TILE is rewritten to resizes that give LiteRT's outputs, or refused with the reason; weights of
float16 are widened."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.passes.halves import without_halves
from deploy.passes.selects import without_int32_selects, without_selects
from deploy.passes.stand_ins import with_stand_ins
from deploy.passes.tiles import without_tiles
from deploy.profile import GraphProfile, profile_file
from deploy.runtime import litert, tflm
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.subgraphs import branching

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)


def tiled(shape: tuple[int, ...], multiples: tuple[int, ...], dtype: str = "int8") -> Graph:
    scale = Quantization((0.1,), (0,)) if dtype == "int8" else None
    make = Int8GraphMaker(0)
    x = make.graph.tensor(Tensor("x", shape, dtype, scale))
    make.inputs.append(x)
    often = make.graph.constant("often", np.array(multiples, np.int32))
    made = tuple(n * m for n, m in zip(shape, multiples, strict=True))
    y = make.graph.tensor(Tensor("y", made, dtype, scale))
    make.graph.operator(Operator("TILE", (x, often), (y,)))
    return make.build(outputs=[y])


@pytest.mark.parametrize("seed", range(20))
def test_random_tiles_give_the_outputs_of_litert(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 6))
    shape = tuple(int(n) for n in rng.integers(1, 6, rank))
    multiples = tuple(int(n) for n in rng.integers(1, 4, rank))
    dtype = ("int8", "float32")[seed % 2]
    graph = tiled(shape, multiples, dtype)
    values = rng.integers(-128, 128, shape).astype(dtype)
    rewritten = without_tiles(graph)
    assert not any(operator.opcode == "TILE" for operator in rewritten.operators)
    ((found,),) = litert.run(flatbuffer.write(rewritten), [[values]])
    assert found.tobytes() == np.tile(values, multiples).tobytes()
    ((again,),) = litert.run(flatbuffer.write(graph), [[values]])
    assert again.tobytes() == found.tobytes()


@needs_wheel
def test_a_tile_is_planned_and_verified() -> None:
    report = deploy.plan(flatbuffer.write(tiled((1, 4, 1, 5, 1, 3), (1, 1, 2, 1, 2, 1)))).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    assert not report.warnings


def test_what_no_resize_equals_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedModelError, match=r"TILE #0 \(y\) .* repeats int32: "):
        without_tiles(tiled((2, 3), (2, 1), "int32"))
    graph = tiled((2, 3), (2, 1))
    tensors = list(graph.tensors)
    tensors[1] = Tensor("often", (2,), "int32")
    with pytest.raises(UnsupportedModelError, match="as another operator says"):
        without_tiles(graph.replace(tensors=tuple(tensors)))
    with pytest.raises(UnsupportedModelError, match="rounds to other rows"):
        without_tiles(tiled((2, 3), (1, 41)))


def halved(seed: int) -> Graph:
    """A dense layer of float32 whose weights are stored as float16."""
    rng = np.random.default_rng(seed)
    make = Int8GraphMaker(seed)
    x = make.input((1, 6), dtype="float32")
    stored = make.graph.constant("w", rng.normal(size=(4, 6)).astype(np.float16))
    wide = make.graph.tensor(Tensor("w32", (4, 6), "float32"))
    make.graph.operator(
        Operator("DEQUANTIZE", (stored,), (wide,), Options("DequantizeOptions", ()))
    )
    fields = (("fused_activation_function", 0), ("weights_format", 0), ("keep_num_dims", False))
    y = make.graph.tensor(Tensor("y", (1, 4), "float32"))
    options = Options("FullyConnectedOptions", fields)
    make.graph.operator(Operator("FULLY_CONNECTED", (x, wide, -1), (y,), options))
    return make.build(outputs=[y])


@needs_wheel
def test_weights_of_float16_are_widened_exactly() -> None:
    graph = halved(0)
    (operator,) = without_halves(graph).operators
    weights = without_halves(graph).tensors[operator.inputs[1]]
    assert (weights.array() == graph.tensors[1].array().astype(np.float32)).all()
    report = deploy.plan(flatbuffer.write(graph)).report
    assert report.bit_exact
    assert not any("different outputs" in warning for warning in report.warnings)
    assert without_halves(tiled((2,), (2,))).operators[0].opcode == "TILE"


def selected(condition: tuple[int, ...]) -> Graph:
    make = Int8GraphMaker(0)
    inputs = [make.input(condition, dtype="bool")]
    inputs += [make.input((3, 4), dtype="float32") for _ in range(2)]
    y = make.graph.tensor(Tensor("y", (3, 4), "float32"))
    make.graph.operator(Operator("SELECT", tuple(inputs), (y,), Options("SelectOptions", ())))
    return make.build(outputs=[y])


@needs_wheel
def test_select_is_select_v2_where_both_are_the_same() -> None:
    for condition in ((3, 4), ()):
        report = deploy.plan(flatbuffer.write(selected(condition))).report
        assert report.bit_exact
        assert not any("different outputs" in warning for warning in report.warnings)
    by_row = selected((3,))
    assert without_selects(by_row) is by_row
    with pytest.raises(UnsupportedModelError, match=r"no kernel for SELECT #0 \(y\)"):
        deploy.plan(flatbuffer.write(by_row))


def wrapped(condition: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]) -> Graph:
    make = Int8GraphMaker(0)
    inputs = [make.input(condition, dtype="bool")]
    inputs += [make.input(shape, dtype="int32") for shape in (left, right)]
    made = tuple(np.broadcast_shapes(condition, left, right))
    y = make.graph.tensor(Tensor("y", made, "int32"))
    make.graph.operator(Operator("SELECT_V2", tuple(inputs), (y,), Options("SelectV2Options", ())))
    return make.build(outputs=[y])


@needs_wheel
@pytest.mark.parametrize(
    ("condition", "left", "right"),
    [
        ((3, 4), (3, 4), (3, 4)),
        ((4,), (3, 4), (1, 4)),
        ((1, 1), (3, 4), (3, 4)),
        ((5,), (1,), (5,)),
    ],
)
def test_a_select_of_int32_is_arithmetic_that_never_overflows(
    condition: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    graph = wrapped(condition, left, right)
    rewritten = without_int32_selects(graph)
    assert "SELECT_V2" not in {operator.opcode for operator in rewritten.operators}
    ends = np.array([-(2**31), 2**31 - 1, -1, 0, 1], np.int32)
    rng = np.random.default_rng(0)
    samples = [
        [rng.random(condition) < 0.5, rng.choice(ends, left), rng.choice(ends, right)]
        for _ in range(20)
    ]
    found = tflm.run(flatbuffer.write(rewritten), samples, arena_bytes=tflm.ROOMY_ARENA_BYTES)
    for (c, x, y), (values,) in zip(samples, found, strict=True):
        assert values.tolist() == np.where(c, x, y).tolist()
    report = deploy.plan(flatbuffer.write(graph)).report
    assert report.bit_exact
    assert not any("different outputs" in warning for warning in report.warnings)
    assert without_int32_selects(rewritten) is rewritten


@needs_wheel
@pytest.mark.parametrize(
    ("graph", "maps"),
    [
        # x; as 6 rows of 1, 6 rows repeated, as the shape of y.
        (tiled((2, 3), (1, 2)), [6, 6, 12, 12]),
        (halved(0), [4 * 6, 4 * 4]),
        (selected((3, 4)), [12, 48, 48, 48]),
    ],
    ids=["TILE", "float16", "SELECT"],
)
def test_a_file_with_stand_ins_is_verified_and_profiled_as_it_is_planned(
    graph: Graph, maps: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer.write(graph))
    deploy.plan(path, out=tmp_path / "out")
    assert deploy.verify(tmp_path / "out").endswith(f"compared with {path}")
    found = profile_file(path)
    assert isinstance(found, GraphProfile)
    assert [row.size_bytes for row in found.maps.maps] == maps


def test_a_tile_that_nothing_equals_is_profiled_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer.write(tiled((2, 3), (2, 1), "int32")))
    found = profile_file(path)
    assert isinstance(found, GraphProfile)
    assert [row.size_bytes for row in found.maps.maps] == [24, 48]


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2,), (2,))])
def test_selects_whose_shapes_do_not_go_together_are_left(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    graph = wrapped((1,), (1,), (1,))
    tensors = list(graph.tensors)
    for index, shape in zip(graph.inputs[1:], shapes, strict=True):
        tensors[index] = dataclasses.replace(tensors[index], shape=shape)
    damaged = graph.replace(tensors=tuple(tensors))
    assert without_int32_selects(damaged) is damaged


def test_subgraphs_get_their_stand_ins_too() -> None:
    graph = branching(0, "IF")
    assert with_stand_ins(graph) is graph
    both = graph.replace(others=(halved(0), graph.others[1]))
    assert len(with_stand_ins(both).others[0].operators) == 1
    assert with_stand_ins(both).others[1] is graph.others[1]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
