"""Commands with their options: parsing by absl, help and completion by argparse.

What a command line means is absl's: ``--strips=false``, ``--nostrips``, ``--out DIR``,
``--out=DIR``, in any order. argparse writes the help and hands the same rows to shtab.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags

from deploy.options import EVERYWHERE, Option
from keras_fmc.errors import BadInputError

_WIDTH = 100
_HELP_COLUMN = 32
_CLOSE = 0.6
_UNITS = {"SIZE": "bytes; 65536, 64KB and 64KiB are the same", "TIMES": "1.10 is a tenth more"}
SHELLS = ("bash", "zsh", "tcsh")


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: what it takes, what it does.

    Attributes:
        name: behind ``fmc``.
        summary: what it does, a sentence.
        arguments: what it is given, such as "MODEL", in their order.
        several: whether the last of them may be given more than once.
        options: its own; those of ``EVERYWHERE`` come with every command.
        run: gets the arguments and the options; returns the exit status.
        example: a usual call, shown in the help.
    """

    name: str
    summary: str
    arguments: tuple[str, ...]
    options: tuple[Option, ...]
    run: Callable[[Sequence[str], flags.FlagValues], int]
    example: str = ""
    several: bool = False

    @property
    def all_options(self) -> tuple[Option, ...]:
        return (*self.options, *EVERYWHERE)

    @property
    def usage(self) -> str:
        more = ("...",) if self.several else ()
        return " ".join(("fmc", self.name, *self.arguments, *more, "[--OPTION ...]"))


def value(values: flags.FlagValues, name: str) -> Any:
    """Returns the value of an option; its name may hold dashes."""
    return values[name].value


def parse(command: Command, arguments: Sequence[str]) -> tuple[list[str], flags.FlagValues] | None:
    """Returns arguments and options of a command line; None: it asks for help.

    Raises:
        BadInputError: an unknown option, a value that it does not take, too many or too few
            arguments; names the nearest option.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    for option in command.all_options:
        option.define(values)
    try:
        rest = values(["fmc", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        names = [option.name for option in command.all_options]
        raise BadInputError(
            f"fmc {command.name} has no option --{error.flagname}",
            remedy=nearest(error.flagname, names, "--")
            + f"fmc {command.name} -h lists the options",
        ) from error
    except flags.Error as error:
        raise BadInputError(
            str(error).replace("\n", " "), remedy=f"fmc {command.name} -h lists the options"
        ) from error
    if value(values, "help"):
        return None
    wanted = len(command.arguments)
    if len(rest) < wanted or (len(rest) > wanted and not command.several):
        raise BadInputError(
            f"fmc {command.name} takes {len(command.arguments)} arguments",
            received=f"{len(rest)}: {' '.join(rest)}" if rest else "none",
            remedy=f"usage: {command.usage}",
        )
    return rest, values


def nearest(name: str, known: Iterable[str], dashes: str = "") -> str:
    """Returns "Did you mean X? ", or nothing where no name is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=_CLOSE)
    return f"Did you mean {dashes}{close[0]}? " if close else ""


def help_text(command: Command) -> str:
    """Returns what ``fmc COMMAND -h`` prints."""
    return parser_of(command, argparse.ArgumentParser).format_help().rstrip()


def overview(commands: Mapping[str, Command]) -> str:
    """Returns what ``fmc -h`` prints."""
    width = max(map(len, commands))
    lines = ["usage: fmc COMMAND ...", ""]
    lines += [f"  fmc {c.name:<{width}}  {c.summary}" for c in commands.values()]
    lines += [
        "",
        "fmc COMMAND -h: its options. Sizes: 65536, 64KB and 64KiB are the same.",
        "Exit status: 0 fits and verified, 1 does not fit, 2 bad input, 3 not verified.",
    ]
    return "\n".join(lines)


def completion(commands: Mapping[str, Command], shell: str, names: Mapping[str, list[str]]) -> str:
    """Returns the script that completes ``fmc`` in a shell.

    Args:
        names: option -> the words that stand for its value, such as those of the boards.
    """
    import shtab

    root = argparse.ArgumentParser(prog="fmc", allow_abbrev=False)
    root.add_argument("--version", action="version", version="")
    below = root.add_subparsers()
    for command in commands.values():
        parser = parser_of(command, below.add_parser, names)
        for argument in command.arguments:
            action: Any = parser.add_argument(argument)
            if command.name == "completion":
                action.choices = SHELLS
            else:
                action.complete = shtab.FILE
    return str(shtab.complete(root, shell=shell))


def parser_of(
    command: Command,
    make: Callable[..., argparse.ArgumentParser],
    names: Mapping[str, list[str]] | None = None,
) -> argparse.ArgumentParser:
    """Returns the options of a command, in their groups, as ``make`` of argparse takes them.

    ``make`` is ``ArgumentParser``, or ``add_parser`` of one with subcommands.
    """
    # Below another parser a command has a name and a line in its list.
    own = make is argparse.ArgumentParser
    listed: dict[str, Any] = {} if own else {"name": command.name, "help": command.summary}
    parser = make(
        **listed,
        prog=f"fmc {command.name}",
        usage=command.usage,
        description=command.summary,
        epilog=_epilog(command),
        formatter_class=_Formatter,
        add_help=False,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    for option in command.all_options:
        group = groups.get(option.group)
        if group is None:
            group = groups[option.group] = parser.add_argument_group(option.group)
        action: Any = group.add_argument(f"--{option.name}", **_shown(option, names or {}))
        if option.unit in ("FILE", "DIR") and names is not None:
            import shtab

            action.complete = {"FILE": shtab.FILE, "DIR": shtab.DIR}[option.unit]
    groups["help"] = parser.add_argument_group("help")
    groups["help"].add_argument("-h", "--help", action="help", help="show this help")
    return parser


def _shown(option: Option, names: Mapping[str, list[str]]) -> dict[str, Any]:
    # argparse reads "%" as the beginning of a name.
    default = "" if option.default in (None, False, ()) else f" (default: {option.default})".lower()
    text = (option.help + default).replace("%", "%%")
    if option.choices:
        return {"choices": option.choices, "help": text}
    if option.unit:
        return {
            "metavar": option.unit,
            "help": text,
            **({"choices": names[option.name]} if option.name in names else {}),
        }
    if option.default is False:
        return {"action": "store_true", "help": text}
    return {"nargs": "?", "metavar": "true|false", "choices": ("true", "false"), "help": text}


def _epilog(command: Command) -> str | None:
    """What the units are, and an example."""
    units = {option.unit for option in command.all_options}
    lines = [f"{unit}: {text}" for unit, text in _UNITS.items() if unit in units]
    return "\n".join([*lines, *([f"example: {command.example}"] if command.example else [])])


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Of one width everywhere, so that the help is the same on every terminal."""

    def __init__(self, prog: str, **settings: Any) -> None:
        settings.update(width=_WIDTH, max_help_position=_HELP_COLUMN)
        super().__init__(prog, **settings)
