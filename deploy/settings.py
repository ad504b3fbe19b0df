"""What a plan is asked for."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ParamSpec, TypeVar

from deploy.passes import USUAL_PASSES, Pass, passes_of
from deploy.targets import HOST, Kernels, Target, board, kernels, target
from deploy.targets.load import names_in
from keras_fmc.errors import BadInputError
from keras_fmc.sizes import parse_size

GENERATED_C = "c"
"""The runtime that is none: C without an interpreter."""

TFLM = "tflm"
"""The newest version of TensorFlow Lite Micro that is known."""

PORTABLE = "portable"
"""The kernels that come with generated C."""

CMSIS_NN = "cmsis-nn"
"""The kernels of generated C that call CMSIS-NN, as the board's core needs it."""

_CMSIS_NN_LIBRARY = "CMSIS-NN"

P = ParamSpec("P")
R = TypeVar("R")

_SIZES = ("reserve_bytes", "arena_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What a plan is made for.

    Attributes:
        board: a name that ``fmc boards`` lists; "host" is the tflite_micro wheel.
        board_file: a JSON file with boards of the user's own.
        kernels, runtime: other than the board's usual ones; runtime "c" is generated C, whose
            kernels are "portable" or CMSIS-NN's: "cmsis-nn" as the board's core has them, or one
            of the kernel libraries of that name.
        input: for runtime "c": "whole", the image stands in RAM, or "rows", it is fed row by row.
        reserve_bytes: what the firmware itself needs, instead of the board's usual reserve; here
            and in the next, "64KB" is 65,536.
        arena_bytes: what the arena may use, instead of what the board leaves.
        max_macs: most multiply-accumulates, as a multiple of the source model's; generated C makes
            whole maps again within it, where that saves memory.
        max_time: most time as it is estimated for the kernels, as a multiple of the source
            model's; None: not bounded.
        minimise: "arena" or "head": what the strips are to make small.
        strips: whether big maps may be run strip by strip.
        view_operators: whether views keep an operator in the planned model although their bytes
            stand where they are read, so that it runs in LiteRT, too.
        two_arenas: whether head and tail may stand in two memories of the board, each in an array
            of its own, where no memory inside the chip holds both.
        overlap: whether outputs may grow into their inputs where the kernel library allows it;
            None: with strips only.
        passes: what rewrites the graph before it is planned, as text; see ``deploy.passes``.
        effort: "quick", "normal" or "thorough": how much work the searches may do.
        time_limit: seconds after which the searches end with the best so far, which the report
            then says; None: as long as their work takes, so that a plan is always the same.
        customs: codes of custom operators for which the firmware brings its own kernels.
        progress: whether to show a progress bar on stderr.
    """

    board: str = "host"
    board_file: str | None = None
    kernels: str | None = None
    runtime: str | None = None
    input: str = "whole"
    reserve_bytes: int | None = None
    arena_bytes: int | None = None
    max_macs: float = 1.10
    max_time: float | None = None
    minimise: str = "arena"
    strips: bool = True
    view_operators: bool = False
    two_arenas: bool = False
    overlap: bool | None = None
    passes: str = USUAL_PASSES
    effort: str = "normal"
    time_limit: float | None = None
    customs: tuple[str, ...] = ()
    progress: bool = False

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, parse_size(value))
        passes_of(self.passes)

    @property
    def pass_list(self) -> tuple[Pass, ...]:
        """The passes that ``passes`` names."""
        return passes_of(self.passes)

    @property
    def generates_c(self) -> bool:
        return self.runtime == GENERATED_C

    def target(self) -> Target:
        """The target; of generated C the board, with TFLM's usual runtime and kernels beside it.

        Raises:
            BadInputError: an unknown name, or settings that do not go together.
        """
        self._check_runtime()
        self._check_two_arenas()
        return target(
            board=self.board,
            kernels=None if self.generates_c else self.kernels,
            runtime=None if self.runtime in (GENERATED_C, TFLM) else self.runtime,
            reserve_bytes=self.reserve_bytes,
            board_file=self.board_file,
        )

    def c_library(self) -> Kernels | None:
        """Returns the kernel library that generated C calls; None for portable kernels.

        Raises:
            BadInputError: none of that name, or "cmsis-nn" for a board that has others.
        """
        if not self.generates_c or self.kernels in (None, PORTABLE):
            return None
        name, what = self.kernels, f"generated C has no kernels of the name {self.kernels}"
        if name == CMSIS_NN:
            name = board(self.board, board_file=self.board_file).kernels
            what = f"the board {self.board} has other kernels than CMSIS-NN's"
        known = [n for n in names_in("kernels") if kernels(n).library == _CMSIS_NN_LIBRARY]
        if name not in known:
            raise BadInputError(
                what,
                expected=f"{PORTABLE}, {CMSIS_NN} for a board with a Cortex-M core, "
                f"or one of {', '.join(known)}",
                received=name,
                remedy="Leave --kernels out, or give --runtime=tflm",
            )
        return kernels(name)

    def _check_runtime(self) -> None:
        if self.runtime is not None and self.runtime.startswith(f"{GENERATED_C}@"):
            raise BadInputError(
                "generated C has no version of TFLM",
                expected=GENERATED_C,
                received=self.runtime,
                remedy=f"--runtime={GENERATED_C}",
            )
        if self.input not in ("whole", "rows"):
            raise BadInputError("unknown input", "whole or rows", repr(self.input))
        if not self.generates_c:
            if self.input == "rows":
                raise BadInputError(
                    "TFLM takes the image as a whole",
                    received="input rows",
                    remedy="Rows are fed to generated C: --runtime=c",
                )
            return
        self.c_library()
        usual = (("strips", True), ("overlap", None), ("minimise", "arena"), ("two_arenas", False))
        for name, value in usual:
            if getattr(self, name) != value:
                raise BadInputError(
                    f"generated C has no setting {name}",
                    expected="rows that are made once, in the least memory",
                    received=f"{name} {getattr(self, name)}",
                    remedy=f"Leave --{name} out, or give --runtime=tflm",
                )

    def _check_two_arenas(self) -> None:
        if not self.two_arenas:
            return
        if self.arena_bytes is not None:
            raise BadInputError(
                "two arenas have no limit of one arena",
                expected="the memories of a board",
                received=f"arena_bytes {self.arena_bytes:,}",
                remedy="Leave --arena or --two-arenas out; --board-file describes other memories",
            )
        if self.board == HOST:
            raise BadInputError(
                "two arenas stand in two memories of a board",
                received=f"board {self.board}, which has no limit",
                remedy="Name the board with --board",
            )


def takes_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Gives a function with ``**settings`` the fields of PlanSettings as its keywords.

    ``help`` and editors then show them with types and defaults, and what is no keyword is refused.

    Raises:
        BadInputError: of the function: an unknown keyword; names the nearest one.
    """
    own = inspect.signature(function)
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=f"{field.type} | str" if field.name in _SIZES else field.type,
        )
        for field in fields(PlanSettings)
    ]
    shown = own.replace(parameters=[*kept, *added])

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in shown.parameters:
                raise _unknown(function.__name__, name, list(shown.parameters))
        return function(*args, **kwargs)

    checked.__signature__ = shown  # type: ignore[attr-defined]
    return checked


def _unknown(function: str, name: str, known: list[str]) -> BadInputError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return BadInputError(
        f"{function} has no keyword {name!r}",
        expected=f"one of {', '.join(known)}",
        remedy=f"The nearest is {close[0]!r}",
    )
