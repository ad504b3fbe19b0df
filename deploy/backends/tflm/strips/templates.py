"""The usual ways of cutting a stretch of operators: strips of one kind from end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from deploy.backends.tflm.strips.clones import THINNED, Clone
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.moves import uneven_ends
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.tuning import TEMPLATES


def templates(
    estimator: Estimator,
    clones: Sequence[Clone] | None = None,
    *,
    thin: bool = False,
) -> Iterator[Candidate]:
    """Yields candidates that cut all operators of the estimator's graph alike, each once.

    Args:
        clones: maps that are computed twice, of which the first few are tried, one at a time;
            None: no map is.
        thin: down to strips of one row, for which halos are kept and convolutions padded, rather
            than few strips.
    """
    count = len(estimator.graph.operators)
    choices = [frozenset[Clone]()]
    if clones is not None:
        choices = [frozenset({clone}) for clone in clones[: TEMPLATES.most_clones]]
    for chosen in choices:
        network = estimator.network(chosen)
        operators = [o for o in network.order if o in network.row_operators]
        if not any(o < count for o in operators):
            continue
        seen = set()
        for cuts in _cuts(network, operators, thin):
            key = cuts.key()
            if key not in seen:
                seen.add(key)
                yield Candidate(chosen, cuts)


def of_clones(estimator: Estimator, clones: Sequence[Clone]) -> Iterator[Candidate]:
    """Yields candidates with one or two clones and nothing else, and with these in strips.

    What is computed again need not stand whole for its reader: both run strip by strip.
    """
    few = clones[: TEMPLATES.clones_in_pairs]
    together = [frozenset(chosen) for n in (1, 2) for chosen in itertools.combinations(few, n)]
    count = len(estimator.graph.operators)
    for chosen in together:
        network = estimator.network(chosen)
        yield Candidate(chosen, Cuts())
        again = {
            count + index: reader
            for index, (_, reader) in enumerate(sorted(chosen))
            if reader != THINNED and {count + index, reader} <= network.row_operators.keys()
        }
        for number in TEMPLATES.strips if again else ():
            ends: dict[int, tuple[int, ...]] = dict.fromkeys(again, ())
            for reader in again.values():
                size = network.row_operators[reader].rule.out_rows
                ends[reader] = uneven_ends(size, min(number, size), 1.0)
            cuts = Cuts(ends, recomputed=frozenset(again))
            yield Candidate(chosen, normalised(network, cuts))


def rows(estimator: Estimator) -> Iterator[Candidate]:
    """Yields candidates in which strips have a single row: for the smallest heads.

    Each row wherever maps come together, or everywhere. A map with one reader moves along with
    it; one with several may stay in its place, where a sum of it may replace it. The last map is
    not to replace another one, whose place it might be tied to.
    """
    network = estimator.network()
    operators = [o for o in network.order if o in network.row_operators]
    if not operators:
        return
    driver, every, none = operators[-1], frozenset(operators), frozenset[int]()
    sums = network.joins & every
    ends = {o: tuple(range(1, network.row_operators[o].rule.out_rows + 1)) for o in operators}
    at_sums = {o: ends[o] if o == driver or o in sums else () for o in operators}
    instances = sum(len(rows) for rows in ends.values())
    if instances > TEMPLATES.most_rows:
        return
    readers = {
        o: {r for t in network.graph.operators[o].outputs for r in network.readers.get(t, ())}
        for o in operators
    }
    single = frozenset(o for o in operators if len(readers[o]) == 1)
    dear = frozenset(o for o in operators if network.macs[o] * TEMPLATES.dear > network.total_macs)
    last = frozenset({driver})
    # (strips end, copied, padded, upwards, own_place)
    ways = [
        (ends, every, none, none, none),
        (ends, every, dear, none, last),
        (at_sums, every, every, none, last),
    ]
    if instances <= TEMPLATES.few_rows:
        ways += [
            (at_sums, copied, every, upwards, own_place)
            for own_place in (last, none)
            for upwards in (sums | last, none)
            for copied in (single, single - sums)
        ]
    seen = set()
    for rows_of, copied, padded, upwards, own_place in ways:
        cuts = normalised(
            network,
            Cuts(rows_of, copied=copied, padded=padded, upwards=upwards, own_place=own_place),
        )
        if cuts.key() not in seen:
            seen.add(cuts.key())
            yield Candidate(frozenset(), cuts)


def in_strips(estimator: Estimator) -> Iterator[list[Candidate]]:
    """Yields ways of cutting no more than what writes or reads the estimator's ``never_whole``.

    Operators that read such maps and write others have strips of their own, of equal height,
    and the rest follows. Candidates that come together have the same number of strips, and any
    of them will do. There are none where one of these operators cannot be cut.
    """
    network, tensors = estimator.network(), estimator.in_strips()
    operators = network.graph.operators
    touching = {o for t in tensors for o in network.readers.get(t, ())}
    touching |= {network.producer[t] for t in tensors if t in network.producer}
    if not touching <= set(network.row_operators):
        return
    every, none = frozenset(touching), frozenset[int]()
    drivers = frozenset(o for o in touching if not tensors.issuperset(operators[o].outputs))
    heights = {network.row_operators[o].rule.out_rows for o in drivers}
    for number in (n for n in TEMPLATES.strips_of_given_maps if n <= max(heights, default=0)):
        ends: dict[int, tuple[int, ...]] = dict.fromkeys(every, ())
        for operator in drivers:
            rows = network.row_operators[operator].rule.out_rows
            ends[operator] = uneven_ends(rows, min(number, rows), 1.0)
        yield [
            Candidate(
                frozenset(),
                normalised(
                    network,
                    Cuts(
                        ends, every if again else none, copied, padded=padded, when_ready=when_ready
                    ),
                ),
            )
            for when_ready in (none, drivers)
            for padded in (none, every)
            for again, copied in ((False, every), (False, none), (True, none))
        ]


def _cuts(network: Network, operators: list[int], thin: bool) -> Iterator[Cuts]:
    driver = operators[-1]
    rows = network.row_operators[driver].rule.out_rows
    every = frozenset(operators)
    none = frozenset[int]()
    wide = frozenset(
        o for o in operators if getattr(network.row_operators[o].rule, "kernel_extent", 1) > 1
    )
    dear = frozenset(o for o in operators if network.macs[o] * TEMPLATES.dear > network.total_macs)
    # (recomputed, copied, untrimmed)
    kept = [(none, every, none), (none, none, none), (every - wide, wide, none)]
    if wide and every - wide:
        # A window runs along with what reads it; the halo is kept of what the window reads.
        kept.append((wide, every - wide, none))
    if thin:
        halos, paddings = kept, list(dict.fromkeys((dear, every, none)))
        most = min(rows, TEMPLATES.most_runs // len(every))
        strips = [n for n in (rows, *TEMPLATES.thin_strips) if n <= most]
    else:
        halos = [(every, none, every), (every, none, none), *kept]
        paddings = [none, dear] if dear else [none]
        strips = [n for n in TEMPLATES.strips if n <= rows]
    for number in dict.fromkeys(strips):
        for power in TEMPLATES.powers[: 2 if thin else 1]:
            ends: dict[int, tuple[int, ...]] = dict.fromkeys(operators, ())
            ends[driver] = uneven_ends(rows, number, power)
            for recomputed, copied, untrimmed in halos:
                for padded in paddings:
                    cuts = normalised(network, Cuts(ends, recomputed, copied, untrimmed, padded))
                    yield cuts
                    if recomputed and not thin:
                        # From the last rows to the first: outputs that grow into what is above.
                        yield normalised(network, cuts.replace(upwards=frozenset({driver})))
