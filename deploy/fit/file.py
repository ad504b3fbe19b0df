"""``fmc fit`` on files: the least harmful bottlenecks with which a Keras model fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.fit.outcome import Fit

PLAN_FILE, FIT_FILE, TEXT_FILE = "compression_plan.json", "fit.json", "fit.txt"
MODEL_FILE = "fitted.keras"
FILES = (PLAN_FILE, FIT_FILE, TEXT_FILE, MODEL_FILE)


def fit_file(
    path: str,
    *,
    out: str | None,
    calibration: str | None,
    labels: str | None,
    loss: str | None,
    bits: Sequence[str] | None,
    jobs: int | None,
    settings: dict[str, object],
) -> Fit:
    """Fits a Keras model file and writes ``FILES`` into a folder.

    Raises:
        BadInputError, UnsupportedModelError, DoesNotFitError: as `fit_to`; files of an earlier fit
            are removed then.
    """
    import numpy as np

    from deploy.convert import load_samples
    from deploy.emit.earlier import refuse_overwriting
    from deploy.emit.files import discard, write_all
    from deploy.fit.fit import fit_to
    from deploy.quiet import quiet
    from keras_fmc.errors import BadInputError
    from keras_fmc.model.loading import load_model
    from keras_fmc.rewrite import insert_bottlenecks

    if out is not None:
        refuse_overwriting(out, FILES, sources=[path, calibration, labels])
        _refuse_foreign(Path(out))
    try:
        widths = None if bits is None else [int(width) for width in bits]
    except ValueError:
        raise BadInputError("widths of codes", "--bits=8,4,2", ",".join(bits or ())) from None
    samples = None if calibration is None else load_samples(Path(calibration))
    targets = None if labels is None else np.asarray(load_samples(Path(labels)))
    with quiet():
        model = load_model(path)
    try:
        found = fit_to(
            model,
            calibration=samples,
            labels=targets,
            loss=loss,
            bits=widths,
            jobs=jobs,
            **settings,
        )
        if out is not None:
            fitted = insert_bottlenecks(model, found.plan, calibration=samples).model
            files: dict[str, bytes | str] = {
                PLAN_FILE: json.dumps(found.plan.to_dict(), indent=2) + "\n",
                FIT_FILE: json.dumps(found.to_dict(), indent=2) + "\n",
                TEXT_FILE: found.to_text(),
                MODEL_FILE: _saved(fitted),
            }
            write_all(out, files)
    except BaseException:
        if out is not None:
            discard(out, FILES)
        raise
    return found


def _refuse_foreign(folder: Path) -> None:
    """Files of these names that no earlier fit wrote are the user's."""
    from keras_fmc.errors import BadInputError

    there = [name for name in FILES if (folder / name).exists()]
    try:
        earlier = json.loads((folder / FIT_FILE).read_text())
    except (OSError, ValueError):
        earlier = None
    if there and not (isinstance(earlier, dict) and {"plan", "frontier"} <= earlier.keys()):
        raise BadInputError(
            f"{folder / there[0]} is in the way, and no result of an earlier run",
            expected="a folder without files of these names, or with those of an earlier fit",
            remedy="Give another folder with --out, or move the file away",
        )


def _saved(model: object) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE
        model.save(path)  # type: ignore[attr-defined]
        return path.read_bytes()
