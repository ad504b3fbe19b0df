"""From a graph to the packing problem: who shares bytes, and which bytes live when.

Tensors that a view or an in-place operator ties together become one block, whose members keep
their distances. Within a block every byte is live from the operator that computes its value to
the last operator that reads that value, through whatever view. So a map that is sliced strip by
strip dies strip by strip, and one that is concatenated from strips is born strip by strip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.backends.tflm.sharing import Alias, Sharing
from deploy.graph import Graph
from deploy.lifetimes import TensorNumber, tensor_lifetimes
from deploy.memory.plan import AliasReason, MemoryPlan, PlannedPiece, PlannedTensor
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, Block, Piece, Placement, Problem, round_up
from keras_fmc.names import free_name


@dataclass(frozen=True, slots=True)
class Layout:
    """The packing problem of a graph and the way back to its tensors.

    ``block_of[t]`` is the block of tensor t (-1: not in the arena), ``offset_in_block[t]`` its
    first byte there. ``owners[b][p]`` is the tensor whose value piece p of block b holds.
    """

    graph: Graph
    problem: Problem
    block_of: tuple[int, ...]
    offset_in_block: tuple[int, ...]
    aliases: tuple[Alias, ...]
    owners: tuple[tuple[int, ...], ...]


def analyse(
    graph: Graph,
    *,
    in_place: Iterable[str] = (),
    scratch: Sequence[tuple[int, int]] = (),
    view_alignment: int = 1,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
    overlaps: Mapping[int, int] | None = None,
    reasons: Iterable[AliasReason] = AliasReason,
    given: Sequence[int] | None = None,
) -> Layout:
    """Returns the packing problem of a graph.

    Args:
        in_place: opcodes whose output may start where one input starts.
        scratch: (operator, bytes) of every kernel buffer; each becomes a block of its own.
        view_alignment: bytes that the offset of a view within its block must be a multiple of.
        alignment: what the offset of a block, and of an output over its input, is a multiple of.
        overlaps: operator -> smallest safe (input start - output start) in bytes, for those whose
            output may grow into their first input while they run.
        reasons: why tensors may share bytes; an alias is a constraint, so fewer may need less.
        given: where tensors stand already, one offset for each; only what stands so is an alias.
    """
    sharing = Sharing(
        graph,
        frozenset(in_place),
        view_alignment,
        overlaps or {},
        alignment=alignment,
        reasons=frozenset(reasons),
        given=given,
    )
    sharing.merge()
    return _layout(sharing, scratch)


def memory_plan(layout: Layout, placement: Placement) -> MemoryPlan:
    """Returns the plan that a placement of the layout's blocks means for the graph's tensors.

    Its head is the placement's height; ``settle.settled`` says what the runtime makes of that.
    """
    graph = layout.graph
    offsets = tuple(
        -1 if block < 0 else placement.offsets[block] + inside
        for block, inside in zip(layout.block_of, layout.offset_in_block, strict=True)
    )
    alias_of = {alias.tensor: alias for alias in layout.aliases}
    tensors = []
    for index, (first, last) in tensor_lifetimes(graph).items():
        tensor, alias = graph.tensors[index], alias_of.get(index)
        tensors.append(
            PlannedTensor(
                index=index,
                name=tensor.name,
                shape=tensor.shape,
                dtype=tensor.dtype,
                offset=offsets[index],
                size_bytes=tensor.size_bytes,
                first=first,
                last=last,
                alias_of=graph.tensors[alias.of].name if alias else None,
                alias_reason=alias.reason if alias else None,
            )
        )
    pieces = tuple(
        PlannedPiece(
            block=block.name,
            tensor=graph.tensors[owner].name if owner >= 0 else block.name,
            offset=offset + piece.offset,
            size_bytes=piece.size_bytes,
            start=piece.start,
            stop=piece.stop,
        )
        for block, offset, owners in zip(
            layout.problem.blocks, placement.offsets, layout.owners, strict=True
        )
        for piece, owner in zip(block.pieces, owners, strict=True)
        if not piece.reserved and not block.scratch
    )
    return MemoryPlan(
        tensors=tuple(tensors),
        pieces=pieces,
        offsets=offsets,
        head_bytes=placement.height_bytes,
        lower_bound_bytes=placement.lower_bound_bytes,
        proven_optimal=placement.proven_optimal,
        engine=placement.engine,
    )


def _layout(sharing: Sharing, scratch: Sequence[tuple[int, int]]) -> Layout:
    blocks: list[Block] = []
    owners: list[tuple[int, ...]] = []
    block_of = [-1] * len(sharing.graph.tensors)
    offset_in_block = [0] * len(sharing.graph.tensors)
    names: set[str] = set()
    end = len(sharing.graph.operators)
    roots = {sharing.root[t] for t in sharing.spans}
    for root in sorted(roots, key=lambda r: min(sharing.group[r])):
        members = [t for t in sorted(sharing.group[root]) if sharing.size[t]]
        if not members:
            continue
        low = min(sharing.distance[t] for t in members)
        for tensor in members:
            block_of[tensor] = len(blocks)
            offset_in_block[tensor] = sharing.distance[tensor] - low
        spans = sharing.values(members)
        pieces = [Piece(s.start - low, s.stop - s.start, s.first, min(s.until, end)) for s in spans]
        reservations = _reservations(sharing, members, low, scratch)
        blocks.append(
            Block(
                free_name(sharing.graph.tensors[members[0]].name, names, "{} ({})", first=2),
                (*pieces, *reservations),
                sharing.alignment,
            )
        )
        owners.append((*(s.origin for s in spans), *(members[0] for _ in reservations)))
    for number, (step, size_bytes) in enumerate(scratch):
        name = free_name(
            f"scratch {number} of {sharing.graph.label(step)}", names, "{} ({})", first=2
        )
        piece = Piece(0, round_up(size_bytes, sharing.alignment), step, step + 1)
        blocks.append(Block(name, (piece,), sharing.alignment, scratch=True))
        owners.append((-1,))
    return Layout(
        graph=sharing.graph,
        problem=Problem(tuple(blocks), alignment_bytes=sharing.alignment),
        block_of=tuple(block_of),
        offset_in_block=tuple(offset_in_block),
        aliases=tuple(sharing.aliases),
        owners=tuple(owners),
    )


def _reservations(
    sharing: Sharing, members: list[TensorNumber], low: int, scratch: Sequence[tuple[int, int]]
) -> list[Piece]:
    """Where the runtime, which knows whole tensors only, will not put a kernel's buffer."""
    steps = sorted({step for step, _ in scratch})
    return [
        Piece(
            sharing.distance[t] - low,
            round_up(sharing.size[t], sharing.alignment),
            step,
            step + 1,
            reserved=True,
        )
        for t in members
        for step in steps
        if sharing.spans[t][0] <= step <= sharing.spans[t][1]
    ]
