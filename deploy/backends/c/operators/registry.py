"""The kernels of generated C: opcode -> function that adds its steps to a lowering."""

from __future__ import annotations

from collections.abc import Callable

from deploy.backends.c.lowering import Lowering
from deploy.operators import OPERATORS, InC

Lower = Callable[[Lowering, int], None]

KERNELS: dict[str, Lower] = {}
"""Filled by ``lowers`` when the modules of the families are imported."""


def lowers(*opcodes: str) -> Callable[[Lower], Lower]:
    """Says which operators a function lowers; their rows say that there is a kernel."""

    def register(function: Lower) -> Lower:
        for opcode in opcodes:
            assert OPERATORS[opcode].in_c is InC.KERNEL, opcode
            assert opcode not in KERNELS, opcode
            KERNELS[opcode] = function
        return function

    return register
