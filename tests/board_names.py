"""Holds the names of boards against clones of the lists that their projects publish.

    python tests/board_names.py FOLDER

FOLDER holds a clone ``OWNER/NAME`` of each repository of ``deploy/targets/lists.json`` that is to
be asked. Prints how many names each list confirms and what is missing in it; the exit status is 1
where a name is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy import targets

LISTS: list[dict[str, str]] = json.loads(
    (Path(targets.__file__).with_name("lists.json")).read_text(encoding="utf-8")
)["lists"]


def list_of(world: str, name: str) -> dict[str, str] | None:
    """Returns the list that a name is from, None where there is none."""
    entries = (e for e in LISTS if e["names"] == world and name.startswith(e.get("prefix", "")))
    return next(entries, None)


def names() -> Iterator[tuple[str, str]]:
    """Yields (world, name) of every board."""
    for board in targets.boards():
        for world, name in dataclasses.asdict(board.names).items():
            if name:
                yield world, name


def in_platformio(files: Path, name: str) -> bool:
    path = files / f"{name.partition(':')[2]}.json"
    return path.is_file() and "arduino" in json.loads(path.read_text("utf-8"))["frameworks"]


def in_arduino(files: Path, name: str) -> bool:
    """``packager:core:board``, with ``:option=value`` where a board is one of a menu."""
    board, *options = name.split(":")[2:]
    keys = [f"{board}.name", *(f"{board}.menu.{option.replace('=', '.')}" for option in options)]
    text = files.read_text(encoding="utf-8")
    return all(re.search(rf"^{re.escape(key)}=", text, re.MULTILINE) for key in keys)


def in_zephyr(files: Path, name: str) -> bool:
    """``board[@revision][/soc[/core...]]``; a board with one SoC leaves it out of its files."""
    board, *rest = name.split("/")
    board, _, revision = board.partition("@")
    stems = {"_".join((board, *rest)), "_".join((board, *rest[1:]))}
    found = {path.stem for path in files.rglob(f"{board}*.dts")}
    return bool(stems & found) and (not revision or any(files.rglob(f"{board}_{revision}.overlay")))


def in_esp_idf(files: Path, name: str) -> bool:
    found = re.search(r"^SUPPORTED_TARGETS = (\[[^]]*\])", files.read_text("utf-8"), re.MULTILINE)
    return found is not None and f"'{name}'" in found[1]


def in_stm32(files: Path, name: str) -> bool:
    """Parts as CubeMX refers to them; ``V(C-E-G)T`` stands for three sizes of flash."""
    for path in files.glob(f"{name[:9]}*.xml"):
        reference = re.search(r'RefName="([^"]+)"', path.read_text(encoding="utf-8"))
        if reference is not None:
            parts = re.split(r"\(([^)]*)\)", reference[1])
            choices = [part.split("-") for part in parts]
            if name in map("".join, itertools.product(*choices)):
                return True
    return False


LOOK_UP: dict[str, Callable[[Path, str], bool]] = {
    "platformio": in_platformio,
    "arduino": in_arduino,
    "zephyr": in_zephyr,
    "esp_idf": in_esp_idf,
    "stm32": in_stm32,
}


def check(folder: Path) -> int:
    """Prints a line for each list, and returns how many names are missing in theirs."""
    missing = 0
    for entry in LISTS:
        mine = sorted({name for world, name in names() if list_of(world, name) is entry})
        title = f"{entry.get('repository', entry['files'])} {entry['version']}"
        files = folder / entry.get("repository", "") / entry["files"]
        if not files.exists():
            print(f"{title}: not here, {len(mine)} names not asked")
            continue
        wrong = [name for name in mine if not LOOK_UP[entry["names"]](files, name)]
        print(f"{title}: {len(mine) - len(wrong)} of {len(mine)} names", *wrong)
        missing += len(wrong)
    return missing


def main(arguments: list[str]) -> Any:
    if len(arguments) != 1:
        return __doc__
    return min(check(Path(arguments[0])), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
