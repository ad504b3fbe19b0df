"""Everything a run found, gathered into the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.sharing import tensor_lifetimes
from deploy.graph import Graph
from deploy.macs import graph_macs, operator_macs
from deploy.memory.plan import AliasReason
from deploy.proof.evidence import Evidence
from deploy.report.charge import stored_codes
from deploy.report.occupancy import boxes, peak
from deploy.report.report import (
    Baseline,
    FeatureMapEntry,
    Memory,
    Port,
    Report,
    ReportOperator,
    ReportTensor,
    report_pieces,
    report_tensors,
)
from deploy.runtime import tflm
from deploy.targets import Target, target

if TYPE_CHECKING:
    from deploy.outcome import Planned, Prepared
    from deploy.settings import PlanSettings


def make_report(
    *,
    name: str,
    source: Graph,
    baseline: bytes,
    planned: Planned,
    prepared: Prepared,
    goal: Target,
    settings: PlanSettings,
    evidence: Evidence,
) -> Report:
    """Returns the report of a run; every figure in it was computed or measured by that run."""
    graph, arena = planned.graph, planned.arena
    limit, limit_source = limit_of(goal, settings, arena.arena_bytes)
    tensors = report_tensors(planned.memory)
    pieces = report_pieces(planned.memory.pieces)
    top = peak(boxes(tensors, pieces), len(graph.operators))
    macs, source_macs = graph_macs(graph), graph_macs(source)
    return Report(
        model=name,
        board=goal.board.name,
        core=goal.board.core,
        runtime=goal.runtime.name,
        kernels=goal.kernels.name,
        arena_bytes=arena.arena_bytes,
        head_bytes=arena.head_bytes,
        tail_bytes=arena.tail_bytes,
        scratch_bytes=arena.scratch_bytes,
        lower_bound_bytes=planned.memory.lower_bound_bytes,
        proven_optimal=planned.memory.proven_optimal,
        fits=limit is None or arena.arena_bytes <= limit,
        macs=macs,
        macs_ratio=macs / source_macs if source_macs else 1.0,
        flash_bytes=len(planned.content),
        limit_bytes=limit,
        limit_source=limit_source,
        engine=planned.memory.engine,
        bit_exact=evidence.bit_exact,
        verified=evidence.verified,
        verified_reason=evidence.reason,
        verified_arena_bytes=evidence.arena_bytes,
        predicted_arena_bytes_wheel=planned.wheel.arena_bytes,
        peak_operator=top.operator,
        peak_tensors=top.tensors,
        baseline=baseline_of(source, baseline, goal, settings),
        inputs=ports_of(graph, graph.inputs),
        outputs=ports_of(graph, graph.outputs),
        memories=memories_of(goal, arena.arena_bytes),
        regions=prepared.regions,
        codes=stored_codes(graph, prepared.codes, boxes(tensors, pieces), goal),
        frontier=prepared.frontier,
        decisions=prepared.decisions,
        warnings=_warnings(planned, goal, evidence),
        feature_maps_before=feature_maps_of(source),
        feature_maps_after=feature_maps_of(graph),
        operators=tuple(
            ReportOperator(i, op.opcode, graph.tensors[op.outputs[0]].name, operator_macs(graph, i))
            for i, op in enumerate(graph.operators)
        ),
        tensors=tensors,
        pieces=pieces,
    )


def limit_of(goal: Target, settings: PlanSettings, arena_bytes: int) -> tuple[int | None, str]:
    if settings.arena_bytes is not None:
        return settings.arena_bytes, "--arena"
    return goal.limit_bytes(arena_bytes), goal.limit_source(arena_bytes)


def baseline_of(source: Graph, content: bytes, goal: Target, settings: PlanSettings) -> Baseline:
    """TFLM's own plan of the unchanged model, on the target and in the wheel."""
    arena = predict_arena(source, offsets=None, target=goal)
    wheel = predict_arena(source, offsets=None, target=target(board="host"))
    limit, _ = limit_of(goal, settings, arena.arena_bytes)
    measured = None
    if tflm.unavailable_reason() is None:
        measured = tflm.smallest_arena(content, guess=wheel.arena_bytes)
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
        tensors=_online_tensors(source, goal),
    )


def _online_tensors(source: Graph, goal: Target) -> tuple[ReportTensor, ...]:
    online = simulate(source, scratch_requests(source, goal.kernels), offsets=None)
    return tuple(
        ReportTensor(
            name=source.tensors[index].name,
            offset=online.offsets[index],
            size_bytes=source.tensors[index].size_bytes,
            first=first,
            last=last,
            shape=source.tensors[index].shape,
            dtype=source.tensors[index].dtype,
        )
        for index, (first, last) in tensor_lifetimes(source).items()
    )


def ports_of(graph: Graph, indices: Sequence[int]) -> tuple[Port, ...]:
    ports = []
    for tensor in (graph.tensors[i] for i in indices):
        q = tensor.quantization
        scale, zero = (q.scales[0], q.zero_points[0]) if q else (None, None)
        ports.append(Port(tensor.name, tensor.shape, tensor.dtype, scale, zero))
    return tuple(ports)


def memories_of(goal: Target, arena_bytes: int) -> tuple[Memory, ...]:
    """The board's memories; the one that the arena stands in is marked."""
    home = goal.memory_for(arena_bytes)
    return tuple(
        Memory(
            name=region.name,
            size_bytes=region.size_bytes,
            address=region.address,
            reserve_bytes=goal.reserve_bytes(region),
            holds_arena=region == home and arena_bytes <= goal.available_bytes(region),
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


def _warnings(planned: Planned, goal: Target, evidence: Evidence) -> tuple[str, ...]:
    found = []
    measured, predicted = evidence.arena_bytes, planned.wheel.arena_bytes
    if measured is not None and measured != predicted:
        found.append(
            f"the arena predicted for the wheel is {predicted:,} bytes, the smallest that runs "
            f"{measured:,}; the prediction for the board may be as far off"
        )
    growing = sum(t.alias_reason is AliasReason.OVERLAP for t in planned.memory.tensors)
    if goal.board.name == "host" and growing:
        found.append(
            f"outputs grow into inputs at {growing} operators, as far as the {goal.kernels.name} "
            "kernels allow; other kernels may overwrite what they have yet to read, so plan with "
            "--board for a device, or with --overlap=false"
        )
    return tuple(found)
