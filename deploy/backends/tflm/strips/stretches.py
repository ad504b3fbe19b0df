"""Which segments of a graph are worth cutting, and in which order they are tried."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.tflm.strips.estimate import Estimator
from deploy.backends.tflm.strips.tuning import TUNING

Stretch = tuple[int, int]
"""Operators [start, stop)."""


def stretches(
    loads: Sequence[int],
    crossing: Sequence[int],
    largest: int,
    *,
    tried: Sequence[Stretch],
    closed: Sequence[bool],
) -> list[Stretch]:
    """Returns the segments around the operators that hold more than a smaller head would allow.

    They cover all these operators about equally. Of those that cover the operator that was covered
    least, the one to which and from which the fewest bytes are handed over comes first: no strips
    spare these.

    Args:
        loads: bytes that are live at each operator.
        crossing: bytes of the maps that live across each place in the order.
        largest: the head that is to become smaller.
        tried: segments that were tried before.
        closed: places between which no segment may begin or end.
    """
    busy = [place for place, load in enumerate(loads) if load > largest * TUNING.loaded]
    low, high = busy[0], busy[-1] + 1
    # It does not end where maps cross that are larger than what cutting is to reach.
    cut_points = [k for k in range(low, high + 1) if crossing[k] <= largest * TUNING.crossing]
    cut_points = sorted(k for k in {low, *cut_points, high} if not closed[k])
    pairs = [(a, b) for i, a in enumerate(cut_points) for b in cut_points[i + 1 :]]
    pairs = [(a, b) for a, b in pairs if max(loads[a:b]) > largest * TUNING.loaded]
    left = sorted(pairs, key=lambda pair: (sum(crossing[k] for k in pair), pair[1] - pair[0], pair))
    covered = dict.fromkeys(busy, 0)
    for pair in tried:
        _cover(covered, pair)
    order = list[Stretch]()
    while left:
        rare = min(covered, key=lambda place: (covered[place], place))
        pair = next((pair for pair in left if pair[0] <= rare < pair[1]), (-1, -1))
        if pair not in left:
            del covered[rare]
            covered = covered or {left[0][0]: 0}
            continue
        left.remove(pair)
        order.append(pair)
        _cover(covered, pair)
    return order


def _cover(covered: dict[int, int], pair: Stretch) -> None:
    for place in range(*pair):
        if place in covered:
            covered[place] += 1


def crossed_by_strips(estimator: Estimator) -> list[bool]:
    """For each place in the order, whether a map that may exist in strips only lives across."""
    network, operators = estimator.network(), estimator.graph.operators
    crossed = [False] * (len(operators) + 1)
    for tensor in estimator.in_strips():
        born = network.producer.get(tensor, -1) + 1
        for place in range(born, max(network.readers.get(tensor, ()), default=born - 1) + 1):
            crossed[place] = True
    return crossed
