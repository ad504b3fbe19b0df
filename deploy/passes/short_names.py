"""Names of tensors that people can read and that do not fill the flash."""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph
from keras_fmc.names import free_name
from keras_fmc.printable import shortened

_LONGEST_NAME = 100


def short_names(graph: Graph) -> list[str]:
    """Returns a unique name for every tensor.

    The converter joins the names of all fused layers by semicolons; the first is that of the
    layer whose output it is. What is longer than 100 characters keeps its ends.
    """
    taken: set[str] = set()
    names = [""] * len(graph.tensors)
    # Feature maps come first: a constant gives way to a map of the same name.
    for index in sorted(range(len(names)), key=lambda i: (graph.tensors[i].is_constant, i)):
        first = graph.tensors[index].name.split(";", 1)[0] or "tensor"
        names[index] = free_name(shortened(first, _LONGEST_NAME), taken, first=2)
    return names


def shorten_names(graph: Graph) -> Graph:
    """Returns the graph with short unique names: names are part of the file and so of the flash.

    Signatures keep theirs.
    """
    tensors = tuple(
        dataclasses.replace(tensor, name=name)
        for tensor, name in zip(graph.tensors, short_names(graph), strict=True)
    )
    return graph.replace(tensors=tensors)
