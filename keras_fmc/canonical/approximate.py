"""Activations that the device does not have, by those that it has.

    gelu(x)      ≈  silu(a x) / a                             a = 1.773,           within 0.014
    mish(x)      ≈  x · sigmoid(b · leaky(x) + c)             b = 1.346, c = 0.553, within 0.0064
    softplus(x)  ≈  relu(x) + d · sigmoid(e · min(x, -x))     d = 1.363, e = 1.184, within 0.012

where leaky(x) is 0.807 x below zero. The numbers are those of the least largest error. The scalings
fold into convolutions around them. Only what is quantised has this form, so that training sees it;
folding and bottlenecks keep the user's function.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.model.layer_graph import LayerGraph, LayerNode
from keras_fmc.model.operations import activation_name, is_activation

GELU_SCALE = 1.77294
MISH_SLOPE, MISH_SCALE, MISH_OFFSET = 0.80694, 1.34560, 0.55351
SOFTPLUS_HEIGHT, SOFTPLUS_SCALE = 1.36338, 1.18368


def approximated(graph: LayerGraph) -> LayerGraph:
    """Returns a graph in canonical form with these activations replaced."""
    editor = Editor(graph)
    for node in graph.nodes:
        name = activation_name(node.operation) if is_activation(node.operation) else ""
        write = APPROXIMATED.get(name)
        if write is None:
            editor.keep(node)
        else:
            write(editor, node)
    return editor.done()


def _gelu(editor: Editor, node: LayerNode) -> None:
    value = _scaled(editor, node, "wide", editor.at(node.inputs[0]), GELU_SCALE)
    value = editor.part(node, "silu", _activation("silu"), [value])
    _last_scaled(editor, node, value, 1 / GELU_SCALE)


def _mish(editor: Editor, node: LayerNode) -> None:
    source = editor.at(node.inputs[0])
    make = lambda name: layers.LeakyReLU(negative_slope=MISH_SLOPE, name=name)  # noqa: E731
    value = editor.part(node, "leaky", make, [source])
    value = _scaled(editor, node, "shifted", value, MISH_SCALE, MISH_OFFSET)
    value = editor.part(node, "gate", _activation("sigmoid"), [value])
    editor.last(node, lambda name: layers.Multiply(name=name), [source, value])


def _softplus(editor: Editor, node: LayerNode) -> None:
    source = editor.at(node.inputs[0])
    _add_bump(editor, node, source, 1.0)


def _log_sigmoid(editor: Editor, node: LayerNode) -> None:
    """-softplus(-x)."""
    source = _scaled(editor, node, "negative", editor.at(node.inputs[0]), -1.0)
    _add_bump(editor, node, source, -1.0)


def _add_bump(editor: Editor, node: LayerNode, source: int, sign: float) -> None:
    above = editor.part(node, "above", lambda name: layers.ReLU(name=name), [source])
    minus = _scaled(editor, node, "minus", source, -1.0)
    value = editor.part(node, "below", lambda name: layers.Minimum(name=name), [source, minus])
    value = _scaled(editor, node, "steep", value, SOFTPLUS_SCALE)
    value = editor.part(node, "bump", _activation("sigmoid"), [value])
    value = _scaled(editor, node, "high", value, SOFTPLUS_HEIGHT)
    if sign > 0:
        editor.last(node, lambda name: layers.Add(name=name), [above, value])
        return
    value = editor.part(node, "sum", lambda name: layers.Add(name=name), [above, value])
    _last_scaled(editor, node, value, sign)


def _scaled(
    editor: Editor, node: LayerNode, part: str, value: int, scale: float, offset: float = 0.0
) -> int:
    return editor.part(node, part, lambda name: layers.Rescaling(scale, offset, name=name), [value])


def _last_scaled(editor: Editor, node: LayerNode, value: int, scale: float) -> None:
    editor.last(node, lambda name: layers.Rescaling(scale, name=name), [value])


def _activation(function: str) -> Callable[[str], layers.Layer]:
    return lambda name: layers.Activation(function, name=name)


APPROXIMATED: dict[str, Callable[[Editor, LayerNode], None]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu,
    "log_sigmoid": _log_sigmoid,
    "mish": _mish,
    "softplus": _softplus,
}
"""Activation → what writes the operators that stand for it."""
