"""The options of the ``fmc`` commands: one row each, defined as absl flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from absl import flags

_TARGET = "target"
_LIMITS = "limits"
_PLAN = "what the plan may do"
_SEARCH = "search"
_FILES = "files"
_PRINTED = "what is printed"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        name: behind the two dashes.
        group: the heading that it stands under in the help.
        help: what it says or sets; no full stop.
        unit: what its value is, as the help shows it, such as "SIZE"; empty: true or false.
        default: its value where it is not given.
        choices: the values that it takes; empty: any.
        kind: type of the value: str, float, int, or list, of words between commas.
        least: the smallest number it takes.
    """

    name: str
    group: str
    help: str
    unit: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    kind: type = str
    least: float | None = None

    def define(self, values: flags.FlagValues) -> None:
        """Makes it an absl flag of ``values``."""
        if self.choices:
            flags.DEFINE_enum(
                self.name, self.default, list(self.choices), self.help, flag_values=values
            )
        elif not self.unit:
            flags.DEFINE_bool(self.name, self.default, self.help, flag_values=values)
        elif self.kind is list:
            flags.DEFINE_list(self.name, self.default, self.help, flag_values=values)
        elif self.kind is int:
            least = None if self.least is None else int(self.least)
            flags.DEFINE_integer(self.name, self.default, self.help, least, flag_values=values)
        elif self.kind is float:
            flags.DEFINE_float(self.name, self.default, self.help, self.least, flag_values=values)
        else:
            flags.DEFINE_string(self.name, self.default, self.help, flag_values=values)


BOARD = Option("board", _TARGET, "a name that fmc boards lists", "NAME", "host")
BOARD_FILE = Option("board-file", _TARGET, "a JSON file with boards of your own", "FILE")
KERNELS = Option(
    "kernels",
    _TARGET,
    "the kernel library, if not the board's usual; of generated C portable or cmsis-nn",
    "NAME",
)
TARGET = (
    BOARD,
    BOARD_FILE,
    KERNELS,
    Option(
        "runtime",
        _TARGET,
        "tflm, a version of it (default: the newest known), or c: C without an interpreter",
        "NAME",
    ),
    Option("reserve", _TARGET, "what the firmware itself needs (default: the board's)", "SIZE"),
)
LIMITS = (
    Option("arena", _LIMITS, "what the arena may use; exit status 1 above", "SIZE"),
    Option(
        *("max-macs", _LIMITS, "most multiply-accumulates, as a multiple of the model's"),
        *("TIMES", 1.10),
        kind=float,
        least=1.0,
    ),
    Option(
        *("max-time", _LIMITS, "most estimated time, as a multiple of the model's", "TIMES"),
        kind=float,
        least=1.0,
    ),
)
PLAN = (
    Option(
        *("minimise", _PLAN, "what strips make small", "WHAT", "arena"),
        choices=("arena", "head"),
    ),
    Option(
        *("input", _PLAN, "how --runtime=c takes the image", "HOW", "whole"),
        choices=("whole", "rows"),
    ),
    Option("strips", _PLAN, "run big maps strip by strip", default=True),
    Option(
        "two-arenas",
        _PLAN,
        "head and tail in two memories where no memory inside the chip holds both",
        default=False,
    ),
    Option("overlap", _PLAN, "outputs may grow into inputs (default: with strips only)"),
    Option(
        "view-operators",
        _PLAN,
        "views keep an operator, so that the planned model runs in LiteRT, too",
        default=False,
    ),
    Option(
        "passes",
        _PLAN,
        "what rewrites the graph first, in order (default: as report.json says)",
        "PASSES",
    ),
)
SEARCH = (
    Option(
        *("effort", _SEARCH, "how much work the search may do", "HOW", "normal"),
        choices=("quick", "normal", "thorough"),
    ),
    Option(
        "time-limit",
        _SEARCH,
        "the best plan so far is taken after this; none: the same plan on every run",
        "SECONDS",
        kind=float,
        least=0.0,
    ),
    Option(
        "custom",
        _SEARCH,
        "custom operators that the firmware has kernels for",
        "NAMES",
        default=(),
        kind=list,
    ),
    Option("progress", _SEARCH, "show a progress bar (default: on a terminal)"),
)
SHARE = Option(
    *("share", _PLAN, "several models that never run at once share one arena"),
    default=False,
)
OUT = Option("out", _FILES, "the folder for the files; none: print only", "DIR")
CALIBRATION = Option("calibration", _FILES, "samples, .npy, for post-training quantisation", "FILE")
ENDS = tuple(
    Option(
        *(f"{end}-type", _FILES, f"type of the {end}s; uint8 as cameras give it", "TYPE", "int8"),
        choices=("int8", "uint8", "float32"),
    )
    for end in ("input", "output")
)
FIT = (
    Option("labels", _FILES, "labels of the samples, .npy", "FILE"),
    Option("loss", _SEARCH, "loss of the labels, as compile() names it", "NAME"),
    Option("bits", _SEARCH, "widths of codes, such as 8,4,2", "BITS", kind=list),
    Option("jobs", _SEARCH, "processes (default: all cores)", "COUNT", kind=int, least=1),
)
SOURCE = Option("source", _FILES, "the model before planning (default: the one planned)", "FILE")
PROJECT_OUT = Option("out", _FILES, "the folder of the project (default: DIR/KIND)", "DIR")
DATA = Option(
    *("data", _FILES, "how the model comes in (default: array, incbin from 512 KB on)", "HOW"),
    choices=("array", "incbin", "embed"),
)
STOP = Option(
    "stop",
    _FILES,
    "start-up fails where TFLM does not use the memory that was planned (default: where outputs "
    "grow into inputs)",
)
FORMAT = Option(
    *("format", _PRINTED, "form of the comparison", "FORM", "text"),
    choices=("text", "markdown"),
)
VERBOSE = Option("verbose", _PRINTED, "all of the report instead of 20 lines", default=False)
EXPLAIN = Option("explain", _PRINTED, "the frontier of plans as well", default=False)
EVERYWHERE = (
    Option("json", _PRINTED, "JSON instead of text, errors too", default=False),
    Option("quiet", _PRINTED, "the result only, on one line", default=False),
)
"""What every command takes."""


def emit_kind(kinds: tuple[str, ...]) -> Option:
    """Returns the option that names the kind of a firmware project."""
    return Option("as", _FILES, "the kind of project", "KIND", kinds[0], choices=kinds)
