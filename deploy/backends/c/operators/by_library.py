"""Operators that make rows from windows of rows, by the kernels of a library."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.c.library import PREFIX, SOURCE, KernelLibrary, scratch_arguments
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.program import Grid, Rows
from deploy.operators.window import Window


def window_step(
    lowering: Lowering,
    library: KernelLibrary,
    step: int,
    function: str,
    arguments: Sequence[str],
    *,
    x: int,
    rows: Rows,
    source: Grid,
    out: Grid,
    window: Window,
    pad_columns: int,
    asks_for_scratch: bool = True,
) -> None:
    """Adds the call of the library's kernel in place of a portable one.

    Args:
        function: the portable kernel.
        arguments: what comes before the rows, the descriptor of the window first.
        x: the input's tensor, of which ``rows`` are read.
    """
    operator = lowering.graph.operators[step]
    name = function.replace("fmc", PREFIX)
    read = lowering.read(x, rows, source.view)
    scratch = None
    if asks_for_scratch:
        scratch = library.window_scratch(
            operator.opcode,
            name,
            arguments[0],
            read=read,
            out_rows=out.rows,
            source=source,
            out=out,
            window=window,
            pad_columns=pad_columns,
        )
    lowering.step(
        step,
        lowering.output(operator.outputs[0], out.view),
        [read],
        f"{name}({', '.join(arguments)}, {{in0}}, {{rows0}}, {{above0}}, {{out}}, "
        f"{{out_rows}}{scratch_arguments(scratch)});",
        SOURCE,
        any_order=True,
        scratch=scratch,
    )
