"""What layers of the user's own do on the device: the registry behind `fmc.register_layer`.

    expands      the stock layers and operations that do the same; they take its place
    elementwise  y = f(x) of each value alone; on the device a table of 256 codes
    absent       nothing at inference, as Dropout

Without an entry a layer is followed (`keras_fmc.canonical.expand`), which works where its `call`
needs nothing but `keras.ops` and other layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import keras
import numpy as np

from keras_fmc.errors import BadInputError
from keras_fmc.layers.elementwise import Elementwise


class Form(Enum):
    """What a registered layer is on the device."""

    EXPANDS = "the layers that take its place"
    ELEMENTWISE = "a table"
    ABSENT = "nothing"


@dataclass(frozen=True, slots=True)
class Registered:
    """An entry; `expand` stands with `Form.EXPANDS` alone."""

    form: Form
    expand: Callable[..., Any] | None = None


_REGISTERED: dict[Any, Registered] = {}


def register_layer(
    layer: Any = None,
    *,
    expand: Callable[..., Any] | None = None,
    elementwise: bool = False,
    absent: bool = False,
) -> Any:
    """Says what a layer of one's own, or the function of a Lambda layer, does on the device.

    `check`, `profile`, `insert_bottlenecks`, `quantize` and `convert` go by it. What is said is
    held against the layer on random samples; where the two differ, the layer is refused. Exactly
    one of the three has to be given. A subclass needs an entry of its own. Without a layer it is a
    decorator.

    Args:
        layer: a subclass of `keras.Layer`, or a function that Lambda layers or `activation=` have.
        expand: a function that is called as expand(layer, *inputs) where the layer is called on
            inputs, and returns what the layer does, made with stock layers and `keras.ops`.
            Weights of the layer are assigned to stock layers there, and go on training in them.
        elementwise: whether each output value depends on one input value alone, and on weights
            that all values share. Training goes through the layer itself; the device looks each
            code up in a table of 256, made when the model is converted (CAST, ADD and GATHER).
        absent: whether it does nothing at inference; it stays in the models that train.

    Returns:
        The layer or function.

    Raises:
        BadInputError: none or several of the three, or something else than a layer or function.

    Example:
        >>> @fmc.register_layer(elementwise=True)
        ... class Snake(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x + keras.ops.square(keras.ops.sin(x))
    """
    given = [expand is not None, elementwise, absent]
    if sum(given) != 1:
        raise BadInputError(
            "a layer has exactly one form on the device",
            expected="one of expand=, elementwise=True, absent=True",
            received=f"{sum(given)} of them",
        )
    form = next(
        form
        for form, found in zip((Form.EXPANDS, Form.ELEMENTWISE, Form.ABSENT), given, strict=True)
        if found
    )
    entry = Registered(form, expand)
    if layer is None:
        return lambda decorated: _enter(decorated, entry)
    return _enter(layer, entry)


def registered(operation: Any) -> Registered | None:
    """Returns the entry of a layer, None for one without."""
    if not _REGISTERED:
        return None
    if isinstance(operation, keras.layers.Lambda):
        return _REGISTERED.get(operation.function)
    return _REGISTERED.get(type(operation))


def is_elementwise(operation: Any) -> bool:
    """Whether a layer is registered as one, or made for it."""
    if isinstance(operation, Elementwise):
        return True
    entry = registered(operation)
    return entry is not None and entry.form is Form.ELEMENTWISE


def is_absent(operation: Any) -> bool:
    """Whether a layer is registered as one that does nothing at inference."""
    entry = registered(operation)
    return entry is not None and entry.form is Form.ABSENT


def _enter(layer: Any, entry: Registered) -> Any:
    is_layer = inspect.isclass(layer) and issubclass(layer, keras.Layer)
    if not is_layer and (inspect.isclass(layer) or not callable(layer)):
        raise BadInputError(
            "neither a layer nor a function",
            expected="a subclass of keras.Layer, or the function of a Lambda layer",
            received=repr(layer),
        )
    if is_layer and layer.__module__.startswith(("keras.", "keras_fmc.")):
        raise BadInputError(
            f"{layer.__name__} is no layer of one's own", received=f"{layer.__module__}"
        )
    _REGISTERED[layer] = entry
    return layer


_SAMPLES, _SEED = 2, 0
_CLOSE = 1e-4
"""Of the largest output: float32 sums in another order."""


def at_inference(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
    """What a layer makes of tensors outside training."""
    kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    return layer(*args, training=False, **kwargs)


def random_samples(shape: tuple[int | None, ...]) -> np.ndarray:
    """Two samples, for shapes whose first size is None."""
    rng = np.random.default_rng(_SEED)
    return rng.normal(size=(_SAMPLES, *(size or 1 for size in shape[1:]))).astype(np.float32) * 2


def difference(found: Any, expected: Any) -> str:
    """Says how two results differ; "" if they do not."""
    pairs = [keras.tree.flatten(part) for part in (found, expected)]
    if len(pairs[0]) != len(pairs[1]):
        return f"{len(pairs[0])} outputs for {len(pairs[1])}"
    for one, other in zip(*pairs, strict=True):
        one, other = (np.asarray(keras.ops.convert_to_numpy(part)) for part in (one, other))
        if one.shape != other.shape:
            return f"an output of shape {one.shape[1:]} for one of {other.shape[1:]}"
        gap = float(np.abs(one - other).max(initial=0))
        # Written so that NaN is a difference.
        if not gap <= _CLOSE * max(float(np.abs(other).max(initial=0)), 1e-3):
            return f"values that are {gap:.2g} away"
    return ""


def contradiction(operation: keras.Layer, shape: tuple[int | None, ...]) -> str:
    """Says why a layer is not what it is registered as, elementwise or absent; "" if it is."""
    x = random_samples(shape)
    y = keras.ops.convert_to_numpy(at_inference(operation, x))
    if is_absent(operation):
        found = difference(y, x)
        return f"it changes its input at inference: {found}" if found else ""
    if y.shape != x.shape:
        return f"it makes shape {y.shape[1:]} of {x.shape[1:]}"
    order = np.random.default_rng(_SEED + 1).permutation(x.size)
    moved = x.reshape(-1)[order].reshape(x.shape)
    again = keras.ops.convert_to_numpy(at_inference(operation, moved))
    found = difference(again, y.reshape(-1)[order].reshape(x.shape))
    if not found:
        # Sums over all values are the same in any order, but not once others have changed.
        kept = np.random.default_rng(_SEED + 2).random(x.shape) < 0.5
        changed = keras.ops.convert_to_numpy(at_inference(operation, np.where(kept, x, x * 3 + 1)))
        found = difference(np.where(kept, changed, 0), np.where(kept, y, 0))
    return f"a value's place or the other values matter: {found}" if found else ""


def values_of(operation: keras.Layer, shape: tuple[int | None, ...], x: np.ndarray) -> np.ndarray:
    """Returns f(x) of an elementwise layer that is called on tensors of a shape, batch first."""
    size = int(np.prod([length or 1 for length in shape[1:]]))
    batch = -(-len(x) // size)
    filled = np.resize(x, (batch, *(length or 1 for length in shape[1:]))).astype(np.float32)
    y = keras.ops.convert_to_numpy(at_inference(operation, filled))
    return np.asarray(y, np.float64).reshape(-1)[: len(x)]
