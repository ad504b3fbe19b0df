"""Runtime c from graph to report: the row program, what was seen of it, and its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import flatbuffer
from deploy.backends.c.build import GeneratedModel, generate, stand_in_files
from deploy.backends.c.evidence import CEvidence, collect
from deploy.backends.c.library import KernelLibrary
from deploy.backends.c.names import Names, state
from deploy.backends.c.rows_again import inner_macs
from deploy.backends.tflm.embed import without_plan
from deploy.emit.generated_codes import macs_of, stored_codes
from deploy.emit.written import MODEL_FILE, REPORT_FILE
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.outcome import Region
from deploy.passes import passes_of, run_passes
from deploy.passes.reference_versions import with_reference_versions
from deploy.proof.source import SourceFile, SourceRun
from deploy.report.occupancy import boxes, peak
from deploy.report.report import Report, ReportOperator, ReportTensor
from deploy.report.summary import (
    baseline_of,
    feature_maps_of,
    limit_of,
    memories_of,
    ports_of,
)
from deploy.runtime.stack import Stack, stack_of
from deploy.settings import GENERATED_C, PORTABLE, PlanSettings
from deploy.targets import Kernels, Target, kernels
from keras_fmc.errors import BadInputError, VerificationError

_MADE_ONCE = "rows made once"
_MADE_AGAIN = "some rows made again"


@dataclass(frozen=True, slots=True)
class PlannedC:
    """A generated model and what was seen of it."""

    model: GeneratedModel
    evidence: CEvidence


def plan_c(
    source: Graph,
    ran: SourceRun,
    *,
    name: str,
    fed: bool,
    passes: str,
    library: Kernels | None,
    max_macs: float,
) -> PlannedC:
    """Returns the C of a graph, compiled and compared with the run of its source.

    Args:
        library: the kernel library that it calls; None: portable kernels.
        max_macs: most multiply-accumulates, as a multiple of the graph's.

    Raises:
        UnsupportedModelError, BadInputError: as ``generate``.
        VerificationError: the C does not compile, or an output differs.
    """
    graph = run_passes(source, passes=passes_of(passes))
    own = None if library is None else KernelLibrary(library)
    model = generate(graph, model_name=name, fed=fed, library=own, max_macs=max_macs)
    return PlannedC(model, collect(model, ran))


def is_generated(folder: str | Path) -> bool:
    """Whether a folder holds a report of generated C."""
    try:
        content = json.loads((Path(folder) / REPORT_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("runtime") == GENERATED_C


def verify_c(folder: str | Path, report: Report, *, source: str | None) -> str:
    """Generates the C of the source model again, compares every file, and runs it.

    Raises:
        BadInputError: the source model is not there.
        VerificationError: a file is not what the source makes, or an output differs.
    """
    path = source or report.model
    own = Path(folder) / MODEL_FILE
    if source is None and own.is_file():
        path = str(own)
    if not path.endswith(".tflite") or not Path(path).exists():
        raise BadInputError(
            f"the model that {folder} was made from is not there",
            received=path,
            remedy="Name it with --source",
        )
    file = SourceFile.read(flatbuffer.read_content(path), source=path)
    fed = any(re.search(r"_INPUT\d*_ROWS$", line) for line in _macros(folder, report))
    planned = plan_c(
        with_reference_versions(without_plan(file.graph)),
        file.run(),
        name=Path(report.model).stem,
        fed=fed,
        passes=report.passes,
        library=None if report.kernels == PORTABLE else kernels(report.kernels),
        max_macs=report.max_macs or 1.0,
    )
    for name, text in planned.model.files.items():
        there = Path(folder) / name
        if not there.is_file() or there.read_text() != text:
            raise VerificationError(
                f"{there} is not what {path} makes",
                expected="the file as it was written",
                received="another text" if there.is_file() else "no file",
                remedy="Plan the model again with fmc plan",
            )
    if planned.model.static_bytes != report.arena_bytes:
        raise VerificationError(
            f"the report of {folder} is of another model",
            expected=f"{planned.model.static_bytes} bytes",
            received=f"{report.arena_bytes} bytes",
            remedy="Plan the model again with fmc plan",
        )
    return f"{folder}: {planned.evidence.reason}; compared with {path}"


def _macros(folder: str | Path, report: Report) -> list[str]:
    header = Path(folder) / f"{Names.of(Path(report.model).stem).function}.h"
    if not header.is_file():
        return []
    return [line.split()[1] for line in header.read_text().splitlines() if line[:8] == "#define "]


def c_report(
    planned: PlannedC,
    *,
    source: Graph,
    baseline: tuple[bytes, Sequence[int] | None],
    name: str,
    goal: Target,
    settings: PlanSettings,
) -> Report:
    """Returns the report of a generated model: its arena is all of its static memory."""
    model, evidence = planned.model, planned.evidence
    graph, layout = model.graph, model.layout
    macs = graph_macs(model.source) + inner_macs(graph, layout.program)
    stack = stack_of(_without_library(model), name=model.name, core=goal.board.core)
    if model.uses_library and stack.size_bytes is not None:
        stack = Stack(stack.size_bytes, f"{stack.source}, without what the kernel library takes")
    static = model.static_bytes
    library = settings.c_library()
    used = PORTABLE if library is None else library.name
    bound = layout.lower_bound_bytes + state(layout).size_bytes
    limit, limit_source = limit_of(goal, settings, static)
    tensors = _tensors(model)
    top = peak(boxes(tensors, ()), len(graph.operators))
    flash = goal.board.flash_bytes
    enough_flash = flash is None or model.constant_bytes <= flash
    warnings = (
        ()
        if enough_flash
        else (
            f"the constants take {model.constant_bytes:,} bytes of flash, the board has {flash:,}",
        )
    )
    return Report(
        model=name,
        board=goal.board.name,
        core=goal.board.core,
        runtime=GENERATED_C,
        kernels=used,
        arena_bytes=static,
        head_bytes=static,
        tail_bytes=0,
        scratch_bytes=0,
        lower_bound_bytes=bound,
        proven_optimal=static == bound and not model.made_again,
        fits=(limit is None or static <= limit) and enough_flash,
        macs=macs,
        macs_ratio=macs / graph_macs(source) if graph_macs(source) else 1.0,
        flash_bytes=model.constant_bytes,
        limit_bytes=limit,
        limit_source=limit_source,
        engine="row program",
        passes=settings.passes,
        bit_exact=evidence.bit_exact,
        verified=evidence.verified,
        verified_reason=evidence.reason,
        peak_operator=top.operator,
        peak_tensors=top.tensors,
        baseline=baseline_of(source, *baseline, goal, settings),
        inputs=ports_of(graph, graph.inputs),
        outputs=ports_of(graph, graph.outputs),
        memories=memories_of(goal, static),
        regions=_regions(model),
        codes=stored_codes(model),
        stack_bytes=stack.size_bytes,
        stack_source=stack.source,
        max_macs=settings.max_macs,
        generated_c_bytes=static if model.fed_rows is None else None,
        warnings=(*evidence.warnings, *warnings),
        target=f"{goal.board.title} ({goal.board.core}), generated C, {used} kernels",
        feature_maps_before=feature_maps_of(source),
        feature_maps_after=feature_maps_of(model.source),
        operators=tuple(
            ReportOperator(i, op.opcode, graph.tensors[op.outputs[0]].name, macs_of(graph, i))
            for i, op in enumerate(graph.operators)
        ),
        tensors=tensors,
    )


def _without_library(model: GeneratedModel) -> dict[str, str]:
    """The files of a model, and what declares the functions of a kernel library."""
    declared = {name: text for name, text in stand_in_files().items() if name.endswith(".h")}
    return {**(declared if model.uses_library else {}), **model.files}


def _regions(model: GeneratedModel) -> tuple[Region, ...]:
    found = []
    halo = _MADE_AGAIN if model.made_again else _MADE_ONCE
    for region in model.layout.regions:
        schedule = region.placed.schedule
        if schedule.single or not schedule.sinks:
            continue
        steps = model.layout.program.steps[schedule.first : schedule.stop]
        labels = tuple(dict.fromkeys(model.graph.label(s.operator) for s in steps))
        rows = max(model.layout.program.maps[m].rows for m in schedule.sinks)
        found.append(Region(labels, strips=rows, rows=1, halo=halo))
    return tuple(found)


def _tensors(model: GeneratedModel) -> tuple[ReportTensor, ...]:
    """Whole maps and line buffers: where they stand from which operator to which."""
    program = model.layout.program
    found: list[ReportTensor] = []
    standing: dict[int, int] = {}
    for region in model.layout.regions:
        schedule = region.placed.schedule
        operators = [program.steps[s].operator for s in range(schedule.first, schedule.stop)]
        for m in sorted(region.offsets):
            rows = schedule.lines.get(m)
            entry, offset = program.maps[m], region.offsets[m]
            size = entry.size_bytes if rows is None else rows * entry.row_bytes
            place = standing.get(m)
            if place is not None and found[place].offset == offset:
                found[place] = _until(found[place], max(operators))
                continue
            name = entry.name if rows is None or entry.sums else f"{entry.name}, {rows} rows"
            tensor = entry.tensor
            shape = model.graph.tensors[tensor].shape if tensor >= 0 else (entry.row_bytes // 4,)
            dtype = model.graph.tensors[tensor].dtype if tensor >= 0 else "int32"
            standing[m] = len(found)
            if place is not None:
                name = f"{name}, moved before {model.graph.label(min(operators))}"
            found.append(
                ReportTensor(
                    name, offset, size, min(operators), max(operators), shape=shape, dtype=dtype
                )
            )
    return tuple(found)


def _until(tensor: ReportTensor, last: int) -> ReportTensor:
    return ReportTensor(
        tensor.name,
        tensor.offset,
        tensor.size_bytes,
        tensor.first,
        last,
        shape=tensor.shape,
        dtype=tensor.dtype,
    )
