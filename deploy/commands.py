"""What the ``fmc`` commands do: settings from options, a call, what is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from deploy.command_line import SHELLS, Command, value
from deploy.options import (
    BOARD,
    BOARD_FILE,
    CALIBRATION,
    DATA,
    ENDS,
    EXPLAIN,
    FIT,
    FORMAT,
    KERNELS,
    LIMITS,
    OUT,
    PLAN,
    PROJECT_OUT,
    SEARCH,
    SHARE,
    SOURCE,
    STOP,
    TARGET,
    VERBOSE,
    emit_kind,
)
from keras_fmc.errors import BadInputError
from keras_fmc.printable import printable_lines

if TYPE_CHECKING:
    from deploy.pipeline import Result
    from deploy.settings import PlanSettings

KINDS = ("cmake", "arduino", "esp-idf", "platformio", "zephyr", "stm32cube")
"""The kinds of firmware projects; a test holds them to be those of ``deploy.emit.skeleton``."""

_NO_C_OPTIONS = ("strips", "two-arenas", "overlap", "view-operators", "minimise", "max-macs")


def print_text(text: str) -> None:
    """Prints text; where its reader has gone, as in ``fmc boards | head``, it goes nowhere.

    The command ends as it would have: a gate must not take the plan for one that fits.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_lines(text: str) -> None:
    """Prints lines; what would steer the terminal, in a name of a file or tensor, is escaped."""
    print_text(printable_lines(text))


def _print_form(values: flags.FlagValues, *, text: str, line: str, data: Any) -> None:
    """Prints one of the three forms that every command has."""
    if value(values, "json"):
        print_text(json.dumps(data, indent=2))
    else:
        print_lines(line if value(values, "quiet") else text)


def settings_of(values: flags.FlagValues) -> PlanSettings:
    """Returns what the options of a plan ask for."""
    from deploy.passes import USUAL_PASSES
    from deploy.settings import GENERATED_C, PlanSettings
    from keras_fmc.sizes import parse_size

    def size(name: str) -> int | None:
        text = value(values, name)
        return None if text is None else parse_size(text)

    if value(values, "runtime") == GENERATED_C:
        for name in _NO_C_OPTIONS:
            if values[name].present:
                raise BadInputError(
                    f"generated C has no --{name}",
                    remedy=f"Leave --{name} out, or give --runtime=tflm",
                )
    return PlanSettings(
        board=value(values, "board"),
        board_file=value(values, "board-file"),
        kernels=value(values, "kernels"),
        runtime=value(values, "runtime"),
        input=value(values, "input"),
        reserve_bytes=0 if value(values, "reserve") in ("0", "0B") else size("reserve"),
        arena_bytes=size("arena"),
        max_macs=value(values, "max-macs"),
        max_time=value(values, "max-time"),
        minimise=value(values, "minimise"),
        passes=USUAL_PASSES if value(values, "passes") is None else value(values, "passes"),
        strips=value(values, "strips"),
        two_arenas=value(values, "two-arenas"),
        overlap=value(values, "overlap"),
        view_operators=value(values, "view-operators"),
        effort=value(values, "effort"),
        time_limit=value(values, "time-limit"),
        customs=tuple(value(values, "custom")),
        progress=_wants_progress(values),
    )


def _wants_progress(values: flags.FlagValues) -> bool:
    asked: bool | None = value(values, "progress")
    if asked is None:
        return sys.stderr.isatty() and not value(values, "quiet")
    return asked


def _plan(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.runtime import isolation

    # The runtimes are imported in their own process while this one imports the rest.
    isolation.start()
    from deploy import pipeline

    if value(values, "share"):
        return _plan_shared(rest, values)
    if len(rest) > 1:
        raise BadInputError(
            "fmc plan takes 1 arguments without --share",
            received=f"{len(rest)}: {' '.join(rest)}",
            remedy="Models that never run at once get one arena with --share",
        )
    return show(pipeline.plan_file(rest[0], settings_of(values), out=value(values, "out")), values)


def _plan_shared(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.report.shared import summary, to_text
    from deploy.share import plan_shared

    out = value(values, "out")
    result = plan_shared(rest, settings_of(values), out=out)
    report = result.report
    if value(values, "json"):
        print_text(report.to_json().rstrip("\n"))
        return result.exit_code
    print_lines(summary(report) if value(values, "quiet") else to_text(report))
    if out is not None and not value(values, "quiet"):
        folders = [f"{model.folder}/" for model in report.models] if report.fits else []
        here = [name for name in result.files if "/" not in name]
        print_lines(f"Files in {out}: {', '.join([*folders, *here])}")
    return result.exit_code


def _convert(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy import pipeline
    from deploy.quiet import import_tensorflow

    import_tensorflow()
    result = pipeline.convert_file(
        rest[0],
        settings_of(values),
        calibration=value(values, "calibration"),
        input_type=value(values, "input-type"),
        output_type=value(values, "output-type"),
        out=value(values, "out"),
    )
    return show(result, values)


def _fit(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.fit.file import FILES, fit_file
    from deploy.quiet import import_tensorflow

    import_tensorflow()
    settings, out = settings_of(values), value(values, "out")
    found = fit_file(
        rest[0],
        out=out,
        calibration=value(values, "calibration"),
        labels=value(values, "labels"),
        loss=value(values, "loss"),
        bits=value(values, "bits"),
        jobs=value(values, "jobs"),
        settings={name: getattr(settings, name) for name in settings.__slots__},
    )
    text = found.to_text()
    _print_form(values, text=text, line=text.split("\n", 1)[0], data=found.to_dict())
    if out is not None and not value(values, "json") and not value(values, "quiet"):
        print_lines(f"Files in {out}: {', '.join(FILES)}")
    return 0


def show(result: Result, values: flags.FlagValues) -> int:
    """Prints a finished run in the form that was asked for; returns its exit status."""
    from deploy.report.brief import summary, to_brief
    from deploy.report.codec import encode
    from deploy.report.text import frontier_text, to_text

    report = result.report
    if value(values, "json"):
        print_text(encode(report).rstrip("\n"))
        return result.exit_code
    if value(values, "quiet"):
        print_lines(summary(report))
        return result.exit_code
    print_lines(to_text(report) if value(values, "verbose") else to_brief(report))
    if value(values, "explain"):
        print_lines(frontier_text(report))
    if value(values, "out") is not None:
        print_lines(f"Files in {value(values, 'out')}: {', '.join(result.files)}")
    return result.exit_code


def _profile(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.profile import profile_file
    from deploy.targets import target

    if not rest[0].endswith(".tflite"):
        from deploy.quiet import import_tensorflow

        import_tensorflow()
    goal = target(
        board=value(values, "board"),
        board_file=value(values, "board-file"),
        kernels=value(values, "kernels"),
    )
    maps = profile_file(rest[0], goal.kernels)
    data = maps.to_dict()
    parts = data.get("subgraphs", [data])
    peaks = ", ".join(f"peak {part['peak_bytes']:,} B" for part in parts)
    _print_form(values, text=maps.to_text(), line=f"{rest[0]}: {peaks}", data=data)
    return 0


def _verify(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import verify

    text = verify(rest[0], source=value(values, "source"))
    _print_form(
        values, text=text, line=text, data={"folder": rest[0], "verified": True, "reason": text}
    )
    return 0


def _boards(rest: Sequence[str], values: flags.FlagValues) -> int:
    del rest
    from deploy import targets
    from deploy.targets.board_data import board_data

    board_file = value(values, "board-file")
    found = targets.boards(board_file=board_file)
    _print_form(
        values,
        text=targets.boards_text(board_file=board_file),
        line=" ".join(board.name for board in found),
        data=[board_data(board) for board in found],
    )
    return 0


def _emit(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import emit_project

    kind = value(values, "as")
    folder = value(values, "out") or str(Path(rest[0]) / kind)
    files = emit_project(
        rest[0],
        kind=kind,
        out=folder,
        board_file=value(values, "board-file"),
        data=value(values, "data"),
        stop=value(values, "stop"),
    )
    text = f"Files in {folder}: {', '.join(files)}"
    data = {"folder": folder, "kind": kind, "files": list(files)}
    _print_form(values, text=text, line=f"{folder}: a {kind} project", data=data)
    return 0


def _diff(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy.pipeline import read_report
    from deploy.report.diff import diff

    found = diff(read_report(rest[0]), read_report(rest[1]))
    text = found.to_markdown() if value(values, "format") == "markdown" else found.to_text()
    _print_form(values, text=text, line=found.to_line(), data=found.to_dict())
    return 0


def _completion(rest: Sequence[str], values: flags.FlagValues) -> int:
    from deploy import targets
    from deploy.command_line import completion, nearest
    from deploy.targets.load import names_in

    shell = rest[0]
    if shell not in SHELLS:
        raise BadInputError(
            f"no completion for {shell!r}",
            expected=f"one of {', '.join(SHELLS)}",
            remedy=nearest(shell, SHELLS) + "fmc completion -h says how it is used",
        )
    names = {
        "board": [board.name for board in targets.boards()],
        "kernels": list(names_in("kernels")),
        "runtime": ["tflm", "c", *names_in("runtimes")],
    }
    script = completion(COMMANDS, shell, names)
    _print_form(values, text=script, line=script, data={"shell": shell, "script": script})
    return 0


_PLANNED = (*TARGET, *LIMITS, *PLAN, *SEARCH)
_SHOWN = (VERBOSE, EXPLAIN)
_ALL = (
    Command(
        *("profile", "List feature maps, live sets and the peak."),
        arguments=("MODEL",),
        options=(BOARD, BOARD_FILE, KERNELS),
        run=_profile,
        example="fmc profile model.keras    # or .h5, SavedModel, .tflite",
    ),
    Command(
        *("convert", "Keras model to a planned int8 model for the device."),
        arguments=("MODEL",),
        options=(*_PLANNED, CALIBRATION, *ENDS, OUT, *_SHOWN),
        run=_convert,
        example="fmc convert model.keras --calibration x.npy --board nano33ble --out build",
    ),
    Command(
        *("fit", "The least harmful bottlenecks with which a Keras model fits; none if strips do."),
        arguments=("MODEL.keras",),
        options=(*_PLANNED, CALIBRATION, *FIT, OUT),
        run=_fit,
        example="fmc fit model.keras --calibration x.npy --board nano33ble --out fitted",
    ),
    Command(
        *("plan", "Strips, memory plan and proof for an int8 model; no training."),
        arguments=("MODEL.tflite",),
        options=(*_PLANNED, SHARE, OUT, *_SHOWN),
        run=_plan,
        several=True,
        example="fmc plan model.tflite --board nano33ble --arena 64KB --out build",
    ),
    Command(
        *("verify", "Run the emitted model in TFLM at exactly the claimed size."),
        arguments=("DIR",),
        options=(SOURCE,),
        run=_verify,
        example="fmc verify build",
    ),
    Command(
        *("boards", "List the boards and their memories."),
        arguments=(),
        options=(BOARD_FILE,),
        run=_boards,
    ),
    Command(
        *("emit", "Write a firmware project around an emitted model."),
        arguments=("DIR",),
        options=(BOARD_FILE, emit_kind(KINDS), DATA, STOP, PROJECT_OUT),
        run=_emit,
        example="fmc emit build --as zephyr",
    ),
    Command(
        *("diff", "Compare two reports: arena, head, tail, MACs, tensors that moved."),
        arguments=("A.json", "B.json"),
        options=(FORMAT,),
        run=_diff,
        example="fmc diff before/report.json build/report.json --format=markdown",
    ),
    Command(
        *("completion", f"Print what completes fmc in a shell: {', '.join(SHELLS)}."),
        arguments=("SHELL",),
        options=(),
        run=_completion,
        example='eval "$(fmc completion bash)"',
    ),
)
COMMANDS = {command.name: command for command in _ALL}
