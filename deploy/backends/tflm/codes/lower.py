"""Which code maps of a graph are stored as bits, and the whole lowering of codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.backends.tflm.codes.pack import pack_maps, packed_name, stored_bytes
from deploy.backends.tflm.codes.tables import use_tables
from deploy.codes.levels import CodeMap, find_code_maps
from deploy.codes.parts import code_parts
from deploy.graph import Graph
from deploy.operators.sets import WEIGHTED
from deploy.outcome import StoredCodes
from keras_fmc.errors import BadInputError
from keras_fmc.names import free_name

THRESHOLD_SCALE = 2.0**-8
"""What a bit stands for that P or R of a GF(2) bottleneck decides, see
`keras_fmc.layers.bit_planes.ONE`."""


@dataclass(frozen=True, slots=True)
class LoweredCodes:
    """A graph whose stored codes are packed, and what they are."""

    graph: Graph
    stored: tuple[StoredCodes, ...]


def lower_codes(
    graph: Graph, *, maps: Mapping[str, int] | None = None, shared: bool = True
) -> LoweredCodes:
    """Packs the stored code maps of a graph and replaces what is cheaper as a look-up.

    A graph without codes comes back as it is. The outputs are the same, bit for bit.

    Args:
        maps, shared: as for `pack_codes`.
    """
    tabled = use_tables(graph)
    if maps is None:
        maps = {tabled.tensors[m.tensor].name: m.bits for m in stored_code_maps(tabled)}
    if not maps:
        return LoweredCodes(graph, ())
    lowered = use_tables(pack_codes(tabled, maps=maps, shared=shared))
    # New tensors come last, so that these are they even where the model uses such a name.
    indices = {tensor.name: index for index, tensor in enumerate(lowered.tensors)}
    lowered = _uniquely_named(lowered)
    run_of = _runs(tabled, {found.tensor: found for found in find_code_maps(tabled)})
    single_bits = {found.tensor for found in find_code_maps(tabled) if found.bits == 1}
    written = lowered.producers()
    stored = []
    for index, tensor in enumerate(tabled.tensors):
        if tensor.is_constant or tensor.name not in maps:
            continue
        packed = indices[packed_name(tensor.name)]
        if packed not in written:
            # A table from before the map to behind it has made both superfluous.
            continue
        bits = maps[tensor.name]
        parts = code_parts(
            lowered,
            tensor=index,
            stored=packed,
            originals=len(tabled.tensors),
            single_bits={t for t in single_bits if run_of[t] == run_of.get(index, index)},
        )
        stored.append(
            StoredCodes(
                name=tensor.name,
                packed=lowered.tensors[packed].name,
                bits=bits,
                channels=tensor.shape[-1],
                unpacked_bytes=tensor.size_bytes,
                packed_bytes=stored_bytes(tabled, index, bits),
                parts=parts,
            )
        )
    return LoweredCodes(lowered, tuple(stored))


def _uniquely_named(graph: Graph) -> Graph:
    """Later tensors give way; what was in the graph before packing keeps its name."""
    taken: set[str] = set()
    tensors = []
    for tensor in graph.tensors:
        name = free_name(tensor.name, taken, first=2)
        tensors.append(tensor if name == tensor.name else dataclasses.replace(tensor, name=name))
    return graph.replace(tensors=tuple(tensors))


def stored_code_maps(graph: Graph) -> tuple[CodeMap, ...]:
    """Returns the code maps that a plan should store packed, in the order of production.

    Maps of bits that follow each other in one bottleneck (its codes, the bit planes, the stored
    bits, the restored planes) are one choice: of such a run, the map of the fewest bytes is stored
    (of several, that of the fewest bits a code, which is the cheapest to pack) and the others live
    for a strip. Codes that a convolution of the model makes from other codes are a choice of their
    own, of one bit or more. Maps that packing would not make smaller are left out.
    """
    maps = {found.tensor: found for found in find_code_maps(graph)}
    sizes = {t: stored_bytes(graph, t, found.bits) for t, found in maps.items()}
    run_of = _runs(graph, maps)

    def cost(tensor: int) -> tuple[int, int]:
        return sizes[tensor], maps[tensor].bits

    best: dict[int, int] = {}
    for tensor in maps:
        run = run_of[tensor]
        if run not in best or cost(tensor) < cost(best[run]):
            best[run] = tensor
    produced = graph.producers()
    chosen = [t for t in best.values() if sizes[t] < graph.tensors[t].size_bytes]
    return tuple(maps[t] for t in sorted(chosen, key=lambda t: produced[t]))


def _runs(graph: Graph, maps: Mapping[int, CodeMap]) -> dict[int, int]:
    """Returns code map → the first of the maps that are in one bottleneck with it."""
    leader = {tensor: tensor for tensor in maps}

    def find(tensor: int) -> int:
        while leader[tensor] != tensor:
            tensor = leader[tensor]
        return tensor

    producers = graph.producers()
    for tensor, found in maps.items():
        convolved = graph.operators[producers[tensor]].opcode in WEIGHTED
        for earlier in _made_from(graph, tensor, maps):
            has_bits = 1 in (found.bits, maps[earlier].bits)
            if has_bits and (
                not convolved or _is_threshold(graph, found) or _is_threshold(graph, maps[earlier])
            ):
                leader[find(tensor)] = find(earlier)
    return {tensor: find(tensor) for tensor in maps}


def _is_threshold(graph: Graph, found: CodeMap) -> bool:
    """Whether zeros and ones of a GF(2) bottleneck, whose scale no range of a map has."""
    quantization = graph.tensors[found.tensor].quantization
    return (
        found.bits == 1
        and quantization is not None
        and all(abs(scale / THRESHOLD_SCALE - 1) < 1e-4 for scale in quantization.scales)
    )


def pack_codes(
    graph: Graph, *, maps: Mapping[str, int] | None = None, shared: bool = True
) -> Graph:
    """Returns the graph with its stored code maps packed.

    Args:
        maps: tensor name → bits, instead of what `stored_code_maps` finds.
        shared: as for `pack_map`.

    Raises:
        BadInputError: a name that is no tensor of the graph.
        UnsupportedModelError: a map of `maps` that cannot be packed so.
    """
    if maps is None:
        return pack_maps(
            graph, [(found.tensor, found.bits) for found in stored_code_maps(graph)], shared=shared
        )
    indices = {tensor.name: index for index, tensor in enumerate(graph.tensors)}
    unknown = sorted(set(maps) - set(indices))
    if unknown:
        raise BadInputError("maps to pack that are not in the model", received=", ".join(unknown))
    return pack_maps(graph, [(indices[name], bits) for name, bits in maps.items()], shared=shared)


def _made_from(graph: Graph, tensor: int, maps: Mapping[int, CodeMap]) -> set[int]:
    """Code maps that a code map is made from by one operator, or by a look-up."""
    producers = graph.producers()
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        step = producers.get(waiting.pop())
        if step is None:
            continue
        for source in graph.operators[step].present_inputs:
            subject = graph.tensors[source]
            if source in maps:
                found.add(source)
            elif not subject.is_constant and (subject.dtype == "int32" or len(subject.shape) == 5):
                waiting.append(source)
    return found
