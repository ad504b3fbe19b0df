"""The search of a fit alone: the arena is what is stored at the fullest of three places."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Sequence

import pytest

from deploy.fit.estimate import GraphNeeds
from deploy.fit.search import Codes, FitSearch, options_of
from deploy.fit.sites import CodeSite
from keras_fmc.choose.plan import BottleneckSpec

PLACES = ((0, 1), (1, 2), (0, 2, 3))
"""Maps that are live at once."""


class Network:
    """Four maps, each with what a code of a rank costs."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.sites = {
            index: CodeSite(f"map{index}", (8, 8, channels), index, signed=True, plain=False)
            for index, channels in enumerate(draw.choice((8, 16, 24)) for _ in range(4))
        }
        self.harm = {site.name: draw.uniform(0.1, 3.0) for site in self.sites.values()}
        self.asked = 0

    def loss(self, spec: BottleneckSpec) -> float:
        return self.harm[spec.name] * (1 - spec.rank / spec.shape[-1]) ** 2

    def stored(self, codes: Codes, index: int) -> int:
        spec = codes.get(index)
        return self.sites[index].size_bytes if spec is None else spec.code_bytes

    def sum_of(self, codes: Codes, place: tuple[int, ...]) -> int:
        return sum(self.stored(codes, index) for index in place)

    def estimate(self, codes: Codes) -> GraphNeeds:
        largest = max(self.sum_of(codes, place) for place in PLACES)
        full = {i for place in PLACES for i in place if self.sum_of(codes, place) == largest}
        held = sorted(((i, self.stored(codes, i)) for i in full), key=lambda h: (-h[1], h[0]))
        return GraphNeeds(largest, 1000, tuple(held))

    def evaluate(self, states: Sequence[Codes], in_earnest: bool) -> list[GraphNeeds]:
        self.asked += len(states)
        return [self.estimate(codes) for codes in states]

    def search(self, limit: int, most_plans: int) -> tuple[dict[int, BottleneckSpec], GraphNeeds]:
        return FitSearch(
            sites=self.sites,
            options=lambda site: options_of(site, (8,)),
            evaluate=self.evaluate,
            loss=self.loss,
            limit_bytes=limit,
            most_macs=1e9,
            most_plans=most_plans,
            stop=lambda: False,
        ).run()

    def least_loss(self, limit: int) -> float:
        """By trying everything."""
        choices = [(None, *options_of(site, (8,))) for site in self.sites.values()]
        losses = []
        for chosen in itertools.product(*choices):
            codes = {index: spec for index, spec in enumerate(chosen) if spec is not None}
            if self.estimate(codes).arena_bytes <= limit:
                losses.append(sum(self.loss(spec) for spec in codes.values()))
        return min(losses)


@pytest.mark.long
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_what_is_found_fits_and_loses_little_more_than_the_least(share: float) -> None:
    lost = least = 0.0
    for seed in range(20):
        network = Network(seed)
        limit = int(network.estimate({}).arena_bytes * share)
        codes, found = network.search(limit, 36)
        assert found == network.estimate(codes)
        assert found.arena_bytes <= limit
        assert network.asked <= 40
        lost += sum(network.loss(spec) for spec in codes.values())
        least += network.least_loss(limit)
    assert least <= lost <= 1.25 * least


def test_more_plans_never_lose_more() -> None:
    for seed in range(20):
        losses = []
        for most_plans in (12, 18, 36):
            network = Network(seed)
            limit = int(network.estimate({}).arena_bytes * 0.6)
            codes, found = network.search(limit, most_plans)
            if found.arena_bytes <= limit:
                losses.append(sum(network.loss(spec) for spec in codes.values()))
        assert losses
        assert losses == sorted(losses, reverse=True)


def test_nothing_is_compressed_where_the_model_fits() -> None:
    network = Network(0)
    whole = network.estimate({}).arena_bytes
    codes, found = network.search(whole, 36)
    assert codes == {}
    assert found.arena_bytes == whole


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
