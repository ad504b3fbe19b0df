"""How well a planned model does on samples with known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deploy.predict import HasContent, predict
from keras_fmc.errors import BadInputError

Metric = Callable[[np.ndarray, np.ndarray], float]
"""(targets, outputs) → a number."""


def evaluate(
    result: HasContent | bytes,
    x: Any,
    y: Any,
    *,
    metrics: Mapping[str, Metric] | None = None,
    progress: bool | None = None,
) -> dict[str, float]:
    """Returns metrics of a planned model, run as the device runs it (`deploy.predict`).

    Without `metrics`, an output of several values whose targets are class numbers or one-hot rows
    gets its accuracy, every other one its mean absolute and mean squared error.

    Args:
        result: what `plan` or `convert` returned, or the bytes of an int8 .tflite.
        x: samples, as `predict` takes them.
        y: targets, an array; for several outputs a dict by their names, or a list in their order.
        metrics: name → function of targets and outputs, applied to every output.
        progress: whether a bar shows how far it is; None where stderr is a terminal.

    Returns:
        Metric → value; `"output/metric"` for a model of several outputs.

    Raises:
        BadInputError: as `predict`; targets of another count, shape or name.
    """
    outputs = predict(result, x, progress=progress)
    if not isinstance(outputs, dict):
        return _measured(np.asarray(y), outputs, metrics, "")
    targets = _targets(y, list(outputs))
    found: dict[str, float] = {}
    for name, values in outputs.items():
        found |= _measured(np.asarray(targets[name]), values, metrics, f"{name}/")
    return found


def _targets(y: Any, names: list[str]) -> Mapping[str, Any]:
    if isinstance(y, Mapping):
        if set(y) != set(names):
            raise BadInputError("unknown outputs", sorted(names), sorted(map(str, y)))
        return y
    if not isinstance(y, (list, tuple)) or len(y) != len(names):
        raise BadInputError(
            "a model of several outputs takes several arrays of targets",
            expected=f"a list of {len(names)}, or a dict of {', '.join(names)}",
            received=type(y).__name__,
        )
    return dict(zip(names, y, strict=True))


def _measured(
    y: np.ndarray, outputs: np.ndarray, metrics: Mapping[str, Metric] | None, prefix: str
) -> dict[str, float]:
    if y.shape[:1] != outputs.shape[:1]:
        raise BadInputError(
            "targets and samples differ in their count", expected=len(outputs), received=y.shape
        )
    if metrics is not None:
        return {prefix + name: float(metric(y, outputs)) for name, metric in metrics.items()}
    classes = _classes(y, outputs)
    if classes is not None:
        return {f"{prefix}accuracy": float(np.mean(outputs.argmax(-1) == classes))}
    if y.size != outputs.size:
        raise BadInputError(
            "targets of another shape than the outputs",
            expected=f"{outputs.shape}, or class numbers {outputs.shape[:-1]}",
            received=y.shape,
        )
    error = y.reshape(outputs.shape).astype(np.float64) - outputs
    return {
        f"{prefix}mean_absolute_error": float(np.abs(error).mean()),
        f"{prefix}mean_squared_error": float(np.square(error).mean()),
    }


def _classes(y: np.ndarray, outputs: np.ndarray) -> np.ndarray | None:
    """The class of each position, None where the targets are no classes."""
    count = outputs.shape[-1]
    if outputs.ndim < 2 or count < 2:
        return None
    if y.shape == outputs.shape:
        one_hot = np.isin(y, (0, 1)).all() and (y.sum(-1) == 1).all()
        return y.argmax(-1) if one_hot else None
    if y.shape == (*outputs.shape[:-1], 1):
        y = y[..., 0]
    if y.shape != outputs.shape[:-1] or not np.issubdtype(y.dtype, np.integer):
        return None
    return y
