"""The usual ways of cutting a stretch of operators: strips of one kind from end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from deploy.passes.strips.clones import Clone
from deploy.passes.strips.cuts import Cuts, normalised, reads_several
from deploy.passes.strips.judge import Candidate, Judge
from deploy.passes.strips.moves import uneven_ends
from deploy.passes.strips.network import Network

_POWERS = (1.0, 0.7, 1.4)
_MOST_CLONES = 3
_RUNS = 360
"""Operator instances of a template at most."""
_ROWS = 40
"""Strips of a single row for maps of at most so many rows."""


def templates(judge: Judge, clones: Sequence[Clone], *, thin: bool = False) -> Iterator[Candidate]:
    """Yields candidates that cut all operators of the judge's graph alike, each once.

    Args:
        clones: maps that may be computed twice; the first few are tried, one at a time.
        thin: down to strips of one row, for which halos are kept and convolutions padded, rather
            than few strips.
    """
    count = len(judge.graph.operators)
    choices = [frozenset[Clone](), *(frozenset({clone}) for clone in clones[:_MOST_CLONES])]
    for chosen in choices:
        network = judge.network(chosen)
        operators = [o for o in network.order if o in network.row_operators]
        if not any(o < count for o in operators):
            continue
        seen = set()
        rows = _rows(network, operators) if thin else ()
        for cuts in chain(rows, _cuts(network, operators, thin)):
            key = cuts.key()
            if key not in seen:
                seen.add(key)
                yield Candidate(chosen, cuts)


def _rows(network: Network, operators: list[int]) -> Iterator[Cuts]:
    """Strips of one row wherever maps come together; what has one reader moves along with it.

    A map with several readers stays in its place, where a sum of it may replace it. The last
    map is not to replace another one, whose place it might be tied to.
    """
    driver = operators[-1]
    ends: dict[int, tuple[int, ...]] = dict.fromkeys(operators, ())
    for operator in operators:
        rows = network.row_operators[operator].rule.out_rows
        if operator == driver or reads_several(network, operator):
            if rows > _ROWS:
                return
            ends[operator] = tuple(range(1, rows + 1))
    every = frozenset(operators)
    none = frozenset[int]()
    single = frozenset(
        o
        for o in operators
        if len({r for t in network.graph.operators[o].outputs for r in network.readers.get(t, ())})
        == 1
    )
    sums = frozenset(o for o in operators if reads_several(network, o))
    for apart in (frozenset({driver}), none, sums):
        for upwards in (sums | {driver}, none):
            for copied in (single, single - sums, every):
                chosen = Cuts(
                    ends, copied=copied, padded=every, upwards=frozenset(upwards), apart=apart
                )
                yield normalised(network, chosen)


def _cuts(network: Network, operators: list[int], thin: bool) -> Iterator[Cuts]:
    driver = operators[-1]
    rows = network.row_operators[driver].rule.out_rows
    every = frozenset(operators)
    none = frozenset[int]()
    wide = frozenset(
        o for o in operators if getattr(network.row_operators[o].rule, "kernel_extent", 1) > 1
    )
    dear = frozenset(o for o in operators if network.macs[o] * 10 > network.total_macs)
    # (recomputed, copied, loose)
    kept = [(none, every, none), (none, none, none), (every - wide, wide, none)]
    if thin:
        halos, paddings = kept, list(dict.fromkeys((dear, every, none)))
        strips = [n for n in (rows, 32, 24, 16, 8, 4) if n <= rows and n * len(every) <= _RUNS]
    else:
        halos = [(every, none, every), (every, none, none), *kept]
        paddings = [none, dear] if dear else [none]
        strips = [n for n in (2, 3, 4, 6) if n <= rows]
    for number in dict.fromkeys(strips):
        for power in _POWERS[: 2 if thin else 3]:
            ends: dict[int, tuple[int, ...]] = dict.fromkeys(operators, ())
            ends[driver] = uneven_ends(rows, number, power)
            for recomputed, copied, loose in halos:
                for padded in paddings:
                    yield normalised(network, Cuts(ends, recomputed, copied, loose, padded))
