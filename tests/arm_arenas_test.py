"""Arenas of single operators as TensorFlow Lite Micro has them on emulated Cortex-M cores.

The figures in ``tests/data/arm_arenas.json`` were measured with the unmodified library, its own
kernels on Cortex-M3 and those of CMSIS-NN on Cortex-M4. A draw that changes has to be measured
again.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from deploy.backends.tflm.arena import predict_arena
from deploy.emit.resolver import ADD_FUNCTIONS
from deploy.graph import CUSTOM, Graph, Quantization
from deploy.targets import target
from tests.custom_graphs import DRAWS, custom_graph
from tests.operator_draws import REFUSED_TYPES, floats, is_drawn, operator_draw
from tests.stateful_graphs import kept
from tests.subgraphs import branching, streaming

MEASURED = json.loads((Path(__file__).with_name("data") / "arm_arenas.json").read_text())["boards"]
NOT_MEASURED = {"FLOOR_DIV", "FLOOR_MOD"}
"""Drawn with int32, which the kernels do not take."""


def drawn(kind: str, types: str) -> Graph:
    if kind.startswith(CUSTOM):
        return custom_graph(kind.removeprefix(f"{CUSTOM} "), 0)
    graph = operator_draw(kind, 0)
    if kind in REFUSED_TYPES:
        graph = _int8(graph)
    return floats(graph) if types == "float32" else graph


def _int8(graph: Graph) -> Graph:
    """The graph with int8 in place of maps of int32."""
    scale = Quantization((0.1,), (0,))
    return graph.replace(
        tensors=tuple(
            dataclasses.replace(t, dtype="int8", quantization=scale)
            if t.dtype == "int32" and t.data is None
            else t
            for t in graph.tensors
        )
    )


CALLED = {
    "CIRCULAR_BUFFER RELU": {"mps2an385": (608, 468), "mps2an386": (608, 468)},
    "CIRCULAR_BUFFER RESHAPE": {"mps2an385": (656, 484), "mps2an386": (656, 484)},
    "CIRCULAR_BUFFER CONV_2D": {"mps2an385": (944, 580), "mps2an386": (944, 580)},
    "streaming 0": {"mps2an385": (2656, 1828), "mps2an386": (2832, 1924)},
    "streaming 0, computed": {"mps2an385": (2944, 1988), "mps2an386": (3120, 2084)},
    "streaming 1": {"mps2an385": (2656, 1812), "mps2an386": (2832, 1908)},
    "streaming 1, computed": {"mps2an385": (2944, 1972), "mps2an386": (3120, 2068)},
    "IF 0": {"mps2an385": (3456, 3444), "mps2an386": (3584, 3572)},
    "IF 1": {"mps2an385": (2880, 2868), "mps2an386": (3136, 3124)},
    "WHILE 0": {"mps2an385": (3296, 3284), "mps2an386": (3536, 3524)},
    "WHILE 1": {"mps2an385": (2720, 2708), "mps2an386": (2960, 2948)},
}
"""Model -> board -> smallest arena that worked, arena_used_bytes()."""


@pytest.mark.parametrize("name", CALLED)
def test_state_and_subgraphs_need_what_was_measured(name: str) -> None:
    kind, argument, *computed = name.replace(",", "").split()
    if kind == "CIRCULAR_BUFFER":
        graph = kept(argument)
    elif kind == "streaming":
        graph = streaming(int(argument), computed=bool(computed))
    else:
        graph = branching(int(argument), kind)
    for board, measured in CALLED[name].items():
        found = predict_arena(graph, offsets=None, target=target(board=board))
        assert (found.arena_bytes, found.head_bytes + found.tail_bytes) == measured


@pytest.mark.parametrize("board", MEASURED)
def test_each_operator_needs_what_was_measured(board: str) -> None:
    goal = target(board=board)
    found = {}
    for kind, rows in MEASURED[board].items():
        for types, (arena_bytes, used) in rows.items():
            predicted = predict_arena(drawn(kind, types), offsets=None, target=goal)
            numbers = (predicted.arena_bytes, predicted.head_bytes + predicted.tail_bytes)
            if numbers != (arena_bytes, used):
                found[kind, types] = numbers
    assert found == {}


@pytest.mark.parametrize("board", MEASURED)
def test_every_operator_that_can_be_drawn_was_measured(board: str) -> None:
    kinds = {kind for kind in ADD_FUNCTIONS if is_drawn(kind)}
    kinds |= {f"{CUSTOM} {code}" for code in DRAWS}
    assert kinds - set(MEASURED[board]) == NOT_MEASURED


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
