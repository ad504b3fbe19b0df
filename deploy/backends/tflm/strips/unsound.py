"""Strips that would meet a function of the kernel library that is known to be wrong for them.

A library chooses its function by shape, so that a strip can select another one than the whole map
does: a strip of one row of a 1xN convolution is computed by other code than two rows are. Such
strips are never made. What the whole operator selects is not the strips' doing, and is left.
"""

from __future__ import annotations

from deploy.backends.tflm.defects import defects_of
from deploy.backends.tflm.strips.diagonal import OfStrips, strip_operator
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import Program, Run
from deploy.targets import Kernels


class Unsound:
    """Tells programs that hold such strips; each kind of strip is looked at once."""

    def __init__(self, network: Network, kernels: Kernels) -> None:
        self.network = network
        self.kernels = kernels
        functions = {defect.function for defect in kernels.defects if not defect.harmless_with_room}
        opcodes = {
            opcode
            for opcode, selections in kernels.selections.items()
            if any(selection.function in functions for selection in selections)
        }
        graph = network.graph
        self._suspects = frozenset(
            index for index in network.row_operators if graph.operators[index].opcode in opcodes
        )
        self._known = OfStrips(self._is_unsound)

    def any_in(self, program: Program) -> bool:
        """Whether a strip of the program meets a known defect."""
        if not self._suspects:
            return False
        return any(
            isinstance(step, Run)
            and step.tile is not None
            and step.operator in self._suspects
            and self._known(program, step)
            for step in program.steps
        )

    def _is_unsound(self, program: Program, step: Run) -> bool:
        operator, graph = strip_operator(self.network, program, step)
        shapes = [graph.tensors[t].shape for t in (*operator.inputs, *operator.outputs) if t >= 0]
        whole = self.network.graph
        as_whole = operator == whole.operators[step.operator] and shapes == [
            whole.tensors[t].shape for t in (*operator.inputs, *operator.outputs) if t >= 0
        ]
        return not as_whole and any(
            not defect.harmless_with_room for defect in defects_of(operator, graph, self.kernels)
        )
