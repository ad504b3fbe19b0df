"""`fmc profile` of .tflite files: bytes of the file's types, and what the planner finds as well."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support import shared_path

from deploy import cli, flatbuffer, pipeline
from deploy.backends.tflm.place import place
from deploy.graph import Graph, Operator, Options
from deploy.profile import SubgraphProfiles, profile_file, profile_graph
from deploy.targets import kernels
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.maps.feature_maps import Storage
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph

LIBRARIES = ("reference", "cmsis-nn-dsp", "esp-nn-generic")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(25))
def test_live_bytes_are_those_of_the_plan(seed: int) -> None:
    """What the plan's pieces hold at every operator, counted byte by byte."""
    result = pipeline.plan(flatbuffer.write(random_graph(seed)), strips=False)
    assert result.content is not None
    report = result.report
    grid = np.zeros((len(report.operators), report.head_bytes), bool)
    for piece in report.pieces:
        grid[piece.start : piece.stop, piece.offset : piece.offset + piece.size_bytes] = True
    found = profile_graph(flatbuffer.read(result.content), name="m").maps
    assert [live.size_bytes for live in found.live_sets] == grid.sum(axis=1).tolist()
    assert found.peak_bytes <= report.lower_bound_bytes <= report.head_bytes
    aliases = {t.name for t in report.tensors if t.alias_reason and "in place" in t.alias_reason}
    assert {m.name for m in found.maps if m.storage is Storage.IN_PLACE} == aliases


def around(kind: str) -> Graph:
    """CONV_2D, an operator that keeps the shape, MAX_POOL_2D."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 8, 8, 16)), channels=16)
    if kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
        y = make.binary(kind, x, make.constant_like(x, (1, 1, 1, 16)))
    else:
        y = make.prelu(x) if kind == "PRELU" else make.unary(kind, x)
    return make.build(outputs=[make.pool(y, kind="MAX_POOL_2D")])


KINDS = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU", "RELU", "RELU6", "LEAKY_RELU")
KINDS += ("LOGISTIC", "TANH", "HARD_SWISH", "QUANTIZE", "SOFTMAX")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_in_place_is_what_the_kernels_of_the_target_do_in_place(name: str, kind: str) -> None:
    library, graph = kernels(name), around(kind)
    found = profile_graph(graph, name="m", library=library).maps
    own = kind in library.in_place
    (changed,) = (m for m in found.maps if m.producer == f"{kind} #1")
    assert (changed.storage is Storage.IN_PLACE) == own
    assert found.live_sets[1].size_bytes == (1 if own else 2) * 8 * 8 * 16
    assert found.peak_bytes == 2 * 8 * 8 * 16
    assert place(graph, library).lower_bound_bytes >= found.peak_bytes


def as_float(graph: Graph) -> Graph:
    """The same network with all maps in float32; weights keep their place."""
    tensors = tuple(
        t if t.is_constant else dataclasses.replace(t, dtype="float32", quantization=None)
        for t in graph.tensors
    )
    return graph.replace(tensors=tensors)


@pytest.mark.parametrize("seed", range(6))
def test_floats_take_four_bytes_and_one_in_int8(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = Int8GraphMaker(seed)
    x = make.input((1, 9, 9, 3))
    for _ in range(seed % 3 + 1):
        x = make.unary("RELU", make.conv(x, channels=5 + seed, kernel=(3, 3)))
    graph = make.build(outputs=[x])
    path = tmp_path / "float.tflite"
    path.write_bytes(flatbuffer.write(as_float(graph)))
    assert cli.main(["profile", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    int8 = profile_graph(graph, name="m").maps
    sizes = [int(np.prod(graph.tensors[t].shape)) for t in graph.activations()]
    assert sorted(m["bytes"] for m in value["maps"]) == sorted(4 * size for size in sizes)
    assert value["peak_bytes"] == 4 * int8.peak_bytes
    assert value["int8_peak_bytes"] == int8.peak_bytes
    assert value["int8_largest_bytes"] == int8.largest.size_bytes
    assert cli.main(["profile", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"peak (*): {4 * int8.peak_bytes:,} B" in text
    assert f"in int8: peak {int8.peak_bytes:,} B at" in text


def test_floats_at_the_ends_alone_keep_their_own_bytes() -> None:
    make = Int8GraphMaker(2)
    x = make.input((1, 4, 4, 2))
    y = make.unary("QUANTIZE", x)
    graph = make.build(outputs=[make.conv(y, channels=8)])
    tensors = list(graph.tensors)
    tensors[x] = dataclasses.replace(tensors[x], dtype="float32", quantization=None)
    graph = graph.replace(tensors=tuple(tensors))
    found = profile_graph(graph, name="m")
    assert [m.size_bytes for m in found.maps.maps] == [4 * 32, 32, 4 * 4 * 8]
    assert found.maps.peak_bytes == 4 * 32 + 32
    assert found.as_int8 is not None
    assert found.as_int8.peak_bytes == 32 + 4 * 4 * 8


def stateful() -> Graph:
    """SVDF with the activation state that it keeps, as converters write it."""
    make = Int8GraphMaker(3)
    x = make.input((1, 8))
    same = make.quantization(x)
    features = make.graph.constant("features", np.ones((4, 8), np.int8), quantization=same)
    time = make.graph.constant("time", np.ones((4, 5), np.int16), quantization=same)
    kept = make.graph.tensor(
        dataclasses.replace(make.graph.tensors[x], name="state", shape=(1, 20), is_variable=True)
    )
    make.graph.tensors[kept] = dataclasses.replace(make.graph.tensors[kept], dtype="int16")
    out = make.graph.tensor(dataclasses.replace(make.graph.tensors[x], name="out", shape=(1, 4)))
    options = Options("SVDFOptions", (("rank", 1), ("fused_activation_function", 0)))
    make.graph.operator(Operator("SVDF", (x, features, time, -1, kept), (out,), options))
    return make.build(outputs=[make.unary("RELU", out)])


def test_state_is_listed_and_takes_no_part_in_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "svdf.tflite"
    path.write_bytes(flatbuffer.write(stateful()))
    assert cli.main(["profile", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["state"] == [{"name": "state", "bytes": 2 * 20}]
    assert value["peak_bytes"] == 8 + 4
    assert "state" not in {m["name"] for m in value["maps"]}
    assert cli.main(["profile", str(path)]) == 0
    assert "in the persistent part: state 40 B" in capsys.readouterr().out
    assert cli.main(["plan", str(path)]) == 2


def several(graphs: list[Graph]) -> bytes:
    """A file with one subgraph for each graph, which share no constant."""
    import flatbuffers

    models = [
        schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer.write(g), 0))
        for g in graphs
    ]
    first = models[0]
    for model in models[1:]:
        (subgraph,) = model.subgraphs
        for tensor in subgraph.tensors:
            tensor.buffer += len(first.buffers)
        for operator in subgraph.operators:
            operator.opcodeIndex += len(first.operatorCodes)
        first.buffers += model.buffers
        first.operatorCodes += model.operatorCodes
        first.subgraphs.append(subgraph)
    builder = flatbuffers.Builder(1024)
    builder.Finish(first.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("count", [2, 3])
def test_subgraphs_are_listed_each_by_itself(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = [random_graph(seed) for seed in range(count)]
    path = tmp_path / "several.tflite"
    path.write_bytes(several(graphs))
    assert cli.main(["profile", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    peaks = [profile_graph(graph, name="m").maps.peak_bytes for graph in graphs]
    assert [s["peak_bytes"] for s in value["subgraphs"]] == peaks
    assert cli.main(["profile", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{path}: {count} subgraphs")
    assert all(f"peak (*): {peak:,} B" in text for peak in peaks)
    assert len(flatbuffer.read_file(path).others) == count - 1


@pytest.mark.parametrize("opcode", ["RELU", "RESHAPE", "CONCATENATION", "ADD"])
@pytest.mark.parametrize("behind", [0, 1])
def test_what_is_read_before_it_is_written_is_refused(opcode: str, behind: int) -> None:
    """Nothing goes round in circles: damaged files have operators that read what comes of them."""
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    first = make.conv(x, channels=2)
    last = make.conv(first, channels=2)
    graph = make.build(outputs=[make.conv(last, channels=2)])
    operators = list(graph.operators)
    inputs = (first, x) if opcode in ("CONCATENATION", "ADD") else (first,)
    source = operators[behind].outputs[0]
    operators[0] = Operator(opcode, (source, *inputs[1:]), operators[0].outputs, Options(""))
    with pytest.raises(UnsupportedModelError, match="before any operator writes it"):
        profile_graph(graph.replace(operators=tuple(operators)), name="m")


@pytest.mark.parametrize("opcode", ["RELU", "RELU6", "ADD", "RESHAPE", "CONV_2D"])
def test_a_handle_in_place_of_a_map_takes_no_memory(opcode: str) -> None:
    """Damaged files give maps the type of handles, which are no maps."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 4, 4, 2)), channels=2)
    y = make.conv(x, channels=2)
    graph = make.build(outputs=[make.conv(y, channels=2)])
    step = graph.producers()[y]
    operators, tensors = list(graph.operators), list(graph.tensors)
    if opcode != "CONV_2D":
        inputs = (x, x) if opcode == "ADD" else (x,)
        operators[step] = Operator(opcode, inputs, (y,), Options(""))
    tensors[y] = dataclasses.replace(tensors[y], dtype="resource", quantization=None)
    graph = graph.replace(operators=tuple(operators), tensors=tuple(tensors))
    found = profile_graph(graph, name="m", library=kernels("cmsis-nn-dsp"))
    assert tensors[y].name not in {entry.name for entry in found.maps.maps}


@pytest.mark.parametrize(
    "name", ["mww_okay_nabu_v2", "tflm_trained_lstm_int8", "tflm_keyword_scrambled_8bit"]
)
def test_public_models_with_state_are_listed(name: str) -> None:
    found = profile_file(shared_path(f"models/public/{name}.tflite"))
    parts = found.subgraphs if isinstance(found, SubgraphProfiles) else (found,)
    assert parts[0].maps.peak_bytes > 0
    assert parts[0].state
    # What only sets variables once has no maps.
    assert all("no maps" in part.to_text() for part in parts[1:])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
