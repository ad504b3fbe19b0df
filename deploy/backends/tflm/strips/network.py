"""What the cutter and its search need to know of a graph, worked out once."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.tflm.strips.operators import row_operator
from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.operators.by_rows import RowOperator, Uncut, row_axis


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
        axis: tensor -> dimension of its rows; absent for tensors without rows.
        reads: for each operator its inputs, -1 for constants and absent ones; ``writes`` its
            outputs.
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
        self.macs = [operator_macs(graph, i) for i in range(len(graph.operators))]
        self.total_macs = sum(self.macs)
        self.outputs = frozenset(graph.outputs)
        self.reads = tuple(
            tuple(t if t >= 0 and graph.tensors[t].in_head else -1 for t in operator.inputs)
            for operator in graph.operators
        )
        self.writes = tuple(operator.outputs for operator in graph.operators)

    def only_row_readers(self, operator: int) -> bool:
        """Whether everything that reads the outputs of an operator could be cut with it."""
        return all(
            tensor in self.row_readers
            and tensor not in self.whole_readers
            and tensor not in self.outputs
            for tensor in self.graph.operators[operator].outputs
        )
