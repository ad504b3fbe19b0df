"""Softmax over other axes than the last, which the device does not have.

    Softmax(axis=1)(x)         →  Permute, Softmax, Permute
    Softmax(axis=(1, 2))(x)    →  Permute, Reshape, Softmax, Reshape, Permute

Attention over positions, as in `Softmax(axis=1)` of scores (batch, steps, 1), is such a one.
"""

from __future__ import annotations

import math
from typing import Any

from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.twins import axes_of, reshape_to
from keras_fmc.model.layer_graph import LayerNode


def softmax(editor: Editor, node: LayerNode) -> None:
    """Writes a call of `layers.Softmax` over its last axis."""
    source = editor.at(node.inputs[0])
    shape = editor.shape(source)
    axes = axes_of(node.operation.axis, len(shape))
    if len(node.inputs) > 1:
        editor.refuse(node, "Softmax with a mask", "Add a large negative number where it masks")
        return
    if not axes or 0 in axes or None in shape[1:]:
        editor.refuse(node, f"Softmax over axes {node.operation.axis}", "Leave the batch out")
        return
    rest = [axis for axis in range(1, len(shape)) if axis not in axes]
    order = [*rest, *axes]
    sizes = [shape[axis] or 1 for axis in order]
    joined = math.prod(sizes[len(rest) :])
    steps: list[tuple[str, Any]] = []
    if order != sorted(order):
        steps.append(("last", lambda name: layers.Permute(tuple(order), name=name)))
    if len(axes) > 1:
        steps.append(("joined", reshape_to(*sizes[: len(rest)], joined)))
    steps.append(("over", lambda name: layers.Softmax(name=name)))
    if len(axes) > 1:
        steps.append(("apart", reshape_to(*sizes)))
    if order != sorted(order):
        back = tuple(1 + order.index(axis) for axis in range(1, len(shape)))
        steps.append(("back", lambda name: layers.Permute(back, name=name)))
    for part, make in steps[:-1]:
        source = editor.part(node, part, make, [source])
    editor.last(node, steps[-1][1], [source])
