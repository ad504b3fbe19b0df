"""Everything a run found, gathered into the report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.defects import warnings_of
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.time import graph_time, time_ratio
from deploy.graph import Graph
from deploy.lifetimes import tensor_lifetimes
from deploy.macs import graph_macs, operator_macs, relative_macs
from deploy.memory.plan import AliasReason
from deploy.operators.custom import own_kernels
from deploy.outcome import ArenaPrediction
from deploy.proof.evidence import Evidence
from deploy.proof.samples import sample_inputs
from deploy.report.charge import stored_codes
from deploy.report.occupancy import boxes, peak
from deploy.report.report import (
    Baseline,
    FeatureMapEntry,
    Port,
    Report,
    ReportMemory,
    ReportOperator,
    ReportTensor,
    report_pieces,
    report_tensors,
)
from deploy.runtime import tflm
from deploy.targets import Target, target
from deploy.targets.cores import milliseconds, time_error
from keras_fmc.errors import UnsupportedModelError, VerificationError

if TYPE_CHECKING:
    from deploy.outcome import Planned, Prepared
    from deploy.settings import PlanSettings


def make_report(
    *,
    name: str,
    source: Graph,
    baseline: bytes,
    own_offsets: Sequence[int] | None = None,
    planned: Planned,
    prepared: Prepared,
    goal: Target,
    settings: PlanSettings,
    evidence: Evidence,
    generated_c_bytes: int | None,
    interrupted: str | None = None,
) -> Report:
    """Returns the report of a run; every figure in it was computed or measured by that run.

    Args:
        generated_c_bytes: static RAM of the model's C, where that is quick to know.
    """
    graph, arena = planned.graph, planned.arena
    limit, limit_source = limit_of(goal, settings, arena.arena_bytes, _two(arena))
    tensors = report_tensors(planned.memory)
    pieces = report_pieces(planned.memory.pieces)
    top = peak(boxes(tensors, pieces), len(graph.operators))
    return Report(
        model=name,
        board=goal.board.name,
        core=goal.board.core,
        runtime=goal.runtime.name,
        kernels=goal.kernels.name,
        lower_bound_bytes=planned.memory.lower_bound_bytes,
        proven_optimal=planned.memory.proven_optimal and interrupted is None,
        fits=limit is None or arena.arena_bytes <= limit,
        macs_ratio=relative_macs(graph, source),
        limit_bytes=limit,
        limit_source=limit_source,
        engine=planned.memory.engine,
        passes=settings.passes,
        interrupted=interrupted,
        search_bound_bytes=prepared.floor_bytes,
        bit_exact=evidence.bit_exact,
        verified=evidence.verified,
        verified_reason=evidence.reason,
        verified_arena_bytes=evidence.arena_bytes,
        peak_operator=top.operator,
        peak_tensors=top.tensors,
        baseline=baseline_of(source, baseline, own_offsets, goal, settings),
        memories=memories_of(goal, arena.arena_bytes, _two(arena)),
        regions=prepared.regions,
        codes=stored_codes(graph, prepared.codes, boxes(tensors, pieces), goal),
        frontier=prepared.frontier,
        decisions=prepared.decisions,
        warnings=_warnings(planned, prepared, goal, settings, evidence),
        feature_maps_before=feature_maps_of(source),
        tensors=tensors,
        pieces=pieces,
        target=goal.describe(),
        time_instructions=graph_time(graph, goal.kernels),
        time_ms=_time_ms(graph, goal),
        time_error=time_error(goal.board, goal.kernels.name),
        clock_hz=goal.board.clock_hz or None,
        time_ratio=time_ratio(graph, source, goal.kernels),
        time_ratio_assertions=time_ratio(graph, source, goal.kernels, assertions=True),
        time_source=goal.kernels.times_source,
        notes=_notes(goal),
        generated_c_bytes=generated_c_bytes,
        **model_keys(graph, planned.content, arena, planned.wheel),
    )


def model_keys(
    graph: Graph, content: bytes, arena: ArenaPrediction, wheel: ArenaPrediction
) -> dict[str, Any]:
    """Returns the keys of a report that follow from the planned model and its target alone."""
    return {
        "arena_bytes": arena.arena_bytes,
        "head_bytes": arena.head_bytes,
        "tail_bytes": arena.tail_bytes,
        "scratch_bytes": arena.scratch_bytes,
        "head_arena_bytes": arena.head_arena_bytes,
        "tail_arena_bytes": arena.tail_arena_bytes,
        "macs": graph_macs(graph),
        "flash_bytes": len(content),
        "predicted_arena_bytes_wheel": wheel.arena_bytes,
        "inputs": ports_of(graph, graph.inputs),
        "outputs": ports_of(graph, graph.outputs),
        "feature_maps_after": feature_maps_of(graph),
        "operators": tuple(
            ReportOperator(i, op.title, graph.result_of(op), operator_macs(graph, i), op.implicit)
            for i, op in enumerate(graph.operators)
        ),
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }


def tensor_keys(graph: Graph, offsets: Sequence[int]) -> tuple[dict[str, Any], ...]:
    """Returns the keys of ``tensors`` that follow from the model and the plan inside it."""
    return tuple(
        {
            "name": graph.tensors[index].name,
            "offset": offsets[index],
            "size_bytes": graph.tensors[index].size_bytes,
            "first": first,
            "last": last,
            "shape": graph.tensors[index].shape,
            "dtype": graph.tensors[index].dtype,
        }
        for index, (first, last) in tensor_lifetimes(graph).items()
    )


def limit_of(
    goal: Target, settings: PlanSettings, arena_bytes: int, two: tuple[int, int] | None = None
) -> tuple[int | None, str]:
    """Returns what the arena may use, and where that comes from; of two arenas both together.

    ``two`` are the sizes of the arenas of head and tail, where they stand in two memories.
    """
    if settings.arena_bytes is not None:
        return settings.arena_bytes, "--arena"
    homes = None if two is None else goal.memories_for_two(*two)
    if homes is None:
        return goal.limit_bytes(arena_bytes), goal.limit_source(arena_bytes)
    head, tail = homes
    source = f"{head.name} for the head and {tail.name} for the tail, of {goal.board.title}"
    return goal.available_bytes(head) + goal.available_bytes(tail), source


def _two(arena: ArenaPrediction) -> tuple[int, int] | None:
    if arena.head_arena_bytes is None or arena.tail_arena_bytes is None:
        return None
    return arena.head_arena_bytes, arena.tail_arena_bytes


def baseline_of(
    source: Graph,
    content: bytes,
    offsets: Sequence[int] | None,
    goal: Target,
    settings: PlanSettings,
) -> Baseline:
    """The unchanged model with its own plan or TFLM's, on the target and in the wheel."""
    arena = predict_arena(source, offsets=offsets, target=goal)
    wheel = predict_arena(source, offsets=offsets, target=target(board="host"))
    limit, _ = limit_of(goal, settings, arena.arena_bytes, _two(arena))
    measured = None
    if tflm.unavailable_reason() is None and not own_kernels(source):
        measured = _measured_baseline(source, content, wheel.arena_bytes)
    return Baseline(
        arena_bytes=arena.arena_bytes,
        head_bytes=arena.head_bytes,
        tail_bytes=arena.tail_bytes,
        scratch_bytes=arena.scratch_bytes,
        macs=graph_macs(source),
        flash_bytes=len(content),
        verified_arena_bytes=measured,
        predicted_arena_bytes_wheel=wheel.arena_bytes,
        fits=limit is None or arena.arena_bytes <= limit,
        operators=len(source.operators),
        tensors=_online_tensors(source, offsets, goal),
        time_ms=_time_ms(source, goal),
    )


def _measured_baseline(source: Graph, content: bytes, guess: int) -> int:
    """The smallest arena of the unchanged model; where its outputs change in it, it is at fault."""
    try:
        return tflm.smallest_arena(content, guess=guess, inputs=sample_inputs(source)[-2:])
    except VerificationError as error:
        known = warnings_of(source, target(board="host").kernels)
        raise UnsupportedModelError(
            "the model as it is computes other outputs of the same inputs in another arena",
            received="; ".join((error.what, *known)),
            remedy="The model itself is at fault, not its plan: convert it again",
        ) from error


def _online_tensors(
    source: Graph, offsets: Sequence[int] | None, goal: Target
) -> tuple[ReportTensor, ...]:
    requests = scratch_requests(source, goal.kernels)
    unit = goal.runtime.arena_alignment_bytes
    online = simulate(source, requests, offsets=offsets, alignment=unit)
    return tuple(ReportTensor(**keys) for keys in tensor_keys(source, online.offsets))


def _time_ms(graph: Graph, goal: Target) -> float | None:
    found = milliseconds(goal.board, goal.kernels.name, graph_time(graph, goal.kernels))
    return None if found is None else round(found, 2)


def ports_of(graph: Graph, indices: Sequence[int]) -> tuple[Port, ...]:
    ports = []
    for tensor in (graph.tensors[i] for i in indices):
        q = tensor.quantization
        scale, zero = (q.scales[0], q.zero_points[0]) if q else (None, None)
        ports.append(Port(tensor.name, tensor.shape, tensor.dtype, scale, zero))
    return tuple(ports)


def memories_of(
    goal: Target, arena_bytes: int, two: tuple[int, int] | None = None
) -> tuple[ReportMemory, ...]:
    """The board's memories; those that the arena, or head and tail of two, stand in are marked."""
    homes = None if two is None else goal.memories_for_two(*two)
    if two is None or homes is None:
        home, held, other = goal.memory_for(arena_bytes), arena_bytes, None
    else:
        (home, other), held = homes, two[0]
    return tuple(
        ReportMemory(
            name=region.name,
            size_bytes=region.size_bytes,
            address=region.address,
            reserve_bytes=goal.reserve_bytes(region),
            holds_arena=region == home and held <= goal.available_bytes(region),
            holds_tail=region == other,
            external=region.external,
        )
        for region in goal.board.memories
    )


def feature_maps_of(graph: Graph) -> tuple[FeatureMapEntry, ...]:
    return tuple(
        FeatureMapEntry(
            graph.tensors[i].name, graph.tensors[i].shape, graph.tensors[i].size_bytes, first, last
        )
        for i, (first, last) in tensor_lifetimes(graph).items()
    )


def _notes(goal: Target) -> tuple[str, ...]:
    """What the data say of the board and of its kernels."""
    notes = ((goal.board.name, goal.board.note), (goal.kernels.name, goal.kernels.note))
    return tuple(f"{name}: {note}" for name, note in notes if note)


def _warnings(
    planned: Planned, prepared: Prepared, goal: Target, settings: PlanSettings, evidence: Evidence
) -> tuple[str, ...]:
    found = list(evidence.warnings)
    usual, arena = prepared.usual_arena_bytes, planned.arena.arena_bytes
    if settings.minimise == "head" and usual is not None and usual < arena:
        found.append(
            f"the smallest head has an arena of {arena:,} bytes, {arena - usual:,} more than the "
            f"{usual:,} bytes of another plan; --minimise=arena finds that or a smaller one"
        )
    growing = sum(t.alias_reason is AliasReason.OVERLAP for t in planned.memory.tensors)
    if goal.board.name == "host" and growing:
        found.append(
            f"outputs grow into inputs at {growing} operators, as far as the {goal.kernels.name} "
            "kernels allow; other kernels may overwrite what they have yet to read, so plan with "
            "--board for a device, or with --overlap=false"
        )
    return (*found, *warnings_of(planned.graph, goal.kernels))
