"""Packing of a stored map: several codes share a byte between its producer and its readers.

    producer → map → readers
    producer → map → pack → bytes → unpack → map' → readers

The map and map' hold the same values. Only the bytes live from the one to the other; where the
producer and the readers run strip by strip, map, map' and what is between exist for a strip only.
Packing is one 1×1 CONV_2D (two with 6 bits), unpacking is CAST, ADD, GATHER and RESHAPE (and a
CONV_2D with 6 bits). All of them are exact, so the graph computes what it did, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from deploy.backends.tflm.codes.emit import Emitter
from deploy.codes.layout import CodeLayout
from deploy.codes.levels import Interval, value_intervals
from deploy.graph import Graph, GraphBuilder, Operator, Quantization, Tensor
from keras_fmc.errors import BadInputError, UnsupportedModelError


def pack_map(
    graph: Graph,
    tensor: int,
    bits: int,
    *,
    shared: bool = True,
    padding: bool = True,
    interval: Interval | None = None,
) -> Graph:
    """Returns a graph in which a map of k channels is stored in ⌈k · bits / 8⌉ bytes a position.

    New tensors come after the old ones; the bytes are called `packed_name`.

    Args:
        tensor: an int8 map, written by an operator, of shape (1, H, W, k).
        bits: of a code: 6, 4, 2 or 1.
        shared: unpack once for all readers, right before the first. Otherwise each reader has its
            own unpacking right before it: then only bytes live between readers that are far apart,
            such as the ends of a skip connection, at the price of more operators.
        interval: codes that the map can have, where more is known than this graph shows.
        padding: whether the last byte of a position may be filled in part; otherwise such a k is
            refused and the next good one named.

    Raises:
        BadInputError: bits outside the list, or a k that is refused.
        UnsupportedModelError: the tensor is no such map, is read from outside, or its values can
            leave 2^bits consecutive codes; names the tensor.
    """
    subject = graph.tensors[tensor]
    layout = CodeLayout(bits, subject.shape[-1] if subject.shape else 0)
    first = _first_code(graph, tensor, bits, interval)
    if layout.spare_bits and not padding:
        raise BadInputError(
            f"codes of map {subject.name} do not fill bytes",
            expected=f"a multiple of channels such as {layout.next_full}",
            received=f"{layout.channels} channels of {bits} bits",
            remedy=f"Use k = {layout.next_full}, or allow {layout.spare_bits} spare bits a "
            "position",
        )
    producer = graph.producers()[tensor]
    readers = graph.consumers().get(tensor, ())
    builder = GraphBuilder(graph)
    stored, packing = _pack(builder, tensor, layout, first)
    before: dict[int, list[Operator]] = {}
    replaced: dict[int, int] = {}
    for group in [readers] if shared else [(reader,) for reader in readers]:
        suffix = "" if shared else f"_{len(before)}"
        restored, unpacking = _unpack(builder, stored, tensor, layout, first, suffix)
        before[group[0]] = unpacking
        replaced |= dict.fromkeys(group, restored)
    operators: list[Operator] = []
    for step, operator in enumerate(graph.operators):
        operators += before.get(step, [])
        operators.append(_reading(operator, tensor, replaced.get(step)))
        if step == producer:
            operators += packing
    return builder.build(like=graph).replace(operators=tuple(operators))


def pack_maps(graph: Graph, maps: Iterable[tuple[int, int]], **options: bool) -> Graph:
    """Returns the graph with several maps packed, given as (tensor, bits).

    What a map can hold is read from the graph as it is given: a map that is made of one that is
    packed already holds the same values, though the operators that unpack show less of them.
    """
    intervals = value_intervals(graph)
    for tensor, bits in maps:
        graph = pack_map(graph, tensor, bits, interval=intervals.get(tensor), **options)
    return graph


def packed_name(name: str) -> str:
    """Returns what the bytes of a packed map are called."""
    return f"{name}_packed"


def stored_bytes(graph: Graph, tensor: int, bits: int) -> int:
    """Returns the bytes that a map is stored in once packed, unrounded."""
    *positions, channels = graph.tensors[tensor].shape
    return int(np.prod(positions)) * CodeLayout(bits, channels).stored_channels


def _first_code(graph: Graph, tensor: int, bits: int, interval: Interval | None) -> int:
    """The int8 of code 0, or the reason why the map cannot be packed."""
    subject = graph.tensors[tensor]
    reason = None
    if subject.dtype != "int8" or len(subject.shape) != 4 or subject.shape[0] != 1:
        reason = f"is {subject.dtype} of shape {subject.shape}"
    elif subject.quantization is None or len(subject.quantization.scales) != 1:
        reason = "has no scale"
    elif tensor not in graph.producers():
        reason = "is written by no operator"
    elif tensor in graph.outputs:
        reason = "is an output of the graph"
    elif tensor not in graph.consumers():
        reason = "is read by no operator"
    if reason is not None:
        raise UnsupportedModelError(
            f"tensor {subject.name} {reason}",
            expected="an int8 map (1, H, W, k) with one scale, inside the graph",
            remedy="Pack the map before it",
        )
    low, high = interval or value_intervals(graph)[tensor]
    if high - low >= 2**bits:
        raise UnsupportedModelError(
            f"tensor {subject.name} can leave the {2**bits} levels of a {bits}-bit code",
            expected=f"a clip to {2**bits} consecutive int8 values",
            received=f"values {low} to {high}",
            remedy="Make the code with keras_fmc.layers.CodeQuantizer, and nothing behind it that "
            "rounds again",
        )
    return low


def _pack(
    builder: GraphBuilder, tensor: int, layout: CodeLayout, first: int
) -> tuple[int, list[Operator]]:
    subject = builder.tensors[tensor]
    scale = _scale(builder, tensor)
    emit = Emitter(builder, f"{subject.name}_pack")
    stages = layout.packing()
    source, zero_code = tensor, first
    for stage in stages[:-1]:
        shape = (*subject.shape[:-1], len(stage.weights))
        wide = emit.tensor("wide", shape, Quantization((scale,), (-128,)))
        source = emit.stage(source, stage, zero_code=zero_code, output=wide)
        zero_code = -128
    stored = builder.tensor(
        Tensor(
            packed_name(subject.name),
            (*subject.shape[:-1], layout.stored_channels),
            "int8",
            Quantization((scale,), (layout.stored_zero_point,)),
        )
    )
    emit.stage(source, stages[-1], zero_code=zero_code, output=stored)
    return stored, emit.operators


def _unpack(
    builder: GraphBuilder, stored: int, tensor: int, layout: CodeLayout, first: int, suffix: str
) -> tuple[int, list[Operator]]:
    subject = builder.tensors[tensor]
    assert subject.quantization is not None
    emit = Emitter(builder, f"{subject.name}_unpack{suffix}")
    restored = emit.tensor("map", subject.shape, subject.quantization)
    table = layout.table()
    last = layout.unpacking()
    if last is not None:
        plain = Quantization((_scale(builder, tensor),), (0,))
        parts = emit.look_up(stored, table, plain, output=None)
        shift = first - subject.quantization.zero_points[0]
        emit.stage(parts, last.shifted(shift), zero_code=0, output=restored)
    elif layout.spare_bits:
        codes = emit.look_up(stored, table + first, subject.quantization, output=None)
        emit.first_channels(codes, restored)
    else:
        emit.look_up(stored, table + first, subject.quantization, output=restored)
    return restored, emit.operators


def _scale(builder: GraphBuilder, tensor: int) -> float:
    quantization = builder.tensors[tensor].quantization
    assert quantization is not None
    return quantization.scales[0]


def _reading(operator: Operator, old: int, new: int | None) -> Operator:
    if new is None:
        return operator
    inputs = tuple(new if index == old else index for index in operator.inputs)
    return dataclasses.replace(operator, inputs=inputs)
