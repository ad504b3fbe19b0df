"""The ``fmc`` command: parse, call, print.

Exit status: 0 fits and verified; 1 does not fit; 2 bad input or usage; 3 verification failed.
A mistake of fmc itself ends in a traceback and 70.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from keras_fmc.errors import BadInputError, FmcError
from keras_fmc.printable import printable_lines

if TYPE_CHECKING:
    from deploy.settings import PlanSettings

_INTERRUPTED = 130
_INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h. Python's own status is 1, which a gate takes for "does not fit"."""


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: what it takes, what it does."""

    usage: str
    summary: str
    positional: int
    define: Callable[[flags.FlagValues], None]
    run: Callable[[Sequence[str], flags.FlagValues], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``fmc`` and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else FmcError.exit_code
    if arguments[0] == "--version":
        from keras_fmc import __version__

        print(f"fmc {__version__}")
        return 0
    try:
        return _dispatch(arguments[0], arguments[1:])
    except FmcError as error:
        print(f"fmc: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fmc: interrupted; nothing was written.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `fmc boards | head`.
        sys.stderr.close()
        return 0
    except Exception:
        print(printable_lines(traceback.format_exc()), file=sys.stderr, end="")
        return _INTERNAL_ERROR


def _dispatch(name: str, arguments: Sequence[str]) -> int:
    command = COMMANDS.get(name)
    if command is None:
        raise BadInputError(
            f"unknown command {name!r}",
            expected=f"one of {', '.join(COMMANDS)}",
            remedy="fmc --help lists them",
        )
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show the options of this command", flag_values=values)
    command.define(values)
    try:
        rest = values(["fmc", *arguments])[1:]
    except flags.Error as error:
        raise BadInputError(
            str(error).replace("\n", " "), remedy=f"fmc {name} --help lists the options"
        ) from error
    if _value(values, "help"):
        print(f"usage: fmc {command.usage}\n\n{command.summary}\n")
        print(_options(values))
        return 0
    if len(rest) != command.positional:
        raise BadInputError(
            f"fmc {name} takes {command.positional} arguments",
            received=f"{len(rest)}: {' '.join(rest)}" if rest else "none",
            remedy=f"usage: fmc {command.usage}",
        )
    return command.run(rest, values)


def _help() -> str:
    lines = ["usage: fmc COMMAND ...", ""]
    lines += [f"  fmc {c.usage}\n      {c.summary}" for c in COMMANDS.values()]
    lines += ["", "Sizes: 65536, 64KB and 64KiB are the same. fmc COMMAND --help: its options."]
    lines += ["Exit status: 0 fits and verified, 1 does not fit, 2 bad input, 3 not verified."]
    return "\n".join(lines)


def _options(values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(values):
        flag = values[name]
        default = "" if flag.default in (None, False, "") else f" (default {flag.default})"
        choices = getattr(flag.parser, "enum_values", None)
        help_text = flag.help.split(": ", 1)[-1] if choices else flag.help
        shown = "|".join(choices) if choices else {"bool": "true|false"}.get(flag.flag_type(), "")
        lines.append(f"  --{name}{'=' + shown if shown else ''}\n      {help_text}{default}")
    return "\n".join(lines)


def _target_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("board", "host", "the board, by a name that fmc boards lists", flag_values=values)
    string("board-file", None, "a JSON file with boards of your own", flag_values=values)
    string("kernels", None, "the kernel library, if not the board's usual", flag_values=values)
    string(
        "runtime",
        None,
        "tflm, a version of it (default: the newest known), or c",
        flag_values=values,
    )
    string("reserve", None, "bytes that the firmware itself needs", flag_values=values)


def _plan_flags(values: flags.FlagValues) -> None:
    _target_flags(values)
    flags.DEFINE_string("out", None, "the folder for the files; none: print", flag_values=values)
    flags.DEFINE_string("arena", None, "what the arena may use; exit 1 above", flag_values=values)
    flags.DEFINE_float(
        "max-macs", 1.10, "most MACs, as a multiple of the model's", 1.0, flag_values=values
    )
    flags.DEFINE_float(
        "max-time", None, "most estimated time, as the model's multiple", 1.0, flag_values=values
    )
    flags.DEFINE_enum(
        "minimise", "arena", ["arena", "head"], "what strips make small", flag_values=values
    )
    flags.DEFINE_enum(
        "input", "whole", ["whole", "rows"], "how --runtime=c takes the image", flag_values=values
    )
    flags.DEFINE_bool("strips", True, "run big maps strip by strip", flag_values=values)
    flags.DEFINE_bool("overlap", None, "outputs may grow into inputs", flag_values=values)
    flags.DEFINE_bool(
        "view-operators",
        False,
        "views keep an operator, so that the planned model runs in LiteRT, too",
        flag_values=values,
    )
    from deploy.passes import USUAL_PASSES

    flags.DEFINE_string(
        "passes", USUAL_PASSES, "what rewrites the graph first, in order", flag_values=values
    )
    flags.DEFINE_enum(
        "effort",
        "normal",
        ["quick", "normal", "thorough"],
        "how much work the search may do",
        flag_values=values,
    )
    flags.DEFINE_float(
        "time-limit",
        None,
        "seconds after which the best plan so far is taken; none: the same plan on every run",
        0.0,
        flag_values=values,
    )
    flags.DEFINE_bool("explain", False, "print the frontier of plans", flag_values=values)
    flags.DEFINE_bool("progress", None, "show a progress bar", flag_values=values)


def _convert_flags(values: flags.FlagValues) -> None:
    _plan_flags(values)
    flags.DEFINE_string(
        "calibration", None, "samples, .npy, for post-training quantisation", flag_values=values
    )


def _value(values: flags.FlagValues, name: str) -> Any:
    return values[name].value


def _settings(values: flags.FlagValues) -> PlanSettings:
    from deploy.settings import GENERATED_C, PlanSettings
    from keras_fmc.sizes import parse_size

    def size(name: str) -> int | None:
        text = _value(values, name)
        return None if text is None else parse_size(text)

    if _value(values, "runtime") == GENERATED_C:
        for name in ("strips", "overlap", "view-operators", "minimise", "max-macs"):
            if values[name].present:
                raise BadInputError(
                    f"generated C has no --{name}",
                    remedy=f"Leave --{name} out, or give --runtime=tflm",
                )
    reserve = _value(values, "reserve")
    return PlanSettings(
        board=_value(values, "board"),
        board_file=_value(values, "board-file"),
        kernels=_value(values, "kernels"),
        runtime=_value(values, "runtime"),
        input=_value(values, "input"),
        reserve_bytes=0 if reserve in ("0", "0B") else size("reserve"),
        arena_bytes=size("arena"),
        max_macs=_value(values, "max-macs"),
        max_time=_value(values, "max-time"),
        minimise=_value(values, "minimise"),
        passes=_value(values, "passes"),
        strips=_value(values, "strips"),
        overlap=_value(values, "overlap"),
        view_operators=_value(values, "view-operators"),
        effort=_value(values, "effort"),
        time_limit=_value(values, "time-limit"),
        progress=_wants_progress(_value(values, "progress")),
    )


def _print(text: str) -> None:
    """Prints lines; what would steer the terminal, in a name of a file or tensor, is escaped."""
    print(printable_lines(text))


def _wants_progress(flag: bool | None) -> bool:
    return sys.stderr.isatty() if flag is None else flag


def _plan(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy import pipeline

    return _show(pipeline.plan_file(rest[0], _settings(values), out=_value(values, "out")), values)


def _convert(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy import pipeline
    from deploy.quiet import import_tensorflow

    import_tensorflow()
    result = pipeline.convert_file(
        rest[0],
        _settings(values),
        calibration=_value(values, "calibration"),
        out=_value(values, "out"),
    )
    return _show(result, values)


def _show(result: object, values: flags.FlagValues) -> int:
    from deploy.pipeline import Result
    from deploy.report.text import frontier_text, to_text

    assert isinstance(result, Result)
    _print(to_text(result.report))
    if _value(values, "explain"):
        _print(frontier_text(result.report))
    if _value(values, "out") is not None:
        _print(f"Files in {values['out'].value}: {', '.join(result.files)}")
    return result.exit_code


def _profile_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("board", "host", "the board whose kernels run a .tflite", flag_values=values)
    string("board-file", None, "a JSON file with boards of your own", flag_values=values)
    string("kernels", None, "the kernel library, if not the board's usual", flag_values=values)
    flags.DEFINE_bool("json", False, "print JSON instead of a table", flag_values=values)


def _profile(rest: Sequence[str], values: flags.FlagValues) -> int:
    import json

    from deploy.profile import profile_file
    from deploy.targets import target

    if not rest[0].endswith(".tflite"):
        from deploy.quiet import import_tensorflow

        import_tensorflow()
    goal = target(
        board=_value(values, "board"),
        board_file=_value(values, "board-file"),
        kernels=_value(values, "kernels"),
    )
    maps = profile_file(rest[0], goal.kernels)
    _print(json.dumps(maps.to_dict(), indent=2) if _value(values, "json") else maps.to_text())
    return 0


def _verify_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "source", None, "the model before planning; default: the one planned", flag_values=values
    )


def _verify(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import verify

    _print(verify(rest[0], source=_value(values, "source")))
    return 0


def _board_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("board-file", None, "a JSON file with your own boards", flag_values=values)


def _boards(rest: Sequence[str], values: flags.FlagValues) -> int:
    del rest
    from deploy import targets

    _print(targets.boards_text(board_file=_value(values, "board-file")))
    return 0


def _emit_flags(values: flags.FlagValues) -> None:
    kinds = ["cmake", "arduino", "esp-idf", "platformio", "zephyr"]
    flags.DEFINE_enum("as", "cmake", kinds, "the kind of project", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the project", flag_values=values)


def _emit(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import emit_project

    folder = _value(values, "out") or str(Path(rest[0]) / _value(values, "as"))
    files = emit_project(rest[0], kind=_value(values, "as"), out=folder)
    _print(f"Files in {folder}: {', '.join(files)}")
    return 0


def _diff_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum("format", "text", ["text", "markdown"], "how to print", flag_values=values)


def _diff(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import read_report
    from deploy.report.diff import diff

    difference = diff(read_report(rest[0]), read_report(rest[1]))
    _print(
        difference.to_markdown() if _value(values, "format") == "markdown" else difference.to_text()
    )
    return 0


COMMANDS = {
    "profile": Command(
        "profile MODEL",
        "List feature maps, live sets and the peak (.keras, .h5, SavedModel, .tflite).",
        1,
        _profile_flags,
        _profile,
    ),
    "convert": Command(
        "convert MODEL --calibration X.npy --board B --out DIR",
        "Keras model to a planned int8 model for the device.",
        1,
        _convert_flags,
        _convert,
    ),
    "plan": Command(
        "plan MODEL.tflite --board B --out DIR [--arena BYTES]",
        "Strips, memory plan and proof for an int8 model; no training.",
        1,
        _plan_flags,
        _plan,
    ),
    "verify": Command(
        "verify DIR",
        "Run the emitted model in TFLM at exactly the claimed size.",
        1,
        _verify_flags,
        _verify,
    ),
    "boards": Command("boards", "List the boards and their memories.", 0, _board_flags, _boards),
    "emit": Command(
        "emit DIR --as cmake|arduino|esp-idf|platformio|zephyr",
        "Write a firmware project around an emitted model.",
        1,
        _emit_flags,
        _emit,
    ),
    "diff": Command(
        "diff A.json B.json",
        "Compare two reports: arena, head, tail, MACs, tensors that moved.",
        2,
        _diff_flags,
        _diff,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
