"""Pages that are made from the code whenever the site is built: nothing in them is kept twice."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.cli import COMMANDS, main
from deploy.emit.resolver import ADD_FUNCTIONS
from deploy.emit.worlds import WORLDS
from deploy.operators import OPERATORS, InC
from deploy.report.keys import to_markdown
from deploy.targets import Board, boards, kernels
from deploy.targets.load import FOLDER, names_in, read_json
from keras_fmc.qat.supported import supported
from keras_fmc.sizes import format_size


def write_all(folder: Path) -> None:
    """Writes every generated page into a folder; files that are right stay untouched."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "operators": operators_table(),
        "kernels": kernels_table(),
        "boards": boards_table(),
        "commands": commands_text(),
        "kinds": table(("kind", "suits"), ((f"`{world.kind}`", world.needs) for world in WORLDS)),
        "lists": lists_table(),
        "layers": layers_table(),
        "supported": str(supported()),
        "report": to_markdown(),
    }
    for name, text in made.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""

    def row(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([row(head), row("---" for _ in head), *map(row, rows)]) + "\n"


def operators_table() -> str:
    """One row for each TFLM operator: how its arena is known, what strips and C do with it."""
    libraries = [kernels(name) for name in names_in("kernels")]
    cut = {opcode for opcode, row in OPERATORS.items() if row.by_rows is not None}
    in_c = {opcode for opcode, row in OPERATORS.items() if row.in_c is not InC.TFLM}
    rows = []
    for opcode in sorted({*ADD_FUNCTIONS, *cut, *(o for k in libraries for o in k.rules)}):
        rows.append(
            (
                f"`{opcode}`",
                _mark(opcode in ADD_FUNCTIONS),
                _mark(all(opcode in library.rules for library in libraries)),
                _mark(opcode in cut),
                _mark(opcode in in_c),
                _mark(any(opcode in library.in_place for library in libraries)),
                _mark(any(opcode in library.overlap for library in libraries)),
            )
        )
    head = (
        *("operator", "kernel in TFLM", "arena predicted", "runs in strips", "in generated C"),
        *("in place", "output may grow into input"),
    )
    return table(head, rows)


def kernels_table() -> str:
    """The kernel libraries that predictions know."""
    rows = [(f"`{k.name}`", k.summary, k.source) for k in map(kernels, names_in("kernels"))]
    return table(("name", "what it is", "source of the figures"), rows)


def boards_table() -> str:
    """One row for each board, with the document its figures are from."""
    rows = []
    for board in boards():
        memories = "<br>".join(
            f"{m.name} {format_size(m.size_bytes)}{' (external)' if m.external else ''}"
            for m in board.memories
        )
        rows.append(
            (
                f"`{board.name}`",
                board.title,
                f"{board.core}<br>{board.fpu}" if board.fpu else board.core,
                memories,
                "" if board.flash_bytes is None else format_size(board.flash_bytes),
                format_size(board.reserve_bytes),
                f"`{board.kernels}`",
                _names(board),
                ". ".join(part for part in (board.source, board.note) if part),
            )
        )
    head = (
        *("name", "board", "core, FPU", "memories", "flash", "reserve", "kernels"),
        *("names elsewhere", "source, note"),
    )
    return table(head, rows)


def _names(board: Board) -> str:
    names = dataclasses.asdict(board.names)
    return "<br>".join(f"{world}: `{name}`" for world, name in names.items() if name)


def lists_table() -> str:
    """The published lists that names of boards are from."""
    rows = []
    for entry in read_json(FOLDER / "lists.json")["lists"]:
        prefix = f"`{entry['prefix']}…`" if "prefix" in entry else "all"
        repository = f"`{entry['repository']}`, " if "repository" in entry else ""
        text = f"{repository}`{entry['files']}`"
        rows.append((entry["names"], prefix, text, entry["version"], entry.get("note", "")))
    return table(("world", "names", "list", "version", "note"), rows)


def commands_text() -> str:
    """What ``fmc --help`` and ``fmc COMMAND --help`` print."""
    parts = [f"```text\n{_help('--help')}\n```"]
    parts += [f"## fmc {name}\n\n```text\n{_help(name, '--help')}\n```" for name in COMMANDS]
    return "\n\n".join(parts) + "\n"


def _help(*arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(arguments)
    return out.getvalue().strip()


def layers_table() -> str:
    """Every Keras layer that makes or changes feature maps, put into a model and quantised."""
    import layer_probe

    rows = []
    for name, arguments, reason in layer_probe.probe():
        call = f"`{name}({arguments})`" if arguments else f"`{name}`"
        rows.append((call, _mark(reason is None), (reason or "").removeprefix("layer 'layer': ")))
    return table(("layer", "`fmc.quantize` takes it", "message where it does not"), rows)


def _mark(yes: bool) -> str:
    return "yes" if yes else "–"
