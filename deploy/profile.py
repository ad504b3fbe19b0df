"""Feature maps of any model file: Keras models by their layers, the others by their operators.

Of a TFLite file the figures are those of its own types, and what the planner finds for its graph
as it is: the same lifetimes, the same views, in place what the target's kernels do in place. They
leave out scratch buffers and the persistent part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy import flatbuffer
from deploy.backends.tflm.layout import Layout, analyse
from deploy.graph import ASSIGN, Graph
from deploy.lifetimes import tensor_lifetimes
from deploy.memory.plan import AliasReason
from deploy.operators import OPERATORS, check_shapes
from deploy.passes.short_names import short_names
from deploy.passes.stand_ins import with_stand_ins
from deploy.report.occupancy import Box, live_bytes
from deploy.supported import check_writes
from deploy.targets import Kernels, kernels
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.maps.feature_maps import (
    Effect,
    FeatureMap,
    FeatureMaps,
    LiveSet,
    MapOperator,
    Storage,
)
from keras_fmc.model.loading import ModelFormat, model_format, saved_model_to_tflite

_FLOATS = frozenset({"float16", "float32", "float64"})
REFERENCE = "reference"
"""The kernels of the wheel, which are assumed where none are named."""


@dataclass(frozen=True, slots=True)
class GraphProfile:
    """The feature maps of one subgraph.

    Attributes:
        maps: with the bytes that the file's types take.
        as_int8: the same maps with floats in int8; None where there are no floats.
        state: (name, bytes) of variables, which keep their value from one inference to the next
            and live in the persistent part.
    """

    maps: FeatureMaps
    as_int8: FeatureMaps | None = None
    state: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        if not self.maps.maps:
            return {"model": self.maps.model, "maps": []}
        value = self.maps.to_dict()
        if self.as_int8 is not None:
            value["int8_peak_bytes"] = self.as_int8.peak_bytes
            value["int8_largest_bytes"] = self.as_int8.largest.size_bytes
        if self.state:
            value["state"] = [{"name": name, "bytes": size} for name, size in self.state]
        return value

    def to_dataframe(self) -> Any:
        """Returns the maps as a pandas.DataFrame, one row each."""
        return self.maps.to_dataframe()

    def _repr_html_(self) -> str:
        return self.maps._repr_html_()

    def to_text(self) -> str:
        """Returns tables of maps and live sets, the peak, and what it would be in int8."""
        if not self.maps.maps:
            return f"{self.maps.model}: no maps, {len(self.maps.operators)} operators\n"
        lines = [self.maps.to_text().rstrip("\n")]
        if self.as_int8 is not None:
            largest = self.as_int8.largest
            lines.append(
                f"in int8: peak {self.as_int8.peak_bytes:,} B at "
                f"{', '.join(self.as_int8.peak_operators)}, largest map {largest.name} "
                f"{largest.size_bytes:,} B"
            )
        if self.state:
            names = ", ".join(f"{name} {size:,} B" for name, size in self.state)
            lines.append(f"kept from one inference to the next, in the persistent part: {names}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class SubgraphProfiles:
    """The feature maps of a file with several subgraphs, each by itself."""

    model: str
    subgraphs: tuple[GraphProfile, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {"model": self.model, "subgraphs": [item.to_dict() for item in self.subgraphs]}

    def _repr_html_(self) -> str:
        return "\n".join(item._repr_html_() for item in self.subgraphs)

    def to_text(self) -> str:
        """Returns the tables of every subgraph."""
        count = len(self.subgraphs)
        first = (
            f"{self.model}: {count} subgraphs, each with maps of its own; a plan places those of "
            "the first, and TensorFlow Lite Micro those of the others beside them"
        )
        return "\n".join([first + "\n", *(item.to_text() for item in self.subgraphs)])


def profile_file(
    path: str | Path, library: Kernels | None = None
) -> FeatureMaps | GraphProfile | SubgraphProfiles:
    """Returns the feature maps of a .keras, .h5, SavedModel or .tflite file.

    Args:
        library: of the target, for a .tflite file; the reference kernels where none is named.

    Raises:
        BadInputError, UnsupportedModelError: the file cannot be read as a model.
    """
    kind = model_format(path)
    if kind is ModelFormat.TFLITE:
        content = flatbuffer.read_content(path)
        graphs = [_planned(g) for g in flatbuffer.read_subgraphs(content, source=str(path))]
        if len(graphs) == 1:
            return profile_graph(graphs[0], name=str(path), library=library)
        names = [f"{path}, subgraph {i}, {graph.name}" for i, graph in enumerate(graphs)]
        profiles = (
            profile_graph(graph, name=name, library=library)
            for graph, name in zip(graphs, names, strict=True)
        )
        return SubgraphProfiles(str(path), tuple(profiles))
    if kind is ModelFormat.SAVED_MODEL:
        found = profile_graph(flatbuffer.read(saved_model_to_tflite(path)), name=str(path))
        return found.as_int8 or found.maps
    from keras_fmc.maps.feature_maps import profile

    return profile(path)


def _planned(graph: Graph) -> Graph:
    """The graph that is planned: with stand-ins for what TensorFlow Lite Micro lacks."""
    try:
        return with_stand_ins(graph)
    except UnsupportedModelError:
        # No plan can be made of it; its maps are there all the same.
        return graph


def profile_graph(graph: Graph, *, name: str, library: Kernels | None = None) -> GraphProfile:
    """Returns the feature maps of a TFLite graph for the kernels of a library.

    Raises:
        BadInputError: the graph has no operators.
    """
    if not graph.operators:
        raise BadInputError(f"model {name!r} has no operators")
    library = library or kernels(REFERENCE)
    variables = [i for i, tensor in enumerate(graph.tensors) if tensor.is_variable]
    state = tuple((graph.tensors[i].name, graph.tensors[i].size_bytes) for i in variables)
    state += tuple(_resources(graph).items())
    # What stays for good takes no part in the plan, as constants do not.
    stateless = _with(graph, variables, data=b"", is_variable=False)
    check_writes(stateless, name)
    viewed = {opcode for opcode, row in OPERATORS.items() if row.view is not None}
    check_shapes(stateless, source=name, opcodes=viewed)
    floats = [i for i in graph.activations() if graph.tensors[i].dtype in _FLOATS]
    return GraphProfile(
        maps=_maps(stateless, name, library),
        as_int8=_maps(_with(stateless, floats, dtype="int8"), name, library) if floats else None,
        state=state,
    )


def _resources(graph: Graph) -> dict[str, int]:
    """Name -> bytes of the resource variables that the graph itself assigns to."""
    handles = graph.handles
    return {
        handles[operator.inputs[0]]: graph.tensors[operator.inputs[1]].size_bytes
        for operator in graph.operators
        if operator.opcode == ASSIGN and operator.inputs[0] in handles
    }


def _with(graph: Graph, tensors: Iterable[int], **changes: object) -> Graph:
    changed = list(graph.tensors)
    for index in tensors:
        changed[index] = replace(changed[index], **changes)  # type: ignore[arg-type]
    return graph.replace(tensors=tuple(changed))


def _maps(graph: Graph, model: str, library: Kernels) -> FeatureMaps:
    layout = analyse(graph, in_place=library.in_place, view_alignment=library.view_alignment_bytes)
    names = short_names(graph)
    spans = tensor_lifetimes(graph)
    operators = tuple(
        MapOperator(
            name=f"{operator.title} #{step}",
            kind=operator.title,
            inputs=tuple(names[i] for i in operator.present_inputs if i in spans),
            outputs=tuple(names[i] for i in operator.outputs if i in spans),
            effect=_effect(layout, operator.outputs),
        )
        for step, operator in enumerate(graph.operators)
    )
    live_sets = tuple(
        LiveSet(
            operator.name,
            tuple(sorted(names[t] for t, (first, last) in spans.items() if first <= step <= last)),
            size,
        )
        for (step, operator), size in zip(
            enumerate(operators), _live_bytes(layout, len(operators)), strict=True
        )
    )
    order = {t: number for number, t in enumerate(graph.inputs)}
    order |= {t: len(order) + step for t, step in graph.producers().items() if t not in order}
    return FeatureMaps(
        model=model,
        maps=tuple(
            _map(graph, layout, index, names, operators)
            for index in sorted(spans, key=lambda t: (order.get(t, 0), t))
        ),
        operators=operators,
        live_sets=live_sets,
        inputs=tuple(names[i] for i in graph.inputs),
        outputs=tuple(names[i] for i in graph.outputs),
    )


def _map(
    graph: Graph,
    layout: Layout,
    index: int,
    names: list[str],
    operators: tuple[MapOperator, ...],
) -> FeatureMap:
    home = _home(layout, index)
    reasons = {a.reason for a in layout.aliases if a.tensor == index}
    storage = Storage.STORED if home == index else Storage.VIEW
    if AliasReason.IN_PLACE in reasons:
        storage = Storage.IN_PLACE
    producer = graph.producers().get(index)
    readers = graph.consumers().get(index, ())
    tensor = graph.tensors[index]
    return FeatureMap(
        name=names[index],
        shape=tensor.shape,
        size_bytes=tensor.size_bytes,
        storage=storage,
        home=names[home],
        producer=None if producer is None else operators[producer].name,
        consumers=tuple(operators[step].name for step in readers),
    )


def _home(layout: Layout, index: int) -> int:
    """Returns the tensor in whose memory another stands: through views and operators in place, and
    from the parts of a concatenation to the whole, wherever it is made."""
    joined = AliasReason.CONCATENATION_VIEW
    of = {a.tensor: a.of for a in layout.aliases if a.reason is not joined}

    def first(tensor: int) -> int:
        while tensor in of:
            tensor = of[tensor]
        return tensor

    part_of = {first(a.tensor): a.of for a in layout.aliases if a.reason is joined}
    tensor = first(index)
    while tensor in part_of:
        tensor = first(part_of[tensor])
    return tensor


def _effect(layout: Layout, outputs: tuple[int, ...]) -> Effect:
    reasons = {a.reason for a in layout.aliases if a.tensor in outputs}
    if not reasons:
        return Effect.COMPUTE
    return Effect.ELEMENTWISE if AliasReason.IN_PLACE in reasons else Effect.VIEW


def _live_bytes(layout: Layout, operators: int) -> tuple[int, ...]:
    """Bytes that hold a value while each operator runs; bytes that are shared count once."""
    boxes, start = [], 0
    for block in layout.problem.blocks:
        held = [piece for piece in block.pieces if not piece.reserved]
        boxes += [Box(block.name, start + p.offset, start + p.end, p.start, p.stop) for p in held]
        start += max((piece.end for piece in held), default=0)
    return live_bytes(boxes, operators)
