"""Ceiling compression: no stored map larger than T bytes, or a T such that a budget holds.

Every map above the ceiling T is stored as a code of k channels,

    k = ⌊ T / (H·W) ⌋

so that its H·W·k bytes fit under T (Price & Tanner, arXiv 2210.15170, §3).

The paper leaves some maps out of its count; by default nothing is left out but the model's own
inputs and outputs. In particular the output of the stem counts, and so does a branch on its way to
a residual addition.

A map that is read by pooling counts as well, as both it and the pooled map are stored. Its
bottleneck stands before the pooling: P after the activation, R before the pooling. That is a
correct network for any pooling; through average pooling R can move on, through max pooling it
cannot and stays a layer. `eligible="unpooled"` leaves out maps that only pooling reads, for a
deployment where the pooling runs in the same strips as the layer before it, so that they are never
stored.

Zero padding commutes with R, as R has no bias: a padded copy of a map gets no bottleneck of its
own, it is the padded code. It is larger than the code by the border, which `head_bytes` counts and
the ceiling does not.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import keras

from keras_fmc.errors import BadInputError, DoesNotFitError
from keras_fmc.feature_maps import Effect, FeatureMap, FeatureMaps, MapOperator, profile_graph
from keras_fmc.layer_graph import LayerGraph, producers, trace
from keras_fmc.layers.projection import check_code_bits
from keras_fmc.plan import BottleneckSpec, CompressionPlan, SkippedMap, SkipReason
from keras_fmc.sizes import parse_size

Eligible = Callable[[FeatureMap], bool]
Predict = Callable[[CompressionPlan], int]

_PADDING = ("ZeroPadding1D", "ZeroPadding2D")


def choose_bottlenecks(
    model: keras.Model,
    *,
    ceiling: int | float | str | None = None,
    budget: int | str | None = None,
    eligible: str | Eligible | None = None,
    bits: int | None = 8,
    predict: Predict | None = None,
) -> CompressionPlan:
    """Returns the bottlenecks that bring all stored maps under a ceiling.

    Args:
        model: a Sequential, functional or nested Keras model of fixed input shape.
        ceiling: T, as bytes (`8192`), as text (`"8KB"`), or as a fraction of the largest eligible
            map (`0.25`).
        budget: bytes for the planned part of the arena, instead of a ceiling: the largest T is
            taken whose `predict` stays within it, which compresses least.
        eligible: which maps may get a bottleneck:
            None: all that are stored, but for the model's inputs and outputs;
            "unpooled": the same, without those that only pooling layers read;
            "paper": those that Price & Tanner count, the inputs of convolutions. A map that only
            pooling reads does not count, so the stem of a ResNet goes unlimited, nor does one that
            only an addition reads;
            a function of a `FeatureMap`.
        bits: 8, or None for float codes, which count as 8 bits.
        predict: for a budget, bytes that a plan needs; it must not shrink as the ceiling grows.
            By default `CompressionPlan.head_bytes`.

    Raises:
        BadInputError: no ceiling and no budget or both, a ceiling so low that some k is below 1
            (the text names the lowest that works), or no map is eligible.
        DoesNotFitError: not even k = 1 at the largest map meets the budget.
    """
    check_code_bits(bits)
    chooser = _Chooser(trace(model), eligible, bits)
    if ceiling is not None and budget is None:
        return chooser.plan(_ceiling_bytes(ceiling, chooser.largest_bytes))
    if budget is not None and ceiling is None:
        return _largest_within(chooser, parse_size(budget), predict or _head_bytes)
    raise BadInputError(
        "choose_bottlenecks needs a ceiling or a budget", 'ceiling="8KB" or budget="64KB"'
    )


def _ceiling_bytes(ceiling: int | float | str, largest_bytes: int) -> int:
    if isinstance(ceiling, float):
        if not 0 < ceiling <= 1:
            raise BadInputError(
                "ceiling as a fraction of the largest map", "0 < ceiling <= 1", ceiling
            )
        return math.floor(ceiling * largest_bytes * (1 + 1e-12))
    return parse_size(ceiling)


def _head_bytes(plan: CompressionPlan) -> int:
    return plan.head_bytes


def _largest_within(chooser: _Chooser, budget_bytes: int, predict: Predict) -> CompressionPlan:
    """Bisects over the ceilings at which some k changes; `predict` grows with the ceiling."""
    ceilings = chooser.ceilings()
    plans: dict[int, CompressionPlan] = {}

    def needs(ceiling_bytes: int) -> int:
        plans[ceiling_bytes] = chooser.plan(ceiling_bytes)
        return predict(plans[ceiling_bytes])

    place = bisect.bisect_right(ceilings, budget_bytes, key=needs)
    if place == 0:
        raise DoesNotFitError(
            f"no ceiling brings model {chooser.graph.name!r} within the budget",
            f"at most {budget_bytes:,} B",
            f"{needs(ceilings[0]):,} B at the lowest ceiling, {ceilings[0]:,} B",
            "Raise the budget, or lower the input size or the width of the model",
        )
    return plans.get(ceilings[place - 1]) or chooser.plan(ceilings[place - 1])


class _Chooser:
    """Sorts the maps of a model into candidates and skipped ones, and makes plans."""

    def __init__(
        self, graph: LayerGraph, eligible: str | Eligible | None, bits: int | None
    ) -> None:
        self.graph = graph
        self._bits = bits
        self._maps = profile_graph(graph)
        accept = _policy(eligible, self._maps)
        self._fixed: dict[str, SkipReason] = {}
        self._candidates: list[FeatureMap] = []
        obstacles = _obstacles(graph, self._maps)
        for item in self._maps.kept:
            reason = obstacles.get(item.name)
            if reason is None and not accept(item):
                reason = SkipReason.NOT_ELIGIBLE
            if reason is not None:
                self._fixed[item.name] = reason
            else:
                self._candidates.append(item)
        if not self._candidates:
            raise BadInputError(
                f"no feature map of model {graph.name!r} can get a bottleneck",
                remedy="Relax eligible=, or check the model",
            )

    @property
    def largest_bytes(self) -> int:
        return max(item.size_bytes for item in self._candidates)

    @property
    def lowest_ceiling(self) -> int:
        """The lowest ceiling at which every k is at least 1."""
        return max(_positions(item) for item in self._candidates)

    def ceilings(self) -> list[int]:
        """All ceilings that make different plans, ascending; the last one needs no bottleneck."""
        return sorted(
            {
                _positions(item) * rank
                for item in self._candidates
                for rank in range(1, item.shape[-1] + 1)
                if _positions(item) * rank >= self.lowest_ceiling
            }
        )

    def plan(self, ceiling_bytes: int) -> CompressionPlan:
        if ceiling_bytes < self.lowest_ceiling:
            worst = max(self._candidates, key=_positions)
            shape = "x".join(map(str, worst.shape))
            raise BadInputError(
                f"a ceiling of {ceiling_bytes:,} B leaves no channel of map "
                f"{worst.name!r} ({shape})",
                f"at least {self.lowest_ceiling:,} B, one channel",
                remedy="Raise the ceiling, or leave such maps out with eligible=",
            )
        reasons = dict(self._fixed)
        specs = []
        for item in self._candidates:
            if item.size_bytes <= ceiling_bytes:
                reasons[item.name] = SkipReason.BELOW_CEILING
                continue
            rank = ceiling_bytes // _positions(item)
            specs.append(BottleneckSpec(item.name, item.shape, rank, self._bits))
        skipped = tuple(
            SkippedMap(item.name, item.shape, item.size_bytes, reasons[item.name])
            for item in self._maps.kept
            if item.name in reasons
        )
        return CompressionPlan(
            model=self.graph.name,
            ceiling_bytes=ceiling_bytes,
            bottlenecks=tuple(specs),
            skipped=skipped,
            head_bytes=self._maps.with_sizes(self._code_sizes(specs)).peak_bytes,
            uncompressed_head_bytes=self._maps.peak_bytes,
        )

    def _code_sizes(self, specs: Sequence[BottleneckSpec]) -> dict[str, int]:
        sizes = {}
        for spec in specs:
            item = self._maps[spec.name]
            for stored in (item, *_padded_copies(self._maps, item)):
                sizes[stored.name] = _positions(stored) * spec.rank
        return sizes


def _positions(item: FeatureMap) -> int:
    return math.prod(item.shape[:-1])


def _obstacles(graph: LayerGraph, maps: FeatureMaps) -> dict[str, SkipReason]:
    """Maps that can never get a bottleneck, with the reason."""
    values = {value.name: (id_, value) for id_, value in enumerate(graph.values)}
    makers = producers(graph)
    reasons = {}
    for item in maps.kept:
        if item.name not in values:
            reasons[item.name] = SkipReason.INSIDE_LAYER
            continue
        id_, value = values[item.name]
        operation = graph.nodes[makers[id_]].operation if id_ in makers else None
        if operation is None:
            reasons[item.name] = SkipReason.MODEL_INPUT
        elif id_ in graph.outputs or _is_viewed_output(item, maps):
            reasons[item.name] = SkipReason.MODEL_OUTPUT
        elif "float" not in value.dtype:
            reasons[item.name] = SkipReason.NOT_FLOAT
        elif getattr(operation, "data_format", None) == "channels_first":
            reasons[item.name] = SkipReason.CHANNELS_FIRST
        elif maps.operator(item.producer or "").kind in _PADDING:
            reasons[item.name] = SkipReason.PADDED_COPY
    return reasons


def _readers(
    item: FeatureMap, maps: FeatureMaps, *, through: tuple[str, ...] = ()
) -> list[MapOperator]:
    """The operators that read a map, seen through views and through operators of some kinds."""
    readers = []
    for name in item.consumers:
        operator = maps.operator(name)
        if operator.effect is Effect.VIEW or operator.kind in through:
            for output in operator.outputs:
                readers += _readers(maps[output], maps, through=through)
        else:
            readers.append(operator)
    return readers


def _is_viewed_output(item: FeatureMap, maps: FeatureMaps) -> bool:
    """Whether all that becomes of a map is a model output of another shape."""
    return not _readers(item, maps)


def _padded_copies(maps: FeatureMaps, item: FeatureMap) -> list[FeatureMap]:
    return [
        maps[output]
        for name in item.consumers
        if maps.operator(name).kind in _PADDING
        for output in maps.operator(name).outputs
    ]


def _policy(eligible: str | Eligible | None, maps: FeatureMaps) -> Eligible:
    if eligible is None:
        return lambda item: True
    if eligible == "unpooled":
        return lambda item: (
            not all("Pool" in reader.kind for reader in _readers(item, maps, through=_PADDING))
        )
    if eligible == "paper":
        return lambda item: any(
            "Conv" in reader.kind for reader in _readers(item, maps, through=_PADDING)
        )
    if callable(eligible):
        return eligible
    raise BadInputError(
        "eligible maps", '"paper", "unpooled" or a function of a FeatureMap', repr(eligible)
    )
