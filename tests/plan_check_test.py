"""plan_check.c, compiled with sanitizers, on good, damaged and exchanged models."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from c_compilers import ALL, Compiler, each, require
from graph_maker import GraphMaker
from planned import planned, striped_graph
from support import MLPERF_TINY, mlperf_tiny

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.embed import METADATA_NAME, embed
from deploy.emit.files import write_all
from deploy.emit.plan_check import plan_check_files
from deploy.graph import ITEM_BYTES, Graph
from deploy.proof.arena_plan import ArenaSizes, arena_plan_files

OK, NOT_A_MODEL, CORRUPT, NO_SUBGRAPH, MISSING, TWICE, COUNT, OFFSET, SIZE = range(9)

_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "arena_plan.h"
#include "plan_check.h"
/* Each line of input names a file; each model is copied to a block of exactly its size. */
int main(void) {
  char path[1024];
  while (scanf("%1023s", path) == 1) {
    FILE *file = fopen(path, "rb");
    long size;
    unsigned char *data;
    uint32_t where;
    int status;
    if (file == NULL) return 1;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    data = malloc(size > 0 ? (size_t)size : 1);
    if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) return 2;
    status = fmc_plan_check(data, (size_t)size, m_tensor_offsets, m_tensor_bytes,
                            M_TENSOR_COUNT, &where);
    printf("%d %u %s\\n", status, (unsigned)where, fmc_plan_status_text(status));
    free(data);
    fclose(file);
  }
  return 0;
}
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[tuple[int, int, str]]]:
    """Returns check(*models) for the plan of ``model()``; any sanitizer report fails."""
    folder = tmp_path_factory.mktemp("check")
    build(folder, striped_graph())

    def run(*models: bytes) -> list[tuple[int, int, str]]:
        paths = []
        for number, model in enumerate(models):
            paths.append(folder / f"model-{number}")
            paths[-1].write_bytes(model)
        return run_checker(folder, paths)

    return run


def build(folder: Path, graph: Graph) -> None:
    require("gcc")
    plan = planned(graph)
    sizes = ArenaSizes(plan.head_bytes + 100, plan.head_bytes, 100, "any")
    files = arena_plan_files(plan, sizes, model_name="m") | plan_check_files()
    write_all(folder, {**files, "main.c": _MAIN})
    subprocess.run(
        "gcc -std=c99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all "
        "main.c arena_plan.c plan_check.c -o check",
        shell=True,
        cwd=folder,
        check=True,
    )


def run_checker(folder: Path, paths: list[Path]) -> list[tuple[int, int, str]]:
    done = subprocess.run(
        [folder / "check"],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert len(rows) == len(paths)
    return [(int(status), int(where), text) for status, where, text in rows]


def model(graph: Graph | None = None) -> bytes:
    graph = striped_graph() if graph is None else graph
    return flatbuffer.write(embed(graph, planned(graph).offsets))


def with_metadata(*entries: tuple[str, bytes]) -> bytes:
    return flatbuffer.write(striped_graph().replace(metadata=entries))


def plan_bytes(offsets: tuple[int, ...], count: int | None = None) -> bytes:
    size = len(offsets) if count is None else count
    return struct.pack(f"<3i{len(offsets)}i", 1, 0, size, *offsets)


def test_a_model_whose_views_have_no_operator_passes(tmp_path: Path) -> None:
    """What ``fmc plan`` writes: constants that only those views read are not in the file."""
    require("gcc")
    content = mlperf_tiny("kws_ref_model").read_bytes()
    (tmp_path / "m.tflite").write_bytes(content)
    settings = {"board": "mps2an385", "effort": "quick"}
    report = deploy.plan(tmp_path / "m.tflite", out=tmp_path / "out", **settings).report
    assert any(operator.implicit for operator in report.operators)
    (tmp_path / "out/main.c").write_text(_MAIN)
    command = ["gcc", "-std=c99", "main.c", "arena_plan.c", "plan_check.c", "-o", "check"]
    subprocess.run(command, cwd=tmp_path / "out", check=True)
    found = run_checker(tmp_path / "out", [tmp_path / "out/model.tflite"])
    assert found == [(OK, 0, "the model carries the plan of arena_plan.h")]


@each(*ALL)
def test_it_compiles_everywhere(compiler: Compiler, tmp_path: Path) -> None:
    _, source = write_all(tmp_path, plan_check_files())
    compiler.must_compile(source, "-Wconversion")


def test_the_planned_model_passes(check: Callable) -> None:
    assert check(model()) == [(OK, 0, "the model carries the plan of arena_plan.h")]


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_real_models_pass_and_others_do_not(name: str, tmp_path: Path) -> None:
    graph = flatbuffer.read_file(mlperf_tiny(name))
    plan = planned(graph)
    build(tmp_path, graph)
    good, plain = tmp_path / "good", tmp_path / "plain"
    good.write_bytes(model(graph))
    plain.write_bytes(mlperf_tiny(name).read_bytes())
    moved = list(plan.offsets)
    last = max(i for i, offset in enumerate(moved) if offset >= 0)
    moved[last] += 16
    other = tmp_path / "other"
    other.write_bytes(flatbuffer.write(embed(graph, moved)))
    found = run_checker(tmp_path, [good, plain, other])
    assert [row[:2] for row in found] == [(OK, 0), (MISSING, 0), (OFFSET, last)]


def test_every_difference_has_its_code(check: Callable) -> None:
    offsets = planned(striped_graph()).offsets
    wrong = (*offsets[:5], offsets[5] + 16, *offsets[6:])
    entry = (METADATA_NAME, plan_bytes(offsets))
    two = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model(), 0))
    two.subgraphs = [two.subgraphs[0], two.subgraphs[0]]
    none = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model(), 0))
    none.subgraphs = []
    bare = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model(), 0))
    bare.metadata = bare.metadataBuffer = bare.signatureDefs = None
    misdirected = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model(), 0))
    misdirected.metadata[0].buffer = len(misdirected.buffers)
    cases = {
        b"": (NOT_A_MODEL, 0),
        b"TFL3": (NOT_A_MODEL, 0),
        b"\x10\x00\x00\x00TFL2" + bytes(64): (NOT_A_MODEL, 0),
        b"\xf0\x00\x00\x00TFL3" + bytes(64): (CORRUPT, 0),
        pack(two): (COUNT, 0),
        pack(none): (NO_SUBGRAPH, 0),
        with_metadata(): (MISSING, 0),
        with_metadata(("OfflineMemoryAllocatio", plan_bytes(offsets))): (MISSING, 0),
        with_metadata(entry, entry): (TWICE, 0),
        with_metadata((METADATA_NAME, b"")): (CORRUPT, 0),
        with_metadata((METADATA_NAME, plan_bytes(offsets[:-1]))): (COUNT, 0),
        with_metadata((METADATA_NAME, plan_bytes(offsets, 3))): (COUNT, 0),
        with_metadata((METADATA_NAME, plan_bytes((*offsets, 0)))): (COUNT, 0),
        with_metadata((METADATA_NAME, plan_bytes(offsets[:-1], len(offsets)))): (COUNT, 0),
        model(striped_graph(strips=4)): (COUNT, 0),
        flatbuffer.write(striped_graph(strips=4).replace(metadata=(entry,))): (COUNT, 0),
        pack(bare): (MISSING, 0),
        pack(misdirected): (CORRUPT, 0),
        with_metadata((METADATA_NAME, plan_bytes(wrong))): (OFFSET, 5),
        with_metadata(("min_runtime_version", b"1.5.0"), entry): (OK, 0),
    }
    found = check(*cases)
    assert [row[:2] for row in found] == list(cases.values())
    texts = {row[2] for row in found}
    assert len(texts) == len({row[0] for row in found})
    assert "unknown status" not in texts


def pack(table: object) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    "shape",
    [
        (1, 6, 4, 9),
        # 192 * (2^26 + 1) = 192 in 32 bits.
        (192, 2**26 + 1),
    ],
)
def test_a_tensor_of_another_size_is_found(shape: tuple[int, ...], check: Callable) -> None:
    graph = striped_graph()
    last = graph.outputs[0]
    tensors = list(graph.tensors)
    assert tensors[last].size_bytes == 192
    tensors[last] = dataclasses.replace(tensors[last], shape=shape)
    changed = graph.replace(tensors=tuple(tensors))
    found = check(flatbuffer.write(embed(changed, planned(graph).offsets)))
    assert [row[:2] for row in found] == [(SIZE, last)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    require("gcc")
    folder = tmp_path_factory.mktemp("library")
    write_all(folder, plan_check_files())
    command = "gcc -std=c99 -shared -fPIC plan_check.c -o check.so"
    subprocess.run(command, shell=True, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "check.so"))


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_the_size_of_every_type_is_known(dtype: str, library: ctypes.CDLL) -> None:
    maker = GraphMaker()
    source = maker.tensor(3)
    graph = maker.build((source,), (source,))
    tensor = dataclasses.replace(graph.tensors[0], dtype=dtype, quantization=None)
    data = flatbuffer.write(embed(graph.replace(tensors=(tensor,)), (0,)))
    numbers = ctypes.c_int32 * 1
    for extra, status in ((0, OK), (1, SIZE)):
        size = numbers(3 * ITEM_BYTES[dtype] + extra)
        assert library.fmc_plan_check(data, len(data), numbers(0), size, 1, None) == status


def test_every_truncation_is_refused(check: Callable) -> None:
    whole = model()
    sizes = sorted({*range(0, len(whole), 5), *range(len(whole) - 64, len(whole))})
    found = check(*(whole[:size] for size in sizes))
    assert {row[0] for row in found} <= {NOT_A_MODEL, CORRUPT}


def test_a_name_that_is_cut_off_is_not_read_past_the_end(check: Callable) -> None:
    """The metadata's name is moved to the end of the file, where its last letters are missing."""
    whole = bytearray(model())
    name = whole.index(METADATA_NAME.encode()) - 4
    (pointer,) = (
        at
        for at in range(0, name, 4)
        if struct.unpack_from("<I", whole, at)[0] == name - at and at > 64
    )
    struct.pack_into("<I", whole, pointer, len(whole) - pointer)
    moved = bytes(whole) + struct.pack("<I", len(METADATA_NAME)) + METADATA_NAME.encode()
    assert [row[0] for row in check(moved, moved[:-5])] == [OK, CORRUPT]


def test_fields_beyond_the_vtable_are_absent(check: Callable) -> None:
    whole = bytearray(model())
    (root,) = struct.unpack_from("<I", whole, 0)
    (back,) = struct.unpack_from("<i", whole, root)
    metadata_field = 6
    # The vtable: its own size, the table's size, two bytes a field.
    struct.pack_into("<H", whole, root - back, 4 + 2 * metadata_field)
    assert [row[0] for row in check(bytes(whole))] == [MISSING]


def test_flipped_bits_never_make_it_read_outside(check: Callable) -> None:
    whole = model()
    rng = random.Random(2022)
    flipped = []
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(damaged))
    found = check(*flipped)
    statuses = {row[0] for row in found}
    assert {OK, NOT_A_MODEL, CORRUPT, OFFSET} <= statuses


def test_every_flipped_bit_of_the_plan_is_found(check: Callable) -> None:
    whole = model()
    plan = plan_bytes(planned(striped_graph()).offsets)
    start = whole.index(plan)
    flipped = []
    # Version and subgraph, the first two numbers, are not read by TFLM either.
    for bit in range(8 * 8, 8 * len(plan)):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(damaged))
    assert {row[0] for row in check(*flipped)} == {COUNT, OFFSET}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
