"""What the cutter and its search need to know of a graph, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NewType

from deploy.backends.tflm.strips.operators import row_operator
from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.operators.by_rows import RowOperator, Uncut, row_axis
from deploy.operators.rows import Rows, Sliding
from deploy.operators.sets import RESHAPES

ValueNumber = NewType("ValueNumber", int)
"""The place of a value among ``Program.values``."""

ABSENT = ValueNumber(-1)
"""Stands for constants, and for inputs that are not there."""


class Value(NamedTuple):
    """A tensor of the program: rows of a tensor of the graph, in order, one after the other.

    ``padding`` (rows before, rows after) marks the output of a strip's own PAD, which has
    columns put beside it as well.
    """

    tensor: int
    rows: Rows
    padding: tuple[int, int] | None = None


class Network:
    """A graph with its row operators.

    Attributes:
        order: operators in an order in which they can run.
        row_operators: operator -> how it can be cut; operators that cannot be are absent.
        reasons: operator -> why it is left whole.
        producer: tensor -> operator that writes it; graph inputs and constants are absent.
        readers: tensor -> operators that read it.
        row_readers: tensor -> (operator, position) of those that can read it row by row.
        whole_readers: tensor -> operators that need it whole (also: the graph's outputs).
        whole_values: tensor -> the value that all its rows are.
        axis: tensor -> dimension of its rows; absent for tensors without rows.
        reads: for each operator its inputs, -1 for constants and absent ones; ``writes`` its
            outputs; handles of variables are no maps either.
        pure: for each operator whether nothing is lost where nobody reads what it makes.
        strip_readers: operator -> who reads its outputs, where all of them could be cut with it.
        everything: all operators.
        joins: operators that read the rows of more than one map.
        reshapes: operators that show their input in another shape.
        convolutions: operators to which zeros around a strip are the same as SAME padding.
        paddable: those of them whose SAME padding puts anything around a strip.
    """

    def __init__(self, graph: Graph, order: Sequence[int] | None = None) -> None:
        self.graph = graph
        self.order = tuple(range(len(graph.operators)) if order is None else order)
        self.row_operators: dict[int, RowOperator] = {}
        self.reasons: dict[int, Uncut] = {}
        for index in range(len(graph.operators)):
            found = row_operator(graph, index)
            if isinstance(found, RowOperator):
                self.row_operators[index] = found
            else:
                self.reasons[index] = found
        self.producer = graph.producers()
        self.readers = graph.consumers()
        self.row_readers: dict[int, list[tuple[int, int]]] = {}
        self.whole_readers: dict[int, list[int]] = {}
        for index, operator in enumerate(graph.operators):
            cuttable = self.row_operators.get(index)
            for position, tensor in enumerate(operator.inputs):
                if tensor < 0 or not graph.tensors[tensor].in_head:
                    continue
                if cuttable is not None and position in cuttable.row_inputs:
                    self.row_readers.setdefault(tensor, []).append((index, position))
                else:
                    self.whole_readers.setdefault(tensor, []).append(index)
        self.axis: dict[int, int] = {}
        self.rows: dict[int, int] = {}
        self.row_bytes: dict[int, int] = {}
        for tensor in graph.activations():
            shape = graph.tensors[tensor].shape
            axis = row_axis(shape)
            if isinstance(axis, int):
                self.axis[tensor] = axis
            # A tensor without rows counts as a single one.
            self.rows[tensor] = shape[axis] if isinstance(axis, int) else 1
            self.row_bytes[tensor] = graph.tensors[tensor].size_bytes // max(self.rows[tensor], 1)
        self.whole_values = {t: Value(t, (0, rows)) for t, rows in self.rows.items()}
        self.macs = [operator_macs(graph, i) for i in range(len(graph.operators))]
        self.total_macs = sum(self.macs)
        self.outputs = frozenset(graph.outputs)
        self.reads = tuple(
            tuple(t if t >= 0 and graph.tensors[t].in_head else -1 for t in operator.inputs)
            for operator in graph.operators
        )
        self.writes = tuple(
            tuple(t for t in operator.outputs if graph.tensors[t].in_head)
            for operator in graph.operators
        )
        self.pure = tuple(graph.is_pure(operator) for operator in graph.operators)

        self.everything = frozenset(self.order)
        self.strip_readers = {
            operator: tuple(sorted({r for t in outputs for r, _ in self.row_readers[t]}))
            for operator, outputs in enumerate(self.writes)
            if outputs and all(self._only_strips_read(t) for t in outputs)
        }
        self.joins = frozenset(
            o for o, info in self.row_operators.items() if len(info.row_inputs) > 1
        )
        self.reshapes = frozenset(
            o for o, operator in enumerate(graph.operators) if operator.opcode in RESHAPES
        )
        self.convolutions = frozenset(
            o for o in self.row_operators if self.row_operators[o].pads_with_zeros
        )
        self.paddable = frozenset(
            o
            for o in self.convolutions
            if isinstance(rule := self.row_operators[o].rule, Sliding)
            and rule.same
            and (self.row_operators[o].pads_columns or rule.kernel_extent > 1)
        )

    def _only_strips_read(self, tensor: int) -> bool:
        return (
            tensor in self.row_readers
            and tensor not in self.whole_readers
            and tensor not in self.outputs
        )
