"""Ceiling compression: no stored map larger than T bytes.

Every map above the ceiling T is stored as a code of k channels,

    k = ⌊ T / (H·W) ⌋

so that its H·W·k bytes fit under T (Price & Tanner, arXiv 2210.15170, §3); codes of fewer bits,
of stride 2 and of other kinds fill the same bytes in their way (`keras_fmc.choose.code_choice`).

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
the ceiling does not. Where padding does not commute (GF(2), stride 2), the padded copy exists as
strips only.

A plain code survives pooling by the maximum and concatenation, so the pooled map of a coded one
gets no code of its own, and neither does a branch that only a coded concatenation reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras

from keras_fmc.choose.code_choice import CodeChoice
from keras_fmc.choose.plan import (
    BottleneckKind,
    BottleneckSpec,
    CompressionPlan,
    SkippedMap,
    SkipReason,
)
from keras_fmc.errors import BadInputError
from keras_fmc.maps.feature_maps import Effect, FeatureMap, FeatureMaps, MapOperator, profile_graph
from keras_fmc.model.layer_graph import LayerGraph, producers
from keras_fmc.model.nonnegative import negative_values
from keras_fmc.qat.float_model import trace_float
from keras_fmc.sizes import parse_size

Eligible = Callable[[FeatureMap], bool]

_PADDING = ("ZeroPadding1D", "ZeroPadding2D")


def choose_bottlenecks(
    model: keras.Model,
    *,
    ceiling: int | float | str | None = None,
    budget: int | str | None = None,
    eligible: str | Eligible | None = None,
    kind: BottleneckKind | str = BottleneckKind.PROJECTION,
    bits: int | None = 8,
    strides: int = 1,
    kernel_size: int | None = None,
    hidden: Sequence[int] = (),
) -> CompressionPlan:
    """Returns the bottlenecks that bring all stored maps under a ceiling.

    Codes of GF(2) and plain codes are signed where a map can be negative, and unsigned behind a
    ReLU; the plan says which.

    Args:
        model: a Sequential, functional or nested Keras model of fixed input shape.
        ceiling: T, as bytes (`8192`), as text (`"8KB"`), or as a fraction of the largest eligible
            map (`0.25`).
        budget: refused: what a whole arena may use is a question of strips, too, which
            `keras_fmc.fit_to` answers.
        eligible: which maps may get a bottleneck:
            None: all that are stored, but for the model's inputs and outputs;
            "unpooled": the same, without those that only pooling layers read;
            "paper": those that Price & Tanner count, the inputs of convolutions. A map that only
            pooling reads does not count, so the stem of a ResNet goes unlimited, nor does one that
            only an addition reads;
            a function of a `FeatureMap`.
        kind: of all bottlenecks:
            "projection": k of the channels, `ProjectionBottleneck`;
            "gf2": k bits learned from the bit planes, `GF2Bottleneck`;
            "plain": all channels in fewer bits, `CodeQuantizer`.
        bits: of a code. Projection: 8, 6, 4, 2, 1, or None for float codes, which count as 8 bits.
            GF2: B = 8, 6, 4 or 2 of the codes that are split into planes. Plain: 6, 4, 2 or 1.
        strides: 2 stores one position for 2×2 of the map; not plain.
        kernel_size: 1 with strides 1; 2 (also None) or 3 with strides 2.
        hidden: of GF2, channels of further binary layers.

    Raises:
        BadInputError: no ceiling, or one so low that some k is below 1 (the text names the lowest
            that works), a budget, bits or a window that the kind does not have, no map is eligible,
            or the model comes from `keras_fmc.quantize`.
    """
    code = CodeChoice.checked(kind, bits, strides, kernel_size, hidden)
    chooser = _Chooser(trace_float(model, purpose="choice of bottlenecks"), eligible, code)
    if budget is not None:
        raise BadInputError(
            "choose_bottlenecks knows no budget: one ceiling for all maps does not tell what an "
            "arena needs",
            'a ceiling, such as ceiling="8KB"',
            f"budget {budget!r}",
            f"Call fmc.fit_to(model, calibration=x, arena_bytes={budget!r}), or fmc fit",
        )
    if ceiling is None:
        raise BadInputError("choose_bottlenecks needs a ceiling", 'ceiling="8KB"')
    return chooser.plan(_ceiling_bytes(ceiling, chooser.largest_bytes))


def _ceiling_bytes(ceiling: int | float | str, largest_bytes: int) -> int:
    if isinstance(ceiling, float):
        if not 0 < ceiling <= 1:
            raise BadInputError(
                "ceiling as a fraction of the largest map", "0 < ceiling <= 1", ceiling
            )
        return math.floor(ceiling * largest_bytes * (1 + 1e-12))
    return parse_size(ceiling)


class _Chooser:
    """Sorts the maps of a model into candidates and skipped ones, and makes plans."""

    def __init__(
        self, graph: LayerGraph, eligible: str | Eligible | None, code: CodeChoice
    ) -> None:
        self.graph = graph
        self._code = code
        self._maps = profile_graph(graph)
        negative = negative_values(graph)
        self._signed = {graph.values[id_].name for id_ in negative}
        accept = _policy(eligible, self._maps)
        self._fixed: dict[str, SkipReason] = {}
        self._candidates: list[FeatureMap] = []
        found = obstacles(graph, self._maps)
        for item in self._maps.kept:
            reason = found.get(item.name)
            if reason is None and not accept(item):
                reason = SkipReason.NOT_ELIGIBLE
            if reason is None:
                reason = self._unfit(item)
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
        """The lowest ceiling at which every map has a code."""
        return max(self._code.least_bytes(item) for item in self._candidates)

    def plan(self, ceiling_bytes: int) -> CompressionPlan:
        if ceiling_bytes < self.lowest_ceiling:
            worst = max(self._candidates, key=self._code.least_bytes)
            raise self._code.refusal(worst, ceiling_bytes, self.lowest_ceiling)
        reasons = dict(self._fixed)
        large = [item for item in self._candidates if item.size_bytes > ceiling_bytes]
        reasons |= {
            item.name: SkipReason.BELOW_CEILING for item in self._candidates if item not in large
        }
        covered = self._covered(large)
        reasons |= covered
        specs = [
            self._code.spec(item, ceiling_bytes, signed=item.name in self._signed)
            for item in large
            if item.name not in covered
        ]
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
            head_bytes=self._maps.with_sizes(self._code_sizes(specs, covered)).peak_bytes,
            uncompressed_head_bytes=self._maps.peak_bytes,
        )

    def _unfit(self, item: FeatureMap) -> SkipReason | None:
        """Why a map cannot have bottlenecks of this kind."""
        if self._code.needs_map and len(item.shape) != 3:
            return SkipReason.NOT_A_MAP
        one_bit = self._code.kind is BottleneckKind.PLAIN and self._code.bits == 1
        return SkipReason.SIGNED if one_bit and item.name in self._signed else None

    def _covered(self, large: Sequence[FeatureMap]) -> dict[str, SkipReason]:
        """Maps that hold the codes of a neighbour: see the head of this file."""
        if self._code.kind is BottleneckKind.PROJECTION:
            return {}
        names = {item.name for item in large}
        covered = {}
        for item in large:
            readers = _readers(item, self._maps)
            joins = [reader for reader in readers if reader.kind == "Concatenate"]
            joined = {output for reader in joins for output in reader.outputs}
            if joins and len(joins) == len(readers) and joined <= names:
                covered[item.name] = SkipReason.JOINED
            maker = self._maps.operator(item.producer or "")
            is_plain = self._code.kind is BottleneckKind.PLAIN
            if is_plain and maker.kind == "MaxPooling2D" and {*maker.inputs} <= names:
                covered[item.name] = SkipReason.POOLED
        return covered

    def _code_sizes(
        self, specs: Sequence[BottleneckSpec], covered: dict[str, SkipReason]
    ) -> dict[str, int]:
        sizes = {}
        for spec in specs:
            item = self._maps[spec.name]
            sizes[item.name] = spec.code_bytes
            commutes = spec.kind is not BottleneckKind.GF2 and spec.strides == 1
            for copy in _padded_copies(self._maps, item):
                each = spec.code_bytes // math.prod(item.shape[:-1])
                sizes[copy.name] = math.prod(copy.shape[:-1]) * each if commutes else 0
        for name in covered:
            shape = self._maps[name].shape
            each = -(-shape[-1] * (self._code.bits or 8) // 8)
            sizes[name] = math.prod(shape[:-1]) * each
        return sizes


def obstacles(graph: LayerGraph, maps: FeatureMaps) -> dict[str, SkipReason]:
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
