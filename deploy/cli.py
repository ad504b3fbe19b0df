"""The ``fmc`` command: which one, its help, its exit status.

Exit status: 0 fits and verified; 1 does not fit; 2 bad input or usage; 3 verification failed.
A mistake of fmc itself ends in a traceback and 70.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from deploy.command_line import help_text, nearest, overview, parse
from deploy.commands import COMMANDS, print_text
from keras_fmc.errors import BadInputError, FmcError
from keras_fmc.printable import printable_lines

__all__ = ["COMMANDS", "leave", "main"]

_INTERRUPTED = 130
_INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h. Python's own status is 1, which a gate takes for "does not fit"."""
_HELP = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``fmc`` and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print_text(overview(COMMANDS))
        return FmcError.exit_code
    if arguments[0] == "--version":
        from keras_fmc import __version__

        print_text(f"fmc {__version__}")
        return 0
    try:
        return _dispatch(arguments[0], arguments[1:])
    except FmcError as error:
        print(f"fmc: {error}", file=sys.stderr)
        if any(a in ("--json", "--json=true") for a in arguments):
            print_text(json.dumps(_data(error), indent=2))
        return error.exit_code
    except KeyboardInterrupt:
        print("fmc: interrupted; nothing was written.", file=sys.stderr)
        return _INTERRUPTED
    except Exception:
        print(printable_lines(traceback.format_exc()), file=sys.stderr, end="")
        return _INTERNAL_ERROR


def _dispatch(name: str, arguments: Sequence[str]) -> int:
    if name in _HELP:
        # `fmc help plan` is `fmc plan -h`.
        if name != "help" or not arguments:
            print_text(overview(COMMANDS))
            return 0
        name, arguments = arguments[0], ["-h"]
    command = COMMANDS.get(name)
    if command is None:
        raise BadInputError(
            f"unknown command {name!r}",
            expected=f"one of {', '.join(COMMANDS)}",
            remedy=nearest(name, COMMANDS) + "fmc --help lists them",
        )
    parsed = parse(command, arguments)
    if parsed is None:
        print_text(help_text(command))
        return 0
    return command.run(*parsed)


def _data(error: FmcError) -> dict[str, object]:
    """The error for a program: what the message is made of."""
    parts = {"what": error.what, "expected": error.expected, "received": error.received}
    return {
        "error": type(error).__name__,
        "exit_status": error.exit_code,
        **{name: None if part is None else str(part) for name, part in parts.items()},
        "remedy": error.remedy,
    }


def leave(status: int) -> NoReturn:
    """Ends the process with an exit status.

    Where the search's compiler was loaded, Python takes a third of a second to take it down again,
    for nothing: all files are closed, and the other processes of a command end with this one.
    Keras and what runs beside it are left to end as they are used to.
    """
    if "numba" in sys.modules and "keras" not in sys.modules:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main())
