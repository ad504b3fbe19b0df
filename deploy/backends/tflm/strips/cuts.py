"""How a graph is cut: which operators run strip by strip, and what becomes of their halos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from deploy.backends.tflm.strips.network import Network


class Halo(Enum):
    """What happens to rows that two neighbouring strips of a consumer both need."""

    RECOMPUTED = "computed again for the next strip"
    KEPT = "kept where they stand; the map has one place"
    COPIED = "kept by copying them in front of the next strip"


FLAGS = (
    *("recomputed", "copied", "untrimmed", "padded", "swapped"),
    *("finished", "upwards", "when_ready", "own_place"),
)
"""The fields of Cuts that are sets of operators."""
_FIELDS = ("ends", *FLAGS, "no_growth")


@dataclass(frozen=True, slots=True)
class Cuts:
    """A way to cut a graph. Operators are named by their index; what is not named stays whole.

    Attributes:
        ends: operator -> the rows of its output at which its strips end, ascending; the last
            one is the number of rows. Empty: strips end wherever a consumer's window ends.
        recomputed: operators whose strips are computed together with their consumer's strips,
            rows in the halo once for each of them. Only where all consumers are cut alike.
        copied: operators whose output keeps its halo by copying (else it stays in its place).
        untrimmed: recomputed operators that may hand wrong rows on to their consumer, which
            spares a SLICE and costs rows.
        padded: operators with SAME padding that get a PAD of their own and so no wrong rows.
        swapped: operators whose inputs are computed last one first.
        finished: operators whose strips all run before anything reads the first of them.
        upwards: operators whose strips run from the last rows to the first.
        when_ready: operators whose strips run as soon as the rows that they read are there, not
            only when their own rows are asked for. So a map with two readers can end with its
            strips.
        own_place: operators, cut or not, whose output takes no input's place and grows into none,
            though their kernels would let it, so that it can stand elsewhere.
        no_growth: no output grows into its input.
    """

    ends: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    recomputed: frozenset[int] = frozenset()
    copied: frozenset[int] = frozenset()
    untrimmed: frozenset[int] = frozenset()
    padded: frozenset[int] = frozenset()
    swapped: frozenset[int] = frozenset()
    finished: frozenset[int] = frozenset()
    upwards: frozenset[int] = frozenset()
    when_ready: frozenset[int] = frozenset()
    own_place: frozenset[int] = frozenset()
    no_growth: bool = False

    def key(self) -> tuple[object, ...]:
        """Equal for equal cuts that are normalised; to be hashed, not to be sorted by."""
        return (
            tuple(self.ends.items()),
            *(self.recomputed, self.copied, self.untrimmed, self.padded, self.swapped),
            *(self.finished, self.upwards, self.when_ready, self.own_place, self.no_growth),
        )

    def replace(self, **changes: object) -> Cuts:
        """The same cuts but for some fields; like ``dataclasses.replace``, which is slow."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        return Cuts(**(fields | changes))


def normalised(network: Network, cuts: Cuts) -> Cuts:
    """Drops what has no effect or cannot be done, so that equal cuts look equal."""
    ends: dict[int, tuple[int, ...]] = {}
    for operator, rows in sorted(cuts.ends.items()):
        info = network.row_operators.get(operator)
        if info is None:
            continue
        if not rows:
            ends[operator] = ()
            continue
        size = info.rule.out_rows
        inner = sorted({r for r in rows if 0 < r < size})
        if inner:
            ends[operator] = (*inner, size)
    recomputed: set[int] = set()
    if not cuts.recomputed.isdisjoint(ends):
        sinks: dict[int, int] = {}
        for operator in reversed(network.order):
            if operator not in ends:
                continue
            sink = operator
            if operator in cuts.recomputed and operator in network.strip_readers:
                readers = network.strip_readers[operator]
                found = sinks.get(readers[0], -1)
                if found >= 0 and all(sinks.get(reader) == found for reader in readers):
                    sink = found
                    recomputed.add(operator)
            sinks[operator] = sink
        for operator in recomputed:
            ends[operator] = ()
    cut = frozenset(ends)
    first = cut - recomputed
    driving = frozenset(operator for operator, rows in ends.items() if rows)
    return Cuts(
        ends=ends,
        recomputed=frozenset(recomputed),
        copied=cuts.copied & first,
        untrimmed=cuts.untrimmed & recomputed,
        padded=cuts.padded & cut & network.paddable,
        swapped=cuts.swapped & cut & network.joins,
        finished=frozenset(o for o in cuts.finished & driving if o in network.strip_readers),
        upwards=cuts.upwards & driving,
        when_ready=cuts.when_ready & first,
        own_place=cuts.own_place & network.everything,
        no_growth=cuts.no_growth,
    )


def groups(network: Network, cuts: Cuts) -> dict[int, tuple[int, ...]]:
    """Returns sink -> operators computed with it, strip by strip, in order; the sink is last."""
    if not cuts.recomputed:
        return {operator: (operator,) for operator in cuts.ends}
    sink_of: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for operator in reversed(network.order):
        if operator not in cuts.ends:
            continue
        sink = operator
        if operator in cuts.recomputed:
            sink = sink_of[network.strip_readers[operator][0]]
        sink_of[operator] = sink
        members.setdefault(sink, []).append(operator)
    return {sink: tuple(reversed(ops)) for sink, ops in members.items()}


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
