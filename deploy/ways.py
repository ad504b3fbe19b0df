"""The ways to plan a model, and what is left out of the plan where one of them is wrong.

Each way is prepared, checked, proved and run; the first that holds is the plan. A way that does not
hold is a defect of ours in something that the plan can do without, so the next way does without
it, and the report says so. Only where the last way is wrong, too, is there no plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.given import given_plan
from deploy.backends.tflm.prepare import has_codes, prepare, rank, with_views_as_set
from deploy.backends.tflm.several import predict_two
from deploy.effort import Guard
from deploy.graph import Graph
from deploy.outcome import DEFECT, Decision, Planned, Prepared
from deploy.passes.dead import drop_dead_tensors
from deploy.passes.short_names import shorten_names
from deploy.progress import Progress
from deploy.proof.arena_plan import ArenaSizes, check_plan
from deploy.proof.evidence import Evidence
from deploy.settings import PlanSettings
from deploy.targets import Target, target
from keras_fmc.errors import FmcError, UnsupportedModelError, VerificationError


@dataclass(frozen=True, slots=True)
class Way:
    """How a plan is made; ``adds`` is what the way has and the next one goes without."""

    adds: str
    codes: bool
    settings: PlanSettings


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan that was checked, proved and run."""

    prepared: Prepared
    planned: Planned
    evidence: Evidence


def ways(source: Graph, settings: PlanSettings) -> Iterator[Way]:
    """Yields the ways that settings allow, the one with the most in it first."""
    if has_codes(source, settings):
        yield Way("codes packed into bytes", True, settings)
    may_grow = settings.overlap is True or (settings.strips and settings.overlap is None)
    if may_grow:
        yield Way("outputs that grow into their inputs", False, settings)
    plain = replace(settings, overlap=False, view_operators=settings.view_operators or may_grow)
    if settings.strips:
        yield Way("strips", False, plain)
    yield Way(
        "views and operators in place", False, replace(plain, strips=False, view_operators=True)
    )


def best_plan(
    source: Graph,
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    *,
    own_offsets: tuple[int, ...] | None,
    run: Callable[[Planned], Evidence],
    guard: Guard,
) -> Checked:
    """Returns the plan of the first way that holds, or the model's own where that is no larger.

    Args:
        own_offsets: the offline plan that the model brings, or None.
        run: runs a planned model beside its source; raises VerificationError where they differ.
        guard: ends searches early; what they found then is called optimal nowhere.

    Raises:
        VerificationError: the simplest plan is wrong, too.
        UnsupportedModelError: the data of the target do not cover the model.
    """
    left_out: list[Decision] = []
    own: Prepared | None = _own(source, goal, settings, own_offsets)
    for way in ways(source, settings):
        try:
            prepared = prepare(source, goal, way.settings, progress, guard, codes=way.codes)
        except (VerificationError, UnsupportedModelError) as error:
            left_out.append(Decision(way.adds, DEFECT.format(_line(error))))
            continue
        if guard.reason is not None:
            # What was proven on the way holds, but not that the way was the one to go.
            memory = replace(prepared.memory, proven_optimal=False)
            prepared = replace(prepared, memory=memory)
        candidates = [prepared]
        if own is not None and rank(own, goal, settings) < rank(prepared, goal, settings):
            candidates.insert(0, _with_decisions_of(own, prepared))
        for candidate in candidates:
            try:
                return _checked(candidate, left_out, goal, settings, progress, run)
            except VerificationError as error:
                if candidate is prepared:
                    left_out.append(Decision(way.adds, DEFECT.format(_line(error))))
                else:
                    own = None
                    left_out.append(Decision(candidate.memory.engine, DEFECT.format(_line(error))))
    last = _own(source, goal, settings, None, must=True)
    assert last is not None
    return _checked(last, left_out, goal, settings, progress, run)


def _own(
    source: Graph,
    goal: Target,
    settings: PlanSettings,
    offsets: tuple[int, ...] | None,
    *,
    must: bool = False,
) -> Prepared | None:
    """The plan that the model brings, or else what TFLM makes of it; None if it is not sound.

    Such a plan is no defect of ours: tensors may share bytes for reasons that only its maker knows.
    """
    graph, moved = drop_dead_tensors(shorten_names(source))
    if offsets is not None:
        kept = [-1] * len(graph.tensors)
        for old, new in moved.items():
            kept[new] = offsets[old]
        offsets = tuple(kept)
    try:
        overlap = settings.overlap is not False
        memory = given_plan(
            graph,
            goal.kernels,
            offsets=offsets,
            overlap=overlap,
            alignment=goal.runtime.arena_alignment_bytes,
        )
    except VerificationError:
        if must:
            raise
        return None
    return with_views_as_set(Prepared(graph, memory), goal, settings)


def _with_decisions_of(own: Prepared, prepared: Prepared) -> Prepared:
    reason = f"smaller than the best plan that was found: {own.memory.engine} stays"
    decision = Decision("memory plan", reason)
    return replace(
        own,
        frontier=prepared.frontier,
        decisions=(*prepared.decisions, decision),
        floor_bytes=prepared.floor_bytes,
        usual_arena_bytes=prepared.usual_arena_bytes,
    )


def _checked(
    prepared: Prepared,
    left_out: list[Decision],
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    run: Callable[[Planned], Evidence],
) -> Checked:
    """Embeds, proves and runs a plan."""
    planned, apart = _apart(_embedded(prepared, goal), goal, settings)
    arena = planned.arena
    check_plan(
        planned.memory,
        ArenaSizes(arena.arena_bytes, arena.head_bytes, arena.tail_bytes, goal.describe()),
    )
    progress.say("running it in TFLM")
    evidence = run(planned)
    predicted = planned.wheel.arena_bytes
    if evidence.arena_bytes is not None and evidence.arena_bytes != predicted:
        raise VerificationError(
            "the model does not run in the arena that was predicted for the wheel",
            expected=f"{predicted:,} bytes as the smallest that works",
            received=f"{evidence.arena_bytes:,} bytes",
            remedy="This is a defect of the kernels' data; please report it with the model",
        )
    decisions = (*prepared.decisions, *left_out, *apart, *_left_to_runtime(prepared.graph))
    return Checked(replace(prepared, decisions=decisions), planned, evidence)


def _left_to_runtime(graph: Graph) -> list[Decision]:
    """The subgraphs that the plan does not reach into."""
    return [
        Decision(
            f"subgraph {number}, {part.name}",
            "its maps are placed by TensorFlow Lite Micro itself, beside what the plan has alive "
            "where it is called; the arena counts them",
        )
        for number, part in enumerate(graph.others, 1)
        if any(not t.is_constant and t.dtype != "resource" for t in part.tensors)
    ]


def _embedded(prepared: Prepared, goal: Target) -> Planned:
    offsets = prepared.memory.offsets
    graph = embed(prepared.graph, offsets)
    return Planned(
        graph=graph,
        memory=prepared.memory,
        content=flatbuffer.write(graph),
        arena=predict_arena(graph, offsets=offsets, target=goal),
        wheel=predict_arena(graph, offsets=offsets, target=target(board="host")),
    )


def _apart(
    planned: Planned, goal: Target, settings: PlanSettings
) -> tuple[Planned, tuple[Decision, ...]]:
    """Head and tail in two memories, where that is asked for and helps; else why not."""
    if not settings.two_arenas:
        return planned, ()
    one = planned.arena.arena_bytes
    home = goal.memory_for(one)
    if one <= goal.available_bytes(home) and not home.external:
        return planned, (Decision("two arenas", f"{home.name} holds head and tail together"),)
    two = predict_two(planned.graph, offsets=planned.memory.offsets, target=goal)
    head, tail = two.head_arena_bytes or 0, two.tail_arena_bytes or 0
    if goal.memories_for_two(head, tail) is None:
        reason = f"no two memories have room for a head of {head:,} and a tail of {tail:,} bytes"
        return planned, (Decision("two arenas", reason),)
    return replace(planned, arena=two), ()


def _line(error: FmcError) -> str:
    """What an error says, without its remedy, which is for those who can do something about it."""
    return str(error).split("\n", 1)[0]
