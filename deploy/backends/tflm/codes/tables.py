"""Chains of small operators that depend on one byte a time become one look-up.

What an int8 value v turns into, channel by channel, is a table of 256 rows:

    source (1, H, W, c) → … → output (1, H, W, c·n)    becomes    CAST, ADD, GATHER, RESHAPE

This holds for operators that treat all channels alike (a SUB of a constant, the bit planes of
`keras_fmc.layers.bit_planes`), for unpacking itself, and, where the source has a single channel,
for every 1×1 convolution: then R's products come straight out of the table. The table is what the
runtime's own reference kernels make of the 256 values, so nothing is rounded otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from deploy import flatbuffer
from deploy.backends.tflm.codes.emit import Emitter
from deploy.graph import Graph, GraphBuilder, Operator, Options, Tensor
from deploy.macs import operator_macs
from deploy.operators.sets import BYTEWISE, LOOKS_UP, MIXES_CHANNELS, RESHAPES, SUMS_WINDOWS
from deploy.runtime import litert

_SIDE = 16
"""256 pixels, one for each value."""

_LARGEST_TABLE_BYTES = 16 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """Operators that a look-up can replace.

    Attributes:
        source: int8 map that they read; constants apart, nothing else.
        output: int8 map that they end in.
        operators: their indices, ascending.
    """

    source: int
    output: int
    operators: tuple[int, ...]


def find_chains(graph: Graph) -> tuple[Chain, ...]:
    """Returns the longest chains that can become look-ups, by their output; they do not overlap.

    Those of fewer operators than a look-up has are left out.
    """
    chains: list[Chain] = []
    used: set[int] = set()
    producers = graph.producers()
    for step in range(len(graph.operators) - 1, -1, -1):
        if step in used or len(graph.operators[step].outputs) != 1:
            continue
        found = [
            chain
            for source in _sources(graph, producers, graph.operators[step].outputs[0])
            if (chain := chain_between(graph, source, graph.operators[step].outputs[0]))
            and not used & set(chain.operators)
        ]
        best = max(found, key=lambda chain: (len(chain.operators), -chain.source), default=None)
        if best is not None and _pays(graph, best):
            chains.append(best)
            used.update(best.operators)
    return tuple(reversed(chains))


def chain_between(graph: Graph, source: int, output: int) -> Chain | None:
    """Returns the chain from one int8 map to another, None if there is none.

    There is one if every way back from `output` ends at `source` or a constant, on operators that
    look at one byte of the source at a time, and nothing else reads what is between.
    """
    tensors, producers = graph.tensors, graph.producers()
    if not (_is_map(graph, source) and _is_map(graph, output)):
        return None
    single = tensors[source].shape[3] == 1
    inside: set[int] = set()
    waiting = [output]
    while waiting:
        tensor = waiting.pop()
        if tensor == source or tensors[tensor].is_constant:
            continue
        step = producers.get(tensor)
        if step is None:
            return None
        if step in inside:
            continue
        if not _looks_at_one_byte(graph, step, source, single=single):
            return None
        inside.add(step)
        waiting.extend(graph.operators[step].present_inputs)
    inner = {t for step in inside for t in graph.operators[step].outputs} - {output}
    readers = graph.consumers()
    leaks = any(set(readers.get(t, ())) - inside or t in graph.outputs for t in inner)
    if leaks or not inside or tensors[output].shape[3] % tensors[source].shape[3]:
        return None
    return Chain(source, output, tuple(sorted(inside)))


def table_of(graph: Graph, chain: Chain) -> np.ndarray | None:
    """Returns what each int8 v of a channel turns into, (256, n) in row v + 128.

    None where the channels turn out to be treated differently.
    """
    channels = graph.tensors[chain.source].shape[3]
    outputs = graph.tensors[chain.output].shape[3]
    values = np.arange(-128, 128).astype(np.int8).reshape(1, _SIDE, _SIDE, 1)
    sample = np.broadcast_to(values, (1, _SIDE, _SIDE, channels)).copy()
    content = flatbuffer.write(_alone(graph, chain))
    found = litert.run(content, [[sample]])[0][0].reshape(256, channels, outputs // channels)
    if (found != found[:, :1]).any():
        return None
    return found[:, 0]


def use_table(graph: Graph, chain: Chain) -> Graph:
    """Returns the graph with a chain replaced by a look-up; itself if channels differ."""
    table = table_of(graph, chain)
    if table is None:
        return graph
    builder = GraphBuilder(graph)
    emit = Emitter(builder, f"{graph.tensors[chain.output].name}_table")
    quantization = graph.tensors[chain.output].quantization
    assert quantization is not None
    emit.look_up(chain.source, table, quantization, output=chain.output)
    operators: list[Operator] = []
    for step, operator in enumerate(graph.operators):
        if step == chain.operators[-1]:
            operators += emit.operators
        elif step not in chain.operators:
            operators.append(operator)
    return builder.build(like=graph).replace(operators=tuple(operators))


def use_tables(graph: Graph) -> Graph:
    """Returns the graph with every chain of `find_chains` replaced."""
    done: set[int] = set()
    while True:
        chain = next((c for c in find_chains(graph) if c.output not in done), None)
        if chain is None:
            return graph
        done.add(chain.output)
        graph = use_table(graph, chain)


def _pays(graph: Graph, chain: Chain) -> bool:
    """Whether a look-up has fewer operators, or as many and fewer multiplications."""
    if 256 * graph.tensors[chain.output].shape[3] // graph.tensors[chain.source].shape[3] > (
        _LARGEST_TABLE_BYTES
    ):
        return False
    macs = sum(operator_macs(graph, step) for step in chain.operators)
    return len(chain.operators) > 4 or (len(chain.operators) >= 3 and macs > 0)


def _sources(graph: Graph, producers: dict[int, int], output: int) -> Iterable[int]:
    """Int8 maps above `output`, nearest first."""
    seen: list[int] = []
    waiting = [output]
    while waiting:
        step = producers.get(waiting.pop(0))
        if step is None:
            continue
        for tensor in graph.operators[step].present_inputs:
            if not graph.tensors[tensor].is_constant and tensor not in seen:
                seen.append(tensor)
                waiting.append(tensor)
    return [tensor for tensor in seen if _is_map(graph, tensor)]


def _is_map(graph: Graph, tensor: int) -> bool:
    subject = graph.tensors[tensor]
    return (
        subject.dtype == "int8"
        and not subject.is_constant
        and len(subject.shape) == 4
        and subject.shape[0] == 1
        and subject.quantization is not None
        and len(subject.quantization.scales) == 1
    )


def _looks_at_one_byte(graph: Graph, step: int, source: int, *, single: bool) -> bool:
    """Whether an operator makes of each byte of the source, by itself, what it makes of it.

    Args:
        single: the source has one channel, so that its pixels are its bytes.
    """
    operator, tensors = graph.operators[step], graph.tensors
    if operator.custom_code or len(operator.outputs) != 1:
        return False
    positions = tensors[source].shape[1:3]
    if tensors[operator.outputs[0]].shape[1:3] != positions:
        return False
    if operator.opcode in BYTEWISE:
        return all(
            tensors[i].shape == tensors[operator.outputs[0]].shape
            if not tensors[i].is_constant
            else tensors[i].elements == 1 or (single and _is_per_channel(tensors[i]))
            for i in operator.present_inputs
        )
    if operator.opcode in LOOKS_UP:
        return (
            tensors[operator.inputs[0]].is_constant
            and operator.integer("axis") == 0
            and operator.integer("batch_dims") == 0
        )
    if operator.opcode in RESHAPES:
        shape = tensors[operator.inputs[0]].shape
        return shape[:3] == tensors[operator.outputs[0]].shape[:3]
    if operator.opcode in SUMS_WINDOWS:
        weights = tensors[operator.inputs[1]]
        pixelwise = (
            weights.is_constant
            and weights.shape[1:3] == (1, 1)
            and operator.integer("stride_h", 1) == operator.integer("stride_w", 1) == 1
        )
        return pixelwise and (single or operator.opcode not in MIXES_CHANNELS)
    return False


def _is_per_channel(tensor: Tensor) -> bool:
    return all(size == 1 for size in tensor.shape[:-1])


def _alone(graph: Graph, chain: Chain) -> Graph:
    """The chain as a graph of its own, over 16×16 positions."""
    tensors = list(graph.tensors)
    steps = [graph.operators[step] for step in chain.operators]
    touched = {chain.source} | {t for operator in steps for t in operator.outputs}
    for index in touched:
        shape = tensors[index].shape
        tensors[index] = dataclasses.replace(
            tensors[index], shape=(1, _SIDE, _SIDE, *shape[3:]), shape_signature=None
        )
    operators = []
    for operator in steps:
        if operator.opcode in RESHAPES:
            shape = tensors[operator.outputs[0]].shape
            values = np.array(shape, np.int32)
            tensors.append(Tensor("new_shape", (len(shape),), "int32", data=values.tobytes()))
            operator = dataclasses.replace(
                operator,
                inputs=(operator.inputs[0], len(tensors) - 1),
                options=Options("ReshapeOptions", (("new_shape", shape),)),
            )
        operators.append(operator)
    return Graph(tuple(tensors), tuple(operators), (chain.source,), (chain.output,))
