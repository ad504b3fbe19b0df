"""Inputs and outputs of a converted model, in the order and with the names of the Keras model.

The converter sorts them as it likes and names them after operations. The exported function
therefore calls them by number, the converter keeps these keys in its signature, and here they give
back the order; then tensors and signature get the names that the user gave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from deploy.graph import Graph, Signature
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.names import free_name

_KEY = "serving_default"


def input_keys(count: int) -> list[str]:
    """Returns the names of the arguments of the function that is exported."""
    return [f"input_{index}" for index in range(count)]


def output_keys(count: int) -> list[str]:
    """Returns the names of its results."""
    return [f"output_{index}" for index in range(count)]


def output_names(model: Any) -> list[str]:
    """Returns a name for each of `model.outputs`: its key where the model puts out a dict,
    otherwise that of its layer."""
    structure = model.output
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        by_tensor: dict[int, list[str]] = {}
        for key in sorted(structure, reverse=True):
            by_tensor.setdefault(id(structure[key]), []).append(str(key))
        return [by_tensor[id(tensor)].pop() for tensor in model.outputs]
    return [str(name) for name in model.output_names]


def with_ends(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Returns the graph with its ends as the Keras model has them.

    A name that an earlier input or output has gets `_1`, `_2`, …; other tensors give way.

    Args:
        graph: as the converter made it, with a signature of `input_keys` and `output_keys`.
        inputs, outputs: the names wanted, in the order wanted.

    Raises:
        UnsupportedModelError: the converter dropped an input that the model does not use.
    """
    made = {name: index for signature in graph.signatures for name, index in signature.inputs}
    results = {name: index for signature in graph.signatures for name, index in signature.outputs}
    for key, name in zip(input_keys(len(inputs)), inputs, strict=True):
        if made.get(key) not in graph.inputs:
            raise UnsupportedModelError(
                f"input {name!r} is not in the converted model",
                expected="every input to matter for some output",
                remedy="Build the model without this input",
            )
    ordered_inputs = tuple(made[key] for key in input_keys(len(inputs)))
    ordered_outputs = tuple(results[key] for key in output_keys(len(outputs)))
    taken: set[str] = set()
    keys = [free_name(name, taken) for name in (*inputs, *outputs)]
    input_names, result_names = keys[: len(inputs)], keys[len(inputs) :]
    # A tensor that is put out twice, or handed through, has the first of its names.
    by_tensor: dict[int, str] = {}
    for index, name in zip((*ordered_inputs, *ordered_outputs), keys, strict=True):
        by_tensor.setdefault(index, name)
    tensors = []
    for index, tensor in enumerate(graph.tensors):
        if index in by_tensor:
            name = by_tensor[index]
        else:
            first, *others = tensor.name.split(";")
            name = ";".join((free_name(first, taken) if first in keys else first, *others))
        tensors.append(dataclasses.replace(tensor, name=name))
    signature = Signature(
        _KEY,
        tuple(zip(input_names, ordered_inputs, strict=True)),
        tuple(zip(result_names, ordered_outputs, strict=True)),
    )
    return graph.replace(
        tensors=tuple(tensors),
        inputs=ordered_inputs,
        outputs=ordered_outputs,
        signatures=(signature,),
    )
