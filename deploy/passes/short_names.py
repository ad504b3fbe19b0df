"""Names of tensors that people can read and that do not fill the flash."""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph


def short_names(graph: Graph) -> list[str]:
    """Returns a unique name for every tensor.

    The converter joins the names of all fused layers by semicolons; the first is that of the
    layer whose output it is.
    """
    taken: set[str] = set()
    names = [""] * len(graph.tensors)
    # Feature maps come first: a constant gives way to a map of the same name.
    for index in sorted(range(len(names)), key=lambda i: (graph.tensors[i].is_constant, i)):
        name = short = graph.tensors[index].name.split(";", 1)[0] or "tensor"
        number = 1
        while name in taken:
            number += 1
            name = f"{short}_{number}"
        taken.add(name)
        names[index] = name
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
