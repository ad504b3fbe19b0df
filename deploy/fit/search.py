"""Which maps get which codes: the least predicted loss with which the plan fits.

    forward     what is live where the best plan so far is too large gets its strongest code, the
                maps alone or together that lower the arena most, until it fits
    backward    the costliest code is weakened or dropped as long as it fits, by bisection

Options of a map are ordered by loss; an option that does not fit is not tried again with the other
codes weaker, as the arena grows with them. Every round asks for a fixed number of plans, so the
result does not depend on how many processes make them. Work is counted in plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.fit.estimate import GraphNeeds
from deploy.fit.sites import CodeSite
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec

Codes = Mapping[int, BottleneckSpec]
Evaluate = Callable[[Sequence[Codes], bool], list[GraphNeeds]]
Loss = Callable[[BottleneckSpec], float]

_SHARES = (3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8, 1 / 16)
_TOGETHER = 4
"""Maps that are tried alone and together in a round forward."""
_AT_ONCE = 2
"""Maps that are tried in a round backward."""
_SMALL_SHARE = 0.02
"""Maps that hold less of what is too much are not tried."""


def options_of(site: CodeSite, bits: Sequence[int]) -> tuple[BottleneckSpec, ...]:
    """Returns the codes that a map may get, each smaller than the map.

    Of those of one width that take as many bytes it is the one of most channels.
    """
    channels = site.shape[-1]
    found: list[BottleneckSpec] = []
    for width in bits:
        if width < 8 and len(site.shape) != 3:
            continue
        ranks = {max(1, round(channels * share)) for share in _SHARES} | {1}
        ranks |= {channels} if width < 8 else set()
        specs = [
            BottleneckSpec(site.name, site.shape, rank, width)
            for rank in sorted(ranks)
            if rank < channels or width < 8
        ]
        found += {spec.code_bytes: spec for spec in specs}.values()
        if width < 8 and site.plain and not site.signed:
            plain = BottleneckKind.PLAIN
            found.append(BottleneckSpec(site.name, site.shape, channels, width, plain))
    return tuple(spec for spec in found if spec.code_bytes < site.size_bytes)


@dataclass(slots=True)
class FitSearch:
    """The search for one model.

    Attributes:
        sites: tensor → map that may get a code.
        options: tensor → its codes.
        evaluate: plans graphs with codes, `in_earnest` or by a probe.
        loss: predicted of one code.
        limit_bytes: the arena that is asked for.
        most_macs: multiply-accumulates that are not to be exceeded.
        most_plans: work.
        stop: asked between rounds.
    """

    sites: Mapping[int, CodeSite]
    options: Callable[[CodeSite], Sequence[BottleneckSpec]]
    evaluate: Evaluate
    loss: Loss
    limit_bytes: int
    most_macs: float
    most_plans: int
    stop: Callable[[], bool]
    seen: list[tuple[dict[int, BottleneckSpec], GraphNeeds]] = field(default_factory=list)
    plans: int = 0
    _ranked: dict[int, tuple[BottleneckSpec, ...]] = field(default_factory=dict)

    def loss_of(self, codes: Codes) -> float:
        """The sum over codes."""
        return sum(self.loss(spec) for spec in codes.values())

    def fits(self, estimate: GraphNeeds) -> bool:
        return estimate.arena_bytes <= self.limit_bytes and estimate.macs <= self.most_macs

    def run(self) -> tuple[dict[int, BottleneckSpec], GraphNeeds]:
        """Returns the codes of least loss found that fit, or else those of the smallest arena."""
        codes, found = self._forward()
        if not self.fits(found):
            return codes, found
        codes, found = self._backward(codes, found)
        # What a probe finds is an upper bound; what is promised is the plan that `fmc plan` makes.
        (earnest,) = self._ask([codes], True)
        return codes, earnest if self.fits(earnest) else found

    def _ask(self, states: Sequence[Codes], in_earnest: bool = False) -> list[GraphNeeds]:
        found = self.evaluate(states, in_earnest)
        self.plans += len(states)
        self.seen += [(dict(s), e) for s, e in zip(states, found, strict=True)]
        return found

    def _forward(self) -> tuple[dict[int, BottleneckSpec], GraphNeeds]:
        codes: dict[int, BottleneckSpec] = {}
        (found,) = self._ask([codes])
        tried: set[int] = set()
        while not self.fits(found) and not self.stop():
            least = _SMALL_SHARE * max(found.arena_bytes - self.limit_bytes, 1)
            new = [
                index
                for index, size in found.held
                if index in self.sites and index not in codes and size > least
            ]
            new = [index for index in new if index not in tried][:_TOGETHER]
            if not new or self.plans >= self.most_plans:
                break
            strongest = {index: self._strongest(index) for index in new}
            states = [{**codes, index: spec} for index, spec in strongest.items()]
            if len(new) > 1:
                states.append({**codes, **strongest})
            estimates = self._ask(states)
            order = sorted(range(len(states)), key=lambda i: (self._excess(estimates[i]), i))
            if self._excess(estimates[order[0]]) < self._excess(found):
                codes, found = dict(states[order[0]]), estimates[order[0]]
                tried -= set(codes)
            else:
                tried.update(new)
        if not self.fits(found) and not self.stop():
            # A probe may miss what a search in earnest finds.
            (earnest,) = self._ask([codes], True)
            found = min(found, earnest, key=self._excess)
        return codes, found

    def _excess(self, estimate: GraphNeeds) -> tuple[float, float, int]:
        over = max(0, estimate.arena_bytes - self.limit_bytes)
        slow = max(0.0, estimate.macs / max(self.most_macs, 1) - 1)
        return over * (1 + slow), slow, estimate.arena_bytes

    def _backward(
        self, codes: dict[int, BottleneckSpec], found: GraphNeeds
    ) -> tuple[dict[int, BottleneckSpec], GraphNeeds]:
        barred = dict.fromkeys(codes, -1)
        """Tensor → the last option, by loss, that is known not to fit; -1 for none."""
        while self.plans < self.most_plans and not self.stop():
            moves = []
            for index, spec in codes.items():
                ladder = self._ladder(index)
                here = next(i for i, option in enumerate(ladder) if option == spec)
                # Bisection between what is barred and what there is.
                middle = (barred[index] + here) // 2
                if middle <= barred[index] or middle == here:
                    continue
                gain = self._cost(spec) - self._cost(ladder[middle])
                moves.append((-gain, index, middle))
            if not moves:
                break
            chosen = sorted(moves)[:_AT_ONCE]
            states = [_with(codes, index, self._ladder(index)[place]) for _, index, place in chosen]
            estimates = self._ask(states)
            fitting = [i for i, e in enumerate(estimates) if self.fits(e)]
            if fitting:
                best = min(fitting, key=lambda i: (self.loss_of(states[i]), i))
                codes, found = states[best], estimates[best]
                barred = {index: low for index, low in barred.items() if index in codes}
            for (_, index, place), estimate in zip(chosen, estimates, strict=True):
                if not self.fits(estimate) and index in barred:
                    barred[index] = max(barred[index], place)
        return codes, found

    def _cost(self, spec: BottleneckSpec | None) -> float:
        return 0.0 if spec is None else self.loss(spec)

    def _ladder(self, index: int) -> tuple[BottleneckSpec | None, ...]:
        """No code, then codes by rising loss; of those with as many bytes the best."""
        if index not in self._ranked:
            best: dict[int, BottleneckSpec] = {}
            for spec in self.options(self.sites[index]):
                other = best.get(spec.code_bytes)
                if other is None or self.loss(spec) < self.loss(other):
                    best[spec.code_bytes] = spec
            # A larger code that loses more is of no use.
            kept: list[BottleneckSpec] = []
            for size in sorted(best):
                if not kept or self.loss(best[size]) < self.loss(kept[-1]):
                    kept.append(best[size])
            self._ranked[index] = tuple(reversed(kept))
        return (None, *self._ranked[index])

    def _strongest(self, index: int) -> BottleneckSpec:
        spec = self._ladder(index)[-1]
        assert spec is not None
        return spec


def _with(codes: Codes, index: int, spec: BottleneckSpec | None) -> dict[int, BottleneckSpec]:
    changed = dict(codes)
    if spec is None:
        del changed[index]
    else:
        changed[index] = spec
    return changed
