"""The blocks of code in README and docs: finding them, running them, writing their output anew.

What runs, page by page, each page in a folder of its own:

- a ``console`` block: its lines that begin with ``$ ``. The lines below a command are its output;
  ``...`` as the last one stands for the rest;
- a ``python`` block, all blocks of a page in one name space. A ``text`` block right behind it is
  what it prints;
- a ``yaml`` block: its lines that run ``fmc``.

A block that cannot run everywhere stands below a line ``*Not run by the tests: REASON.*`` with one
of ``REASONS``. In all output figures are left out of the comparison: they may move with a version
of TensorFlow or with a better search. ``python docs/blocks.py`` runs every page and writes what
its commands print into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

REASONS = (
    "needs the network",
    "needs an account",
    "needs the world's own tools",
    "takes minutes",
)
"""Why a block is not run."""

ELLIPSIS = "..."
_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"^\*Not run by the tests: (.+)\.\*\s*\Z", re.MULTILINE)
_NUMBER = re.compile(r"[+-]?\d[\d,.]*")
_YAML_COMMAND = re.compile(r"^\s*(?:- )?(?:run: )?(fmc .*)$", re.MULTILINE)
_RUNS = ("console", "python", "yaml")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: the word behind the fence.
        text: what stands between the fences.
        line: number of its first line in the page, from 1.
        not_run: why it is not run, None where it is.
    """

    language: str
    text: str
    line: int
    not_run: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, the output that stands below it, and the line of that."""

    text: str
    output: str
    line: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What ran, what the page says that it prints, and what it printed.

    Attributes:
        title: of the command or program, with its line.
        shown: the output in the page; None where the page shows none.
        line: number of the first line of that output, from 1.
    """

    title: str
    shown: str | None
    printed: str
    line: int


def pages() -> list[Path]:
    """Returns README.md and every page of the docs that is kept in the repository."""
    own = sorted(p for p in DOCS.rglob("*.md") if "generated" not in p.parts)
    return [ROOT / "README.md", *own]


def blocks(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        marked = _NOT_RUN.search(before.rstrip() + "\n") if before.endswith("\n\n") else None
        line = before.count("\n") + 2
        found.append(Block(match[1], match[2], line, marked[1] if marked else None))
    return found


def commands(block: Block) -> list[Command]:
    """Returns the commands of a console block.

    Raises:
        ValueError: the block begins with something else than a command.
    """
    parts: list[Command] = []
    for line, text in enumerate(block.text.splitlines(), start=block.line):
        if text.startswith("$ "):
            parts.append(Command(text[2:], "", line + 1))
        elif parts:
            last = parts.pop()
            parts.append(Command(last.text, f"{last.output}{text}\n", last.line))
        else:
            raise ValueError(f"line {line}: a console block begins with '$ ', not {text!r}")
    return parts


def masked(text: str) -> list[str]:
    """Returns the lines without figures, blanks at the ends and widths of columns."""
    return [" ".join(_NUMBER.sub("#", line).split()) for line in text.strip().splitlines()]


def agrees(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed, figures left out."""
    want, have = masked(shown), masked(printed)
    if want and want[-1] == ELLIPSIS:
        return want[:-1] == have[: len(want) - 1]
    return want == have


def like(shown: str, printed: str) -> str:
    """Returns what was printed, cut off where the page cuts it off."""
    lines = shown.strip("\n").splitlines()
    new = [line.rstrip() for line in printed.strip("\n").splitlines()]
    if lines and lines[-1] == ELLIPSIS and len(new) >= len(lines):
        new = [*new[: len(lines) - 1], ELLIPSIS]
    return "".join(line + "\n" for line in new)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a command printed, its exit status, and the files of its folder."""

    printed: str
    status: int
    files: dict[str, bytes]


@dataclass(slots=True)
class Session:
    """One reader at one page, in the current folder.

    Attributes:
        plans: what `fmc plan` printed, its exit status and its files, by command and model; shared
            by the pages, of which many begin with the same plan.
        names: of the Python blocks.
        status: of the last command.
    """

    plans: dict[tuple[str, str], Planned]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    status: int = 0

    def run(self, page: Path) -> Iterator[Ran]:
        """Runs the blocks of a page, in the current folder."""
        found = blocks(page)
        if "keras" in sys.modules:
            # Names of layers count from one on every page.
            sys.modules["keras"].backend.clear_session()
        for block, after in zip(found, [*found[1:], None], strict=False):
            if block.not_run is not None or block.language not in _RUNS:
                continue
            if block.language == "console":
                for command in commands(block):
                    printed = self.command(command.text)
                    title = f"line {command.line - 1}: {command.text}"
                    yield Ran(title, command.output, printed, command.line)
            elif block.language == "python":
                output = _output_of(block, after)
                printed = self.python(block, page)
                title = f"line {block.line}: Python"
                if output is None:
                    yield Ran(title, None, printed, 0)
                else:
                    yield Ran(title, output.text, printed, output.line)
            else:
                for text in _YAML_COMMAND.findall(block.text):
                    yield Ran(f"line {block.line}: {text}", None, self.command(text), 0)

    def python(self, block: Block, page: Path) -> str:
        """Runs a Python block and returns what it prints; its lines are those of the page."""
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        return _printed(lambda: exec(code, self.names), errors=False)

    def command(self, command: str) -> str:
        """Runs one command and returns what it prints, errors included.

        Raises:
            ValueError: a command that is neither fmc, echo $? nor python -m keras_fmc.samples.
        """
        words = shlex.split(command)
        if command == "echo $?":
            return f"{self.status}\n"
        if words[:3] == ["python", "-m", "keras_fmc.samples"]:
            from keras_fmc.samples.__main__ import main as samples

            return self._call(lambda: samples(words[3:]))
        if words[:1] != ["fmc"]:
            raise ValueError(
                f"no test runs {command!r}: write above it '*Not run by the tests: REASON.*'"
            )
        from deploy.cli import main as fmc

        one = words[1] == "plan" and "--out" in words and "--share" not in words
        if not one or not Path(words[2]).exists():
            return self._call(lambda: fmc(words[1:]))
        out = Path(words[words.index("--out") + 1])
        key = (command, hashlib.sha256(Path(words[2]).read_bytes()).hexdigest())
        if key not in self.plans:
            printed = self._call(lambda: fmc(words[1:]))
            files = {path.name: path.read_bytes() for path in out.iterdir()}
            self.plans[key] = Planned(printed, self.status, files)
        known = self.plans[key]
        out.mkdir(exist_ok=True)
        for name, content in known.files.items():
            (out / name).write_bytes(content)
        self.status = known.status
        return known.printed

    def _call(self, function: Callable[[], int]) -> str:
        def call() -> None:
            self.status = function()

        return _printed(call, errors=True)


def _output_of(block: Block, after: Block | None) -> Block | None:
    """Returns the text block right behind a program, which holds what it prints."""
    if after is None or after.language != "text":
        return None
    return after if after.line == block.line + block.text.count("\n") + 2 else None


def _printed(function: Callable[[], object], *, errors: bool) -> str:
    out = io.StringIO()
    err = out if errors else io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        function()
    return out.getvalue()


def offer_models(cache: Path) -> bool:
    """Makes the sample models that are loaded, from the folder ``FMC_SHARED`` or ``../shared``, the
    content of the cache that `keras_fmc.samples` looks into; returns whether all are there."""
    from keras_fmc.samples import CACHE_VARIABLE, SAMPLES

    shared = Path(os.environ.get("FMC_SHARED", ROOT.parent / "shared")) / "models" / "mlperf_tiny"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ[CACHE_VARIABLE] = str(cache)
    names = [name for name, sample in SAMPLES.items() if sample.address]
    for name in names:
        if (shared / name).exists():
            (cache / name).symlink_to((shared / name).resolve())
    return all((cache / name).exists() for name in names)


def needs_models(page: Path) -> bool:
    """Whether a page loads a sample that does not ship with the package."""
    from keras_fmc.samples import SAMPLES

    loaded = [name for name, sample in SAMPLES.items() if sample.address]
    commands_of = [c.text for b in blocks(page) if b.language == "console" for c in commands(b)]
    return any(name in text for text in commands_of for name in loaded)


def write_outputs(page: Path, ran: list[Ran]) -> bool:
    """Writes what was printed into the page; returns whether it changed."""
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for run in reversed(ran):
        if run.shown is not None:
            at, count = run.line - 1, run.shown.count("\n")
            lines[at : at + count] = like(run.shown, run.printed).splitlines(keepends=True)
    new = "".join(lines)
    if new != text:
        page.write_text(new, encoding="utf-8")
    return new != text


def main(names: list[str]) -> None:
    """Runs the named pages, or all, and writes their outputs anew."""
    import tempfile

    wanted = [Path(name).resolve() for name in names] or pages()
    plans: dict[tuple[str, str], Planned] = {}
    with tempfile.TemporaryDirectory() as folder:
        has_models = offer_models(Path(folder) / "cache")
        for number, page in enumerate(wanted):
            if needs_models(page) and not has_models:
                print(f"{page.relative_to(ROOT)}: left as it is, for its models are not here")
                continue
            work = Path(folder) / str(number)
            work.mkdir()
            os.chdir(work)
            ran = list(Session(plans).run(page))
            os.chdir(ROOT)
            changed = write_outputs(page, ran)
            print(f"{page.relative_to(ROOT)}: {len(ran)} ran{', written anew' if changed else ''}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("WANDB_SILENT", "true")
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
