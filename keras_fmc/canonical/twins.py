"""What stands for an operation: its type, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.model.layer_graph import LayerNode

Twin = Callable[[Editor, LayerNode], bool]
"""Writes what stands for a call, or returns False and leaves the editor alone."""


def divided(editor: Editor, node: LayerNode) -> tuple[int, tuple[int | None, ...], int, int] | None:
    """What an operation divides: value, shape, axis, and length along it, where that is known."""
    source = editor.at(node.inputs[0])
    shape = editor.shape(source)
    axis = node.operation.axis % len(shape)
    length = shape[axis]
    return None if axis == 0 or length is None else (source, shape, axis, length)


def reshape_to(*shape: int | None) -> Callable[[str], layers.Layer]:
    return lambda name: layers.Reshape(shape, name=name)


def sources_of(editor: Editor, node: LayerNode) -> list[int]:
    return [editor.at(value) for value in node.inputs]


def output_of(editor: Editor, node: LayerNode) -> tuple[int | None, ...]:
    return editor.graph.values[node.outputs[0]].shape


def operands_of(node: LayerNode) -> tuple[Any, Any]:
    named = [*node.args, *node.kwargs.values()]
    return (named[0], named[1]) if len(named) > 1 else (named[0], None)


def axes_of(axis: Any, rank: int) -> tuple[int, ...] | None:
    if axis is None:
        return None
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    return tuple(sorted(int(item) % rank for item in axes))
