"""An int8 graph as it would be with a code in place of a map: shapes and operators, no weights.

The graph is what conversion makes of the rewritten and folded model (`keras_fmc.fold`):

    producer → map → readers                          becomes
    producer → map → P → code → R → restored → readers

where R is part of every reader that can take it, through operators that treat channels alike, and
P is part of a producer that ends in no activation and that nothing else reads. A plain code only
clips the map where it is made. Memory plans depend on shapes, operators and scales alone, so the
new weights are any of the right shape; such a graph is for planning, not for running.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from deploy.graph import (
    Activation,
    Graph,
    GraphBuilder,
    Operator,
    Options,
    Padding,
    Quantization,
    Tensor,
)
from deploy.operators import OPERATORS
from deploy.operators.sets import (
    CHANNELS_ALIKE,
    JOINS,
    KEEPS_CODES,
    MIXES_CHANNELS,
    ONE_SCALE,
    REDUCES,
    RESHAPES,
)
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec


@dataclass(frozen=True, slots=True)
class CodedGraph:
    """A graph with codes.

    Attributes:
        owners: new tensor → the map that it stands for.
    """

    graph: Graph
    owners: dict[int, int]


def with_codes(graph: Graph, codes: dict[int, BottleneckSpec]) -> CodedGraph:
    """Returns the graph with codes in place of maps, tensor index → code."""
    edit = _Edit(graph)
    for index in sorted(codes, key=_order_of(graph).__getitem__):
        edit.put(index, codes[index])
    return CodedGraph(edit.graph(), edit.owners)


def can_be_plain(graph: Graph, index: int) -> bool:
    """Whether a map can be a plain unsigned code: made behind a ReLU, its scale shared with no
    other map that is not made from it."""
    producer = graph.producers().get(index)
    if producer is None:
        return False
    fused = graph.operators[producer].option("fused_activation_function")
    if fused not in (Activation.RELU, Activation.RELU6):
        return False
    return _plain_group(graph, index) is not None


def _order_of(graph: Graph) -> dict[int, int]:
    return graph.producers()


def _plain_group(graph: Graph, index: int) -> tuple[int, ...] | None:
    """The tensors with the scale of a plain code; None where others share it."""
    consumers = graph.consumers()
    found, waiting = [index], [index]
    while waiting:
        for step in consumers.get(waiting.pop(), ()):
            operator = graph.operators[step]
            if operator.opcode in ONE_SCALE:
                return None
            if operator.opcode in KEEPS_CODES:
                found += operator.outputs
                waiting += operator.outputs
    return None if set(found) & set(graph.outputs) else tuple(found)


@dataclass(slots=True)
class _Taken:
    """What changes where R becomes part of the readers behind one operator.

    Attributes:
        weights: operator → positions of the map that its weights spread over.
        shrunk: tensor → the same, 1 where channels are channels.
        reshapes: RESHAPEs on the way.
    """

    weights: dict[int, int] = field(default_factory=dict)
    shrunk: dict[int, int] = field(default_factory=dict)
    reshapes: list[int] = field(default_factory=list)


class _Edit:
    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.builder = GraphBuilder(graph)
        self.owners: dict[int, int] = {}

    def graph(self) -> Graph:
        return self.builder.build(like=self.source)

    def put(self, index: int, spec: BottleneckSpec) -> None:
        if spec.kind is BottleneckKind.PLAIN:
            self._put_plain(index, spec.bits or 8)
        else:
            self._put_projection(index, spec)

    def _put_plain(self, index: int, bits: int) -> None:
        graph = self.graph()
        levels = 2**bits - 1
        for member in _plain_group(graph, index) or ():
            tensor = self.builder.tensors[member]
            scale = _scale(tensor) * 255 / levels
            self._replace(member, quantization=Quantization((scale,), (127 - levels,)))
        step = graph.producers()[index]
        operator = self.builder.operators[step]
        if operator.option("fused_activation_function") == Activation.RELU6:
            options = operator.options
            assert options is not None
            changed = options.replace(fused_activation_function=int(Activation.RELU))
            self.builder.operators[step] = dataclasses.replace(operator, options=changed)

    def _put_projection(self, index: int, spec: BottleneckSpec) -> None:
        graph = self.graph()
        rank, bits = spec.rank, spec.bits or 8
        channels = graph.tensors[index].shape[-1]
        readers = graph.consumers().get(index, ())
        taken = {step: self._follow(graph, index, step, bits) for step in readers}
        before = graph.tensors[index]
        giver = self._giver(graph, index)
        if giver is None:
            code = self._code_tensor(index, rank, bits)
        else:
            code = index
            self._shrink_outputs(giver, rank, bits)
        left = [step for step, take in taken.items() if take is None]
        new: list[Operator] = []
        if code != index:
            new.append(self._pointwise(index, code, _clip(bits)))
        if bits == 1:
            code = self._centred(index, code, new)
        removed = channels - rank
        for step, take in taken.items():
            if take is not None:
                self._apply(take, removed)
                if code != index:
                    self._rewire(step, index, code)
        if left:
            restored = self.builder.tensor(
                dataclasses.replace(
                    before,
                    name=f"{before.name}_restored",
                    shape=(*before.shape[:-1], spec.shape[-1]),
                )
            )
            self.owners[restored] = index
            for step in left:
                self._rewire(step, index, restored)
            new.append(self._pointwise(code, restored, Activation.NONE))
        place = graph.producers()[index] + 1
        self.builder.operators[place:place] = new

    def _follow(
        self,
        graph: Graph,
        value: int,
        step: int,
        bits: int,
        positions: int = 1,
    ) -> _Taken | None:
        """What changes if R moves into the readers behind one operator; None if it stays."""
        operator = graph.operators[step]
        if operator.opcode in MIXES_CHANNELS:
            weights = graph.tensors[operator.inputs[1]]
            fits = weights.is_constant and weights.shape[-1] == graph.tensors[value].shape[-1]
            alone = len(graph.consumers()[operator.inputs[1]]) == 1
            if operator.inputs[OPERATORS[operator.opcode].data] != value or not fits or not alone:
                return None
            return _Taken({step: positions})
        output = operator.outputs[0]
        joins = operator.opcode in JOINS and self._joins_channels(graph, step, value)
        if not joins and operator.opcode not in CHANNELS_ALIKE:
            return None
        if joins and (positions != 1 or bits < 8):
            return None
        if operator.option("fused_activation_function", 0):
            return None
        taken = _Taken()
        if operator.opcode in RESHAPES:
            before, after = graph.tensors[value].shape, graph.tensors[output].shape
            if after[-1] == math.prod(before) and math.prod(before[:-1]) > 1:
                positions *= math.prod(before[:-1])
            elif after[-1] != before[-1]:
                return None
            taken.reshapes.append(step)
        elif operator.opcode in REDUCES and len(graph.tensors[value].shape) - 1 in _axes(
            graph, operator
        ):
            return None
        readers = graph.consumers().get(output, ())
        if output in graph.outputs or not readers:
            return None
        taken.shrunk[output] = positions
        for reader in readers:
            more = self._follow(graph, output, reader, bits, positions)
            if more is None or set(more.weights) & set(taken.weights):
                return None
            taken.weights |= more.weights
            taken.shrunk |= more.shrunk
            taken.reshapes += more.reshapes
        return taken

    def _joins_channels(self, graph: Graph, step: int, value: int) -> bool:
        operator = graph.operators[step]
        rank = len(graph.tensors[value].shape)
        return operator.integer("axis") in (-1, rank - 1) and operator.inputs.count(value) == 1

    def _giver(self, graph: Graph, index: int) -> int | None:
        """The operator that P becomes part of, whose only output the map is."""
        step = graph.producers()[index]
        operator = graph.operators[step]
        if operator.opcode not in MIXES_CHANNELS or index in graph.outputs:
            return None
        if operator.option("fused_activation_function", 0):
            return None
        weights = graph.tensors[operator.inputs[1]]
        source = graph.tensors[operator.inputs[OPERATORS[operator.opcode].data]]
        grouped = len(weights.shape) == 4 and weights.shape[-1] != source.shape[-1]
        shared = len(graph.consumers()[operator.inputs[1]]) > 1
        return None if grouped or shared else step

    def _shrink_outputs(self, step: int, rank: int, bits: int) -> None:
        operator = self.builder.operators[step]
        inputs = list(operator.inputs)
        for place in range(1, len(inputs)):
            slot = inputs[place]
            if slot < 0 or not self.builder.tensors[slot].is_constant:
                continue
            if place == OPERATORS[operator.opcode].data:
                continue
            inputs[place] = self._sliced(slot, rank)
        if OPERATORS[operator.opcode].data == 2:
            # Input 0 is the shape of the output.
            shape = self.builder.tensors[inputs[0]].array().copy()
            shape[-1] = rank
            inputs[0] = self.builder.constant(f"{self.builder.tensors[inputs[0]].name}_k", shape)
        options = operator.options
        if bits < 8:
            assert options is not None
            options = options.replace(fused_activation_function=int(_clip(bits)))
        self.builder.operators[step] = dataclasses.replace(
            operator, inputs=tuple(inputs), options=options
        )
        index = operator.outputs[0]
        tensor = self.builder.tensors[index]
        self._replace(
            index,
            shape=(*tensor.shape[:-1], rank),
            quantization=_code_scale(bits) or tensor.quantization,
            shape_signature=None,
        )

    def _sliced(self, slot: int, rank: int) -> int:
        """A constant with its first entries along the output channels."""
        tensor = self.builder.tensors[slot]
        quantization = tensor.quantization
        if quantization is not None and len(quantization.scales) > 1:
            quantization = dataclasses.replace(
                quantization,
                scales=quantization.scales[:rank],
                zero_points=quantization.zero_points[:rank],
            )
        return self.builder.constant(
            f"{tensor.name}_k", tensor.array()[:rank], quantization=quantization
        )

    def _code_tensor(self, index: int, rank: int, bits: int) -> int:
        tensor = self.builder.tensors[index]
        code = self.builder.tensor(
            dataclasses.replace(
                tensor,
                name=f"{tensor.name}_code",
                shape=(*tensor.shape[:-1], rank),
                quantization=_code_scale(bits) or tensor.quantization,
                shape_signature=None,
            )
        )
        self.owners[code] = index
        return code

    def _centred(self, index: int, code: int, new: list[Operator]) -> int:
        """Codes of one bit are 0 and 2 where they are stored; what reads them takes -1 and 1."""
        tensor = self.builder.tensors[code]
        centred = self.builder.tensor(
            dataclasses.replace(
                tensor, name=f"{tensor.name}_centred", quantization=Quantization((1.0,), (0,))
            )
        )
        self.owners[centred] = index
        one = self.builder.constant(
            f"{tensor.name}_one",
            np.array(127, np.int8),
            quantization=Quantization((1 / 255,), (-128,)),
        )
        options = Options(
            "SubOptions",
            (("fused_activation_function", int(Activation.NONE)), ("pot_scale_int16", True)),
        )
        new.append(Operator("SUB", (code, one), (centred,), options, 2))
        return centred

    def _apply(self, taken: _Taken, removed: int) -> None:
        for step, positions in taken.weights.items():
            operator = self.builder.operators[step]
            tensor = self.builder.tensors[operator.inputs[1]]
            kept = tensor.shape[-1] - removed * positions
            # A map that joins coded ones can get a code of more channels than are left of it.
            weights = np.resize(tensor.array(), (*tensor.shape[:-1], kept))
            new = self.builder.constant(
                f"{tensor.name}_r", weights, quantization=tensor.quantization
            )
            inputs = (operator.inputs[0], new, *operator.inputs[2:])
            self.builder.operators[step] = dataclasses.replace(operator, inputs=inputs)
        for index, positions in taken.shrunk.items():
            shape = self.builder.tensors[index].shape
            self._replace(
                index,
                shape=(*shape[:-1], shape[-1] - removed * positions),
                shape_signature=None,
            )
        for step in taken.reshapes:
            operator = self.builder.operators[step]
            shape = self.builder.tensors[operator.outputs[0]].shape
            inputs = operator.inputs
            if len(inputs) > 1:
                size = self.builder.constant("new_shape", np.array(shape, np.int32))
                inputs = (inputs[0], size)
            options = operator.options
            if options is not None and options.get("new_shape") is not None:
                options = options.replace(new_shape=shape)
            self.builder.operators[step] = dataclasses.replace(
                operator, inputs=inputs, options=options
            )

    def _rewire(self, step: int, old: int, new: int) -> None:
        operator = self.builder.operators[step]
        inputs = tuple(new if slot == old else slot for slot in operator.inputs)
        self.builder.operators[step] = dataclasses.replace(operator, inputs=inputs)

    def _pointwise(self, source: int, output: int, activation: Activation) -> Operator:
        """A 1×1 convolution, or what takes its place on a vector."""
        inside = self.builder.tensors[source].shape[-1]
        target = self.builder.tensors[output]
        outside = target.shape[-1]
        dense = len(target.shape) != 4
        shape = (outside, inside) if dense else (outside, 1, 1, inside)
        scales = Quantization((2.0**-7,) * outside, (0,) * outside)
        weights = self.builder.constant(
            f"{target.name}_weights", np.ones(shape, np.int8), quantization=scales
        )
        bias = self.builder.constant(
            f"{target.name}_bias", np.zeros(outside, np.int32), quantization=scales
        )
        fused = ("fused_activation_function", int(activation))
        if dense:
            options = Options(
                "FullyConnectedOptions",
                (fused, ("weights_format", 0), ("keep_num_dims", len(target.shape) > 2)),
            )
            return Operator("FULLY_CONNECTED", (source, weights, bias), (output,), options, 5)
        options = Options(
            "Conv2DOptions",
            (
                ("padding", int(Padding.VALID)),
                ("stride_w", 1),
                ("stride_h", 1),
                fused,
                ("dilation_w_factor", 1),
                ("dilation_h_factor", 1),
            ),
        )
        return Operator("CONV_2D", (source, weights, bias), (output,), options, 3)

    def _replace(self, index: int, **changes: object) -> None:
        tensor = self.builder.tensors[index]
        self.builder.tensors[index] = dataclasses.replace(tensor, **changes)  # type: ignore[arg-type]


def _clip(bits: int) -> Activation:
    """What clips a projection's code, see `CodeForm.UNIT`."""
    if bits == 1:
        return Activation.RELU
    return Activation.NONE if bits == 8 else Activation.RELU_N1_TO_1


def _code_scale(bits: int) -> Quantization | None:
    """Scale and zero point of a code of few bits; None where it is as good as any."""
    if bits == 8:
        return None
    if bits == 1:
        return Quantization((2.0,), (126,))
    levels = 2**bits - 1
    below = levels // 2
    return Quantization((1.0 / (levels - below),), (below - 128,))


def _scale(tensor: Tensor) -> float:
    assert tensor.quantization is not None
    return tensor.quantization.scales[0]


def _axes(graph: Graph, operator: Operator) -> set[int]:
    rank = len(graph.tensors[operator.inputs[0]].shape)
    return {int(axis) % rank for axis in graph.tensors[operator.inputs[1]].array().ravel()}
