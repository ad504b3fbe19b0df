"""What functions of TensorFlow are in Keras, so that Lambda layers that call them can be followed.

A function that users write as `tf.nn.depth_to_space(x, 2)` takes no symbolic tensor. While a layer
is followed, the functions named here take one, and do what `keras.ops` or a layer does with it;
with anything else they do what they always do.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_fmc.layers.transposed import DepthToSpace


@contextlib.contextmanager
def followed() -> Iterator[None]:
    """Lets the functions take symbolic tensors, where TensorFlow is imported at all."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        yield
        return
    before: list[tuple[Any, str, Any]] = []
    try:
        for path, twin in _TWINS.items():
            *modules, name = path.split(".")
            for module in _places(modules):
                owner: Any = tensorflow
                for part in module:
                    owner = getattr(owner, part, None)
                usual = getattr(owner, name, None)
                if usual is not None:
                    before.append((owner, name, usual))
                    setattr(owner, name, _either(usual, twin))
        yield
    finally:
        for owner, name, usual in reversed(before):
            setattr(owner, name, usual)


def _places(modules: list[str]) -> list[list[str]]:
    """Many functions stand in `tf` and in `tf.math`."""
    return [modules] if modules else [[], ["math"]]


def _either(usual: Any, twin: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(usual)
    def function(*args: Any, **kwargs: Any) -> Any:
        leaves = keras.tree.flatten((args, kwargs))
        if not any(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            return usual(*args, **kwargs)
        kwargs.pop("name", None)
        return twin(*args, **kwargs)

    return function


def _reduced(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def twin(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return reduce(input_tensor, axis=axis, keepdims=keepdims)

    return twin


def _depth_to_space(input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    if data_format != "NHWC":
        raise ValueError(f"depth_to_space in {data_format}")
    return DepthToSpace(block_size)(input)


def _resize(images: Any, size: Any, method: Any = "bilinear", antialias: bool = False) -> Any:
    return ops.image.resize(images, tuple(size), interpolation=str(method), antialias=antialias)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    borders, total = [], 0
    for size in num_or_size_splits[:-1]:
        total += size
        borders.append(total)
    return ops.split(value, borders, axis=axis)


def _normalised(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    return ops.normalize(x, axis=-1 if axis is None else axis, order=2)


def _clipped(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.clip(t, clip_value_min, clip_value_max)


def _padded(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    pads = tuple((int(before), int(behind)) for before, behind in paddings)
    if mode.upper() != "CONSTANT" or constant_values:
        raise ValueError(f"pad of mode {mode} with {constant_values}")
    return ops.pad(tensor, pads)


_TWINS: dict[str, Callable[..., Any]] = {
    "abs": ops.abs,
    "add": ops.add,
    "cast": lambda x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
    "clip_by_value": _clipped,
    "concat": lambda values, axis: ops.concatenate(values, axis=axis),
    "divide": ops.divide,
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "identity": lambda input: input,
    "image.resize": _resize,
    "matmul": ops.matmul,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "multiply": ops.multiply,
    "math.l2_normalize": _normalised,
    "negative": ops.negative,
    "nn.depth_to_space": _depth_to_space,
    "nn.elu": lambda features: ops.elu(features),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.l2_normalize": _normalised,
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, alpha),
    "nn.relu": lambda features: ops.relu(features),
    "nn.relu6": lambda features: ops.relu6(features),
    "nn.sigmoid": lambda x: ops.sigmoid(x),
    "nn.silu": lambda features: ops.silu(features),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=-1 if axis is None else axis),
    "nn.softplus": lambda features: ops.softplus(features),
    "nn.swish": lambda features: ops.silu(features),
    "nn.tanh": lambda x: ops.tanh(x),
    "pad": _padded,
    "pow": ops.power,
    "reduce_max": _reduced(ops.max),
    "reduce_mean": _reduced(ops.mean),
    "reduce_sum": _reduced(ops.sum),
    "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
    "sigmoid": lambda x: ops.sigmoid(x),
    "split": _split,
    "square": lambda x: ops.square(x),
    "squeeze": lambda input, axis=None: ops.squeeze(input, axis),
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
    "subtract": ops.subtract,
    "tanh": lambda x: ops.tanh(x),
    "transpose": lambda a, perm=None: ops.transpose(a, perm),
}
"""Function of TensorFlow → what does the same on symbolic tensors."""
