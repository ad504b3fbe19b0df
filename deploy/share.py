"""Models that never run at once in one arena: planned together, for the least of it.

    arena = the largest head + all tails

Interpreters that are given one MicroAllocator share its head, and their tails stand one below the
other. Strips make a head smaller and a tail larger, so what is best for a model alone need not be
best here: beside a model with a large head another one gains nothing by strips. Each model is
planned in a few ways, and those are chosen that together need least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import flatbuffer
from deploy.backends.tflm.several import SharedArena, predict_shared
from deploy.emit.earlier import replacing
from deploy.emit.files import discard, write_all
from deploy.emit.folder import firmware_files, report_files
from deploy.emit.shared_folder import (
    SHARED_PLAN_FILES,
    SHARED_REPORT_FILES,
    prefix_of,
    shared_files,
    shared_report_files,
)
from deploy.emit.written import ALL_FILES
from deploy.outcome import Planned
from deploy.pipeline import plan_ran, run_as_it_is
from deploy.progress import Progress
from deploy.report.report import Report
from deploy.report.shared import SharedReport, shared_model
from deploy.report.summary import limit_of
from deploy.settings import PlanSettings
from deploy.targets import Target
from keras_fmc.errors import BadInputError, DoesNotFitError


@dataclass(frozen=True, slots=True)
class SharedResult:
    """A finished run: the report of all, that of each model, and the names of the files."""

    report: SharedReport
    reports: tuple[Report, ...]
    files: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 0 if self.report.fits else DoesNotFitError.exit_code


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A way to plan a model, and what came of it."""

    report: Report
    planned: Planned


def plan_shared(
    paths: Sequence[str | Path], settings: PlanSettings, *, out: str | Path | None = None
) -> SharedResult:
    """Plans int8 .tflite files for one arena that they share, one running at a time.

    Models are made ready in the order of ``paths``. ``arena_bytes`` of the settings is what the
    shared arena may use.

    Raises:
        BadInputError, UnsupportedModelError: a model or a setting cannot be used.
        VerificationError: a plan failed its check; nothing is left in ``out``.
    """
    _check(paths, settings)
    folders = [prefix_of(str(path)).lower() for path in paths]
    names = [*SHARED_PLAN_FILES, *SHARED_REPORT_FILES]
    names += [f"{folder}/{name}" for folder in folders for name in ALL_FILES]
    with replacing(out, names, sources=[*paths, settings.board_file]) as earlier:
        goal = settings.target()
        contents = [flatbuffer.read_content(path) for path in paths]
        ways = [
            _candidates(content, settings, goal, str(path))
            for content, path in zip(contents, paths, strict=True)
        ]
        chosen, arena = _least(ways, goal)
        alone = [min(c.report.arena_bytes for c in way) for way in ways]
        report = _report(chosen, arena, folders, alone, goal, settings)
        reports = tuple(_limited(candidate.report, settings) for candidate in chosen)
        if out is None:
            return SharedResult(report, reports)
        files = shared_files(report) if report.fits else shared_report_files(report)
        for own, candidate, folder in zip(reports, chosen, folders, strict=True):
            if report.fits:
                planned = candidate.planned
                made = report_files(own) | firmware_files(own, planned.content, planned.graph)
                files |= {f"{folder}/{name}": text for name, text in made.items()}
        written = tuple(sorted(str(p.relative_to(out)) for p in write_all(out, files)))
        discard(out, (name for name in earlier if name not in files))
        return SharedResult(report, reports, written)


def _check(paths: Sequence[str | Path], settings: PlanSettings) -> None:
    if len(paths) < 2:
        raise BadInputError(
            "models share an arena where there are several",
            expected="at least two .tflite files",
            received=len(paths),
            remedy="Name the others, or leave --share out",
        )
    for name, value in (("--runtime=c", settings.generates_c), ("two arenas", settings.two_arenas)):
        if value:
            raise BadInputError(
                f"a shared arena does not go with {name}",
                expected="one arena of TensorFlow Lite Micro",
                remedy=f"Leave {name} or --share out",
            )
    seen: dict[str, str | Path] = {}
    for path in paths:
        prefix = prefix_of(str(path))
        if prefix in seen:
            raise BadInputError(
                f"{seen[prefix]} and {path} would have the same names in C",
                expected="files whose names differ in letters or digits",
                received=prefix,
                remedy="Rename one of them",
            )
        seen[prefix] = path


def _candidates(
    content: bytes, settings: PlanSettings, goal: Target, name: str
) -> tuple[_Candidate, ...]:
    """The plans of a model: as asked for, with the smallest head, and without strips."""
    usual = replace(settings, arena_bytes=None)
    asked = [usual]
    if settings.strips:
        asked += [replace(usual, minimise="head"), replace(usual, strips=False)]
    found: dict[bytes, _Candidate] = {}
    with Progress(enabled=settings.progress) as progress:
        ran = run_as_it_is(content, usual, name, progress)
        for way in asked:
            report, planned = plan_ran(ran, way, goal, name, progress)
            found.setdefault(planned.content, _Candidate(report, planned))
    return tuple(found.values())


def _least(
    ways: Sequence[Sequence[_Candidate]], goal: Target
) -> tuple[list[_Candidate], SharedArena]:
    """The candidates, one of each model, that together need least; of equals the least work.

    Where no head is larger than h, a smaller head gains nothing, so each model takes the candidate
    with the smallest tail of those up to h; h is the head of some candidate.
    """
    best: tuple[tuple[int, int], list[_Candidate], SharedArena] | None = None
    heads = sorted({c.planned.arena.head_bytes for way in ways for c in way})
    for head in heads:
        allowed = [[c for c in way if c.planned.arena.head_bytes <= head] for way in ways]
        if not all(allowed):
            continue
        chosen = [
            min(way, key=lambda c: (c.planned.arena.tail_bytes, c.report.macs)) for way in allowed
        ]
        models = [(c.planned.graph, c.planned.memory.offsets) for c in chosen]
        arena = predict_shared(models, target=goal)
        key = (arena.arena_bytes, sum(c.report.macs for c in chosen))
        if best is None or key < best[0]:
            best = key, chosen, arena
    assert best is not None
    return best[1], best[2]


def _report(
    chosen: Sequence[_Candidate],
    arena: SharedArena,
    folders: Sequence[str],
    alone: Sequence[int],
    goal: Target,
    settings: PlanSettings,
) -> SharedReport:
    limit, source = limit_of(goal, settings, arena.arena_bytes)
    own = [candidate.report for candidate in chosen]
    return SharedReport(
        models=tuple(
            shared_model(
                candidate.report,
                folder=folder,
                head_bytes=candidate.planned.arena.head_bytes,
                tail_bytes=tail,
                used_bytes=used,
            )
            for candidate, folder, tail, used in zip(
                chosen, folders, arena.tails, arena.used, strict=True
            )
        ),
        board=goal.board.name,
        core=goal.board.core,
        runtime=goal.runtime.name,
        kernels=goal.kernels.name,
        target=goal.describe(),
        arena_bytes=arena.arena_bytes,
        head_bytes=arena.head_bytes,
        tail_bytes=arena.tail_bytes,
        flash_bytes=sum(report.flash_bytes for report in own),
        separate_bytes=sum(alone),
        in_turn_bytes=max(alone),
        fits=limit is None or arena.arena_bytes <= limit,
        limit_bytes=limit,
        limit_source=source,
        warnings=tuple(
            f"{report.model}: {warning}" for report in own for warning in report.warnings
        ),
    )


def _limited(report: Report, settings: PlanSettings) -> Report:
    """The report of a model, with the limit that was given for all of them."""
    limit = settings.arena_bytes
    if limit is None:
        return report
    return replace(
        report, limit_bytes=limit, limit_source="--arena", fits=report.arena_bytes <= limit
    )
