"""How much stack generated C takes, by the compiler's own figures and call graph.

gcc's ``-fcallgraph-info=su`` writes for each file which function takes how many bytes and calls
which. The stack of the model is the dearest path from one of its functions down. What the C
library's memcpy, memmove and memset take is not in these figures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.runtime.compiled import compiler

_TIMEOUT_SECONDS = 120
_THIS_MACHINE = "x86-64"
"""The core of the board "host"."""
_OPTIONS = ("-std=c99", "-O2", "-c", "-fcallgraph-info=su")
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_BYTES = re.compile(r"\\n(\d+) bytes \((static|dynamic(?:,bounded)?)\)")


@dataclass(frozen=True, slots=True)
class Stack:
    """Bytes of stack, and whose figure that is; None: not known, and why."""

    size_bytes: int | None
    source: str


def stack_of(files: Mapping[str, str], *, name: str, core: str | None) -> Stack:
    """Returns the stack of a generated model on a core, or on this machine where that is not known.

    Args:
        files: name -> text.
        name: prefix of the model's functions.
        core: of the board, such as "Cortex-M4F".
    """
    command, where = _command(core)
    if command is None:
        return Stack(None, "no C compiler is here")
    with tempfile.TemporaryDirectory(prefix="fmc-stack-") as folder:
        for file, text in files.items():
            (Path(folder) / file).write_text(text)
        sources = sorted(f for f in files if f.endswith(".c") and not f.endswith("_constants.c"))
        done = subprocess.run(
            [*command, *_OPTIONS, *sources],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            return Stack(None, f"{command[0]} gives no figures of the stack")
        graphs = [path.read_text() for path in sorted(Path(folder).glob("*.ci"))]
    return Stack(deepest(graphs, prefix=f"{name}_"), where)


def deepest(graphs: Collection[str], *, prefix: str) -> int:
    """Returns the bytes of the dearest path from a function whose name begins with ``prefix``.

    Args:
        graphs: what ``-fcallgraph-info=su`` wrote for each file.
    """
    own: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for text in graphs:
        for title, label in _NODE.findall(text):
            found = _BYTES.search(label)
            if found is not None:
                own[title] = int(found[1])
        for caller, called in _EDGE.findall(text):
            calls.setdefault(caller, set()).add(called)
    depth: dict[str, int] = {}

    def below(function: str) -> int:
        if function not in depth:
            # No function of a generated model calls itself.
            deeper = max((below(f) for f in calls.get(function, ())), default=0)
            depth[function] = own.get(function, 0) + deeper
        return depth[function]

    return max((below(f) for f in own if f.startswith(prefix)), default=0)


def _command(core: str | None) -> tuple[list[str] | None, str]:
    match = re.match(r"Cortex-M(\d+)(\+?)", core or "")
    if match is not None and shutil.which("arm-none-eabi-gcc"):
        cpu = f"cortex-m{match[1]}{'plus' if match[2] else ''}"
        command = ["arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb"]
        return command, f"{_named(command[0])} -O2 for {cpu}"
    own = compiler()
    if own is None:
        return None, ""
    where = f"{_named(own)} -O2 on this machine"
    if core not in (None, _THIS_MACHINE):
        where += "; another compiler's for the board may differ"
    return [own], where


def _named(command: str) -> str:
    done = subprocess.run(
        [command, "-dumpfullversion"], capture_output=True, text=True, check=False
    )
    version = done.stdout.strip() if done.returncode == 0 else ""
    return f"{Path(command).name} {version}".strip()
