"""From a program to a graph of plain TFLite operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deploy.backends.tflm.strips.diagonal import strip_parameters
from deploy.backends.tflm.strips.network import Network, ValueNumber
from deploy.backends.tflm.strips.operators import same_paddings
from deploy.backends.tflm.strips.schedule import Concatenation, Pad, Program, RowSlice, Run
from deploy.graph import Graph, GraphBuilder, Operator, Options, Tensor
from deploy.operators.rows import Rows
from keras_fmc.names import free_name


def emit(network: Network, program: Program) -> tuple[Graph, dict[ValueNumber, int]]:
    """Returns the graph of a program, and value -> tensor.

    Whole maps keep their tensors, so inputs and outputs stay what they were; strips get new
    ones. Constants are shared by all strips.
    """
    return _Emitter(network, program).run()


class _Emitter:
    def __init__(self, network: Network, program: Program) -> None:
        self.network = network
        self.graph = network.graph
        self.program = program
        self.builder = GraphBuilder()
        self.builder.tensors = list(self.graph.tensors)
        self.tensor_of: dict[ValueNumber, int] = {}
        self.taken: set[int] = set()
        self.names: set[str] = {t.name for t in self.graph.tensors}
        self.constants: dict[tuple[object, ...], int] = {}

    def run(self) -> tuple[Graph, dict[ValueNumber, int]]:
        for value in (*self.program.inputs, *self.program.outputs):
            if value >= 0:
                self._claim(value)
        for step in self.program.steps:
            if isinstance(step, Run):
                self._run(step)
            elif isinstance(step, RowSlice):
                self._slice(step)
            elif isinstance(step, Concatenation):
                self._concatenation(step)
            else:
                self._pad(step)
        return self.builder.build(like=self.graph), self.tensor_of

    def _claim(self, value: ValueNumber) -> None:
        tensor = self.program.values[value].tensor
        self.tensor_of[value] = tensor
        self.taken.add(tensor)

    def _tensor(self, value: ValueNumber) -> int:
        """The tensor of a value: the original one for a whole map, else a new one."""
        if value in self.tensor_of:
            return self.tensor_of[value]
        tensor, rows, padding = self.program.values[value]
        whole = rows == (0, self.network.rows[tensor]) and padding is None
        if whole and tensor not in self.taken:
            self._claim(value)
            return tensor
        original = self.graph.tensors[tensor]
        index = self.builder.tensor(
            replace(
                original,
                name=self._name(f"{original.name}[{rows[0]}:{rows[1]}]"),
                shape=self._shape(tensor, rows),
                shape_signature=None,
            )
        )
        self.tensor_of[value] = index
        return index

    def _shape(self, tensor: int, rows: Rows) -> tuple[int, ...]:
        shape = list(self.graph.tensors[tensor].shape)
        if tensor in self.network.axis:
            shape[self.network.axis[tensor]] = rows[1] - rows[0]
        return tuple(shape)

    def _name(self, wanted: str) -> str:
        return free_name(wanted, self.names, "{}#{}", first=2)

    def _constant(self, purpose: str, values: np.ndarray, like: Tensor | None = None) -> int:
        key = (purpose, values.shape, str(values.dtype), values.tobytes(), like and like.name)
        if key not in self.constants:
            name = self._name(f"strips/{purpose}" if like is None else f"{like.name}/{purpose}")
            quantization = like.quantization if like else None
            self.constants[key] = self.builder.constant(name, values, quantization=quantization)
        return self.constants[key]

    def _integers(self, purpose: str, values: object) -> int:
        return self._constant(purpose, np.array(values, np.int32))

    def _slice(self, step: RowSlice) -> None:
        source, output = self.program.values[step.source], self.program.values[step.output]
        rank = len(self.graph.tensors[output.tensor].shape)
        axis = self.network.axis[output.tensor]
        begin, size = [0] * rank, [-1] * rank
        begin[axis] = output.rows[0] - source.rows[0]
        if output.rows[1] != source.rows[1]:
            size[axis] = output.rows[1] - output.rows[0]
        inputs = (
            self._tensor(step.source),
            # -1 stands for "to the end", so one constant serves maps of all widths.
            self._integers("slice", begin),
            self._integers("slice", size),
        )
        version = 2 if self.graph.tensors[output.tensor].dtype == "int8" else 1
        self.builder.operator(
            Operator(
                "SLICE", inputs, (self._tensor(step.output),), Options("SliceOptions"), version
            )
        )

    def _concatenation(self, step: Concatenation) -> None:
        tensor = self.program.values[step.output].tensor
        options = Options(
            "ConcatenationOptions",
            (("axis", self.network.axis[tensor]), ("fused_activation_function", 0)),
        )
        inputs = tuple(self._tensor(value) for value in step.sources)
        self.builder.operator(
            Operator("CONCATENATION", inputs, (self._tensor(step.output),), options, version=2)
        )

    def _pad(self, step: Pad) -> None:
        value = self.program.values[step.output]
        assert value.padding is not None
        paddings = same_paddings(self.graph, step.operator)
        axis = self.network.axis[value.tensor]
        paddings[axis] = value.padding
        original = self.graph.tensors[value.tensor]
        shape = [
            n + before + after
            for n, (before, after) in zip(
                self._shape(value.tensor, value.rows), paddings, strict=True
            )
        ]
        name = self._name(f"{original.name}[{value.rows[0]}:{value.rows[1]}]/padded")
        output = self.builder.tensor(
            replace(original, name=name, shape=tuple(shape), shape_signature=None)
        )
        self.tensor_of[step.output] = output
        inputs = (self._tensor(step.source), self._integers("paddings", paddings))
        version = 2 if original.dtype == "int8" else 1
        self.builder.operator(Operator("PAD", inputs, (output,), Options("PadOptions"), version))

    def _run(self, step: Run) -> None:
        operator = self.graph.operators[step.operator]
        inputs = [
            self._tensor(value) if value >= 0 else tensor
            for value, tensor in zip(step.inputs, operator.inputs, strict=True)
        ]
        options = operator.options
        if step.tile is not None and step.tile.out != (0, self._rows_of(step)):
            info = self.network.row_operators[step.operator]
            for position in info.row_constants:
                inputs[position] = self._constant_rows(operator.inputs[position], step)
            shape = self._shape(operator.outputs[0], step.tile.out)
            changed = strip_parameters(self.network, step.tile, shape)
            options = changed.options
            for position, (purpose, values) in changed.inputs.items():
                inputs[position] = self._integers(purpose, values)
        made = iter(step.outputs)
        outputs = tuple(
            self._tensor(next(made)) if self.graph.tensors[t].in_head else t
            for t in operator.outputs
        )
        self.builder.operator(
            replace(operator, inputs=tuple(inputs), outputs=outputs, options=options)
        )

    def _rows_of(self, step: Run) -> int:
        return self.network.rows[self.graph.operators[step.operator].outputs[0]]

    def _constant_rows(self, tensor: int, step: Run) -> int:
        assert step.tile is not None
        original = self.graph.tensors[tensor]
        axis = self.network.row_operators[step.operator].axis
        rows = np.arange(*step.tile.out)
        return self._constant(f"rows {rows[0]}", original.array().take(rows, axis), original)
