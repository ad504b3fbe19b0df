"""The packing problem of a program, for the memory planner, and the plan it gives.

``deploy.backends.tflm.layout.analyse`` finds views in any graph by itself. A program knows more:
which slices had better be real copies, and that all strips of a map take over another map's
place together. So it writes the layout down directly; the replay of ``deploy.proof.replay``, which
knows nothing of strips, estimates the plan that comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from deploy.backends.tflm.layout import Layout, memory_plan
from deploy.backends.tflm.online import momentary_bytes
from deploy.backends.tflm.overlap import overlap_distance
from deploy.backends.tflm.settle import settled
from deploy.backends.tflm.sharing import Alias
from deploy.backends.tflm.strips.emit import emit
from deploy.backends.tflm.strips.footprint import Footprint
from deploy.backends.tflm.strips.network import Network, ValueNumber
from deploy.backends.tflm.strips.schedule import Concatenation, Program, RowSlice, Run
from deploy.backends.tflm.strips.unsound import Unsound
from deploy.graph import Graph
from deploy.lifetimes import tensor_lifetimes
from deploy.memory.plan import AliasReason, MemoryPlan
from deploy.memory.planner import plan
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, Block, Piece, Problem, round_up
from deploy.operators.sets import RESHAPES
from deploy.passes.dead import drop_dead_tensors
from deploy.targets import Kernels
from keras_fmc.names import free_name


@dataclass(frozen=True, slots=True)
class CutGraph:
    """A graph in strips with its packing problem.

    ``overlaps`` are the operators whose outputs grow into their inputs, with the least distance
    in bytes that their kernels allow.
    """

    graph: Graph
    layout: Layout
    overlaps: dict[int, int]


def cut_graph(
    network: Network,
    program: Program,
    found: Footprint,
    kernels: Kernels,
    *,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> CutGraph | None:
    """Writes a program down as a graph; ``alignment`` is the runtime's.

    None if the kernels cannot read views so placed, or are known to compute a strip wrongly.
    """
    if Unsound(network, kernels).any_in(program):
        return None
    whole, tensor_of = emit(network, program)
    graph, moved = drop_dead_tensors(whole)
    tensor = {value: moved[t] for value, t in tensor_of.items() if t in moved}
    if any(
        found.place[value][1] % kernels.view_alignment_bytes
        for value in tensor
        if value in found.place
    ):
        return None
    scratch = momentary_bytes(graph, kernels, alignment=alignment)
    overlaps = {
        index: distance
        for index, step in enumerate(program.steps)
        if isinstance(step, Run)
        and step.outputs
        and step.outputs[0] in found.grown_into
        and _share_bytes(graph, found, tensor, step)
        and (distance := overlap_distance(graph.operators[index], graph, kernels)) is not None
    }
    aliases = _aliases(graph, program, found, tensor, overlaps)
    layout = _layout(graph, found, tensor, scratch, aliases, alignment)
    return CutGraph(graph, layout, overlaps)


def placed(
    cut: CutGraph,
    kernels: Kernels,
    *,
    rounds: int,
    stop: Callable[[], bool] | None = None,
) -> MemoryPlan:
    """Returns a plan of the graph's tensors, checked by replay.

    ``rounds`` and ``stop`` limit the planner, as they do in ``planner.plan``.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    graph = cut.graph
    placement = plan(cut.layout.problem, rounds=rounds, stop=stop)
    found = memory_plan(cut.layout, placement)
    unit = cut.layout.problem.alignment_bytes
    return settled(graph, found, kernels, overlaps=cut.overlaps, alignment=unit)


def _share_bytes(graph: Graph, found: Footprint, tensor: dict[ValueNumber, int], step: Run) -> bool:
    """Whether an output stands in bytes of its input: strips of one map may, or not, as they go."""
    output, source = step.outputs[0], step.inputs[0]
    (block, at), (other, start) = found.place[output], found.place[source]
    return (
        block == other
        and at < start + graph.tensors[tensor[source]].size_bytes
        and start < at + graph.tensors[tensor[output]].size_bytes
    )


def _layout(
    graph: Graph,
    found: Footprint,
    tensor: dict[ValueNumber, int],
    scratch: list[tuple[int, int]],
    aliases: tuple[Alias, ...],
    alignment: int,
) -> Layout:
    block_of = [-1] * len(graph.tensors)
    offset_in_block = [0] * len(graph.tensors)
    for value, index in tensor.items():
        block_of[index], offset_in_block[index] = found.place[value]
    lifetimes = tensor_lifetimes(graph)
    steps = sorted({step for step, _ in scratch})
    reservations: dict[int, list[tuple[Piece, int]]] = {}
    for index, (first, last) in lifetimes.items():
        size = round_up(graph.tensors[index].size_bytes, alignment)
        for step in steps:
            if first <= step <= last:
                reserved = Piece(offset_in_block[index], size, step, step + 1, reserved=True)
                reservations.setdefault(block_of[index], []).append((reserved, index))
    blocks, owners = [], []
    for number, (rows, values) in enumerate(zip(found.blocks, found.owners, strict=True)):
        pieces = [Piece(r.start, r.stop - r.start, r.first, r.until) for r in rows]
        unseen = reservations.get(number, [])
        pieces += [piece for piece, _ in unseen]
        blocks.append(Block(f"block {number}", tuple(pieces), alignment))
        owners.append((*(tensor[value] for value in values), *(index for _, index in unseen)))
    for number, (step, size_bytes) in enumerate(scratch):
        piece = Piece(0, round_up(size_bytes, alignment), step, step + 1)
        name = f"scratch {number} of {graph.label(step)}"
        blocks.append(Block(name, (piece,), alignment, scratch=True))
        owners.append((-1,))
    return Layout(
        graph=graph,
        problem=Problem(tuple(_named(graph, blocks, owners)), alignment_bytes=alignment),
        block_of=tuple(block_of),
        offset_in_block=tuple(offset_in_block),
        aliases=aliases,
        owners=tuple(owners),
    )


def _named(graph: Graph, blocks: list[Block], owners: list[tuple[int, ...]]) -> list[Block]:
    """Names a block after the first tensor in it, as long as names are not taken."""
    taken: set[str] = set()
    named = []
    for block, tensors in zip(blocks, owners, strict=True):
        name = block.name if block.scratch else graph.tensors[tensors[0]].name
        named.append(replace(block, name=free_name(name, taken, "{} ({})", first=2)))
    return named


def _aliases(
    graph: Graph,
    program: Program,
    found: Footprint,
    tensor: dict[ValueNumber, int],
    overlaps: dict[int, int],
) -> tuple[Alias, ...]:
    aliases = []
    for index, step in enumerate(program.steps):
        if isinstance(step, RowSlice) and index not in found.copies:
            pair = Alias(tensor[step.output], tensor[step.source], AliasReason.SLICE_VIEW)
            aliases.append(pair)
        elif isinstance(step, Concatenation):
            aliases += [
                Alias(tensor[source], tensor[step.output], AliasReason.CONCATENATION_VIEW)
                for source in step.sources
            ]
        elif isinstance(step, Run) and step.outputs:
            output = step.outputs[0]
            if output in found.in_place_of:
                place = found.place[output]
                source = next(v for v in step.inputs if v >= 0 and found.place[v] == place)
                renames = graph.operators[index].opcode in RESHAPES
                reason = AliasReason.RESHAPE_VIEW if renames else AliasReason.IN_PLACE
                aliases.append(Alias(tensor[output], tensor[source], reason))
            elif index in overlaps:
                source = step.inputs[0]
                aliases.append(Alias(tensor[output], tensor[source], AliasReason.OVERLAP))
            elif step.inputs and step.inputs[0] in found.place and _is_view(found, step):
                aliases.append(
                    Alias(tensor[output], tensor[step.inputs[0]], AliasReason.RESHAPE_VIEW)
                )
    return tuple(aliases)


def _is_view(found: Footprint, step: Run) -> bool:
    """Whether an operator computes nothing: its output owns no rows of any block."""
    block, _ = found.place[step.outputs[0]]
    return step.outputs[0] not in found.owners[block]
