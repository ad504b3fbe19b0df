"""A quick placement of blocks, to estimator thousands of programs; the planner does better later.

Large blocks come first, each at the lowest free offset; orders are changed a little as long as
that helps. Then one capacity after the other is tried: each block at the lowest free offset, or at
the highest if its low rows die first (a consumed map leaves room below itself, into which a
produced map grows from the bottom). A block that finds no room is placed earlier the next time
(squeaky-wheel optimisation, Joslin & Clements, JAIR 10, 1999).
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.tflm.strips.blocks import LiveRows
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up

_SWAPS = 40
"""Changes of each order that are tried."""

Blocks = Sequence[Sequence[LiveRows]]


def packed_height(
    blocks: Blocks,
    *,
    bound: int,
    ceiling: int,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
    rounds: int = 10,
    swaps: int = _SWAPS,
) -> int:
    """Returns the height in bytes of a good placement, or ``ceiling`` if none is found below it.

    Compiled code is loaded with the first placement that is not obvious.

    Args:
        bound: no placement is lower.
        alignment: offsets and heights are multiples of this many bytes.
        rounds: orders that are tried for one capacity.
        swaps: changes of an order that are tried.
    """
    bound = round_up(bound, alignment)
    if not blocks or bound >= ceiling:
        return min(bound, ceiling)
    import numpy as np

    from deploy.backends.tflm.strips.packing_search import pack

    pieces = [
        (r.first, r.until, r.start, r.stop, b) for b, block in enumerate(blocks) for r in block
    ]
    pieces.sort()
    table = np.array(pieces, np.int64)
    return int(pack(table, len(blocks), bound, ceiling, alignment, rounds, swaps))


def load_compiled() -> None:
    """Loads the compiled code, half a second's work, before a placement has to wait for it."""
    rows = (LiveRows(0, HEIGHT_ALIGNMENT_BYTES, 0, 1),)
    packed_height((rows, rows), bound=0, ceiling=4 * HEIGHT_ALIGNMENT_BYTES)
