"""Where the device quantises: which tensors share a scale, and where values are rounded to it.

An int8 operator either chooses the scale of its output (convolutions, additions, means, …), or
hands on the scale of its inputs (pooling, concatenation, reshape, …), or has one that the kernel
fixes (sigmoid, tanh, softmax). Tensors that are joined by operators of the second sort form one
scale group; it has one range, and values are rounded to it where an operator of the first sort
makes them. An activation that fuses into the operator before it is part of that operator, so
nothing is rounded between the two. Rounding anywhere else would become a QUANTIZE operator.

The groups are those of TensorFlow Lite's quantisation specification
(https://ai.google.dev/edge/litert/models/quantization_spec) and of what its converter fuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from keras import layers

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers, producers
from keras_fmc.model.operations import (
    ACTIVATIONS,
    SIGMOID_RANGE,
    TANH_RANGE,
    Role,
    activation_name,
    fixed_range,
    is_activation,
    row_of,
)
from keras_fmc.qat.refusals import refusal
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

__all__ = [
    "SIGMOID_RANGE",
    "TANH_RANGE",
    "Role",
    "ScaleGroup",
    "activation_name",
    "role",
    "scale_groups",
]

_POOLS = (layers.AveragePooling2D, layers.MaxPooling2D)


@dataclass(frozen=True, slots=True)
class ScaleGroup:
    """Tensors with one scale.

    Attributes:
        name: of the layer that rounds them.
        values: ids of all its tensors.
        sources: ids of those that are made in float and rounded, inputs of the model included.
        rounded_again: ids of those that are rounded on the way, behind an average.
        fixed: range that the kernel of a source fixes, or the grid of a GF(2) bottleneck's codes.
        quantizers: names of `FakeQuant` calls of the model in the group, whose place it takes.
        codes: range of the codes of the GF(2) bottleneck that makes the source, which rounds by
            itself.
    """

    name: str
    values: tuple[int, ...]
    sources: tuple[int, ...]
    rounded_again: tuple[int, ...] = ()
    fixed: tuple[float, float] | None = None
    quantizers: tuple[str, ...] = ()
    codes: tuple[float, float] | None = None


def scale_groups(graph: LayerGraph) -> tuple[ScaleGroup, ...]:
    """Returns the scale groups of a folded model whose layers end in no activations but those that
    fuse (`keras_fmc.qat.device_form`), in execution order.

    Raises:
        UnsupportedModelError: a layer that has no int8 form, or tensors of one group whose kernels
            fix different scales; names the layer.
        BadInputError: a model that is quantised already.
    """
    return _Grouping(graph).groups()


def conflicts(graph: LayerGraph) -> dict[int, tuple[str, ...]]:
    """Returns value whose kernel fixes its scale → the calls that join it with tensors of another
    scale; a layer without an int8 form counts as one that chooses its scale."""
    return _Grouping(graph, known_only=False).conflicts()


def role(node: LayerNode) -> Role:
    """Returns what a call does to the scale.

    Raises:
        UnsupportedModelError: it has no int8 form.
        BadInputError: it is quantised already.
    """
    operation = node.operation
    if isinstance(operation, FAKE_QUANT_LAYERS):
        raise BadInputError(
            f"layer {node.name!r} is quantised already",
            expected="a float model",
            received=type(operation).__name__,
            remedy="Pass the model from before quantize()",
        )
    if isinstance(operation, GF2Bottleneck) and not operation.quantizes_input:
        return Role.CODED
    row = row_of(operation)
    if row is None:
        found = refusal(node)
        raise UnsupportedModelError(f"layer {found.layer!r}: {found.what}", remedy=found.remedy)
    return row.role


class _Grouping:
    """Joins the tensors of one graph into groups."""

    def __init__(self, graph: LayerGraph, *, known_only: bool = True) -> None:
        self.graph = graph
        self.roles = {
            node.name: role(node) if known_only or row_of(node.operation) is not None else Role.FREE
            for node in graph.nodes
        }
        self.readers, self.makers = consumers(graph), producers(graph)
        self._leader = list(range(len(graph.values)))

    def groups(self) -> tuple[ScaleGroup, ...]:
        groups = [self._group(values) for values in self._members()]
        return tuple(group for group in groups if group is not None)

    def conflicts(self) -> dict[int, tuple[str, ...]]:
        found = {}
        for values in self._members():
            fixed = {}
            sources = 0
            for value in values:
                node = self._maker(value)
                role = None if node is None else self.roles[node.name]
                if node is not None and role is Role.FIXED:
                    fixed[value] = fixed_range(node.operation)
                elif node is None or role is Role.CODED or self._makes_rounded(node):
                    sources += 1
            if not fixed or (not sources and len(set(fixed.values())) == 1):
                continue
            for value in fixed:
                readers = (self.graph.nodes[index] for index in self.readers[value])
                joining = tuple(node.name for node in readers if self._hands_on(node))
                if joining:
                    found[value] = joining
        return found

    def _members(self) -> list[list[int]]:
        """The values of each group."""
        for node in self.graph.nodes:
            if self._hands_on(node):
                first, *others = (self._find(value) for value in (*node.inputs, *node.outputs))
                for value in others:
                    self._leader[self._find(value)] = self._find(first)
        made = [*self.graph.inputs, *(value for node in self.graph.nodes for value in node.outputs)]
        members: dict[int, list[int]] = {}
        for value in made:
            members.setdefault(self._find(value), []).append(value)
        return list(members.values())

    def _find(self, value: int) -> int:
        while self._leader[value] != value:
            value = self._leader[value]
        return value

    def _group(self, values: list[int]) -> ScaleGroup | None:
        """Returns the group of `values`, None where all is fused into another group's operator."""
        sources, again, quantizers = [], [], []
        fixed: dict[str, tuple[float, float]] = {}
        codes = None
        for value in values:
            node = self._maker(value)
            if node is None:
                sources.append(value)
            elif self.roles[node.name] is Role.FIXED:
                fixed[node.name] = fixed_range(node.operation) or (0.0, 0.0)
                sources.append(value)
            elif self.roles[node.name] is Role.CODED:
                fixed[node.name] = node.operation.restored_range
                codes = node.operation.quantizer.range
                sources.append(value)
            elif self.roles[node.name] is Role.ROUNDS:
                fused = self._fused_reader(node)
                again.append(value if fused is None else fused.outputs[0])
            elif isinstance(node.operation, FakeQuant):
                quantizers.append(node.name)
            elif self._makes_rounded(node):
                sources.append(value)
        if not sources:
            return None
        if fixed and (len(set(fixed.values())) > 1 or len(sources) > len(fixed)):
            names = sorted(self.graph.values[value].name for value in sources)
            raise UnsupportedModelError(
                f"tensors {', '.join(map(repr, names))} must have one scale, but the kernel of "
                f"{min(fixed)!r} fixes its own",
                remedy="Put a 1×1 convolution between it and the concatenation or pooling that "
                "joins them",
            )
        name = quantizers[0] if quantizers else f"{self.graph.values[sources[0]].name}_quant"
        return ScaleGroup(
            name,
            tuple(values),
            tuple(sources),
            tuple(again),
            next(iter(fixed.values()), None),
            tuple(quantizers),
            codes,
        )

    def _makes_rounded(self, node: LayerNode) -> bool:
        """Whether the device rounds what the call makes, and to a scale of its own."""
        return (
            self.roles[node.name] is Role.FREE
            and not self._hands_on(node)
            and (not _fuses(node) or self._fused_reader(node) is None)
        )

    def _hands_on(self, node: LayerNode) -> bool:
        """Whether the output has the scale of the input; so has a ReLU fused into a pool."""
        if self.roles[node.name] in (Role.SAME, Role.ROUNDS, Role.ABSENT):
            return True
        if not _is_fused_activation(node):
            return False
        before = self._maker(node.inputs[0])
        while before is not None and self._is_transparent(before):
            before = self._maker(before.inputs[0])
        return (
            before is not None
            and isinstance(before.operation, _POOLS)
            and self._fused_reader(before) == node
        )

    def _fused_reader(self, node: LayerNode) -> LayerNode | None:
        """Returns the ReLU that is fused into a call: the only one to read it."""
        value = node.outputs[0]
        while value not in self.graph.outputs and len(self.readers[value]) == 1:
            reader = self.graph.nodes[self.readers[value][0]]
            if _is_fused_activation(reader):
                return reader
            if not self._is_transparent(reader):
                return None
            value = reader.outputs[0]
        return None

    def _is_transparent(self, node: LayerNode) -> bool:
        return self.roles[node.name] is Role.ABSENT and not isinstance(node.operation, FakeQuant)

    def _maker(self, value: int) -> LayerNode | None:
        return self.graph.nodes[self.makers[value]] if value in self.makers else None


def _fuses(node: LayerNode) -> bool:
    """Whether a ReLU behind the call becomes part of it."""
    row = row_of(node.operation)
    return row is not None and row.fuses and activation_name(node.operation) == "linear"


def _is_fused_activation(node: LayerNode) -> bool:
    known = ACTIVATIONS.get(activation_name(node.operation))
    return is_activation(node.operation) and known is not None and known.fuses
