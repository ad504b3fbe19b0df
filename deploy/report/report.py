"""The report of one run: everything that text, JSON, HTML and the comparison show.

A ``Report`` is plain data. The renderers compute nothing about models or memory; what they
show is here, or follows from the plan by ``deploy.report.occupancy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploy.memory.plan import MemoryPlan, PlannedPiece
from deploy.outcome import Decision, FrontierPoint, Region, StoredCode
from deploy.passes import USUAL_PASSES

FORMAT_VERSION = 1
"""Version of report.json; it changes when a key changes its meaning."""


@dataclass(frozen=True, slots=True)
class ReportTensor:
    """A tensor in the arena.

    Attributes:
        name: of the tensor in the model.
        offset (bytes): its first byte, from the start of the arena.
        size_bytes: elements times the bytes of one; not rounded up.
        first (operator): the first that touches it; 0 for an input of the model.
        last (operator): the last that touches it, inclusive; the last of all for an output.
        alias_of: the tensor whose bytes it shares by declaration, or null.
        alias_reason: why that is right, or null.
        shape (elements): of each axis.
        dtype: type of an element.
    """

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
    """Bytes that hold a value for some operators; pieces that live together share no byte.

    Attributes:
        block: what moves together: a tensor and its views; unique.
        tensor: the one whose value the bytes hold.
        offset (bytes): the first byte, from the start of the arena.
        size_bytes: of the piece.
        start (operator): the first during which the value is held.
        stop (operator): the first after that during which it is not.
    """

    block: str
    tensor: str
    offset: int
    size_bytes: int = field(metadata={"json": "size"})
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ReportOperator:
    """An operator of the planned model, in the order of execution.

    Attributes:
        index (operator): its place in that order.
        opcode: its name in TFLite.
        name: of its first output.
        macs: multiply-accumulates of one inference.
        implicit: a view for which the file has no operator, as its bytes stand where they are
            read.
    """

    index: int
    opcode: str
    name: str
    macs: int = 0
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class FeatureMapEntry:
    """A feature map: a tensor that is no constant.

    Attributes:
        name: of the tensor.
        shape (elements): of each axis.
        size_bytes: elements times the bytes of one.
        first (operator): the first that touches it; 0 for an input of the model.
        last (operator): the last that touches it, inclusive; the last of all for an output.
    """

    name: str
    shape: tuple[int, ...]
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ComparedMap:
    """A map of the quantised Keras model beside that of the device, over all samples tried.

    Attributes:
        name: of the layer that makes it.
        shape (elements): of each axis, without the batch.
        scale (real): what one level is worth.
        differing (share): of its values that are not the same, 0 to 1.
        mean_levels (levels): by which they differ, over all values.
        worst_levels (levels): the largest difference.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    differing: float
    mean_levels: float
    worst_levels: int


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model: real = scale * (code - zero_point).

    Attributes:
        name: of the tensor.
        shape (elements): of each axis.
        dtype: type of an element.
        scale (real): what one code more is worth, or null where the tensor is not quantised.
        zero_point (code): which stands for 0, or null.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True)
class ReportMemory:
    """A memory of the board.

    Attributes:
        name: as the board's makers call it.
        size_bytes: of all of it.
        address (bytes): where it begins, or null.
        reserve_bytes: kept for the firmware itself.
        holds_arena: whether the arena stands in it; of two arenas that of the head.
        holds_tail: whether the tail stands in it, in an arena of its own.
        external: whether it is outside the chip, and several times slower.
    """

    name: str
    size_bytes: int
    address: int | None = None
    reserve_bytes: int = 0
    holds_arena: bool = False
    external: bool = False
    holds_tail: bool = False

    @property
    def available_bytes(self) -> int:
        return max(0, self.size_bytes - self.reserve_bytes)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What TFLM's own planner makes of the model as it was; keys as in the report itself.

    Attributes:
        arena_bytes: the N of ``uint8_t tensor_arena[N]``.
        head_bytes: the reused part of it, scratch included.
        tail_bytes: the part that stays for good.
        scratch_bytes: the largest sum of kernel buffers that one operator needs at once.
        macs: multiply-accumulates of one inference.
        flash_bytes: size of the model without a plan.
        verified_arena_bytes: the smallest arena that ran in the wheel; null: not run.
        predicted_arena_bytes_wheel: the same as it was predicted.
        fits: whether the arena is within the limit.
        operators (count): of the model.
        tensors: where TFLM puts them.
        time_ms (milliseconds): of one inference, estimated as that of the report.
    """

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
    time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What ``report.json`` holds; the fields are its keys, in this order.

    This is the only place that says what a key means; ``deploy.report.keys`` makes the table of
    the documentation from it.

    Attributes:
        model: the file that was planned, or the name of the Keras model.
        board: by the name that ``fmc boards`` lists; ``host`` is the tflite_micro wheel.
        core: processor of the board.
        runtime: version of TensorFlow Lite Micro.
        kernels: kernel library.
        arena_bytes: the N of ``uint8_t tensor_arena[N]`` for that runtime and those kernels: head
            and tail, or more where allocation itself needs it, rounded up to 16. Of generated C:
            all its static memory.
        head_bytes: the part of the arena that operators reuse, scratch included.
        tail_bytes: the part that stays for good: structures of the runtime and of the kernels.
        scratch_bytes: the largest sum of kernel buffers that one operator needs at once; they lie
            within the head.
        lower_bound_bytes: no plan of this operator order, these cuts and these aliases has a
            smaller head.
        proven_optimal: whether a head below ``head_bytes`` is proved impossible for this operator
            order, these cuts and these aliases.
        fits: whether the arena is within the limit; true without one.
        macs: multiply-accumulates of one inference of the planned model.
        macs_ratio (times): ``macs`` by those of the model as it was.
        flash_bytes: size of the planned model, ``model.tflite``.
        head_arena_bytes: the array of the head, where head and tail stand in two memories
            (``--two-arenas``), ``arena_bytes`` being the sum of both; null: one array holds both.
        tail_arena_bytes: the array of the tail, or null.
        limit_bytes: what the arena may use; null: nothing limits it.
        limit_source: where the limit comes from.
        engine: the part of the planner that found the offsets.
        passes: what rewrote the graph before it was planned, in order, as ``--passes`` takes it;
            empty: nothing did.
        interrupted: what ended the search before its work was done, Ctrl-C or a time limit; null:
            nothing did. Only then may another run find another plan.
        search_bound_bytes: no cuts in this operator order have a smaller head; null: strips were
            not looked for.
        bit_exact: whether outputs equal those of the model as it was, byte for byte; null: not
            compared.
        verified: whether the planned model ran in TFLM with equal outputs.
        verified_reason: how that was seen, or why it was not tried.
        verified_arena_bytes: the smallest arena that ran in the wheel; null: not run.
        predicted_arena_bytes_wheel: the same as it was predicted.
        peak_operator (operator): the first during which most bytes hold a value.
        peak_tensors: those whose values these are, the largest first.
        baseline: what TFLM's own planner makes of the model as it was.
        inputs: of the model.
        outputs: of the model.
        memories: of the board, the preferred one first.
        regions: operators of the model as it was that run strip by strip.
        codes: maps that are stored in less than eight bits.
        frontier: plans that the search found; none has both a smaller arena and fewer MACs.
        decisions: what was left as it is, and why.
        warnings: what the user should know before flashing.
        feature_maps_before: those of the model as it was.
        feature_maps_after: those of the planned model.
        operators: of the planned model.
        tensors: of the planned model that live in the arena, by their index in it.
        pieces: which bytes hold a value when, by time and address.
        target: what the figures hold for, on one line.
        model_sha256: SHA-256 of ``model.tflite``, in hexadecimal.
        time_instructions (instructions): of one inference, estimated from products and bytes that
            are moved, built with NDEBUG; null where there are no figures for the kernels.
        time_ms (milliseconds): of one inference at ``clock_hz``, those instructions times the
            cycles that the core takes for one; null where core or clock are not known.
        time_error (share): by how much ``time_ms`` may be off, or null.
        clock_hz (Hz): the highest clock of the board's core, or null.
        time_ratio (times): that by the same estimate for the model as it was.
        time_ratio_assertions (times): the same where TFLM is built without NDEBUG.
        time_source: how the figures of the estimate were measured.
        stack_bytes: what generated C takes of the stack at most, besides its static memory and
            what memcpy and its like take; null: not known, or not generated C.
        stack_source: whose figure that is, or why there is none.
        max_macs: of generated C the limit of ``macs_ratio`` that it was made for.
        generated_c_bytes: static memory that generated C needs for the model as it was, the image
            in RAM; null: it refuses the model, or the search for it takes more than a moment.
        notes: what is known of the board and of its kernels.
        comparison: maps of the Keras model beside those of the device, where these were compared.
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
    head_arena_bytes: int | None = None
    tail_arena_bytes: int | None = None
    limit_bytes: int | None = None
    limit_source: str = ""
    engine: str = ""
    passes: str = USUAL_PASSES
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
    memories: tuple[ReportMemory, ...] = ()
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
    target: str = ""
    model_sha256: str = ""
    time_instructions: int | None = None
    time_ms: float | None = None
    time_error: float | None = None
    clock_hz: int | None = None
    time_ratio: float | None = None
    time_ratio_assertions: float | None = None
    time_source: str = ""
    stack_bytes: int | None = None
    stack_source: str = ""
    max_macs: float | None = None
    generated_c_bytes: int | None = None
    notes: tuple[str, ...] = ()
    comparison: tuple[ComparedMap, ...] = ()

    @property
    def bytes_over(self) -> int:
        """How many bytes the arena is larger than the limit; 0 if it fits."""
        return 0 if self.limit_bytes is None else max(0, self.arena_bytes - self.limit_bytes)

    @property
    def written_operators(self) -> int:
        """How many operators the file has, and the interpreter runs."""
        return sum(not operator.implicit for operator in self.operators)

    def to_json(self) -> str:
        """Returns report.json: keys in the order of the fields, the same text on every run."""
        from deploy.report.codec import encode

        return encode(self)

    def _repr_html_(self) -> str:
        """A small table, in a notebook."""
        from deploy.report.notebook import to_table

        return to_table(self)

    def to_dataframe(self) -> Any:
        """Returns the tensors in the arena as a pandas.DataFrame."""
        from deploy.report.notebook import tensor_frame

        return tensor_frame(self)

    def metrics(self) -> dict[str, float]:
        """Returns the numbers as a flat dict, those of the baseline behind ``baseline_``."""
        from deploy.report.notebook import metrics

        return metrics(self)

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
