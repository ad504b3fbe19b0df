"""From instructions to milliseconds: cycles that a core takes for an instruction of a model.

    milliseconds = instructions x cycles_per_instruction / clock

The instructions are those of an emulated core (``Kernels.times``), the factor is the geometric mean
of what published latencies of the same models, with the same kernel library on that core, ask for.
It holds what emulation leaves out: wait states of flash, loads, branches. One chip stands for its
core, so that a chip with slower flash takes longer. ``error`` is that of models that the factor
does not know: each is left out in turn, the factor fitted on the others, and the largest deviation
of one left out is rounded up to a twentieth. A test holds it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.targets.load import Fields, read_json
from deploy.targets.records import Board
from keras_fmc.errors import BadInputError

_FILE = Path(__file__).with_name("cores.json")
_CLOCK = re.compile(r"(\d{1,4})MHz")


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """What is known of the time of a core.

    Attributes:
        name: as boards call it.
        kernels: the library that the factor was fitted with; later versions of it begin alike.
        cycles_per_instruction: of a model's inference.
        error: by how much estimates of models that were not fitted on may be off, as a share.
        clock_hz: of the chip whose latencies were published.
        latencies_ms: model of MLPerf Tiny -> milliseconds of one inference there.
        source: of the latencies.
    """

    name: str
    kernels: str
    cycles_per_instruction: float
    error: float
    clock_hz: int
    latencies_ms: Mapping[str, float]
    source: str


def parse_clock(text: str, where: str) -> int:
    """Returns the hertz of text such as "64MHz"; 0 of empty text.

    Raises:
        BadInputError: it is not of that form.
    """
    if not text:
        return 0
    match = _CLOCK.fullmatch(text)
    if match is None or match[1].startswith("0"):
        raise BadInputError(f"{where}: wrong 'clock'", expected='such as "64MHz"', received=text)
    return int(match[1]) * 1_000_000


@functools.cache
def cores() -> Mapping[str, CoreTimes]:
    """Returns the cores with known times, by name."""
    fields = Fields(read_json(_FILE), _FILE.name)
    found = {}
    for number, entry in enumerate(fields.take("cores", list)):
        row = Fields(entry, f"{_FILE.name}, core {number}")
        core = CoreTimes(
            name=row.take("core", str),
            kernels=row.take("kernels", str),
            cycles_per_instruction=row.take("cycles_per_instruction", float),
            error=row.take("error", float),
            clock_hz=parse_clock(row.take("clock", str), row.where),
            latencies_ms=row.take("latencies_ms", dict),
            source=row.take("source", str),
        )
        row.finish()
        found[core.name] = core
    fields.finish()
    return found


def core_of(board: Board, kernels: str) -> CoreTimes | None:
    """Returns what is known of a board's core with a kernel library; None where nothing is."""
    core = cores().get(board.core)
    known = core is not None and board.clock_hz and kernels.startswith(core.kernels)
    return core if known else None


def milliseconds(board: Board, kernels: str, instructions: int | None) -> float | None:
    """Returns the estimated time of an inference at the board's highest clock.

    None where core, kernels, clock or instructions are not known.
    """
    core = core_of(board, kernels)
    if core is None or instructions is None:
        return None
    return 1e3 * instructions * core.cycles_per_instruction / board.clock_hz


def time_error(board: Board, kernels: str) -> float | None:
    """Returns by how much ``milliseconds`` may be off, as a share; None where nothing is known."""
    core = core_of(board, kernels)
    return None if core is None else core.error
