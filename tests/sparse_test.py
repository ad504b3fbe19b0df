"""Weights that are stored sparse are read as LiteRT's DENSIFY makes them, and planned as dense."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import deploy
from deploy import cli, flatbuffer
from deploy.graph import Graph, Operator, Options, Tensor
from deploy.passes.stand_ins import with_stand_ins
from deploy.profile import GraphProfile, profile_file
from deploy.runtime import litert, tflm
from tests.int8_graphs import Int8GraphMaker

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)


def encoded(
    dense: np.ndarray, order: list[int], blocks: dict[int, int], compressed: set[int]
) -> tuple[object, np.ndarray]:
    """Returns the schema's table and the values, level by level as the format defines them.

    Args:
        order: of the levels, blocks after the dimensions.
        blocks: dimension -> size of the blocks that it is cut into.
        compressed: the numbers of the compressed levels.
    """
    split: list[int] = []
    for dimension, size in enumerate(dense.shape):
        block = blocks.get(dimension, 1)
        split += [size // block, block]
    outer = [2 * d for d in range(dense.ndim)]
    inner = [2 * d + 1 for d in blocks]
    dropped = tuple(2 * d + 1 for d in range(dense.ndim) if d not in blocks)
    axes = [*outer, *inner, *dropped]
    walk = dense.reshape(split).transpose(axes)
    walk = walk.reshape(walk.shape[: len(outer) + len(inner)]).transpose(order)
    table = schema.SparsityParametersT()
    table.traversalOrder = np.array(order, np.int32)
    table.blockMap = np.array(list(blocks), np.int32) if blocks else None
    table.dimMetadata = []
    reached: list[tuple[int, ...]] = [()]
    for level, size in enumerate(walk.shape):
        entry = schema.DimensionMetadataT()
        table.dimMetadata.append(entry)
        if level not in compressed:
            entry.format, entry.denseSize = schema.DimensionType.DENSE, size
            reached = [(*place, i) for place in reached for i in range(size)]
            continue
        segments, indices, kept = [0], [], []
        for place in reached:
            for i in range(size):
                if np.any(walk[(*place, i)]):
                    indices.append(i)
                    kept.append((*place, i))
            segments.append(len(indices))
        reached = kept
        entry.format = schema.DimensionType.SPARSE_CSR
        entry.arraySegmentsType = schema.SparseIndexVector.Uint16Vector
        entry.arraySegments = schema.Uint16VectorT()
        entry.arraySegments.values = np.array(segments, np.uint16)
        entry.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
        entry.arrayIndices = schema.Uint8VectorT()
        entry.arrayIndices.values = np.array(indices, np.uint8)
    values = np.array([walk[place] for place in reached], dense.dtype)
    return table, values


def stored(graph: Graph, tensor: int, table: object, values: np.ndarray) -> bytes:
    """Returns the file of a graph with one constant stored sparse."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer.write(graph), 0))
    entry = model.subgraphs[0].tensors[tensor]
    entry.sparsity = table
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    entry.buffer = len(model.buffers) - 1
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def dense_layer(weights: np.ndarray, *, densify: bool) -> tuple[Graph, int]:
    """A layer of float32, and the number of its weights."""
    make = Int8GraphMaker(0)
    x = make.input((1, weights.shape[1]), dtype="float32")
    kept = used = make.graph.constant("stored", weights)
    if densify:
        used = make.graph.tensor(Tensor("w", weights.shape, str(weights.dtype)))
        make.graph.operator(Operator("DENSIFY", (kept,), (used,), Options("DensifyOptions")))
    if weights.dtype == np.float16:
        wide = make.graph.tensor(Tensor("w32", weights.shape, "float32"))
        make.graph.operator(Operator("DEQUANTIZE", (used,), (wide,), Options("DequantizeOptions")))
        used = wide
    fields = (("fused_activation_function", 0), ("weights_format", 0), ("keep_num_dims", False))
    y = make.graph.tensor(Tensor("y", (1, len(weights)), "float32"))
    options = Options("FullyConnectedOptions", fields)
    make.graph.operator(Operator("FULLY_CONNECTED", (x, used, -1), (y,), options, version=8))
    return make.build(outputs=[y]), kept


def pruned(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    values = rng.integers(-8, 9, shape) * (rng.random(shape) < 0.4)
    return values.astype(dtype)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_stored_sparse_is_read_as_litert_makes_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(2, 5))
    shape = tuple(int(n) * 4 for n in rng.integers(1, 4, rank))
    # LiteRT knows blocks in the order of the dimensions alone.
    cut = sorted(int(d) for d in rng.permutation(rank)[: rng.integers(0, 3)])
    blocks = {d: int(rng.choice([2, 4])) for d in cut}
    order = [*(int(d) for d in rng.permutation(rank)), *range(rank, rank + len(cut))]
    compressed = {level for level in range(rank) if rng.random() < 0.5}
    weights = pruned(rng, shape, (np.float32, np.int8, np.float16)[seed % 3])
    make = Int8GraphMaker(0)
    kept = make.graph.constant("stored", weights)
    y = make.graph.tensor(Tensor("y", shape, str(weights.dtype)))
    make.graph.operator(Operator("DENSIFY", (kept,), (y,), Options("DensifyOptions")))
    make.input((1, 1))
    graph = make.build(outputs=[y])
    content = stored(graph, kept, *encoded(weights, order, blocks, compressed))
    found = flatbuffer.read(content).tensors[kept]
    assert found.stored_sparse
    assert np.array_equal(found.array(), weights)
    ((made,),) = litert.run(content, [[np.zeros((1, 1), np.int8)]])
    assert np.array_equal(made, weights)


CASES = {
    "densified": (np.float32, True),
    "halves": (np.float16, True),
    "kernel": (np.float32, False),
}


@needs_wheel
@pytest.mark.parametrize("case", CASES)
def test_a_model_with_sparse_weights_is_planned_and_verified(case: str, tmp_path: Path) -> None:
    dtype, densify = CASES[case]
    weights = pruned(np.random.default_rng(3), (8, 12), dtype)
    graph, kept = dense_layer(weights, densify=densify)
    path = tmp_path / "pruned.tflite"
    path.write_bytes(stored(graph, kept, *encoded(weights, [0, 1], {}, {1})))
    (operator,) = with_stand_ins(flatbuffer.read_file(path)).operators
    assert operator.opcode == "FULLY_CONNECTED"
    report = deploy.plan(path, out=tmp_path / "out").report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    # LiteRT ran the file itself, with what it makes of the sparse weights.
    assert not any("LiteRT" in warning for warning in report.warnings)
    assert f"compared with {path}" in deploy.verify(tmp_path / "out")
    profile = profile_file(path)
    assert isinstance(profile, GraphProfile)
    assert [row.name for row in profile.maps.maps] == ["input_0", "y"]


def _outside(table: object) -> None:
    table.dimMetadata[1].arrayIndices.values.fill(200)


def _backwards(table: object) -> None:
    segments = table.dimMetadata[1].arraySegments
    segments.values = segments.values[::-1]


def _twice(table: object) -> None:
    table.traversalOrder = np.array([0, 0], np.int32)


def _few(table: object) -> None:
    table.dimMetadata = table.dimMetadata[:1]


@pytest.mark.parametrize("damage", [_outside, _backwards, _twice, _few])
def test_sparse_weights_that_do_not_hold_together_are_refused(
    damage: Callable[[object], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pruned(np.random.default_rng(1), (8, 12), np.float32)
    graph, kept = dense_layer(weights, densify=True)
    table, values = encoded(weights, [0, 1], {}, {1})
    damage(table)
    path = tmp_path / "damaged.tflite"
    path.write_bytes(stored(graph, kept, table, values))
    assert cli.main(["plan", str(path)]) == 2
    assert "truncated or corrupted" in capsys.readouterr().err


def test_dense_models_are_left_alone() -> None:
    graph, _ = dense_layer(np.ones((2, 3), np.float32), densify=False)
    assert with_stand_ins(graph) is graph
    assert dataclasses.replace(graph.tensors[0], stored_sparse=True) != graph.tensors[0]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
