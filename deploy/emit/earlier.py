"""Whose files lie in a folder that is written to: an earlier run's, or the user's own.

Files of an earlier run are replaced, or removed where a run fails, lest they be taken for its
result. Files of the user are neither: what would overwrite one is refused before anything is
touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.emit.files import discard
from deploy.emit.written import MODEL_FILE, REPORT_FILE
from keras_fmc.errors import BadInputError

_KEYS_OF_A_REPORT = frozenset({"arena_bytes", "head_bytes", "tail_bytes", "fits", "flash_bytes"})


@contextmanager
def replacing(
    out: str | Path | None, names: Sequence[str], *, sources: Sequence[str | Path | None] = ()
) -> Iterator[tuple[str, ...]]:
    """Guards the files ``names`` of a folder while a run makes new ones.

    Yields those of them that an earlier run wrote; if the run fails, they are removed at its end.

    Args:
        out: the folder; None: nothing is written.
        names: what the run writes.
        sources: what the run reads.

    Raises:
        BadInputError: a source, or another file of the user's, would be overwritten.
    """
    if out is None:
        yield ()
        return
    refuse_overwriting(out, names, sources=sources)
    earlier = earlier_files(out, names)
    for name in names:
        if name not in earlier and os.path.lexists(Path(out) / name):
            raise BadInputError(
                f"{Path(out) / name} is in the way, and no result of an earlier run",
                expected="a folder without files of these names, or with those of an earlier run",
                remedy="Give another folder with --out, or move the file away",
            )
    try:
        yield earlier
    except Exception:
        discard(out, earlier)
        raise


def refuse_overwriting(
    out: str | Path, names: Sequence[str], *, sources: Sequence[str | Path | None]
) -> None:
    """Raises BadInputError if one of the files ``names`` in ``out`` is one of the sources.

    Links, hard links and other spellings of a path are seen through.
    """
    for name in names:
        for source in sources:
            if source is not None and _is_same(Path(out) / name, source):
                raise BadInputError(
                    f"{Path(out) / name} would overwrite {source}, which is read",
                    remedy="Give another folder with --out",
                )


def earlier_files(out: str | Path, names: Sequence[str]) -> tuple[str, ...]:
    """Returns those of ``names`` in a folder that an earlier run wrote.

    Its report.json tells: without one nothing is taken for a result, and the model must have the
    size that it says.
    """
    folder = Path(out)
    try:
        report = json.loads((folder / REPORT_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    if not isinstance(report, dict) or not report.keys() >= _KEYS_OF_A_REPORT:
        return ()
    return tuple(
        name
        for name in names
        if (folder / name).is_file()
        and (name != MODEL_FILE or (folder / name).stat().st_size == report["flash_bytes"])
    )


def _is_same(one: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False
