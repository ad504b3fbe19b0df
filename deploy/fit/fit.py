"""From a float Keras model and samples to the least harmful bottlenecks with which it fits.

    check → convert once → strips alone ─ fits → no bottleneck
                               └ search (what-if plans) → insert, convert, plan → fits

What-if plans are made of the int8 graph with codes in place of maps (`deploy.fit.what_if`); what
codes cost is measured on the float model (`keras_fmc.choose.cost`). The plan that is found is put
into the model, converted and planned before it is returned, so the arena that it promises is one
that was reached: training changes weights and scales, no size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy import flatbuffer
from deploy.effort import Guard, effort_named
from deploy.fit.estimate import GraphNeeds, Question, estimate
from deploy.fit.outcome import Fit, FitPoint, MapReason
from deploy.fit.search import Codes, FitSearch, options_of
from deploy.fit.sites import CodeSite, find_tensors
from deploy.fit.what_if import can_be_plain, with_codes
from deploy.macs import graph_macs
from deploy.passes.reference_versions import with_reference_versions
from deploy.progress import Progress
from deploy.settings import PlanSettings, takes_settings
from keras_fmc.choose.plan import BottleneckSpec, CompressionPlan, SkippedMap, SkipReason
from keras_fmc.errors import BadInputError, DoesNotFitError, UnsupportedModelError

if TYPE_CHECKING:
    import keras

    from deploy.graph import Graph
    from keras_fmc.choose.cost import CodeCosts
    from keras_fmc.maps.feature_maps import FeatureMaps

_PLANS = (36, 60, 200)
"""What-if plans of each effort."""
WIDTHS = (8, 4, 2, 1)
_MATCHED = 2
"""Samples that maps are recognised on."""
_ATTEMPTS = 3
"""Plans that are converted, should one come out larger than predicted."""


@takes_settings
def fit_to(
    model: keras.Model,
    *,
    calibration: Any,
    labels: Any = None,
    loss: Any = None,
    bits: Sequence[int] | None = None,
    jobs: int | None = None,
    **settings: object,
) -> Fit:
    """Returns the least harmful bottlenecks with which a model fits, none where it fits as it is.

    Keywords are those of PlanSettings: ``board`` or ``arena_bytes`` say what it is to fit,
    ``runtime="c"`` is generated C, ``max_macs`` bounds multiply-accumulates as a multiple of the
    model's own, ``effort`` the number of what-if plans, ``time_limit`` ends the search with the
    best so far.

    Args:
        model: a trained float Keras model.
        calibration: some hundred samples as in training.
        labels: of the samples; then the rise of the task's loss chooses, not the output's change.
        loss: of the labels, as ``compile`` takes it; by default the one the model is compiled with.
        bits: widths that codes may have, out of 8, 4, 2 and 1. By default 8, 4 and 2 for TFLM and 8
            for generated C. TFLM pays for packing in operators, generated C in a few instructions
            a value; in both, a code below eight bits is restored in front of a concatenation, which
            one of eight bits is not.
        jobs: processes; by default as many as there are cores, or what joblib is configured to use
            (``joblib.parallel_config``). The result does not depend on it.

    Raises:
        BadInputError: nothing to fit, samples or labels that are not the model's, a setting that
            cannot be used.
        UnsupportedModelError: layers that cannot come to the device; names them.
        DoesNotFitError: nothing that was found fits; says what came closest and why.
    """
    chosen = PlanSettings(**settings)  # type: ignore[arg-type]
    with Progress(enabled=chosen.progress) as progress, Guard(chosen.time_limit) as guard:
        return _Fitting(model, chosen, progress, guard, bits, jobs).run(calibration, labels, loss)


@dataclass(frozen=True, slots=True)
class _Limit:
    size_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class _Source:
    """The model as it comes, and what is known of it."""

    name: str
    calibration: Any
    maps: FeatureMaps
    barred: Mapping[str, SkipReason]
    negative: frozenset[str]
    costs: CodeCosts
    content: bytes
    graph: Graph
    whole: GraphNeeds
    warnings: tuple[str, ...]

    def loss(self, spec: BottleneckSpec) -> float:
        """What a code costs: the rise of the task's loss, or the change of the output."""
        cost = self.costs.cost(spec)
        return cost.change if cost.loss_rise is None else max(cost.loss_rise, 0.0)

    def plan(self, codes: Codes) -> CompressionPlan:
        """The codes as a plan for `insert_bottlenecks`."""
        chosen = {spec.name: spec for spec in codes.values()}
        sizes = {name: spec.code_bytes for name, spec in chosen.items()}
        return CompressionPlan(
            model=self.name,
            ceiling_bytes=max(sizes.values(), default=0),
            bottlenecks=tuple(chosen[i.name] for i in self.maps.maps if i.name in chosen),
            skipped=tuple(
                SkippedMap(
                    item.name,
                    item.shape,
                    item.size_bytes,
                    self.barred.get(item.name, SkipReason.FITS),
                )
                for item in self.maps.kept
                if item.name not in chosen
            ),
            head_bytes=self.maps.with_sizes(sizes).peak_bytes,
            uncompressed_head_bytes=self.maps.peak_bytes,
        )


class _Fitting:
    """One call of `fit_to`."""

    def __init__(
        self,
        model: keras.Model,
        settings: PlanSettings,
        progress: Progress,
        guard: Guard,
        bits: Sequence[int] | None,
        jobs: int | None,
    ) -> None:
        self.model, self.settings = model, settings
        self.progress, self.guard = progress, guard
        self.bits = _checked_bits(bits, settings)
        self.jobs = _job_count(jobs)
        self.limit = _limit_of(settings)
        self.most_plans = _PLANS[effort_named(settings.effort).grade]
        self.made = 0
        # Plans are compared by their arena, as conversion makes the smallest.
        self.planning = replace(settings, arena_bytes=None, time_limit=None, progress=False)

    def run(self, calibration: Any, labels: Any, loss: Any) -> Fit:
        source = self._source(calibration, labels, loss)
        if source.whole.arena_bytes <= self.limit.size_bytes:
            return self._fit(source, {}, {}, source.whole, source.whole, [])
        sites = self._sites(source)
        refused: set[tuple[str, int]] = set()

        def options(site: CodeSite) -> list[BottleneckSpec]:
            every = options_of(site, self.bits)
            return [spec for spec in every if (spec.kind.value, spec.bits or 8) not in refused]

        limit = self.limit.size_bytes
        seen: list[tuple[dict[int, BottleneckSpec], GraphNeeds]] = []
        received = ""
        for _ in range(_ATTEMPTS):
            self.made = 0
            search = FitSearch(
                sites=sites,
                options=options,
                evaluate=lambda states, earnest: self._estimates(source.graph, states, earnest),
                loss=source.loss,
                limit_bytes=limit,
                most_macs=self.settings.max_macs * graph_macs(source.graph),
                most_plans=self.most_plans,
                stop=self.guard,
            )
            codes, found = search.run()
            seen += search.seen
            if not search.fits(found):
                raise self._does_not_fit(source, sites, codes, found)
            self.progress.say("converting the plan")
            try:
                real = self._converted(source, source.plan(codes))
            except UnsupportedModelError:
                # The quantiser cannot place every code of few bits.
                short = {(s.kind.value, s.bits or 8) for s in codes.values() if s.bits != 8}
                if not short:
                    raise
                refused |= short
                received = "codes of few bits that quantize refuses"
                continue
            if real.arena_bytes <= self.limit.size_bytes:
                return self._fit(source, sites, codes, found, real, seen)
            limit -= real.arena_bytes - self.limit.size_bytes
            received = f"{real.arena_bytes:,} bytes converted, {found.arena_bytes:,} predicted"
        raise DoesNotFitError(
            f"the plans that were found for model {self.model.name!r} do not hold when converted",
            f"at most {self.limit.size_bytes:,} bytes",
            received,
            "Ask for a smaller arena, or use effort='thorough'",
        )

    def _source(self, calibration: Any, labels: Any, loss: Any) -> _Source:
        from deploy.convert import to_int8_tflite
        from keras_fmc.choose.ceiling import obstacles
        from keras_fmc.choose.cost import CodeCosts
        from keras_fmc.maps.feature_maps import profile_graph
        from keras_fmc.model.calibration import calibration_arrays
        from keras_fmc.model.nonnegative import negative_values
        from keras_fmc.qat.float_model import trace_float

        self.progress.say("checking the model")
        traced = trace_float(self.model, purpose="fitting")
        arrays = calibration_arrays(self.model, calibration)
        # A generator can be read only once.
        names = [traced.values[id_].name for id_ in traced.inputs]
        samples: Any = dict(zip(names, arrays, strict=True)) if len(names) > 1 else arrays[0]
        maps = profile_graph(traced)
        if labels is not None and loss is None:
            loss = getattr(self.model, "loss", None)
        costs = CodeCosts(traced, arrays, labels=labels, loss=loss)
        self.progress.say("converting the model")
        content = to_int8_tflite(self.model, calibration=samples)
        graph = with_reference_versions(flatbuffer.read(content))
        self.progress.say("planning it as it is")
        return _Source(
            name=self.model.name,
            calibration=samples,
            maps=maps,
            barred=obstacles(traced, maps),
            negative=frozenset(traced.values[id_].name for id_ in negative_values(traced)),
            costs=costs,
            content=content,
            graph=graph,
            whole=self._estimates(graph, [{}], True)[0],
            warnings=_warnings(labels),
        )

    def _estimates(
        self, graph: Graph, states: Sequence[Codes], in_earnest: bool
    ) -> list[GraphNeeds]:
        coded = [with_codes(graph, dict(state)) for state in states]
        questions = [
            Question(one.graph, self.planning, self.limit.size_bytes, in_earnest, os.getpid())
            for one in coded
        ]
        if self.jobs == 1 or len(questions) == 1:
            found = [estimate(question) for question in questions]
        else:
            import joblib

            run = joblib.Parallel(n_jobs=self.jobs)
            found = run(joblib.delayed(estimate)(question) for question in questions)
        self.made += len(questions)
        self.progress.say("what-if plans", self.made / self.most_plans)
        return [_by_owner(one, own.owners) for one, own in zip(found, coded, strict=True)]

    def _sites(self, source: _Source) -> dict[int, CodeSite]:
        """Tensor → map that may get a code."""
        names = [item.name for item in source.maps.kept if item.name not in source.barred]
        costs, graph = source.costs, source.graph
        tensors = find_tensors(source.content, graph, costs.inputs(_MATCHED), costs.value, names)
        sites = {}
        for name, tensor in tensors.items():
            shape = source.maps[name].shape
            plain = can_be_plain(graph, tensor)
            site = CodeSite(name, shape, tensor, name in source.negative, plain)
            if tensor not in sites and tensor not in graph.outputs and options_of(site, self.bits):
                sites[tensor] = site
        return sites

    def _converted(self, source: _Source, plan: CompressionPlan) -> GraphNeeds:
        from deploy.convert import to_int8_tflite
        from keras_fmc.rewrite import insert_bottlenecks

        rewritten = insert_bottlenecks(self.model, plan, calibration=source.calibration)
        content = to_int8_tflite(rewritten.model, calibration=source.calibration)
        return self._estimates(with_reference_versions(flatbuffer.read(content)), [{}], True)[0]

    def _fit(
        self,
        source: _Source,
        sites: Mapping[int, CodeSite],
        codes: Codes,
        found: GraphNeeds,
        real: GraphNeeds,
        seen: Sequence[tuple[dict[int, BottleneckSpec], GraphNeeds]],
    ) -> Fit:
        plan, whole = source.plan(codes), source.whole

        def point(estimate_: GraphNeeds, specs: Sequence[BottleneckSpec]) -> FitPoint:
            loss = sum(source.loss(spec) for spec in specs)
            texts = tuple(spec.to_text() for spec in specs)
            return FitPoint(estimate_.arena_bytes, loss, estimate_.macs, texts)

        chosen = point(real, plan.bottlenecks)
        points = [point(e, source.plan(state).bottlenecks) for state, e in seen]
        return Fit(
            plan=plan,
            runtime=self.settings.runtime or "tflm",
            board=self.settings.board,
            limit_bytes=self.limit.size_bytes,
            limit_source=self.limit.source,
            strips_arena_bytes=whole.arena_bytes,
            predicted_arena_bytes=found.arena_bytes,
            arena_bytes=real.arena_bytes,
            macs=real.macs,
            source_macs=graph_macs(source.graph),
            loss=chosen.loss,
            samples=source.costs.samples,
            evaluations=len(seen) + 1,
            frontier=_frontier([*points, point(whole, ())], chosen),
            reasons=self._reasons(source, sites, plan),
            warnings=source.warnings,
            interrupted=self.guard.reason,
        )

    def _reasons(
        self, source: _Source, sites: Mapping[int, CodeSite], plan: CompressionPlan
    ) -> tuple[MapReason, ...]:
        if not plan.bottlenecks:
            enough = "strips or rows are enough"
            return tuple(MapReason(item.name, item.size_bytes, enough) for item in source.maps.kept)
        held = dict(source.whole.held)
        tensors = {site.name: site.tensor for site in sites.values()}
        chosen = {spec.name: spec for spec in plan.bottlenecks}
        found = []
        for item in source.maps.kept:
            waits = held.get(tensors.get(item.name, -1), 0)
            spec = chosen.get(item.name)
            code, loss = None, None
            if spec is not None:
                code, loss = spec.to_text(), source.loss(spec)
                reason = "live where the plan with the other codes is too large"
                if waits:
                    reason = f"{waits:,} B of it are live where the model as it is is too large"
            elif item.name in source.barred:
                reason = source.barred[item.name].value
            elif item.name not in tensors:
                reason = "no tensor of the int8 model holds it, or no code is smaller"
            elif waits:
                reason = "the plan fits without a code for it"
            else:
                reason = "never live where the plan is too large"
            found.append(MapReason(item.name, item.size_bytes, reason, code, loss))
        return tuple(found)

    def _does_not_fit(
        self, source: _Source, sites: dict[int, CodeSite], codes: Codes, found: GraphNeeds
    ) -> DoesNotFitError:
        graph = source.graph
        loss = sum(source.loss(spec) for spec in codes.values())
        binding = [
            sites[index].name if index in sites else graph.tensors[index].name.split(";")[0]
            for index, _ in found.held[:4]
            if index < len(graph.tensors)
        ]
        change = ", ".join(spec.to_text() for spec in codes.values()) or "no code"
        ended = f" before {self.guard.reason}" if self.guard.reason else ""
        return DoesNotFitError(
            f"nothing was found{ended} with which model {self.model.name!r} fits "
            f"{self.limit.source}",
            f"at most {self.limit.size_bytes:,} bytes",
            f"{found.arena_bytes:,} bytes at {found.macs / max(graph_macs(graph), 1):.2f}x the "
            f"multiply-accumulates, with {len(codes)} codes ({change}) and a predicted loss of "
            f"{loss:.4f}; in the way: "
            f"{', '.join(binding) or 'operators and their scratch'}",
            "Raise the arena or max_macs, take another board, or lower the input size or the "
            "width of the model",
        )


def _limit_of(settings: PlanSettings) -> _Limit:
    goal = settings.target()
    if settings.arena_bytes is not None:
        return _Limit(settings.arena_bytes, "the arena asked for")
    inside = [goal.available_bytes(m) for m in goal.board.memories if not m.external]
    limit = goal.limit_bytes(1)
    if limit is None:
        raise BadInputError(
            f"board {settings.board!r} has no limit to fit",
            expected="an arena in bytes, or a board with memories",
            remedy='Pass arena_bytes="64KB" (--arena), or another board; fmc boards lists them',
        )
    return _Limit(max(inside, default=limit), goal.limit_source(1))


def _checked_bits(bits: Sequence[int] | None, settings: PlanSettings) -> tuple[int, ...]:
    if bits is None:
        return (8,) if settings.generates_c else (8, 4, 2)
    found = tuple(sorted(set(bits), reverse=True))
    if not found or not set(found) <= set(WIDTHS):
        raise BadInputError("widths of codes", "some of 8, 4, 2 and 1", repr(list(bits)))
    return found


def _job_count(jobs: int | None) -> int | None:
    """None leaves it to what joblib is configured to use."""
    if jobs is not None:
        if jobs < 1:
            raise BadInputError("number of processes", "at least 1", jobs)
        return jobs
    import joblib

    if joblib.effective_n_jobs(None) > 1:
        return None
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


def _by_owner(one: GraphNeeds, owners: dict[int, int]) -> GraphNeeds:
    held: dict[int, int] = {}
    for index, size in one.held:
        owner = owners.get(index, index)
        held[owner] = max(held.get(owner, 0), size)
    order = sorted(held.items(), key=lambda item: (-item[1], item[0]))
    return replace(one, held=tuple(order))


def _warnings(labels: Any) -> tuple[str, ...]:
    if labels is None:
        return ()
    parts = labels if isinstance(labels, (list, tuple)) else [labels]
    arrays = [np.asarray(part) for part in parts]
    same = [bool(len(a) > 1 and (a == a[:1]).all()) for a in arrays]
    if any(same):
        return (
            "all calibration samples have the same label: losses measured on them say little "
            "about the other classes",
        )
    return ()


def _frontier(points: Sequence[FitPoint], chosen: FitPoint) -> tuple[FitPoint, ...]:
    def beats(one: FitPoint, other: FitPoint) -> bool:
        ours = (one.arena_bytes, one.loss, one.macs)
        theirs = (other.arena_bytes, other.loss, other.macs)
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))

    everything = [*points, chosen]
    kept = {
        (p.arena_bytes, p.loss, p.macs): p
        for p in everything
        if p is chosen or not any(beats(other, p) for other in everything)
    }
    return tuple(kept[key] for key in sorted(kept))
