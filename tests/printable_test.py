"""Names of unknown origin are printable and short wherever they are shown."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from deploy import cli, flatbuffer
from deploy.graph import Graph
from keras_fmc.errors import BadInputError
from keras_fmc.printable import LONGEST_WORD, one_line, printable, printable_lines, shortened
from tests.int8_graphs import Int8GraphMaker

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "a\x00b",
    "two\nlines\r",
    "*/ int x; /*",
    "\u202eesrever",
    "\x9b2J",
)


def named(*names: str) -> Graph:
    """Two convolutions whose maps have these names."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 8, 8, 3)), channels=4, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(x, channels=2)])
    tensors = list(graph.tensors)
    for index, name in zip(graph.activations(), names, strict=False):
        tensors[index] = dataclasses.replace(tensors[index], name=name)
    return graph.replace(tensors=tuple(tensors))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_print_is_escaped(name: str) -> None:
    assert printable(name).isprintable()
    assert printable(printable(name)) == printable(name)
    assert len(printable_lines(name).splitlines()) <= 2
    assert one_line(name).isprintable()


def test_what_prints_stays() -> None:
    for text in ("conv2d/Relu;bias", "Überschrift", "日本", "a b", r"C:\models\x1b"):
        assert printable(text) == text == one_line(text)
    assert printable("\x1b[2J") == r"\x1b[2J"
    assert printable("\udc80") == r"\udc80"


def test_long_names_keep_their_ends() -> None:
    name = "begin" + "x" * 5000 + "end"
    assert len(shortened(name)) == LONGEST_WORD
    assert shortened(name).startswith("begin")
    assert shortened(name).endswith("end")
    assert shortened("x" * LONGEST_WORD) == "x" * LONGEST_WORD
    assert len(one_line(f"{name} and {name}")) == 2 * LONGEST_WORD + 5


def test_an_error_is_two_lines_of_printable_text() -> None:
    name = "\x1b[31m\n" + "x" * 5000
    text = str(
        BadInputError(f"tensor {name} is bad", received=[name] * 30, remedy=f"rename {name}")
    )
    assert len(text.splitlines()) == 2
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text) < 2100
    assert str(BadInputError("no", expected="a", received="b")) == "no; expected a; received b."


def test_names_are_printable_in_every_file_and_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "y" * 5000
    for number, name in enumerate(HOSTILE):
        graph = named(name, long, name + long)
        path = tmp_path / f"m{number}{name.replace('/', '')}.tflite".replace("\x00", "")
        path.write_bytes(flatbuffer.write(graph))
        out = tmp_path / str(number)
        assert cli.main(["profile", str(path)]) == 0
        assert cli.main(["plan", str(path), "--strips=false", f"--out={out}"]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        written = [p for p in sorted(out.iterdir()) if p.suffix != ".tflite"]
        texts = [shown.out, *(p.read_text() for p in written)]
        assert len(texts) == 10
        for text in texts:
            assert all(line.isprintable() for line in text.replace("\t", " ").split("\n"))
            assert "y" * 200 not in text
        assert max(len(line) for line in shown.out.splitlines()) < 600
        assert "*/ int" not in (out / "arena_plan.h").read_text()


def test_bad_names_in_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = named("\x1b[31m" + "z" * 5000)
    operators = (dataclasses.replace(graph.operators[0], outputs=()), *graph.operators[1:])
    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer.write(graph.replace(operators=operators)))
    assert cli.main(["plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert len(error) < 800
    assert "\x1b" not in error


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
