"""Boards by name: the ones that ship with the project, and a user's own from a file."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import fields as field_list
from pathlib import Path
from typing import Any, NoReturn

from deploy.targets.cores import parse_clock
from deploy.targets.load import Fields, names_in, read_json, runtime_from_file
from deploy.targets.load_kernels import kernels_from_file
from deploy.targets.records import Board, BoardNames, Kernels, Memory, Runtime
from keras_fmc.errors import BadInputError
from keras_fmc.sizes import parse_size

_FILE = Path(__file__).parent / "boards.json"
_ADDRESS = re.compile(r"(0[xX])?[0-9a-fA-F]{1,8}")
_WORD = re.compile(r"[A-Za-z0-9_.:/=@+-]*")
_ADDRESS_SPACE_BYTES = 2**32


def runtime(name: str) -> Runtime:
    """Returns a runtime by name.

    Raises:
        BadInputError: no such runtime; lists those there are.
    """
    known = names_in("runtimes")
    if name not in known:
        raise BadInputError("unknown runtime", expected=", ".join(known), received=repr(name))
    return runtime_from_file(name)


def kernels(name: str) -> Kernels:
    """Returns a kernel library by name.

    Raises:
        BadInputError: no such library; lists those there are.
    """
    known = names_in("kernels")
    if name not in known:
        raise BadInputError("unknown kernels", expected=", ".join(known), received=repr(name))
    return kernels_from_file(name)


def boards(*, board_file: str | Path | None = None) -> tuple[Board, ...]:
    """Returns all boards, a user's own first, sorted by name within each.

    Args:
        board_file: a JSON file of the form of ``boards.json``: ``{"boards": [{...}]}``.

    Raises:
        BadInputError: the file cannot be read, or an entry of it is wrong.
    """
    own = () if board_file is None else _read(read_json(Path(board_file)), where=str(board_file))
    taken = {board.name for board in own}
    return (*own, *(board for board in _shipped() if board.name not in taken))


def board(name: str, *, board_file: str | Path | None = None) -> Board:
    """Returns a board by name or alias; case, spaces and punctuation do not matter.

    Raises:
        BadInputError: no such board; names the closest ones.
    """
    every = boards(board_file=board_file)
    wanted = _plain(name)
    spelled = {}
    for entry in reversed(every):
        for spelling in (entry.name, entry.title, *entry.aliases):
            spelled[_plain(spelling)] = entry
    if wanted in spelled:
        return spelled[wanted]
    close = difflib.get_close_matches(wanted, spelled, n=4, cutoff=0.5)
    close += [key for key in sorted(spelled) if wanted and wanted in key and key not in close][:4]
    names = list(dict.fromkeys(spelled[key].name for key in close))
    raise BadInputError(
        f"unknown board {name!r}",
        expected=f"for example {', '.join(names)}" if names else None,
        remedy="List the boards with: fmc boards; describe your own with --board-file",
    )


@functools.cache
def _shipped() -> tuple[Board, ...]:
    return _read(read_json(_FILE), where=_FILE.name)


def _read(data: Any, *, where: str) -> tuple[Board, ...]:
    fields = Fields(data, where)
    entries = fields.take("boards", list)
    fields.finish()
    result = [_board(entry, f"{where}, board {i}") for i, entry in enumerate(entries)]
    _check_names(result, where)
    return tuple(sorted(result, key=lambda entry: entry.name))


def _check_names(entries: Sequence[Board], where: str) -> None:
    owner: dict[str, str] = {}
    for entry in entries:
        for spelling in {_plain(s) for s in (entry.name, *entry.aliases)}:
            if spelling in owner:
                raise BadInputError(
                    f"{where}: two boards answer to one name",
                    received=f"{spelling!r} for {owner[spelling]} and {entry.name}",
                )
            owner[spelling] = entry.name


def _board(data: Any, where: str) -> Board:
    fields = Fields(data, where)
    name = _text(fields, "name", where)
    if not _plain(name):
        _refuse(where, "name", "a letter or digit at least", name)
    where = fields.where = name
    memories = tuple(
        _memory(entry, f"{where}, memory {i}")
        for i, entry in enumerate(fields.take("memories", list))
    )
    if not memories:
        raise BadInputError(f"{where} has no memories", expected="at least one region of RAM")
    for i, memory in enumerate(memories):
        if memory.name in {other.name for other in memories[:i]}:
            _refuse(where, "memories", "each name once", memory.name)
    flash = fields.take("flash", str, default=None)
    result = Board(
        name=name,
        title=_text(fields, "title", where),
        aliases=_aliases(fields.take("aliases", list, default=[]), where),
        core=_text(fields, "core", where),
        kernels=_known(fields, "kernels", "kernels", where),
        runtime=_known(fields, "runtime", "runtimes", where),
        memories=memories,
        flash_bytes=None if flash is None else _size(flash, "flash", where),
        reserve_bytes=_size(fields.take("reserve", str), "reserve", where, smallest=0),
        source=_text(fields, "source", where),
        note=_text(fields, "note", where, default=""),
        fpu=_word(fields, "fpu", where),
        clock_hz=parse_clock(fields.take("clock", str, default=""), where),
        names=_names(fields.take("names", dict, default={}), f"{where}, names"),
    )
    fields.finish()
    if result.reserve_bytes >= memories[0].size_bytes:
        raise BadInputError(
            f"{where}: the reserve leaves nothing of {memories[0].name}",
            expected=f"less than {memories[0].size_bytes} bytes",
            received=f"{result.reserve_bytes}",
        )
    return result


def _memory(data: Any, where: str) -> Memory:
    fields = Fields(data, where)
    name = _text(fields, "name", where)
    size = _size(fields.take("size", str), "size", where)
    text = fields.take("address", str, default=None)
    external = fields.take("external", bool, default=False)
    fields.finish()
    if text is None:
        return Memory(name, size, None, external)
    if not _ADDRESS.fullmatch(text):
        raise BadInputError(
            f"{where}: not an address", expected='such as "0x20000000"', received=repr(text)
        )
    address = int(text, 16)
    if address + size > _ADDRESS_SPACE_BYTES:
        _refuse(where, "address", "memory within 32 bits of address", f"{text} and {size} bytes")
    return Memory(name, size, address, external)


def _text(fields: Fields, key: str, where: str, *, default: str | None = None) -> str:
    """A field of printable text, empty only where that is the default."""
    text: str
    if default is None:
        text = fields.take(key, str)
    else:
        text = fields.take(key, str, default=default)
    if not text.isprintable() or (not text.strip() and text != default):
        _refuse(where, key, "printable text", text)
    return text


def _names(data: Any, where: str) -> BoardNames:
    fields = Fields(data, where)
    names = BoardNames(**{f.name: _word(fields, f.name, where) for f in field_list(BoardNames)})
    fields.finish()
    if names.platformio and names.platformio.count(":") != 1:
        _refuse(where, "platformio", "platform:board", names.platformio)
    return names


def _word(fields: Fields, key: str, where: str) -> str:
    """A field that may be missing, and is one word where it is not: it goes into build files."""
    text: str = fields.take(key, str, default="")
    if not _WORD.fullmatch(text):
        _refuse(where, key, "letters, digits and - _ . : / = @ +", text)
    return text


def _aliases(values: list[Any], where: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str) or not value.isprintable() or not _plain(value):
            _refuse(where, "aliases", "names with a letter or digit", value)
    return tuple(values)


def _known(fields: Fields, key: str, folder: str, where: str) -> str:
    name: str = fields.take(key, str)
    if name not in names_in(folder):
        raise BadInputError(
            f"{where}: unknown {key}",
            expected=", ".join(names_in(folder)),
            received=repr(name),
        )
    return name


def _size(text: str, key: str, where: str, *, smallest: int = 1) -> int:
    if smallest == 0 and text.strip() in ("0", "0B"):
        return 0
    try:
        size = parse_size(text)
    except (BadInputError, OverflowError):
        size = 0
    if not 0 < size <= _ADDRESS_SPACE_BYTES:
        raise BadInputError(
            f"{where}: {key!r} is not a size",
            expected="up to 4 GB, such as 65536, 64KB or 64KiB",
            received=repr(text),
        )
    return size


def _refuse(where: str, key: str, expected: str, received: object) -> NoReturn:
    raise BadInputError(f"{where}: wrong {key!r}", expected=expected, received=repr(received))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
