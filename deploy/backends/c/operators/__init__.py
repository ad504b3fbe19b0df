"""What C makes of each operator that its row says generated C runs."""

from __future__ import annotations

from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators import (
    comparisons,
    elementwise,
    floats,
    indices,
    matrices,
    measured,
    moves,
    normalised,
    reductions,
    weighted,
    windows,
)
from deploy.backends.c.operators.codes import CODE_OPERATORS
from deploy.backends.c.operators.registry import KERNELS
from deploy.operators import OPERATORS, InC

_BY_ROW = {InC.COPY: moves.copied, InC.RENAMED: moves.view}


def lower_operator(lowering: Lowering, step: int) -> None:
    """Adds the steps of one operator, of which generated C knows what it does."""
    opcode = lowering.graph.operators[step].opcode
    function = CODE_OPERATORS.get(opcode)
    if function is None:
        function = _BY_ROW.get(OPERATORS[opcode].in_c) or KERNELS[opcode]
    function(lowering, step)


_FAMILIES = (
    *(comparisons, elementwise, floats, indices, matrices, measured, moves, normalised),
    *(reductions, weighted, windows),
)
"""Imported so that their functions stand in ``KERNELS``."""
