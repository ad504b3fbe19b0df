"""The report of one run: everything that text, JSON, HTML and the comparison show.

A ``Report`` is plain data. The renderers compute nothing about models or memory; what they
show is here, or follows from the plan by ``deploy.report.occupancy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.memory.plan import MemoryPlan, PlannedPiece
from deploy.outcome import Decision, FrontierPoint, Region, StoredCode

FORMAT_VERSION = 1
"""Version of report.json; it changes when a key changes its meaning."""


@dataclass(frozen=True, slots=True)
class ReportTensor:
    """One tensor in the arena: bytes [offset, offset + size_bytes), operators first to last."""

    name: str
    offset: int
    size_bytes: int = field(metadata={"json": "size"})
    first: int
    last: int
    alias_of: str | None = None
    alias_reason: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = "int8"


@dataclass(frozen=True, slots=True)
class ReportPiece:
    """Bytes [offset, offset + size_bytes) that hold a value during operators [start, stop)."""

    block: str
    tensor: str
    offset: int
    size_bytes: int = field(metadata={"json": "size"})
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ReportOperator:
    """One operator; ``macs`` are its multiply-accumulates of one inference."""

    index: int
    opcode: str
    name: str
    macs: int = 0


@dataclass(frozen=True, slots=True)
class FeatureMapEntry:
    """A feature map: its int8 bytes and the first and last operator that touch it."""

    name: str
    shape: tuple[int, ...]
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model: real = scale * (code - zero_point)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of the board. ``reserve_bytes`` of it are kept for the firmware itself."""

    name: str
    size_bytes: int
    address: int | None = None
    reserve_bytes: int = 0
    holds_arena: bool = False

    @property
    def available_bytes(self) -> int:
        return max(0, self.size_bytes - self.reserve_bytes)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same figures for TFLM's own plan of the unchanged model."""

    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    scratch_bytes: int
    macs: int
    flash_bytes: int
    verified_arena_bytes: int | None = None
    predicted_arena_bytes_wheel: int | None = None
    fits: bool | None = None
    operators: int = 0
    tensors: tuple[ReportTensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What `report.json` holds; the fields are its keys, in this order.

    Attributes:
        board: the board, or None where a bare arena size was asked for.
        arena_bytes: the N of ``uint8_t tensor_arena[N]`` for the named runtime and kernels.
        head_bytes: the reused part of the arena, scratch included.
        scratch_bytes: the largest sum of kernel buffers of one operator.
        limit_bytes: what the arena may use, None if nothing limits it; ``limit_source`` says
            where the limit comes from.
        macs_ratio: MACs by those of the unchanged model.
        bit_exact: outputs equal those of the source model byte for byte; None: not compared.
        verified: the emitted model ran in the arena that was predicted; ``verified_reason``
            says how, or why that was not tried.
        verified_arena_bytes: the smallest arena that ran in the wheel.
        interrupted: what ended the search before its work was done: Ctrl-C, or a time limit; None
            where nothing did. Only then may another run find another plan.
        search_bound_bytes: no way of cutting the model in this operator order has a smaller
            head; None where strips were not looked for.
        peak_operator: the first operator at which most bytes are alive.
    """

    model: str
    board: str | None
    core: str | None
    runtime: str
    kernels: str
    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    scratch_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    fits: bool
    macs: int
    macs_ratio: float
    flash_bytes: int
    limit_bytes: int | None = None
    limit_source: str = ""
    engine: str = ""
    interrupted: str | None = None
    search_bound_bytes: int | None = None
    bit_exact: bool | None = None
    verified: bool = False
    verified_reason: str = "not run"
    verified_arena_bytes: int | None = None
    predicted_arena_bytes_wheel: int | None = None
    peak_operator: int = 0
    peak_tensors: tuple[str, ...] = ()
    baseline: Baseline | None = None
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    memories: tuple[Memory, ...] = ()
    regions: tuple[Region, ...] = ()
    codes: tuple[StoredCode, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    feature_maps_before: tuple[FeatureMapEntry, ...] = ()
    feature_maps_after: tuple[FeatureMapEntry, ...] = ()
    operators: tuple[ReportOperator, ...] = ()
    tensors: tuple[ReportTensor, ...] = ()
    pieces: tuple[ReportPiece, ...] = ()

    @property
    def bytes_over(self) -> int:
        """How many bytes the arena is larger than the limit; 0 if it fits."""
        return 0 if self.limit_bytes is None else max(0, self.arena_bytes - self.limit_bytes)

    def to_json(self) -> str:
        """Returns report.json: keys in the order of the fields, the same text on every run."""
        from deploy.report.codec import encode

        return encode(self)

    @staticmethod
    def from_json(text: str, *, source: str = "report") -> Report:
        """Reads what ``to_json`` wrote; unknown keys are passed over.

        Raises:
            BadInputError: not JSON, or a key is missing or holds the wrong type.
        """
        from deploy.report.codec import decode

        return decode(text, source=source)


def report_tensors(plan: MemoryPlan) -> tuple[ReportTensor, ...]:
    """Returns the tensors of a plan in the order of their indices."""
    return tuple(
        ReportTensor(
            name=t.name,
            offset=t.offset,
            size_bytes=t.size_bytes,
            first=t.first,
            last=t.last,
            alias_of=t.alias_of,
            alias_reason=None if t.alias_reason is None else t.alias_reason.value,
            shape=t.shape,
            dtype=t.dtype,
        )
        for t in sorted(plan.tensors, key=lambda t: t.index)
    )


def report_pieces(pieces: tuple[PlannedPiece, ...]) -> tuple[ReportPiece, ...]:
    """Returns the pieces of a plan ordered by time, then by address."""
    return tuple(
        ReportPiece(p.block, p.tensor, p.offset, p.size_bytes, p.start, p.stop)
        for p in sorted(pieces, key=lambda p: (p.start, p.offset, p.stop, p.block, p.tensor))
    )
