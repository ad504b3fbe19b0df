"""Writing several files at once: all of them appear complete, or none does."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from keras_fmc.errors import BadInputError

_REMEDY = "Give a folder that can be written with --out"


def write_all(out_dir: str | Path, files: Mapping[str, bytes | str]) -> tuple[Path, ...]:
    """Writes ``files`` (relative name -> content) into ``out_dir`` and returns their paths.

    The folder is created if it is missing. Everything is first written beside the targets and
    then moved into place; if any step fails or is interrupted, the files of before are put back.

    Raises:
        BadInputError: the folder cannot be written; names the path and the reason.
        ValueError: a name is absolute or leaves the folder.
    """
    folder = Path(out_dir)
    targets = {name: folder / _checked(name) for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fmc-") as scratch:
            fresh = _stage(Path(scratch), files)
            with contextlib.ExitStack() as undo:
                for number, (name, target) in enumerate(targets.items()):
                    _make_parents(folder, target.parent, undo)
                    _move_in(fresh[name], target, Path(scratch) / f"old-{number}", undo)
                undo.pop_all()
    except OSError as error:
        raise BadInputError(
            f"cannot write {_where(error, folder)}", received=error.strerror, remedy=_REMEDY
        ) from error
    return tuple(targets.values())


def discard(out_dir: str | Path, names: Iterable[str]) -> None:
    """Removes files that an earlier run left in ``out_dir``; missing ones are passed over.

    Raises:
        BadInputError: a file is there and cannot be removed.
    """
    for name in names:
        path = Path(out_dir) / _checked(name)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            continue
        except OSError as error:
            raise BadInputError(
                f"cannot remove {path}, which an earlier run left",
                received=error.strerror,
                remedy="Remove it: it is not the result of this run",
            ) from error


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is not the name of a file inside the folder")
    return path


def _stage(scratch: Path, files: Mapping[str, bytes | str]) -> dict[str, Path]:
    staged = {}
    for number, (name, content) in enumerate(files.items()):
        staged[name] = scratch / f"new-{number}"
        data = content.encode() if isinstance(content, str) else content
        with open(staged[name], "wb") as file:
            file.write(data)
            file.flush()
            # A full disk shows here, before anything is moved.
            os.fsync(file.fileno())
    return staged


def _make_parents(folder: Path, parent: Path, undo: contextlib.ExitStack) -> None:
    missing = []
    while parent != folder and not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for path in reversed(missing):
        path.mkdir()
        undo.callback(path.rmdir)


def _move_in(fresh: Path, target: Path, old: Path, undo: contextlib.ExitStack) -> None:
    if target.is_file() or target.is_symlink():
        os.replace(target, old)
        undo.callback(os.replace, old, target)
    os.replace(fresh, target)
    if not old.is_file() and not old.is_symlink():
        undo.callback(target.unlink)


def _where(error: OSError, folder: Path) -> str:
    name = error.filename2 or error.filename
    return str(folder) if name is None or ".fmc-" in str(name) else str(name)
