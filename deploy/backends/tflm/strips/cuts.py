"""How a graph is cut: which operators run strip by strip, and what becomes of their halos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from deploy.backends.tflm.strips.network import Network


class Halo(Enum):
    """What happens to rows that two neighbouring strips of a consumer both need."""

    RECOMPUTED = "computed again for the next strip"
    KEPT = "kept where they stand; the map has one place"
    COPIED = "kept by copying them in front of the next strip"


FLAGS = (
    *("recomputed", "copied", "loose", "padded", "swapped"),
    *("finished", "upwards", "eager", "apart"),
)
"""The fields of Cuts that are sets of operators."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """A way to cut a graph. Operators are named by their index; what is not named stays whole.

    Attributes:
        ends: operator -> the rows of its output at which its strips end, ascending; the last
            one is the number of rows. Empty: strips end wherever a consumer's window ends.
        recomputed: operators whose strips are computed together with their consumer's strips,
            rows in the halo once for each of them. Only where all consumers are cut alike.
        copied: operators whose output keeps its halo by copying (else it stays in its place).
        loose: recomputed operators that may hand garbage rows on to their consumer, which
            spares a SLICE and costs rows.
        padded: operators with SAME padding that get a PAD of their own and so no garbage rows.
        swapped: operators whose inputs are computed last one first.
        finished: operators whose strips all run before anything reads the first of them.
        upwards: operators whose strips run from the last rows to the first.
        eager: operators whose strips run as soon as the rows that they read are there, not only
            when their own rows are asked for. So a map with two readers can end with its strips.
        apart: operators, cut or not, whose output takes no input's place and grows into none,
            though their kernels would let it, so that it can stand elsewhere.
        still: no output grows into its input.
    """

    ends: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    recomputed: frozenset[int] = frozenset()
    copied: frozenset[int] = frozenset()
    loose: frozenset[int] = frozenset()
    padded: frozenset[int] = frozenset()
    swapped: frozenset[int] = frozenset()
    finished: frozenset[int] = frozenset()
    upwards: frozenset[int] = frozenset()
    eager: frozenset[int] = frozenset()
    apart: frozenset[int] = frozenset()
    still: bool = False

    def key(self) -> tuple[object, ...]:
        """Equal for equal cuts that are normalised; to be hashed, not to be sorted by."""
        return (
            tuple(self.ends.items()),
            *(self.recomputed, self.copied, self.loose, self.padded, self.swapped),
            *(self.finished, self.upwards, self.eager, self.apart, self.still),
        )

    def replace(self, **changes: object) -> Cuts:
        return replace(self, **changes)  # type: ignore[arg-type]


def normalised(network: Network, cuts: Cuts) -> Cuts:
    """Drops what has no effect or cannot be done, so that equal cuts look equal."""
    ends: dict[int, tuple[int, ...]] = {}
    for operator, rows in cuts.ends.items():
        if operator in network.row_operators:
            size = network.row_operators[operator].rule.out_rows
            inner = sorted({r for r in rows if 0 < r < size})
            if rows and not inner:
                continue
            ends[operator] = (*inner, size) if inner else ()
    recomputed: set[int] = set()
    sinks: dict[int, int] = {}
    for operator in (o for o in reversed(network.order) if o in ends):
        sink = operator
        if operator in cuts.recomputed and network.only_row_readers(operator):
            readers = {
                reader
                for tensor in network.graph.operators[operator].outputs
                for reader, _ in network.row_readers[tensor]
            }
            found = {sinks.get(reader) for reader in readers}
            if len(found) == 1 and None not in found:
                sink = found.pop() or 0
                recomputed.add(operator)
        sinks[operator] = sink
    for operator in recomputed:
        ends[operator] = ()
    cut = frozenset(ends)
    paddable = frozenset(o for o in cut if can_pad(network, o))
    return Cuts(
        ends=dict(sorted(ends.items())),
        recomputed=frozenset(recomputed),
        copied=(cuts.copied & cut) - recomputed,
        loose=cuts.loose & recomputed,
        padded=cuts.padded & paddable,
        swapped=frozenset(o for o in cuts.swapped & cut if reads_several(network, o)),
        finished=frozenset(
            o for o in cuts.finished & cut if ends[o] and network.only_row_readers(o)
        ),
        upwards=frozenset(o for o in cuts.upwards & cut if ends[o]),
        eager=(cuts.eager & cut) - recomputed,
        apart=cuts.apart & frozenset(network.order),
        still=cuts.still,
    )


def can_pad(network: Network, operator: int) -> bool:
    """Whether zeros put around a strip do what SAME padding does to the whole map."""
    found = network.row_operators.get(operator)
    return (
        found is not None
        and found.pads_with_zeros
        and (found.pads_columns or found.rule.kernel_extent > 1)  # type: ignore[attr-defined]
    )


def reads_several(network: Network, operator: int) -> bool:
    """Whether an operator reads the rows of more than one map."""
    found = network.row_operators.get(operator)
    return found is not None and len(found.row_inputs) > 1


def groups(network: Network, cuts: Cuts) -> dict[int, tuple[int, ...]]:
    """Returns sink -> operators computed with it, strip by strip, in order; the sink is last."""
    sink_of: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for operator in reversed(network.order):
        sink = operator
        if operator in cuts.recomputed:
            tensor = network.graph.operators[operator].outputs[0]
            sink = sink_of[network.row_readers[tensor][0][0]]
        sink_of[operator] = sink
        members.setdefault(sink, []).append(operator)
    return {sink: tuple(reversed(ops)) for sink, ops in sorted(members.items())}


def region_of(operators: Iterable[int], ends: tuple[int, ...], halo: Halo) -> Cuts:
    """Cuts for a run of operators that share one kind of halo; the last one's strips are given.

    Args:
        operators: indices; the largest is the region's last operator.
        ends: rows of the last operator's output at which strips end.
        halo: for every map inside the region.
    """
    chosen = frozenset(operators)
    last = max(chosen)
    inner = chosen - {last}
    return Cuts(
        ends={operator: (ends if operator == last else ()) for operator in chosen},
        recomputed=inner if halo is Halo.RECOMPUTED else frozenset(),
        copied=inner if halo is Halo.COPIED else frozenset(),
    )
