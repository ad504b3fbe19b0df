"""The offline plan inside the flatbuffer.

TFLM reads the metadata entry ``OfflineMemoryAllocation``: int32 little endian
``[version, subgraph, n, offset_0 .. offset_{n-1}]``, one offset for each tensor of the model,
constants included; -1 leaves a tensor to TFLM's own planner.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from deploy.graph import Graph
from keras_fmc.errors import BadInputError

METADATA_NAME = "OfflineMemoryAllocation"
_VERSION = 1


def embed(graph: Graph, offsets: Sequence[int]) -> Graph:
    """Returns the graph with the plan in its metadata, in place of any earlier plan."""
    if len(offsets) != len(graph.tensors):
        raise ValueError(f"{len(offsets)} offsets for {len(graph.tensors)} tensors")
    # Tensors of other subgraphs are left to the runtime.
    others = sum(len(part.tensors) for part in graph.others)
    everything = (*offsets, *(-1 for _ in range(others)))
    entry = struct.pack(f"<3i{len(everything)}i", _VERSION, 0, len(everything), *everything)
    return without_plan(graph).replace(
        metadata=(*without_plan(graph).metadata, (METADATA_NAME, entry))
    )


def without_plan(graph: Graph) -> Graph:
    """Returns the graph without an offline plan."""
    return graph.replace(metadata=tuple(m for m in graph.metadata if m[0] != METADATA_NAME))


def embedded_offsets(graph: Graph) -> tuple[int, ...] | None:
    """Returns the offsets of the plan inside the model, those of its main graph, or None where
    there is none.

    Raises:
        BadInputError: the entry does not hold one offset for each tensor, which TFLM refuses.
    """
    for name, data in graph.metadata:
        if name == METADATA_NAME:
            count = struct.unpack_from("<i", data, 8)[0] if len(data) >= 12 else 0
            tensors = sum(len(part.tensors) for part in graph.subgraphs)
            if count != tensors or len(data) < 12 + 4 * count:
                raise BadInputError(
                    f"the offline plan inside the model ({METADATA_NAME}) is damaged",
                    expected=f"{tensors} offsets, one for each tensor",
                    received=f"{count} in {len(data)} bytes",
                    remedy="Export the model again without the plan",
                )
            return struct.unpack_from(f"<{count}i", data, 12)[: len(graph.tensors)]
    return None
