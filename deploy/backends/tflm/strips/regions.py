"""What a way of cutting means for the report: regions, strips, halos."""

from __future__ import annotations

from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import Program, Run
from deploy.operators.rows import Scattering
from deploy.outcome import Region


def regions_of(network: Network, cuts: Cuts, program: Program) -> tuple[Region, ...]:
    """Returns the operators that run strip by strip, those that feed each other together."""
    heights: dict[int, list[int]] = {}
    macs: dict[int, int] = {}
    for step in program.steps:
        if isinstance(step, Run) and step.tile is not None:
            tile = step.tile
            heights.setdefault(step.operator, []).append(tile.out[1] - tile.out[0])
            rule = network.row_operators[step.operator].rule
            share = (
                (tile.window[1] - tile.window[0], rule.in_rows)
                if isinstance(rule, Scattering)
                else (tile.out[1] - tile.out[0], rule.out_rows)
            )
            added = network.macs[step.operator] * share[0] // share[1]
            macs[step.operator] = macs.get(step.operator, 0) + added
    cut = [o for o in network.order if len(heights.get(o, ())) > 1]
    return tuple(
        _region(network, cuts, members, heights, macs) for members in _connected(network, cut)
    )


def _connected(network: Network, operators: list[int]) -> list[list[int]]:
    """Groups operators of which one reads what the other writes; groups by their first."""
    place = {o: i for i, o in enumerate(operators)}
    group = {o: o for o in operators}

    def root(operator: int) -> int:
        while group[operator] != operator:
            operator = group[operator]
        return operator

    for operator in operators:
        for tensor in network.graph.operators[operator].present_inputs:
            producer = network.producer.get(tensor, -1)
            if producer in place:
                a, b = root(producer), root(operator)
                if a != b:
                    group[max(a, b, key=lambda o: place[o])] = min(a, b, key=lambda o: place[o])
    found: dict[int, list[int]] = {}
    for operator in operators:
        found.setdefault(root(operator), []).append(operator)
    return list(found.values())


def _region(
    network: Network,
    cuts: Cuts,
    members: list[int],
    heights: dict[int, list[int]],
    macs: dict[int, int],
) -> Region:
    inner = members[:-1]
    again = [o for o in inner if o in cuts.recomputed]
    halo = "recomputed" if inner and len(again) == len(inner) else "kept"
    if again and halo == "kept":
        halo = "kept and recomputed"
    whole = sum(network.macs[o] for o in members)
    return Region(
        operators=tuple(network.graph.label(o) for o in members),
        strips=len(heights[members[-1]]),
        rows=max(heights[members[-1]]),
        halo=halo,
        macs_ratio=sum(macs[o] for o in members) / whole if whole else 1.0,
    )
