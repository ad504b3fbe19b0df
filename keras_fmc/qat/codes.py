"""Codes of fewer than eight bits among the scale groups of a model.

All tensors of a scale group lie on one grid, so a code quantiser in a group makes codes of all of
them: it is called where the group's values are made, once for all. That is the same function only
if everything that reads the group reads codes. Between the values and their code lie operators that
choose among them (pooling by the maximum, concatenation), so rounding may move before these.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_fmc.errors import UnsupportedModelError
from keras_fmc.layers.code_quantizer import CodeForm, CodeQuantizer
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers
from keras_fmc.qat.placement import ScaleGroup, activation_name


def code_of(graph: LayerGraph, group: ScaleGroup) -> CodeQuantizer | None:
    """Returns the code quantiser that stands for all of a group, None if it has 8 bits.

    Raises:
        UnsupportedModelError: codes of other bits or another form in the group, or a tensor of the
            group that is read as it is.
    """
    own = [graph.node(name).operation for name in group.quantizers]
    codes = [layer for layer in own if isinstance(layer, CodeQuantizer)]
    if not codes:
        return None
    first = codes[0]
    for layer in own:
        same = isinstance(layer, CodeQuantizer) and (layer.bits, layer.form) == (
            first.bits,
            first.form,
        )
        if not same:
            raise _conflict(graph, group, f"{layer.name!r} is a code of other levels")
    if group.codes is None and group.fixed is not None:
        raise _conflict(graph, group, "its kernel fixes the scale")
    if group.codes is None:
        _check_coverage(graph, group)
    else:
        maker = _maker(graph, group.sources[0]).operation
        if (maker.quantizer.bits, maker.quantizer.form) != (first.bits, first.form):
            raise _conflict(graph, group, f"{maker.name!r} makes codes of other levels")
    return first


def capped_sources(graph: LayerGraph, groups: Sequence[ScaleGroup]) -> frozenset[int]:
    """Returns the values behind a ReLU6 that get an unsigned code of fewer bits.

    Such a code clips both ends by itself, and its upper end is no more than 6, so a ReLU does; the
    converter finds no int8 form for a ReLU6 before another clip.
    """
    found = set()
    for group in groups:
        code = code_of(graph, group) if group.fixed is None else None
        if code is not None and code.form is CodeForm.UNSIGNED:
            found |= {
                value
                for value in group.sources
                if activation_name(_maker(graph, value).operation) == "relu6"
            }
    return frozenset(found)


def feeds_gf2(graph: LayerGraph, group: ScaleGroup) -> bool:
    """Whether a GF(2) bottleneck reads a tensor of the group."""
    values = set(group.values)
    return any(
        isinstance(node.operation, GF2Bottleneck) and values.intersection(node.inputs)
        for node in graph.nodes
    )


def gf2_ranges(
    graph: LayerGraph, groups: Sequence[ScaleGroup], ranges: Sequence[tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Returns GF(2) layer → range of the codes that it reads."""
    by_value = {
        value: group.codes or range_
        for group, range_ in zip(groups, ranges, strict=True)
        for value in group.values
    }
    return {
        node.layer_name: by_value[node.inputs[0]]
        for node in graph.nodes
        if isinstance(node.operation, GF2Bottleneck)
    }


def _check_coverage(graph: LayerGraph, group: ScaleGroup) -> None:
    """Refuses a group of which an operator, or the user, reads a tensor before its code."""
    values = set(group.values)
    readers = consumers(graph)
    coded: set[int] = set()
    for node in graph.nodes:
        inside = values.intersection(node.outputs)
        made_from = values.intersection(node.inputs)
        if not inside or not made_from:
            continue
        if isinstance(node.operation, FakeQuant) or made_from <= coded:
            coded |= inside
    for value in group.values:
        if value in coded:
            continue
        outside = [
            graph.nodes[index].name
            for index in readers[value]
            if not values.intersection(graph.nodes[index].outputs)
        ]
        if outside or value in graph.outputs:
            where = f"layer {outside[0]!r} reads" if outside else "the model puts out"
            raise _conflict(graph, group, f"{where} {graph.values[value].name!r} as it is")


def _maker(graph: LayerGraph, value: int) -> LayerNode:
    return next(node for node in graph.nodes if value in node.outputs)


def _conflict(graph: LayerGraph, group: ScaleGroup, why: str) -> UnsupportedModelError:
    names = ", ".join(repr(graph.values[value].name) for value in group.sources)
    return UnsupportedModelError(
        f"{names} must have one scale with the code of fewer bits {group.quantizers[0]!r}, but "
        f"{why}",
        remedy="Give all maps that are joined or pooled there the same code, or none of them",
    )
