"""Maps of single bits that stay bits from operator to operator: what a GF(2) bottleneck is made of.

    int8 → planes → P → stored bits → R → planes → int8

A table makes the planes of a value, a convolution of bits compares sums of weights with thresholds,
and a table makes values of planes. Between them a map holds eight channels in a byte, and padding,
slices and DEPTH_TO_SPACE move whole bytes. In the graph that is returned these are operators of
this package's own (`C_OPERATORS`) on maps of bytes; what reads such a map in any other way gets it
unpacked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from deploy.backends.c.bit_weights import bit_convolution, value_table
from deploy.backends.tflm.codes.tables import Chain, find_chains, table_of
from deploy.codes.levels import find_code_maps
from deploy.graph import Graph, GraphBuilder, Operator, Options, Quantization, Tensor

BITS_OF, BITS_CONV, VALUES_OF_BITS = "BITS_OF", "BITS_CONV", "VALUES_OF_BITS"
PACK, UNPACK = "PACK_CODES", "UNPACK_CODES"
C_OPERATORS = (BITS_OF, BITS_CONV, VALUES_OF_BITS, PACK, UNPACK)
"""Operators that only generated C has."""

_BYTES = Quantization((1.0,), (0,))


def added_name(name: str, part: str) -> str:
    """Returns the name of what is made of a tensor; of joined names the first one tells."""
    first, *others = name.split(";")
    return ";".join([f"{first}_{part}", *others])


def unpacked_copy(tensor: Tensor) -> Tensor:
    """Returns what a map is unpacked to: the same values under a name of their own."""
    return dataclasses.replace(tensor, name=added_name(tensor.name, "unpacked"))


def with_bits(graph: Graph) -> Graph:
    """Returns the graph with its maps of single bits kept as bits, where operators allow that.

    Tensors keep their indices; new ones come last. The outputs are the same, bit for bit.
    """
    found = _Bits.of(graph)
    return found.rewritten() if found.kept else graph


@dataclass(frozen=True, slots=True)
class _Bits:
    """What can be done in bits.

    Attributes:
        low: map of two codes -> the lower one.
        chains: map of planes -> the chain that makes it, and its table.
        kept: maps that stay bits.
    """

    graph: Graph
    low: dict[int, int]
    chains: dict[int, tuple[Chain, np.ndarray]]
    kept: frozenset[int]

    @staticmethod
    def of(graph: Graph) -> _Bits:
        low = {m.tensor: m.interval[0] for m in find_code_maps(graph) if m.bits == 1}
        if not low:
            return _Bits(graph, {}, {}, frozenset())
        chains = {}
        for chain in find_chains(graph):
            if chain.output in graph.outputs or chain.source in low:
                continue
            table = table_of(graph, chain)
            if table is not None and table.shape[1] <= 8 and np.ptp(table) == 1:
                # The table says more of the map than its operators do.
                chains[chain.output] = chain, table
                low[chain.output] = int(table.min())
        found = _Bits(graph, low, chains, frozenset())
        return dataclasses.replace(found, kept=frozenset(found._kept()))

    def _kept(self) -> set[int]:
        graph, readers = self.graph, self.graph.consumers()
        made: list[int] = []
        for step, operator in enumerate(graph.operators):
            output = operator.outputs[0] if operator.outputs else -1
            if output not in self.low:
                continue
            source = next(iter(operator.present_inputs), -1)
            if output in self.chains or (
                source in made and (self._convolves(step) or self._moves(step))
            ):
                made.append(output)
        kept: set[int] = set()
        for tensor in reversed(made):
            used = any(
                self._values(step, tensor) or graph.operators[step].outputs[0] in kept
                for step in readers[tensor]
            )
            if used or self._convolves(graph.producers()[tensor]):
                kept.add(tensor)
        return kept

    def _convolves(self, step: int) -> bool:
        operator = self.graph.operators[step]
        x, y = operator.inputs[0], operator.outputs[0]
        if operator.opcode != "CONV_2D" or x not in self.low or y not in self.low:
            return False
        return bit_convolution(self.graph, step, self.low[x], self.low[y]) is not None

    def _values(self, step: int, tensor: int) -> bool:
        operator = self.graph.operators[step]
        if operator.opcode != "CONV_2D" or operator.outputs[0] in self.low:
            return False
        return value_table(self.graph, step, self.low[tensor]) is not None

    def _moves(self, step: int) -> bool:
        """Whether an operator moves whole bytes of bits, or fills up with zeros."""
        operator, tensors = self.graph.operators[step], self.graph.tensors
        x, y = operator.inputs[0], operator.outputs[0]
        source, target = tensors[x], tensors[y]
        if x not in self.low or source.quantization != target.quantization:
            return False
        constants = [tensors[t] for t in operator.inputs[1:]]
        if not all(c.is_constant for c in constants):
            return False
        if operator.opcode == "DEPTH_TO_SPACE":
            return target.shape[3] % 8 == 0
        same = source.shape[3:] == target.shape[3:]
        if operator.opcode == "PAD":
            assert target.quantization is not None
            zeros = target.quantization.zero_points[0] == self.low[x]
            return same and zeros and constants[0].shape == (4, 2)
        if operator.opcode == "SLICE":
            return same
        if operator.opcode == "STRIDED_SLICE":
            plain = not any(
                operator.integer(f"{name}_mask") for name in ("ellipsis", "new_axis", "shrink_axis")
            )
            return same and plain and int(constants[2].array()[3]) == 1
        return False

    def rewritten(self) -> Graph:
        graph, tensors = self.graph, self.graph.tensors
        builder = GraphBuilder(graph)
        operators: list[Operator] = []
        packed = {t: builder.tensor(self._packed(t)) for t in sorted(self.kept)}
        dropped = {s for t in self.kept if t in self.chains for s in self.chains[t][0].operators}
        unpacked: dict[int, tuple[int, int]] = {}
        for step, operator in enumerate(graph.operators):
            y = operator.outputs[0] if operator.outputs else -1
            if y in self.kept:
                operators.append(self._in_bits(builder, step, packed))
                continue
            if step in dropped:
                continue
            inputs = list(operator.inputs)
            for place, x in enumerate(operator.inputs):
                if x not in self.kept:
                    continue
                if self._values(step, x):
                    table = value_table(graph, step, self.low[x])
                    assert table is not None
                    name = f"{tensors[y].name}_values"
                    constant = builder.constant(name, table)
                    options = _options(bits=tensors[x].shape[3] // tensors[y].shape[3])
                    operators.append(Operator(VALUES_OF_BITS, (packed[x], constant), (y,), options))
                    inputs = []
                    break
                # Readers in a row share what one of them unpacked.
                if x not in unpacked or unpacked[x][1] < step - 1:
                    again = builder.tensor(unpacked_copy(tensors[x]))
                    options = _options(bits=1, low=self.low[x])
                    operators.append(Operator(UNPACK, (packed[x],), (again,), options))
                    unpacked[x] = again, step
                unpacked[x] = unpacked[x][0], step
                inputs[place] = unpacked[x][0]
            if inputs or not operator.inputs:
                operators.append(dataclasses.replace(operator, inputs=tuple(inputs)))
        return builder.build(like=graph).replace(operators=tuple(operators))

    def _packed(self, tensor: int) -> Tensor:
        entry = self.graph.tensors[tensor]
        shape = (*entry.shape[:3], -(-entry.shape[3] // 8))
        return Tensor(added_name(entry.name, "packed"), shape, "int8", _BYTES)

    def _in_bits(self, builder: GraphBuilder, step: int, packed: dict[int, int]) -> Operator:
        graph = self.graph
        operator = graph.operators[step]
        x, y = operator.inputs[0], operator.outputs[0]
        name = graph.tensors[y].name
        if y in self.chains:
            chain, table = self.chains[y]
            weights = 1 << np.arange(table.shape[1])
            ones = (table.astype(np.int64) - self.low[y]) @ weights
            constant = builder.constant(f"{name}_bits", ones.astype(np.uint8).view(np.int8))
            options = _options(bits=table.shape[1])
            return Operator(BITS_OF, (chain.source, constant), (packed[y],), options)
        if operator.opcode == "CONV_2D":
            found = bit_convolution(graph, step, self.low[x], self.low[y])
            assert found is not None
            worth = builder.constant(f"{name}_sums", found.table)
            start = builder.constant(f"{name}_start", found.start)
            options = _options(
                stride_h=operator.integer("stride_h"),
                stride_w=operator.integer("stride_w"),
                kernel_h=found.kernel[0],
                kernel_w=found.kernel[1],
                padding=operator.integer("padding"),
            )
            return Operator(BITS_CONV, (packed[x], worth, start), (packed[y],), options)
        inputs = (packed[x], *operator.inputs[1:])
        return dataclasses.replace(operator, inputs=inputs, outputs=(packed[y],))


def _options(**fields: int) -> Options:
    return Options("COptions", tuple(fields.items()))
