"""BATCH_MATMUL: products of two maps."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.backends.c.fixed_point import dense_multiplier, zero_point
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW, Read, row_axis, whole
from deploy.operators.copied import natural_strides

_BYTES = 20 * 4
_MOST_BATCHES = 3


@lowers("BATCH_MATMUL")
def batch_matmul(lowering: Lowering, step: int) -> None:
    """BATCH_MATMUL (…, m, k) · (…, k, n) → (…, m, n).

    Row by row where a row of the output is made of a row of the first operand and all of the
    second, or of a matrix of each; else whole.
    """
    operator = lowering.graph.operators[step]
    a, b, y = (lowering.tensor(t) for t in (*operator.inputs, *operator.outputs))
    lowering.require_int8(step, *operator.inputs, *operator.outputs)
    turned = bool(operator.option("adj_x", False)), bool(operator.option("adj_y", False))
    axis = row_axis(y.shape)
    if axis is not None and (y.shape[axis] == 1 or (axis == len(y.shape) - 2 and turned[0])):
        axis = None
    rows = 1 if axis is None else y.shape[axis]
    left = _Matrices.of(a.shape, y.shape, axis, turned=turned[0])
    # Rows of the first operand are rows of the output; those of the second are its depth.
    by_matrix = axis if axis != len(y.shape) - 2 else None
    right = _Matrices.of(b.shape, y.shape, by_matrix, turned=turned[1])
    extents = [1 if i == axis else n for i, n in enumerate(y.shape)]
    batch = [i for i, n in enumerate(extents[:-2]) if n > 1]
    if len(batch) > _MOST_BATCHES:
        lowering.refuse(step, f"a batch of {len(batch)} dimensions", f"at most {_MOST_BATCHES}")
    groups = [
        [fill] * (_MOST_BATCHES - len(batch)) + [values[i] for i in batch]
        for fill, values in ((1, extents), (0, left.strides), (0, right.strides))
    ]
    m, shift = dense_multiplier(a, b, y)
    descriptor = lowering.struct(
        "fmc_matmul_t",
        (
            *("{" + ", ".join(map(str, group)) + "}" for group in groups),
            *(*extents[-2:], left.depth, *left.strides[-2:], right.strides[-1], right.strides[-2]),
            *(-zero_point(a), -zero_point(b), zero_point(y), m, shift),
        ),
        _BYTES,
    )
    reads: list[Read] = []
    pointers = []
    for tensor, side in zip(operator.inputs, (left, right), strict=True):
        entry = lowering.tensor(tensor)
        view = (rows, entry.size_bytes // rows) if side.by_row else (1, entry.size_bytes)
        if entry.is_constant:
            name = lowering.array(entry.array(), "int8")
            pointers.append(f"{name} + {{row}} * {view[1]}" if side.by_row else name)
            continue
        pointers.append(f"{{in{len(reads)}}}")
        reads.append(lowering.read(tensor, SAME_ROW if side.by_row else whole(1), view))
    lowering.step(
        step,
        lowering.output(operator.outputs[0], (rows, y.size_bytes // rows)),
        reads,
        f"fmc_matmul({descriptor}, {', '.join(pointers)}, {{out}});",
        "fmc_matmul.c",
    )


@dataclass(frozen=True, slots=True)
class _Matrices:
    """An operand as matrices: ``depth`` columns, elements from one index of the output's
    dimensions to the next (0 where it is repeated), and whether it goes along with the output's
    rows."""

    depth: int
    strides: tuple[int, ...]
    by_row: bool

    @staticmethod
    def of(
        shape: tuple[int, ...], out: tuple[int, ...], axis: int | None, *, turned: bool
    ) -> _Matrices:
        full = (1,) * (len(out) - len(shape)) + shape
        strides = list(natural_strides(full))
        by_row = axis is not None and full[axis] == out[axis]
        full_depth = full[-2] if turned else full[-1]
        if turned:
            strides[-2:] = strides[:-3:-1]
        for i, n in enumerate(full[:-2]):
            strides[i] = 0 if n == 1 else strides[i]
        return _Matrices(full_depth, tuple(strides), by_row)
