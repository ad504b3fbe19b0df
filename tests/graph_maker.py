"""Small int8 graphs for tests, built operator by operator."""

from __future__ import annotations

import numpy as np

from deploy.graph import Graph, GraphBuilder, Operator, Options, Quantization, Tensor

_QUANTIZATION = Quantization((0.0625,), (0,))


class GraphMaker:
    """Adds operators to a growing graph; every method returns the index of its output."""

    def __init__(self) -> None:
        self._builder = GraphBuilder()
        self._names = 0

    def _name(self, hint: str) -> str:
        self._names += 1
        return f"{hint}_{self._names}"

    def tensor(self, *shape: int, hint: str = "t") -> int:
        return self._builder.tensor(Tensor(self._name(hint), shape, "int8", _QUANTIZATION))

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self._builder.tensors[tensor].shape

    def unary(self, source: int, opcode: str = "RELU") -> int:
        output = self.tensor(*self.shape(source), hint=opcode.lower())
        self._builder.operator(Operator(opcode, (source,), (output,)))
        return output

    def add(self, left: int, right: int) -> int:
        output = self.tensor(*self.shape(left), hint="add")
        options = Options(
            "AddOptions", (("fused_activation_function", 0), ("pot_scale_int16", True))
        )
        self._builder.operator(Operator("ADD", (left, right), (output,), options))
        return output

    def slice(self, source: int, begin: tuple[int, ...], size: tuple[int, ...]) -> int:
        output = self.tensor(*size, hint="slice")
        inputs = (
            source,
            self._builder.constant(self._name("begin"), np.array(begin, np.int32)),
            self._builder.constant(self._name("size"), np.array(size, np.int32)),
        )
        self._builder.operator(Operator("SLICE", inputs, (output,), Options("SliceOptions")))
        return output

    def rows(self, source: int, first: int, stop: int) -> int:
        n, _, w, c = self.shape(source)
        return self.slice(source, (0, first, 0, 0), (n, stop - first, w, c))

    def concat(self, *sources: int, axis: int = 1) -> int:
        shape = list(self.shape(sources[0]))
        shape[axis] = sum(self.shape(s)[axis] for s in sources)
        output = self.tensor(*shape, hint="concat")
        options = Options(
            "ConcatenationOptions", (("axis", axis), ("fused_activation_function", 0))
        )
        self._builder.operator(Operator("CONCATENATION", sources, (output,), options))
        return output

    def reshape(self, source: int, *shape: int) -> int:
        output = self.tensor(*shape, hint="reshape")
        inputs = (source, self._builder.constant(self._name("shape"), np.array(shape, np.int32)))
        options = Options("ReshapeOptions", (("new_shape", shape),))
        self._builder.operator(Operator("RESHAPE", inputs, (output,), options))
        return output

    def build(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Graph:
        return self._builder.build(inputs=inputs, outputs=outputs)
