"""The offline plan inside the flatbuffer.

TFLM reads the metadata entry ``OfflineMemoryAllocation``: int32 little endian
``[version, subgraph, n, offset_0 .. offset_{n-1}]``, one offset for each tensor of the model,
constants included; -1 leaves a tensor to TFLM's own planner.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from deploy.graph import Graph
from deploy.implicit import as_written, explicit
from keras_fmc.errors import BadInputError

METADATA_NAME = "OfflineMemoryAllocation"
_VERSION = 1


def embed(graph: Graph, offsets: Sequence[int]) -> Graph:
    """Returns the graph with the plan in its metadata, in place of any earlier plan.

    The entry has an offset for each tensor that the file will hold.
    """
    if len(offsets) != len(graph.tensors):
        raise ValueError(f"{len(offsets)} offsets for {len(graph.tensors)} tensors")
    kept = [offsets[tensor] for tensor in as_written(graph).tensors]
    # Tensors of other subgraphs are left to the runtime.
    kept += [-1 for part in graph.others for _ in part.tensors]
    entry = struct.pack(f"<3i{len(kept)}i", _VERSION, 0, len(kept), *kept)
    return graph.replace(metadata=(*_without_entry(graph), (METADATA_NAME, entry)))


def without_plan(graph: Graph) -> Graph:
    """Returns the graph without an offline plan, and so with an operator for every view."""
    return explicit(graph).replace(metadata=_without_entry(graph))


def _without_entry(graph: Graph) -> tuple[tuple[str, bytes], ...]:
    return tuple(m for m in graph.metadata if m[0] != METADATA_NAME)


def embedded_offsets(graph: Graph) -> tuple[int, ...] | None:
    """Returns the offsets of the plan inside the model, those of its main graph, or None where
    there is none.

    Raises:
        BadInputError: the entry does not hold one offset for each tensor, which TFLM refuses.
    """
    for name, data in graph.metadata:
        if name == METADATA_NAME:
            count = struct.unpack_from("<i", data, 8)[0] if len(data) >= 12 else 0
            kept = as_written(graph).tensors
            tensors = len(kept) + sum(len(part.tensors) for part in graph.others)
            if count != tensors or len(data) < 12 + 4 * count:
                raise BadInputError(
                    f"the offline plan inside the model ({METADATA_NAME}) is damaged",
                    expected=f"{tensors} offsets, one for each tensor",
                    received=f"{count} in {len(data)} bytes",
                    remedy="Export the model again without the plan",
                )
            inside = struct.unpack_from(f"<{count}i", data, 12)[: len(kept)]
            offsets = dict(zip(kept, inside, strict=True))
            return tuple(offsets.get(tensor, -1) for tensor in range(len(graph.tensors)))
    return None
