"""Recurrent layers, unrolled: each step as layers of its own calls, the weights shared.

    LSTM       i, f, o = σ(…),  g = tanh(…)     c ← f · c + i · g          h ← o · tanh(c)
    GRU        z, r = σ(…),  g = tanh(…)        h ← g + z · (h - g)
    SimpleRNN                                   h ← tanh(…)

where … is W x + U h + b. W x + b is one dense layer on all steps; U is a dense layer that every
step but the first calls, as the state is 0 there. A GRU adds a bias to U h before it multiplies by
r; the first step has a copy of it, which trains by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_fmc.layers.channel_scale import channel_scale


def unroll(layer: Any, x: Any, initial_state: Any = None, mask: Any = None) -> Any:
    """Returns what an LSTM, a GRU, a SimpleRNN or RNN of one of their cells, or Bidirectional of
    one, makes of a sequence (batch, steps, features), in stock layers.

    Raises:
        ValueError: of a kind that is not unrolled; says which.
    """
    if initial_state is not None or mask is not None:
        raise ValueError("it is called with a state or a mask")
    if x.shape[1] is None:
        raise ValueError("its sequence has no fixed length")
    if isinstance(layer, layers.Bidirectional):
        return _both_ways(layer, x)
    run = _run(layer, x)
    output = ops.stack(run.outputs, axis=1) if layer.return_sequences else run.outputs[-1]
    return [output, *run.states] if layer.return_state else output


@dataclass(frozen=True, slots=True)
class _Run:
    """Outputs in the order in which they are made, and the states at the end."""

    outputs: Sequence[Any]
    states: Sequence[Any]


def _both_ways(layer: Any, x: Any) -> Any:
    if layer.return_state:
        raise ValueError("Bidirectional returns its states")
    forth, back = _run(layer.forward_layer, x), _run(layer.backward_layer, x)
    if layer.return_sequences:
        pairs = list(zip(forth.outputs, reversed(back.outputs), strict=True))
        if layer.merge_mode is None:
            return [ops.stack(list(side), axis=1) for side in zip(*pairs, strict=True)]
        return ops.stack([_MERGES[layer.merge_mode](pair) for pair in pairs], axis=1)
    pair = (forth.outputs[-1], back.outputs[-1])
    return list(pair) if layer.merge_mode is None else _MERGES[layer.merge_mode](pair)


_MERGES: dict[str, Callable[[Any], Any]] = {
    "concat": lambda pair: ops.concatenate(list(pair), axis=-1),
    "sum": lambda pair: ops.add(*pair),
    "mul": lambda pair: ops.multiply(*pair),
    "ave": lambda pair: layers.Average()(list(pair)),
}


def _run(layer: Any, x: Any) -> _Run:
    cell = getattr(layer, "cell", None)
    make = _CELLS.get(type(cell))
    if make is None:
        raise ValueError(f"a cell of kind {type(cell).__name__} cannot be unrolled")
    if layer.stateful:
        raise ValueError("it is stateful")
    steps = range(x.shape[1])
    return make(cell, layer.trainable, x, reversed(steps) if layer.go_backwards else steps)


def _lstm(cell: Any, trainable: bool, x: Any, steps: Any) -> _Run:
    units = cell.units
    # Keras has i, f, c, o; the sigmoids side by side are one operator.
    order = np.r_[0 : 2 * units, 3 * units : 4 * units, 2 * units : 3 * units]
    kernel, recurrent, bias = _weights(cell)
    given = _dense(kernel[:, order], None if bias is None else bias[order], trainable)(x)
    again = _dense(recurrent[:, order], None, trainable)
    outputs: list[Any] = []
    c: Any = None
    for step in steps:
        z = given[:, step] if c is None else ops.add(given[:, step], again(outputs[-1]))
        gates = layers.Activation(cell.recurrent_activation)(z[:, : 3 * units])
        new = ops.multiply(gates[:, :units], layers.Activation(cell.activation)(z[:, 3 * units :]))
        c = new if c is None else ops.add(ops.multiply(gates[:, units : 2 * units], c), new)
        outputs.append(ops.multiply(gates[:, 2 * units :], layers.Activation(cell.activation)(c)))
    return _Run(outputs, (outputs[-1], c))


def _gru(cell: Any, trainable: bool, x: Any, steps: Any) -> _Run:
    units = cell.units
    kernel, recurrent, bias = _weights(cell)
    inner = None
    if cell.reset_after and bias is not None:
        # That of z and r counts only together with the other.
        inner = bias[1, 2 * units :]
        bias = np.concatenate([(bias[0] + bias[1])[: 2 * units], bias[0, 2 * units :]])
    given = _dense(kernel, bias, trainable)(x)
    gated = _dense(recurrent[:, : 2 * units], None, trainable)
    again = _dense(recurrent[:, 2 * units :], inner, trainable)
    first = None
    if inner is not None:
        first = channel_scale(None, units, scale=inner, trainable=trainable)
    outputs: list[Any] = []
    for step in steps:
        now = given[:, step]
        h = outputs[-1] if outputs else None
        z = now[:, : 2 * units]
        gates = layers.Activation(cell.recurrent_activation)(z if h is None else z + gated(h))
        update, reset = gates[:, :units], gates[:, units:]
        fresh = now[:, 2 * units :]
        if h is not None and cell.reset_after:
            fresh = ops.add(fresh, ops.multiply(reset, again(h)))
        elif h is not None:
            fresh = ops.add(fresh, again(ops.multiply(reset, h)))
        elif first is not None:
            fresh = ops.add(fresh, first(reset))
        fresh = layers.Activation(cell.activation)(fresh)
        if h is None:
            outputs.append(ops.subtract(fresh, ops.multiply(update, fresh)))
        else:
            outputs.append(ops.add(fresh, ops.multiply(update, ops.subtract(h, fresh))))
    return _Run(outputs, (outputs[-1],))


def _simple(cell: Any, trainable: bool, x: Any, steps: Any) -> _Run:
    kernel, recurrent, bias = _weights(cell)
    given = _dense(kernel, bias, trainable)(x)
    again = _dense(recurrent, None, trainable)
    outputs: list[Any] = []
    for step in steps:
        z = ops.add(given[:, step], again(outputs[-1])) if outputs else given[:, step]
        outputs.append(layers.Activation(cell.activation)(z))
    return _Run(outputs, (outputs[-1],))


_CELLS: dict[type, Callable[..., _Run]] = {
    layers.LSTMCell: _lstm,
    layers.GRUCell: _gru,
    layers.SimpleRNNCell: _simple,
}

LAYERS: tuple[type[keras.Layer], ...] = (
    *(layers.LSTM, layers.GRU, layers.SimpleRNN),
    *(layers.RNN, layers.Bidirectional),
)
"""What `unroll` takes."""


def _weights(cell: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    kernel, recurrent = (
        keras.ops.convert_to_numpy(weight) for weight in (cell.kernel, cell.recurrent_kernel)
    )
    return kernel, recurrent, keras.ops.convert_to_numpy(cell.bias) if cell.use_bias else None


def _dense(kernel: np.ndarray, bias: np.ndarray | None, trainable: bool) -> layers.Dense:
    dense = layers.Dense(kernel.shape[1], use_bias=bias is not None)
    dense.build((None, kernel.shape[0]))
    dense.kernel.assign(kernel)
    if bias is not None:
        dense.bias.assign(bias)
    dense.trainable = trainable
    return dense
