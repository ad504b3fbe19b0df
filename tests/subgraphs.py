"""Random graphs with resource variables, and with subgraphs that IF and WHILE call."""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Graph, Operator, Options, Padding, Quantization, Tensor
from tests.int8_graphs import Int8GraphMaker

SCALE = Quantization((0.4,), (3,))
CHANNELS = 6


def streaming(seed: int, *, computed: bool = False) -> Graph:
    """A stream of frames (1, n, 1, c): each layer reads the frames that it kept, appends the new
    ones, convolves all and keeps the last.

    Args:
        computed: the first values of the variables are computed by the subgraph and not constant.
    """
    rng = np.random.default_rng(seed)
    make = Int8GraphMaker(seed)
    frames = int(rng.integers(1, 4))
    x = _input(make, (1, frames, 1, CHANNELS))
    make.graph.operator(
        Operator("CALL_ONCE", (), (), Options("CallOnceOptions", (("init_subgraph_index", 1),)))
    )
    first = Int8GraphMaker(seed + 1)
    for layer in range(int(rng.integers(1, 4))):
        kept = int(rng.integers(1, 5))
        shape = (1, kept, 1, CHANNELS)
        handle = _handle(make, f"state {layer}")
        old = make.graph.tensor(Tensor(f"old {layer}", shape, "int8", SCALE))
        read = Options("ReadVariableOptions", ())
        make.graph.operator(Operator("READ_VARIABLE", (handle,), (old,), read))
        height = kept + frames
        both = make.operator(
            "CONCATENATION",
            [old, x],
            (1, height, 1, CHANNELS),
            SCALE,
            Options("ConcatenationOptions", (("axis", 1), ("fused_activation_function", 0))),
        )
        last = make.slice(both, (0, frames, 0, 0), shape)
        _assign(make, handle, last)
        x = _conv(make, both, CHANNELS, (kept + 1, 1), Padding.VALID)
        there = _handle(first, f"state {layer}")
        if computed:
            zeros = first.graph.constant(f"half {layer}", _codes(rng, shape), quantization=SCALE)
            value = first.operator("RELU", [zeros], shape, SCALE)
        else:
            value = first.graph.constant(f"zero {layer}", _codes(rng, shape), quantization=SCALE)
        _assign(first, there, value)
    main = make.build(outputs=[x])
    return main.replace(others=(first.build(outputs=[]),))


def _input(make: Int8GraphMaker, shape: tuple[int, ...]) -> int:
    return _scaled(make, make.input(shape))


def _conv(
    make: Int8GraphMaker,
    x: int,
    channels: int,
    kernel: tuple[int, int],
    padding: Padding = Padding.SAME,
) -> int:
    return _scaled(make, make.conv(x, channels=channels, kernel=kernel, padding=padding))


def _scaled(make: Int8GraphMaker, x: int) -> int:
    """Gives a map the one scale that branches and variables share."""
    make.graph.tensors[x] = dataclasses.replace(make.graph.tensors[x], quantization=SCALE)
    return x


def _codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _handle(make: Int8GraphMaker, name: str) -> int:
    handle = make.graph.tensor(Tensor(f"handle of {name}", (), "resource"))
    fields = (("container", b""), ("shared_name", name.encode()))
    make.graph.operator(Operator("VAR_HANDLE", (), (handle,), Options("VarHandleOptions", fields)))
    return handle


def _assign(make: Int8GraphMaker, handle: int, value: int) -> None:
    options = Options("AssignVariableOptions", ())
    make.graph.operator(Operator("ASSIGN_VARIABLE", (handle, value), (), options))


def branching(seed: int, opcode: str) -> Graph:
    """Convolutions around an IF with two branches, or around a WHILE that counts to some number."""
    rng = np.random.default_rng(seed)
    make = Int8GraphMaker(seed)
    rows = int(rng.integers(4, 12))
    x = _input(make, (1, rows, 8, 3))
    x = _conv(make, x, CHANNELS, (3, 3))
    shape = make.shape(x)
    parts: list[Graph] = []
    if opcode == "IF":
        decision = make.input((), dtype="bool")
        for branch in (1, 2):
            part = Int8GraphMaker(seed + branch)
            y = _input(part, shape)
            for _ in range(int(rng.integers(1, 4))):
                kernel = (int(rng.integers(1, 4)),) * 2
                y = _conv(part, y, CHANNELS, kernel)
            parts.append(part.build(outputs=[y]))
        fields = (("then_subgraph_index", 1), ("else_subgraph_index", 2))
        made = make.graph.tensor(Tensor("chosen", shape, "int8", SCALE))
        options = Options("IfOptions", fields)
        make.graph.operator(Operator("IF", (decision, x), (made,), options))
    else:
        count = make.input((), dtype="int32")
        test, body = Int8GraphMaker(seed + 1), Int8GraphMaker(seed + 2)
        number, _ = test.input((), dtype="int32"), _input(test, shape)
        limit = test.graph.constant("limit", np.array(4, np.int32))
        less = test.graph.tensor(Tensor("less", (), "bool"))
        test.graph.operator(Operator("LESS", (number, limit), (less,), Options("LessOptions", ())))
        parts.append(test.build(outputs=[less]))
        n = body.input((), dtype="int32")
        y = _input(body, shape)
        more = body.graph.tensor(Tensor("more", (), "int32"))
        one = body.graph.constant("one", np.array(1, np.int32))
        add = Options("AddOptions", (("fused_activation_function", 0),))
        body.graph.operator(Operator("ADD", (n, one), (more,), add))
        y = _conv(body, y, CHANNELS, (3, 3))
        parts.append(body.build(outputs=[more, y]))
        fields = (("cond_subgraph_index", 1), ("body_subgraph_index", 2))
        counted = make.graph.tensor(Tensor("counted", (), "int32"))
        made = make.graph.tensor(Tensor("repeated", shape, "int8", SCALE))
        options = Options("WhileOptions", fields)
        make.graph.operator(Operator("WHILE", (count, x), (counted, made), options))
    y = _conv(make, made, 4, (3, 3))
    return make.build(outputs=[y]).replace(others=tuple(parts))


def renamed(graph: Graph, name: str, **changes: object) -> Graph:
    """Returns the graph with one tensor changed, in whichever subgraph it is."""

    def part(of: Graph) -> Graph:
        return of.replace(
            tensors=tuple(
                dataclasses.replace(t, **changes) if t.name == name else t  # type: ignore[arg-type]
                for t in of.tensors
            )
        )

    return part(graph).replace(others=tuple(part(other) for other in graph.others))
