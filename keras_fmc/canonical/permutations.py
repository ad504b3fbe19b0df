"""Permutations of many axes, of which the device has four besides the batch.

(H, W, r, r, C) → (H, r, W, r, C)   =   (H, W, r, r·C) → (H, r, W, r·C), and reshapes
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.model.layer_graph import LayerGraph


def permutations(editor: Editor) -> LayerGraph:
    """Permutes axes that stay side by side as one: the device has up to four besides the batch."""
    for node in editor.graph.nodes:
        layer = node.operation
        if not isinstance(layer, layers.Permute) or len(layer.dims) <= _LARGEST_RANK:
            editor.keep(node)
            continue
        source = editor.at(node.inputs[0])
        shape = editor.shape(source)[1:]
        runs: list[list[int]] = []
        for axis in layer.dims:
            if runs and axis == runs[-1][-1] + 1:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        if None in shape or len(runs) > _LARGEST_RANK:
            editor.refuse(
                node,
                f"Permute of {len(shape)} axes has no int8 form here",
                "Move fewer axes at a time: those that stay side by side count as one",
            )
            continue
        ordered = sorted(runs)
        sizes = [math.prod(shape[axis - 1] or 1 for axis in run) for run in ordered]
        order = tuple(ordered.index(run) + 1 for run in runs)
        narrow = editor.part(node, "joined", _reshaping(sizes), [source])
        moved = editor.part(node, "moved", functools.partial(_permuting, order), [narrow])
        behind = [shape[axis - 1] or 1 for axis in layer.dims]
        editor.last(node, _reshaping(behind), [moved])
    return editor.done()


_LARGEST_RANK = 4


def _reshaping(shape: Sequence[int]) -> Callable[[str], keras.Layer]:
    return lambda name: layers.Reshape(tuple(shape), name=name)


def _permuting(order: tuple[int, ...], name: str) -> keras.Layer:
    return layers.Permute(order, name=name)
