"""The flatbuffer reader and writer against real models, LiteRT and broken bytes."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from graph_maker import GraphMaker
from support import MLPERF_TINY, mlperf_tiny

from deploy import flatbuffer
from deploy.backends.tflm.embed import embed, embedded_offsets, without_plan
from deploy.runtime import litert
from keras_fmc.errors import BadInputError, FmcError


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_round_trip_keeps_graph_and_outputs(name: str) -> None:
    content = mlperf_tiny(name).read_bytes()
    graph = flatbuffer.read(content)
    again = flatbuffer.write(graph)
    assert flatbuffer.read(again) == graph
    assert flatbuffer.write(flatbuffer.read(again)) == again
    tensor = graph.tensors[graph.inputs[0]]
    rng = np.random.default_rng(0)
    sample = [rng.integers(-128, 128, tensor.shape).astype(tensor.dtype)]
    assert np.array_equal(litert.run(content, [sample]), litert.run(again, [sample]))


def test_every_constant_is_aligned_to_16_bytes() -> None:
    graph = flatbuffer.read_file(mlperf_tiny("kws_ref_model"))
    content = flatbuffer.write(graph)
    constants = {t.data for t in graph.tensors if t.data is not None and len(t.data) >= 64}
    assert constants
    for data in constants:
        assert content.count(data) == 1
        assert content.index(data) % 16 == 0


def test_equal_constants_are_stored_once() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    outputs = tuple(maker.rows(source, 1, 3) for _ in range(20))
    graph = maker.build((source,), outputs)
    content = flatbuffer.write(graph)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    stored = sorted(bytes(b.data) for b in model.buffers if b.data is not None)
    begin, size = (np.array(v, np.int32).tobytes() for v in ([0, 1, 0, 0], [1, 2, 4, 4]))
    assert stored == sorted([begin, size])
    assert flatbuffer.read(content) == graph


def test_an_embedded_plan_is_read_back() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    graph = maker.build((source,), (maker.unary(source),))
    planned = embed(embed(graph, [0, 0]), [0, 64])
    read = flatbuffer.read(flatbuffer.write(planned))
    assert embedded_offsets(read) == (0, 64)
    assert len(read.metadata) == 1
    # The layout that TFLM's documentation gives: version, subgraph, count, offsets.
    assert struct.unpack("<5i", read.metadata[0][1]) == (1, 0, 2, 0, 64)
    assert embedded_offsets(without_plan(read)) is None
    with pytest.raises(ValueError, match="1 offsets for 2 tensors"):
        embed(graph, [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a TFLite model.*0 bytes"),
        (b"\x1c\0\0\0TFL2" + b"\0" * 60, "not a TFLite model"),
        (b"\x1c\0\0\0TFL3", "truncated or corrupted"),
        (b"\xff\xff\xff\x7fTFL3" + b"\0" * 60, "truncated or corrupted"),
    ],
)
def test_other_bytes_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        flatbuffer.read(content, source="x.tflite")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"cannot read .*none\.tflite"):
        flatbuffer.read_file(tmp_path / "none.tflite")


def test_truncated_and_flipped_files_never_escape_as_other_errors() -> None:
    content = mlperf_tiny("kws_ref_model").read_bytes()
    rng = random.Random(7)
    refused = 0
    for trial in range(300):
        broken = bytearray(content)
        if trial % 3 == 0:
            broken = broken[: rng.randrange(8, len(broken))]
        else:
            # The tables stand at the end of the file, the weights before them.
            start = 0 if trial % 3 == 1 else len(broken) - 12_000
            for _ in range(rng.choice((1, 4, 16))):
                broken[rng.randrange(max(start, 8), len(broken))] ^= 1 << rng.randrange(8)
        try:
            flatbuffer.read(bytes(broken))
        except FmcError:
            refused += 1
    assert refused > 100


def test_subgraphs_that_nothing_calls_are_read_beside_the_first() -> None:
    content = mlperf_tiny("ad01_int8").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.subgraphs.append(model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = flatbuffer.read(bytes(builder.Output()))
    (other,) = graph.others
    assert other.operators == graph.operators
    assert not other.metadata


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
