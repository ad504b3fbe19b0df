"""Graph to row program: what the operators' functions share.

``lower`` walks the graph and calls the function of each operator, which adds maps, constants and
steps. Views (RESHAPE and its like) are no step: their output is the map of their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from deploy.backends.c.bits import C_OPERATORS
from deploy.backends.c.library import KernelLibrary
from deploy.backends.c.program import (
    SAME_ROW,
    Constant,
    Grid,
    Map,
    Read,
    RowProgram,
    Rows,
    Scratch,
    Step,
    pixels,
    whole,
)
from deploy.graph import C_TYPES, ITEM_BYTES, Graph, Operator, Tensor
from deploy.operators import OPERATORS, InC
from deploy.operators.registered import add_function
from keras_fmc.errors import UnsupportedModelError

_VALUES_A_LINE = 24
_IN_TFLM = "--runtime=tflm runs it"


class Lowering:
    """Collects the program of a graph; ``library``: in place of portable kernels."""

    def __init__(self, graph: Graph, library: KernelLibrary | None = None) -> None:
        self.graph = graph
        self.library = library
        self.maps: list[Map] = []
        self.steps: list[Step] = []
        self.map_of: dict[int, int] = {}
        self._constants: dict[tuple[str, str], Constant] = {}
        self._fused_pads = _fusable_pads(graph)
        for index in graph.inputs:
            rows, row_bytes = self._input_view(index)
            self.map_of[index] = self.map(index, (rows, row_bytes))

    # Tensors and maps.

    def tensor(self, index: int) -> Tensor:
        return self.graph.tensors[index]

    def map(self, tensor: int, view: tuple[int, int]) -> int:
        """Adds the map of a tensor, seen as (rows, row bytes)."""
        self.maps.append(Map(self.tensor(tensor).name, *view, tensor))
        return len(self.maps) - 1

    def sums(self, name: str, rows: int, channels: int) -> int:
        """Adds a map of int32 sums that ``rows`` rows are added to."""
        self.maps.append(Map(f"sums of {name}", rows, 4 * channels, -1, sums=True))
        return len(self.maps) - 1

    def output(self, tensor: int, view: tuple[int, int]) -> int:
        """Adds the map of an operator's output."""
        self.map_of[tensor] = self.map(tensor, view)
        return self.map_of[tensor]

    def read(
        self, tensor: int, rows: Rows, view: tuple[int, int], *, lead_bytes: int | None = None
    ) -> Read:
        """Returns how an operator reads a tensor that is not a constant."""
        number = self.map_of[tensor]
        entry = self.maps[number]
        all_rows = (entry.rows, entry.row_bytes) != view
        return Read(
            number, rows, *view, all_rows=all_rows, lead_bytes=None if all_rows else lead_bytes
        )

    def read_whole(self, tensor: int) -> Read:
        """Returns the read of what takes a tensor as one run of bytes."""
        return self.read(tensor, whole(1), (1, self.tensor(tensor).size_bytes))

    def view_of(self, tensor: int) -> tuple[int, int]:
        """Returns the view of a tensor's map, or of the tensor where it is a constant."""
        if tensor in self.map_of:
            entry = self.maps[self.map_of[tensor]]
            return entry.rows, entry.row_bytes
        rows, columns, channels = pixels(self.tensor(tensor).shape)
        return rows, columns * channels * ITEM_BYTES[self.tensor(tensor).dtype]

    def grid(self, tensor: int) -> Grid:
        entry = self.tensor(tensor)
        return Grid(*pixels(entry.shape), ITEM_BYTES[entry.dtype])

    def window_grids(self, step: int, x: int, y: int) -> tuple[Grid, Grid, bool]:
        """Returns input and output of an operator on images, and whether both lie on their side.

        Maps of one row lie on their side: their columns are the rows of a map one column wide,
        whose bytes are the same.
        """
        shapes = self.tensor(x).shape, self.tensor(y).shape
        for shape in shapes:
            if len(shape) != 4 or shape[0] != 1:
                self.refuse(step, f"the shape {shape}", "NHWC of batch 1")
        aside = shapes[0][1] == shapes[1][1] == 1 and max(shapes[0][2], shapes[1][2]) > 1
        grids = [
            Grid(w, 1, c, ITEM_BYTES[self.tensor(t).dtype])
            if aside
            else Grid(h, w, c, ITEM_BYTES[self.tensor(t).dtype])
            for t, (_, h, w, c) in zip((x, y), shapes, strict=True)
        ]
        return grids[0], grids[1], aside

    def without_pad(self, tensor: int) -> tuple[int, tuple[int, int] | None]:
        """Returns the tensor that a fused PAD reads, and how much it adds above and left."""
        if tensor not in self._fused_pads:
            return tensor, None
        source, top, left = self._fused_pads[tensor]
        return source, (top, left)

    def is_fused(self, tensor: int) -> bool:
        return tensor in self._fused_pads

    # Steps and constants.

    def step(
        self,
        operator: int,
        output: int,
        reads: Sequence[Read],
        call: str,
        source: str,
        *,
        many_rows: bool = False,
        any_order: bool = False,
        part: str = "",
        scratch: Scratch | None = None,
    ) -> None:
        label = self.graph.label(operator) + (f", {part}" if part else "")
        reads = tuple(reads)
        entry = Step(label, operator, output, reads, call, source, many_rows, any_order, scratch)
        self.steps.append(entry)

    def array(self, values: np.ndarray | Sequence[int], dtype: str) -> str:
        """Returns the name of a constant array with these values."""
        flat = np.asarray(values, np.int64).ravel().tolist()
        mark = "u" if dtype == "uint32" else ""
        lines = [
            ",".join(f"{v}{mark}" for v in flat[i : i + _VALUES_A_LINE])
            for i in range(0, len(flat), _VALUES_A_LINE)
        ]
        body = "{" + ",\n".join(lines) + "}"
        kind = C_TYPES[dtype]
        return self._constant(
            f"{kind} $[{len(flat)}]", body, len(flat) * ITEM_BYTES[dtype], "values"
        )

    def struct(self, kind: str, fields: Sequence[object], size_bytes: int) -> str:
        """Returns the address of a constant descriptor."""
        body = "{" + ", ".join(map(str, fields)) + "}"
        return "&" + self._constant(f"{kind} $", body, size_bytes, kind.removeprefix("fmc_")[:-2])

    def _constant(self, declaration: str, body: str, size_bytes: int, stem: str) -> str:
        key = (declaration, body)
        if key not in self._constants:
            name = f"k{len(self._constants)}_{stem}"
            text = declaration.replace("$", name)
            self._constants[key] = Constant(name, text, body, size_bytes)
        return self._constants[key].name

    # Refusals.

    def require_int8(self, step: int, *tensors: int) -> None:
        for index in tensors:
            dtype = self.tensor(index).dtype
            if dtype != "int8":
                self.refuse(step, f"{dtype} values in {self.tensor(index).name}", "int8")

    def refuse(self, step: int, received: str, expected: str) -> NoReturn:
        raise UnsupportedModelError(
            f"{self.graph.label(step)} has no C semantics with {received}",
            expected=expected,
            remedy=_IN_TFLM,
        )

    def program(self) -> RowProgram:
        used = {m for s in self.steps for m in (s.output, *(r.map for r in s.reads))}
        used |= {self.map_of[t] for t in (*self.graph.inputs, *self.graph.outputs)}
        assert used == set(range(len(self.maps)))
        return RowProgram(
            maps=tuple(self.maps),
            steps=tuple(self.steps),
            inputs=tuple(self.map_of[t] for t in self.graph.inputs),
            outputs=tuple(self.map_of[t] for t in self.graph.outputs),
            constants=tuple(self._constants.values()),
            aliases=dict(self.map_of),
        )

    def _input_view(self, index: int) -> tuple[int, int]:
        """The rows of an input: its own, or those that a view of it has where it has none."""
        shapes = [self.tensor(index)]
        seen = {index}
        for operator in self.graph.operators:
            row = OPERATORS.get(operator.opcode)
            if row is not None and row.same_bytes and operator.inputs[0] in seen:
                seen.add(operator.outputs[0])
                shapes.append(self.tensor(operator.outputs[0]))
        views = []
        for tensor in shapes:
            rows, columns, channels = pixels(tensor.shape)
            views.append((rows, columns * channels * ITEM_BYTES[tensor.dtype]))
        return next((view for view in views if view[0] > 1), views[0])


def lower(graph: Graph, library: KernelLibrary | None = None) -> RowProgram:
    """Returns the row program of a graph, before it is laid out.

    Args:
        library: what computes the operators that it has kernels for; None: portable kernels.

    Raises:
        UnsupportedModelError: an operator has no C semantics; names it.
    """
    from deploy.backends.c.operators import lower_operator

    for step, operator in enumerate(graph.operators):
        row = OPERATORS.get(operator.opcode)
        if operator.opcode not in C_OPERATORS and (row is None or row.in_c is InC.TFLM):
            known = (opcode for opcode, row in OPERATORS.items() if row.in_c is not InC.TFLM)
            raise UnsupportedModelError(
                f"{graph.label(step)} has no C semantics",
                expected=f"one of {', '.join(sorted(known))}",
                remedy=_IN_TFLM if add_function(operator.kind) else "No runtime has it",
            )
    lowering = Lowering(graph, library)
    for step, operator in enumerate(graph.operators):
        if not lowering.is_fused(operator.outputs[0]):
            lower_operator(lowering, step)
    return lowering.program()


def constant_integers(lowering: Lowering, step: int, tensor: int) -> list[int]:
    """Returns the values of an operand that has to be a constant."""
    entry = lowering.tensor(tensor)
    if not entry.is_constant:
        lowering.refuse(step, f"{entry.name} computed at run time", "a constant")
    return [int(v) for v in entry.array().ravel().tolist()]


def _fusable_pads(graph: Graph) -> dict[int, tuple[int, int, int]]:
    """PADs of zero points, in rows and columns, that one convolution without padding reads.

    Returns output of the PAD -> (its input, rows above, columns on the left).
    """
    producers, consumers = graph.producers(), graph.consumers()
    found = {}
    for operator in graph.operators:
        if operator.opcode not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        tensor = operator.inputs[0]
        pad = graph.operators[producers[tensor]] if tensor in producers else None
        if (
            pad is not None
            and pad.opcode == "PAD"
            and operator.integer("padding") == 1
            and len(consumers[tensor]) == 1
            and tensor not in graph.outputs
            and _pads_like_a_window(graph, pad)
        ):
            amounts = graph.tensors[pad.inputs[1]].array()
            found[tensor] = (pad.inputs[0], int(amounts[1][0]), int(amounts[2][0]))
    return found


def _pads_like_a_window(graph: Graph, pad: Operator) -> bool:
    amounts, x = graph.tensors[pad.inputs[1]], graph.tensors[pad.inputs[0]]
    if not amounts.is_constant or amounts.shape != (4, 2) or x.is_constant:
        return False
    values = amounts.array()
    same = x.quantization == graph.tensors[pad.outputs[0]].quantization
    return x.shape[0] == 1 and same and not values[0].any() and not values[3].any()


__all__ = ["SAME_ROW", "Grid", "Lowering", "constant_integers", "lower"]
