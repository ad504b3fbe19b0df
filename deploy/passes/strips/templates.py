"""The usual ways of cutting a stretch of operators: strips of one kind from end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.passes.strips.clones import Clone
from deploy.passes.strips.cuts import Cuts, normalised
from deploy.passes.strips.judge import Candidate, Judge
from deploy.passes.strips.moves import uneven_ends
from deploy.passes.strips.network import Network

_POWERS = (1.0, 0.7, 1.4)
_MOST_CLONES = 3


def templates(
    judge: Judge, clones: Sequence[Clone], strips: Sequence[int]
) -> Iterator[Candidate]:
    """Yields candidates that cut all operators of the judge's graph alike, each once."""
    count = len(judge.graph.operators)
    choices = [frozenset[Clone](), *(frozenset({clone}) for clone in clones[:_MOST_CLONES])]
    for chosen in choices:
        network = judge.network(chosen)
        operators = [o for o in network.order if o in network.row_operators]
        if not any(o < count for o in operators):
            continue
        seen = set()
        for cuts in _cuts(network, operators, strips):
            key = cuts.key()
            if key not in seen:
                seen.add(key)
                yield Candidate(chosen, cuts)


def _cuts(network: Network, operators: list[int], strips: Sequence[int]) -> Iterator[Cuts]:
    driver = operators[-1]
    rows = network.row_operators[driver].rule.out_rows
    every = frozenset(operators)
    none = frozenset[int]()
    wide = frozenset(
        o for o in operators if getattr(network.row_operators[o].rule, "kernel_extent", 1) > 1
    )
    dear = frozenset(o for o in operators if network.macs[o] * 10 > network.total_macs)
    # (recomputed, copied, loose)
    halos = (
        (every, none, every),
        (every, none, none),
        (none, every, none),
        (none, none, none),
        (every - wide, wide, none),
    )
    for count in strips:
        if count > rows:
            continue
        for power in _POWERS:
            ends: dict[int, tuple[int, ...]] = dict.fromkeys(operators, ())
            ends[driver] = uneven_ends(rows, count, power)
            for recomputed, copied, loose in halos:
                for padded in (none, dear) if dear else (none,):
                    yield normalised(network, Cuts(ends, recomputed, copied, loose, padded))
