"""The passes, in their order, and the reasons that they leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_fmc.canonical.alike import alike
from keras_fmc.canonical.arithmetic import activations, arithmetic, hard_swish, scalings
from keras_fmc.canonical.attention import attention, products
from keras_fmc.canonical.constants import constants
from keras_fmc.canonical.editor import Editor, Refusal
from keras_fmc.canonical.expand import expand, is_own
from keras_fmc.canonical.normalisation import normalisation
from keras_fmc.canonical.one_dimension import one_dimension
from keras_fmc.canonical.padding import padding
from keras_fmc.canonical.permutations import permutations
from keras_fmc.canonical.raw import raw
from keras_fmc.model.layer_graph import LayerGraph, trace

PASSES: tuple[Callable[[Editor], LayerGraph], ...] = (
    # Functions as activations become Lambda layers, which the next one follows.
    activations,
    expand,
    # What layers of the user's called may be any operation, and have activations.
    activations,
    raw,
    arithmetic,
    normalisation,
    attention,
    products,
    one_dimension,
    constants,
    # Behind all that can make a Rescaling, or ReLU6(x + 3) / 6.
    hard_swish,
    scalings,
    padding,
    permutations,
    alike,
)


@dataclass(frozen=True, slots=True)
class Canonical:
    """A model in the form that everything else works on.

    Attributes:
        graph: of stock layers and the project's own, as far as they could be found.
        refusals: why some could not.
    """

    graph: LayerGraph
    refusals: tuple[Refusal, ...]


def canonical(model: keras.Model) -> Canonical:
    """Returns the canonical form of a model, which is left alone.

    Raises:
        BadInputError, UnsupportedModelError: as `trace`.
    """
    graph = trace(model)
    refusals: list[Refusal] = []
    for step in PASSES:
        editor = Editor(graph)
        graph = step(editor)
        refusals += editor.refusals
    return Canonical(graph, tuple(dict.fromkeys(_with_registry(trace(model), refusals))))


def _with_registry(source: LayerGraph, refusals: list[Refusal]) -> list[Refusal]:
    """Says of what stands inside a layer of the user's that the layer can be registered."""
    owners = [node for node in source.nodes if is_own(node.operation)]

    def said(item: Refusal) -> Refusal:
        for node in owners:
            if item.layer == node.name or item.layer.startswith(f"{node.layer_name}_"):
                break
        else:
            return item
        if "register_layer" in item.remedy:
            return item
        kind = type(node.operation).__name__
        what = f"{item.remedy}, or say what {kind} does on the device: keras_fmc.register_layer"
        return dataclasses.replace(item, remedy=what)

    return [said(item) for item in refusals]
