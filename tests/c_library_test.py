"""Generated C that calls CMSIS-NN, against TFLM's reference kernels.

The library is the stand-in, and also the real one where FMC_CMSIS_NN names a copy.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import cmsis_nn_library
import emulator
import numpy as np
import pytest
from c_compilers import ALL, Compiler, each, require
from c_draws import DRAWS
from c_proofs import accepted, is_caught, numbers
from generated import (
    FLAGS,
    STAND_IN,
    assert_c_is_tflm,
    in_tflm,
    made,
    random_samples,
    residual,
)
from int8_graphs import Int8GraphMaker
from random_graphs import random_graph
from support import mlperf_tiny

import deploy
from deploy import flatbuffer
from deploy.backends.c import build
from deploy.graph import Graph, Padding
from keras_fmc.errors import BadInputError

CASES = 10
LIBRARIES = pytest.mark.parametrize("real", [False, True], ids=["stand-in", "CMSIS-NN"])
KERNELS = ("cmsis-nn-dsp", "cmsis-nn-mve")
_OPERATORS = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
    *("ADD", "SOFTMAX", "PAD and a window"),
)
_KERNELS = Path(build.__file__).with_name("kernels")


def many(name: str, seed: int = 0) -> Graph:
    """An operator in many shapes, as one model."""
    make, rng = Int8GraphMaker(seed + len(name)), np.random.default_rng(seed + len(name))
    outputs: list[int] = []
    for _ in range(CASES):
        found = DRAWS[name](make, rng)
        outputs += [found] if isinstance(found, int) else found
    return make.build(outputs=outputs)


def stem(seed: int = 0) -> Graph:
    """Kernels of each way of the library: 1x1, one row, many rows, strides, one channel."""
    make = Int8GraphMaker(seed)
    x = make.input((1, 20, 18, 1))
    x = make.depthwise(x, kernel=(3, 3), multiplier=8, stride=(1, 1), padding=Padding.SAME)
    x = make.conv(x, channels=8, kernel=(1, 3), stride=(1, 2), padding=Padding.SAME)
    x = make.depthwise(x, kernel=(3, 3), padding=Padding.SAME)
    x = make.conv(x, channels=12, kernel=(1, 1))
    x = make.depthwise(x, kernel=(5, 5), padding=Padding.SAME)
    x = make.pool(x, kind="AVERAGE_POOL_2D", kernel=(3, 2), stride=(1, 1), padding=Padding.SAME)
    x = make.conv(x, channels=9, kernel=(3, 3), stride=(2, 2), padding=Padding.SAME)
    y = make.conv(x, channels=9, kernel=(3, 3), padding=Padding.SAME)
    x = make.binary("ADD", x, y)
    x = make.conv(x, channels=6, kernel=(1, 1), stride=(2, 2))
    x = make.pool(x, kind="MAX_POOL_2D", kernel=(2, 2), stride=(1, 1), padding=Padding.VALID)
    x = make.fully_connected(make.mean(x), units=5)
    return make.build(outputs=[make.unary("SOFTMAX", x)])


@LIBRARIES
@pytest.mark.parametrize("name", _OPERATORS)
def test_an_operator_of_any_shape_is_tflms(name: str, real: bool) -> None:
    model = assert_c_is_tflm(many(name), kernels="cmsis-nn-mve", real=real)
    assert model.uses_library


@LIBRARIES
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("fed", [False, True])
def test_rows_of_a_region_are_made_by_the_library(kernels: str, fed: bool, real: bool) -> None:
    model = assert_c_is_tflm(stem(), fed=fed, kernels=kernels, real=real)
    schedule = model.layout.regions[0].placed.schedule
    assert schedule.lines
    assert schedule.scratch_bytes > 0


@pytest.mark.parametrize("seed", range(300, 312))
def test_random_graphs_are_tflms(seed: int) -> None:
    assert_c_is_tflm(random_graph(seed), kernels=KERNELS[seed % 2])


def test_scratch_is_part_of_the_arena() -> None:
    """At least the buffer of the widest convolution, 4 · 3 · 3 · 8, and the rows it reads."""
    scratch = 2 * 2 * (3 * 3 * 8)
    model = made(residual(), fed=True, kernels="cmsis-nn-dsp")
    steps = model.layout.program.steps
    assert max(step.scratch_bytes for step in steps) == scratch
    assert model.layout.arena_bytes >= scratch + (3 + 2 + 2) * 16 * 8
    portable = made(residual(), fed=True).layout.arena_bytes
    assert portable < model.layout.arena_bytes <= portable + scratch + 2 * 16 * 8


def test_a_layout_is_caught_where_scratch_stands_elsewhere() -> None:
    layout = made(stem(), kernels="cmsis-nn-dsp").layout
    caught = tried = 0
    for number, region in enumerate(layout.regions):
        used = region.placed.schedule.scratch_bytes
        if not used:
            continue
        room = layout.arena_bytes - used
        for place in range(0, room + 1, max(4, room // 40 // 4 * 4)):
            placed = dataclasses.replace(region.placed, scratch=place)
            tried += 1
            caught += is_caught(layout, number, placed)
        beyond = dataclasses.replace(region.placed, scratch=layout.arena_bytes - used + 4)
        assert is_caught(layout, number, beyond)
    assert caught > tried // 2 > 10


def test_every_number_changed_stops_the_compiler(tmp_path: Path) -> None:
    for name, text in made(residual(8), kernels="cmsis-nn-dsp").files.items():
        (tmp_path / name).write_text(text)
    source = (tmp_path / "arena_plan.c").read_text()
    names = numbers((tmp_path / "arena_plan.h").read_text())
    assert sum("SCRATCH" in name for name in names) > 4
    assert accepted(tmp_path, source) == set()
    # Without the lines that repeat a number, scratch stays inside and apart.
    statements = re.sub(r"^FMC_IS\(.*\n", "", source, flags=re.M)
    assert re.search(r"FMC_CLEAR\(\w+, MODEL_R0_SCRATCH_OFFSET", statements)
    passed = accepted(tmp_path, statements)
    assert not [p for p in passed if "ARENA_BYTES -" in p]


def test_one_call_makes_all_rows_where_all_stands_apart() -> None:
    """And the proof says that it does; elsewhere the library is called row by row."""
    graph = flatbuffer.read_file(mlperf_tiny("vww_96_int8"))
    model = made(graph, fed=True, kernels="cmsis-nn-dsp")
    code = re.sub(r"\s+", " ", model.files["model.c"])
    proof = model.files["arena_plan.c"]
    program, seen = model.layout.program, {True: 0, False: 0}
    for number, region in enumerate(model.layout.regions):
        step = program.steps[region.placed.schedule.first]
        if not region.placed.schedule.single or not step.any_order:
            continue
        source, target = step.reads[0].map, step.output
        place = f"FMC_ARENA + MODEL_R{number}_M{target}_OFFSET"
        at_once = f"{place}, {program.maps[target].rows}, FMC_ARENA" in code
        at, end = region.offsets[source], region.offsets[target] + program.maps[target].size_bytes
        apart = end <= at or at + program.maps[source].size_bytes <= region.offsets[target]
        assert at_once <= apart
        assert at_once == region.at_once(program)
        if program.maps[target].rows > 1:
            seen[at_once] += 1
        boxes = (
            f"FMC_APART(MODEL_R{number}_M{target}_OFFSET, MODEL_M{target}_BYTES, "
            f"MODEL_R{number}_M{source}_OFFSET, MODEL_M{source}_BYTES)"
        )
        assert (boxes in proof) == at_once
    assert min(seen.values()) > 0


@LIBRARIES
def test_a_library_that_rounds_once_is_found_out(real: bool, tmp_path: Path) -> None:
    options = ["-DSTAND_IN_ONE_ROUNDING"]
    if real:
        single = "-DCMSIS_NN_USE_SINGLE_ROUNDING"
        archive = cmsis_nn_library.archive("gcc", "-O2", single)
        options = [cmsis_nn_library.include(), str(archive)]
    assert said_of(tmp_path, *options, real=real) == "LIBRARY_DIFFERS"


@each(*ALL)
def test_all_files_compile_without_a_warning(compiler: Compiler, tmp_path: Path) -> None:
    for name, text in made(residual(), kernels="cmsis-nn-dsp").files.items():
        (tmp_path / name).write_text(text)
    for path in STAND_IN.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    for source in sorted(tmp_path.glob("*.c")):
        compiler.must_compile(source, "-Wconversion")


def said_of(folder: Path, *options: str, real: bool = False) -> str:
    """What the check function of a model says of a library that is built with options."""
    require("gcc")
    model = made(residual(), kernels="cmsis-nn-dsp")
    for name, text in {**({} if real else build.stand_in_files()), **model.files}.items():
        (folder / name).write_text(text)
    (folder / "main.c").write_text(
        '#include "model.h"\nint main(void) { return (int)model_check(); }\n'
    )
    sources = [path.name for path in sorted(folder.glob("*.c"))]
    command = ["gcc", *FLAGS, *sources, *options, "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    status = subprocess.run([folder / "program"], check=False).returncode
    return re.findall(r"^  MODEL_(\w+?)(?: = 0)?,? ", model.files["model.h"], re.M)[status]


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("-DSTAND_IN_SCRATCH=0", "OK"),
        # A 1x1 convolution of six channels needs less than the golden vector's room, 32 bytes.
        ("-DSTAND_IN_SCRATCH=32", "LIBRARY_NEEDS_MORE"),
        ("-DSTAND_IN_SCRATCH=33", "LIBRARY_DIFFERS"),
    ],
)
def test_the_library_is_checked_at_start_up(option: str, wanted: str, tmp_path: Path) -> None:
    assert said_of(tmp_path, option) == wanted


def test_portable_kernels_need_no_check() -> None:
    files = made(residual()).files
    assert "check" not in files["model.h"]
    assert not [name for name in files if "cmsis" in name]


def test_the_golden_vector_is_what_the_portable_kernel_makes(tmp_path: Path) -> None:
    """The library's functions in the place of which the portable convolution stands."""
    require("gcc")
    source = (_KERNELS / "fmc_cmsis_nn.c").read_text()
    body = source[source.index("int fmc_cmsis_nn_agrees") :]
    body = body.replace(
        "fmc_cmsis_nn_conv(&window, &w, in, 1, 0, out, 1, scratch, (int32_t)sizeof(scratch));",
        "const int8_t narrow[] = {-8, -9, -7, -8};\n"
        "const fmc_weights_t weighed = {weights, bias, multiplier, narrow};\n"
        "fmc_conv(&window, &weighed, in, 1, 0, out, 1);",
    )
    body = body.replace("fmc_cmsis_nn_conv_bytes(&window, 1, 0, 1)", "0")
    text = f'#include "fmc_cmsis_nn.h"\n#include <string.h>\n{body}\n'
    text += "int main(void) { return !fmc_cmsis_nn_agrees(); }\n"
    (tmp_path / "golden.c").write_text(text)
    command = ["gcc", f"-I{_KERNELS}", "golden.c", str(_KERNELS / "fmc_conv.c"), "-o", "golden"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert "fmc_conv(&window" in text
    assert subprocess.run([tmp_path / "golden"], check=False).returncode == 0


def test_a_plan_names_the_kernels_of_its_board(tmp_path: Path) -> None:
    content = flatbuffer.write(residual())
    path = tmp_path / "tiny.tflite"
    path.write_bytes(content)
    out = tmp_path / "out"
    planned = deploy.plan(path, runtime="c", kernels="cmsis-nn", board="nano33ble", out=out)
    report = planned.report
    assert report.kernels == "cmsis-nn-dsp"
    assert report.target.endswith("generated C, cmsis-nn-dsp kernels")
    assert report.verified
    assert "a stand-in for CMSIS-NN's functions" in report.verified_reason
    assert "without what the kernel library takes" in report.stack_source
    assert (out / "fmc_cmsis_nn.c").is_file()
    assert not (out / "arm_nnfunctions.h").exists()
    deploy.verify(out)
    named = deploy.plan(path, runtime="c", kernels="cmsis-nn-dsp", board="nano33ble").report
    assert named.arena_bytes == report.arena_bytes


@pytest.mark.parametrize(
    ("board", "kernels", "message"),
    [
        ("host", "cmsis-nn", "the board host has other kernels than CMSIS-NN's"),
        ("nano33ble", "esp-nn-generic", "no kernels of the name esp-nn-generic"),
        ("nano33ble", "reference", "no kernels of the name reference"),
    ],
)
def test_kernels_that_generated_c_does_not_call(board: str, kernels: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        deploy.plan(flatbuffer.write(residual()), runtime="c", board=board, kernels=kernels)


def one_rows() -> Graph:
    """Kernels of one row with strides and paddings that the library's own choice gets wrong."""
    make = Int8GraphMaker(2)
    outputs = []
    x = make.input((1, 4, 16, 4))
    for size, stride in ((2, 1), (3, 2), (4, 1), (4, 2), (5, 3)):
        for padding in (Padding.SAME, Padding.VALID):
            outputs.append(
                make.conv(x, channels=8, kernel=(1, size), stride=(1, stride), padding=padding)
            )
    return make.build(outputs=outputs)


@pytest.mark.parametrize("core", [emulator.M4, emulator.M55_VECTORS], ids=lambda c: c.name)
@pytest.mark.parametrize("name", ["stem", "residual", "one rows", "random", *_OPERATORS, "KWS"])
def test_the_real_library_on_a_core(core: emulator.Core, name: str, tmp_path: Path) -> None:
    """Outputs, static memory, and the library's own sizes, which the program asks for first."""
    cmsis_nn_library.require_folder()
    lacking = emulator.missing()
    if lacking is not None:
        pytest.skip(lacking)
    graphs = {"stem": stem, "residual": residual, "one rows": one_rows}
    graphs["random"] = lambda: random_graph(5, operators=(14, 14))
    graphs["KWS"] = lambda: flatbuffer.read_file(mlperf_tiny("kws_ref_model"))
    graph = graphs[name]() if name in graphs else many(name)
    kernels = "cmsis-nn-dsp" if core is emulator.M4 else "cmsis-nn-mve"
    model = made(graph, kernels=kernels)
    samples = random_samples(graph, 2)
    archive = cmsis_nn_library.archive("arm-none-eabi-gcc", *core.options, "-O2")
    library = (cmsis_nn_library.include(), str(archive))
    ran = emulator.run_on(core, model, samples, in_tflm(graph, samples), tmp_path, library=library)
    assert ran.equal == ran.samples == 2
    assert ran.static_bytes == model.static_bytes


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
