"""What planners found and tell to reports, proofs and the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.codes.parts import CodeParts
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan

DEFECT = "left out, as the plan with it failed its check; please report this defect: {}"
"""Why something is not in the plan that could have been."""


@dataclass(frozen=True, slots=True)
class Region:
    """Operators of the original graph that run strip by strip.

    Attributes:
        operators: their labels in the original graph, in order.
        strips (count): of the last map.
        rows (count): of the last map that one strip makes.
        halo: what happens to the rows that neighbouring strips share: "recomputed", "kept", or
            "kept and recomputed" where maps differ.
        macs_ratio: multiply-accumulates of these operators with strips by those without.
    """

    operators: tuple[str, ...]
    strips: int
    rows: int
    halo: str
    macs_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was left as it is, and why.

    Attributes:
        subject: the map, operator or part of the plan.
        reason: why it was left.
    """

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A plan that the search found: no other has both a smaller arena and fewer MACs.

    Attributes:
        arena_bytes: of the chosen plan as in the report, of the others what the search estimates.
        head_bytes: of the chosen plan as in the report, of the others what the search estimates.
        macs_ratio: its multiply-accumulates by those of the model as it was.
        operators (count): of the plan.
        chosen: whether it is the plan of the report.
    """

    arena_bytes: int
    head_bytes: int
    macs_ratio: float
    operators: int
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A map that is stored as codes of less than eight bits, and what that costs.

    Multiply-accumulates and operators are those of the plan, so rows that strips compute again
    count again, and so do slices and concatenations of what is packed or unpacked.

    Attributes:
        name: of the map.
        packed: of the tensor that holds its bytes.
        bits (bits): of a code.
        channels (count): of the map.
        unpacked_bytes: of the map in int8.
        packed_bytes: positions x ceil(channels x bits / 8), rounded up to 16.
        stored_bytes: the most of ``packed`` that the plan holds at once, rounded up to 16.
        p_macs: of the operators that make the map.
        pack_macs: of the operators that pack it.
        unpack_macs: of the operators that unpack it.
        r_macs: of those that read it; 0 where a table gives their products.
        merged: whether a table gives the products of R.
        table_bytes: of the look-up tables, in flash.
        operators (count): of those that pack and unpack.
        tail_bytes: what these take of the tail.
    """

    name: str
    packed: str
    bits: int
    channels: int
    unpacked_bytes: int
    packed_bytes: int
    stored_bytes: int
    p_macs: int
    pack_macs: int
    unpack_macs: int
    r_macs: int
    merged: bool
    table_bytes: int
    operators: int
    tail_bytes: int


@dataclass(frozen=True, slots=True)
class StoredCodes:
    """A map that is stored packed.

    Attributes:
        name: of the map.
        packed: name of the tensor of bytes.
        bits: of a code.
        channels: k.
        unpacked_bytes: of the map in int8.
        packed_bytes: of what is stored, unrounded: positions · ⌈k · bits / 8⌉.
        parts: the operators that this takes.
    """

    name: str
    packed: str
    bits: int
    channels: int
    unpacked_bytes: int
    packed_bytes: int
    parts: CodeParts


@dataclass(frozen=True, slots=True)
class ArenaPrediction:
    """What a model needs on a target.

    Attributes:
        arena_bytes: the smallest multiple of 16 in which the model allocates.
        head_bytes: the planned part, with scratch buffers where the runtime puts them.
        tail_bytes: the persistent part; ``head_bytes + tail_bytes`` is what the runtime reports
            as used.
        scratch_bytes: the largest sum of kernel buffers that one operator needs at once; they
            lie within the head.
        allocation_bytes: the arena that allocation needs even if the head were empty.
        breakdown: (cause, bytes) of the tail.
        head_arena_bytes: of the head's own buffer, where head and tail stand in two;
            ``arena_bytes`` is then the sum of both.
        tail_arena_bytes: of the tail's own buffer.
    """

    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    scratch_bytes: int
    allocation_bytes: int
    breakdown: tuple[tuple[str, int], ...]
    head_arena_bytes: int | None = None
    tail_arena_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A graph with its memory plan.

    Attributes:
        regions: operators that run strip by strip.
        frontier: the plans that the search found, by arena.
        decisions: what was left as it is, and why.
        codes: maps that are stored packed.
        holds_whole: maps that may exist in strips only are whole all the same.
        floor_bytes: no way of cutting the graph in this operator order has a smaller head; None
            where none was looked for.
        usual_arena_bytes: the arena where the arena was made small and not the head, if known.
    """

    graph: Graph
    memory: MemoryPlan
    regions: tuple[Region, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    decisions: tuple[Decision, ...] = ()
    codes: tuple[StoredCodes, ...] = ()
    holds_whole: bool = False
    floor_bytes: int | None = None
    usual_arena_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A graph with its plan and the memory it needs, on the target and in the wheel."""

    graph: Graph
    memory: MemoryPlan
    content: bytes = field(repr=False)
    arena: ArenaPrediction
    wheel: ArenaPrediction
