"""What the folder of a plan holds; all of it follows from the report and the planned model."""

from __future__ import annotations

from pathlib import Path

from deploy.backends.tflm.embed import embedded_offsets
from deploy.emit.model_data import model_data_files
from deploy.emit.plan_check import plan_check_files
from deploy.emit.written import MODEL_FILE, REPORT_FILE
from deploy.graph import Graph
from deploy.implicit import as_written
from deploy.memory.plan import AliasReason, MemoryPlan, PlannedPiece, PlannedTensor
from deploy.proof.arena_plan import ArenaSizes, TwoMemories, arena_plan_files
from deploy.report.html import to_html
from deploy.report.report import Report
from deploy.report.shared import SharedReport
from deploy.report.text import to_text
from keras_fmc.errors import VerificationError


def report_files(report: Report) -> dict[str, bytes | str]:
    """Returns the report as text, JSON and page."""
    return {
        "report.txt": to_text(report) + "\n",
        REPORT_FILE: report.to_json(),
        "report.html": to_html(report),
    }


def firmware_files(report: Report, content: bytes, graph: Graph) -> dict[str, bytes | str]:
    """Returns the planned model and the sources that a firmware compiles.

    Args:
        content: the planned model, and ``graph`` the same, read.

    Raises:
        VerificationError: report and model are not of one plan, or the plan is wrong.
    """
    name = Path(report.model).stem
    sizes = arena_sizes(report, _apart(report))
    labels = [graph.label(i) for i in range(len(graph.operators))]
    files: dict[str, bytes | str] = {MODEL_FILE: content}
    files |= model_data_files(content, model_name=name) | plan_check_files()
    plan = memory_plan(report, graph)
    written = as_written(graph).tensors
    files |= arena_plan_files(plan, sizes, model_name=name, operators=labels, written=written)
    return files


def arena_sizes(report: Report | SharedReport, apart: TwoMemories | None = None) -> ArenaSizes:
    """Returns the sizes of a report's arena, or arenas, that its proof states."""
    return ArenaSizes(
        arena_bytes=report.arena_bytes,
        head_bytes=report.head_bytes,
        tail_bytes=report.tail_bytes,
        target=report.target,
        limit_bytes=report.limit_bytes,
        limit_source=report.limit_source,
        apart=apart,
    )


def _apart(report: Report) -> TwoMemories | None:
    """The two arrays of a report whose head and tail stand in two memories.

    Raises:
        VerificationError: the report does not say in which.
    """
    if report.head_arena_bytes is None or report.tail_arena_bytes is None:
        return None
    head = next((m for m in report.memories if m.holds_arena), None)
    tail = next((m for m in report.memories if m.holds_tail), None)
    if head is None or tail is None:
        raise VerificationError(
            "the report has two arenas", "the memories of both", f"{len(report.memories)} memories"
        )
    return TwoMemories(
        head_arena_bytes=report.head_arena_bytes,
        tail_arena_bytes=report.tail_arena_bytes,
        head_memory=head.name,
        tail_memory=tail.name,
        head_limit_bytes=head.available_bytes,
        tail_limit_bytes=tail.available_bytes,
    )


def memory_plan(report: Report, graph: Graph) -> MemoryPlan:
    """Returns the plan that a report tells of the graph in whose metadata the offsets stand.

    Raises:
        VerificationError: the report is of another graph.
    """
    arena = graph.activations()
    if len(arena) != len(report.tensors):
        raise VerificationError(
            "the report is of another model",
            expected=f"{len(arena)} tensors in the arena",
            received=len(report.tensors),
        )
    tensors = tuple(
        PlannedTensor(
            index=index,
            name=tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            offset=tensor.offset,
            size_bytes=tensor.size_bytes,
            first=tensor.first,
            last=tensor.last,
            alias_of=tensor.alias_of,
            alias_reason=None if tensor.alias_reason is None else AliasReason(tensor.alias_reason),
        )
        for index, tensor in zip(arena, report.tensors, strict=True)
    )
    pieces = (
        PlannedPiece(p.block, p.tensor, p.offset, p.size_bytes, p.start, p.stop)
        for p in report.pieces
    )
    return MemoryPlan(
        tensors=tensors,
        pieces=tuple(pieces),
        offsets=embedded_offsets(graph) or (-1,) * len(graph.tensors),
        head_bytes=report.head_bytes,
        lower_bound_bytes=report.lower_bound_bytes,
        proven_optimal=report.proven_optimal,
        engine=report.engine,
    )
