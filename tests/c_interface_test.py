"""The functions of a generated model: status codes, arenas of the application, broken-off runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from c_compilers import require
from generated import FLAGS, in_tflm, made, random_samples, residual

from deploy.backends.c.build import GeneratedModel

SAMPLES = 2


def bytes_of(arrays: list[list[np.ndarray]]) -> str:
    content = b"".join(a.tobytes() for sample in arrays for a in sample)
    return "{" + ",".join(map(str, np.frombuffer(content, np.int8))) + "}"


def run(folder: Path, model: GeneratedModel, body: str, *options: str, cxx: bool = False) -> str:
    """Runs a main function around ``body``, which has image(n), wanted(n) and CHECK."""
    require("gcc", "g++")
    graph = residual()
    samples = random_samples(graph, SAMPLES)
    wanted = in_tflm(graph, samples)
    for name, text in model.files.items():
        (folder / name).write_text(text)
    (folder / "main.c").write_text(
        "#include <stdio.h>\n#include <string.h>\n"
        f'#include "model.h"\n#include "arena_plan.h"\n'
        f"static const int8_t images[] = {bytes_of(samples)};\n"
        f"static const int8_t outputs[] = {bytes_of(wanted)};\n"
        "static const int8_t *image(int n) { return images + n * MODEL_INPUT_BYTES; }\n"
        "static const int8_t *wanted(int n) { return outputs + n * MODEL_OUTPUT_BYTES; }\n"
        "static int8_t out[MODEL_OUTPUT_BYTES];\n"
        '#define CHECK(x) if (!(x)) { printf("line %d: %s\\n", __LINE__, #x); }\n'
        "#define RIGHT(n) CHECK(!memcmp(out, wanted(n), MODEL_OUTPUT_BYTES))\n"
        f"int main(void) {{ (void)image; (void)wanted;\n{body}\nreturn 0; }}\n"
    )
    sources = sorted(path.name for path in folder.glob("*.c"))
    compiler = ["g++", "-x", "c++", "-std=c++17", *FLAGS[1:]] if cxx else ["gcc", *FLAGS]
    subprocess.run([*compiler, *options, *sources, "-o", "main"], cwd=folder, check=True)
    done = subprocess.run(["./main"], cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("cxx", [False, True])
def test_an_image_in_ram(tmp_path: Path, cxx: bool) -> None:
    body = """
    CHECK(model_run(image(0), out) == MODEL_OK); RIGHT(0)
    CHECK(model_run(image(1), out) == MODEL_OK); RIGHT(1)
    memcpy(model_input(), image(0), MODEL_INPUT_BYTES);
    CHECK(model_run(model_input(), out) == MODEL_OK); RIGHT(0)
    CHECK(model_run(NULL, out) == MODEL_NULL_POINTER);
    CHECK(model_run(image(0), NULL) == MODEL_NULL_POINTER);"""
    assert run(tmp_path, made(residual()), body, cxx=cxx) == ""


@pytest.mark.parametrize("cxx", [False, True])
def test_an_image_that_is_fed(tmp_path: Path, cxx: bool) -> None:
    """Too many rows, too few, no beginning; and a run that is broken off leaves no trace."""
    body = """
    int r, broken;
    CHECK(model_feed_row(image(0)) == MODEL_NOT_BEGUN);
    CHECK(model_finish(out) == MODEL_NOT_BEGUN);
    for (broken = 0; broken < MODEL_INPUT_ROWS; broken += 3) {
      const int now = broken / 3 % 2;
      CHECK(model_begin() == MODEL_OK);
      for (r = 0; r < broken; r++) {
        CHECK(model_feed_row(image(!now) + r * MODEL_INPUT_ROW_BYTES) == MODEL_OK);
      }
      CHECK(model_finish(out) == MODEL_ROWS_MISSING);
      CHECK(model_begin() == MODEL_OK);
      for (r = 0; r < MODEL_INPUT_ROWS; r++) {
        CHECK(model_feed_row(image(now) + r * MODEL_INPUT_ROW_BYTES) == MODEL_OK);
      }
      CHECK(model_feed_row(image(1)) == MODEL_TOO_MANY_ROWS);
      CHECK(model_feed_row(NULL) == MODEL_NULL_POINTER);
      CHECK(model_finish(NULL) == MODEL_NULL_POINTER);
      CHECK(model_finish(out) == MODEL_OK); RIGHT(now)
      CHECK(model_finish(out) == MODEL_NOT_BEGUN);
    }"""
    assert run(tmp_path, made(residual(), fed=True), body, cxx=cxx) == ""


def test_an_arena_of_the_application(tmp_path: Path) -> None:
    """Refused where it is misaligned or too small, without a byte written."""
    body = """
    static int32_t memory[MODEL_ARENA_BYTES / 4 + 2];
    int8_t *bytes = (int8_t *)memory;
    int i;
    memset(memory, 0x5A, sizeof memory);
    CHECK(model_run(image(0), out) == MODEL_NULL_POINTER);
    CHECK(model_set_arena(NULL, MODEL_ARENA_BYTES) == MODEL_NULL_POINTER);
    CHECK(model_set_arena(bytes + 2, MODEL_ARENA_BYTES) == MODEL_ARENA_MISALIGNED);
    CHECK(model_set_arena(bytes, MODEL_ARENA_BYTES - 1) == MODEL_ARENA_TOO_SMALL);
    CHECK(model_run(image(0), out) == MODEL_NULL_POINTER);
    for (i = 0; i < (int)sizeof memory; i++) { CHECK(bytes[i] == 0x5A); }
    CHECK(model_set_arena(bytes, MODEL_ARENA_BYTES) == MODEL_OK);
    CHECK(model_run(image(1), out) == MODEL_OK); RIGHT(1)
    for (i = MODEL_ARENA_BYTES; i < (int)sizeof memory; i++) { CHECK(bytes[i] == 0x5A); }"""
    assert run(tmp_path, made(residual()), body, "-DMODEL_EXTERNAL_ARENA") == ""


def test_the_header_tells_scales_and_zero_points() -> None:
    model = made(residual())
    header = model.files["model.h"]
    for side, tensor in (("INPUT", model.graph.inputs[0]), ("OUTPUT", model.graph.outputs[0])):
        q = model.graph.tensors[tensor].quantization
        assert q is not None
        assert f"#define MODEL_{side}_ZERO_POINT ({q.zero_points[0]})\n" in header
        text = header.split(f"#define MODEL_{side}_SCALE ")[1].split("\n")[0]
        assert np.float32(text.rstrip("f")) == np.float32(q.scales[0])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
