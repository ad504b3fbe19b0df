"""What kernels allow in shared memory, run in the wheel: in place, and diagonal overlap."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.overlap import overlap_distance
from deploy.graph import Graph, Padding
from deploy.runtime import tflm
from deploy.targets import kernels
from tests.int8_graphs import Int8GraphMaker

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
REFERENCE = kernels("reference")


def same_outputs(graph: Graph, placed: dict[int, int]) -> bool:
    """Whether a graph whose tensors stand at these addresses computes what it computes apart."""
    offsets = [placed.get(index, -1) for index in range(len(graph.tensors))]
    plain, planned = flatbuffer.write(graph), flatbuffer.write(embed(graph, offsets))
    samples = tflm.random_inputs(plain, samples=3)
    expected = tflm.run(plain, samples, arena_bytes=1 << 20)
    found = tflm.run(planned, samples, arena_bytes=1 << 20)
    return all(
        np.array_equal(a, b)
        for one, other in zip(expected, found, strict=True)
        for a, b in zip(one, other, strict=True)
    )


SHAPE = (1, 7, 5, 6)


def in_place_graphs() -> dict[str, list[tuple[Graph, int]]]:
    """Returns opcode -> graphs of one such operator, and which input its output overwrites."""
    cases: dict[str, list[tuple[Graph, int]]] = {}
    unary = ("RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "QUANTIZE")
    for kind in (*unary, "SOFTMAX"):
        make = Int8GraphMaker(1)
        x = make.input(SHAPE)
        cases[kind] = [(make.build(outputs=[make.unary(kind, x)]), 0)]
    for kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
        cases[kind] = []
        for shape in (SHAPE, (1, 1, 1, 6), (1, 1, 1, 1)):
            make = Int8GraphMaker(1)
            x = make.input(SHAPE)
            y = make.binary(kind, x, make.constant_like(x, shape))
            cases[kind].append((make.build(outputs=[y]), 0))
        for side in (0, 1):
            make = Int8GraphMaker(1)
            x, y = make.input(SHAPE), make.input(SHAPE)
            if kind in ("MAXIMUM", "MINIMUM"):
                make.graph.tensors[y] = make.graph.tensors[x]
            cases[kind].append((make.build(outputs=[make.binary(kind, x, y)]), side))
    make = Int8GraphMaker(1)
    cases["PRELU"] = [(make.build(outputs=[make.prelu(make.input(SHAPE))]), 0)]
    for kind, shape in (
        ("RESHAPE", (1, 210)),
        ("SQUEEZE", SHAPE[1:]),
        ("EXPAND_DIMS", (1, *SHAPE)),
    ):
        make = Int8GraphMaker(1)
        x = make.input(SHAPE)
        if kind == "RESHAPE":
            y = make.reshape(x, shape)
        else:
            inputs = [x] if kind == "SQUEEZE" else [x, make.integers("axis", 0)]
            y = make.operator(kind, inputs, shape, make.quantization(x))
        cases[kind] = [(make.build(outputs=[y]), 0)]
    return cases


def test_every_in_place_opcode_is_tried() -> None:
    for name in ("reference", "cmsis-nn-scalar", "cmsis-nn-dsp", "cmsis-nn-mve"):
        assert kernels(name).in_place == in_place_graphs().keys()
    # ESP-NN was not run: only what it leaves to the reference kernels is done in place.
    assert in_place_graphs().keys() - kernels("esp-nn-generic").in_place == {
        "ADD",
        "MUL",
        "SOFTMAX",
    }


@needs_wheel
@pytest.mark.parametrize("opcode", sorted(in_place_graphs()))
def test_output_may_stand_where_the_input_stands(opcode: str) -> None:
    for graph, side in in_place_graphs()[opcode]:
        addresses = {graph.inputs[side]: 0, graph.outputs[0]: 0}
        if len(graph.inputs) == 2:
            addresses[graph.inputs[1 - side]] = 512
        assert same_outputs(graph, addresses)


@needs_wheel
def test_a_convolution_in_place_is_wrong() -> None:
    make = Int8GraphMaker(1)
    graph = make.build(outputs=[make.conv(make.input(SHAPE), channels=6)])
    assert not same_outputs(graph, {graph.inputs[0]: 0, graph.outputs[0]: 0})


def overlapped(graph: Graph, distance: int) -> bool:
    start = max(0, -distance)
    return same_outputs(graph, {graph.outputs[0]: start, graph.inputs[0]: start + distance})


def distance_of(graph: Graph) -> int:
    distance = overlap_distance(graph.operators[0], graph, REFERENCE)
    assert distance is not None
    return distance


@needs_wheel
@pytest.mark.parametrize(
    ("kind", "kernel", "measured"),
    [("conv", 1, 16), ("conv", 3, 224), ("depthwise", 3, 208)],
)
def test_distances_measured_on_a_map_of_12_by_12_by_16(
    kind: str, kernel: int, measured: int
) -> None:
    make = Int8GraphMaker(1)
    x = make.input((1, 12, 12, 16))
    size = (kernel, kernel)
    y = make.depthwise(x, kernel=size) if kind == "depthwise" else None
    y = make.conv(x, channels=16, kernel=size) if y is None else y
    graph = make.build(outputs=[y])
    assert -(-distance_of(graph) // 16) * 16 == measured
    assert overlapped(graph, measured)
    assert not overlapped(graph, measured - 16)


def random_window(seed: int) -> Graph:
    make = Int8GraphMaker(seed)
    rng = make.rng

    def pick(*options: int) -> int:
        return options[int(rng.integers(len(options)))]

    x = make.input((1, pick(1, 3, 5, 8), pick(1, 4, 6, 9), pick(1, 2, 3, 8, 16)))
    _, height, width, _ = make.shape(x)
    kernel = min(height, pick(1, 2, 3, 5)), min(width, pick(1, 2, 3, 5))
    window = {"kernel": kernel, "stride": (pick(1, 2), pick(1, 2))}
    window["padding"] = Padding(pick(0, 1))
    kind = pick(0, 1, 2, 3, 4, 5)
    if kind == 0:
        y = make.conv(x, channels=pick(1, 2, 4, 8, 16), **window)
    elif kind == 1:
        y = make.conv(x, channels=pick(1, 2, 8), kernel=kernel, dilation=(2, 2))
    elif kind == 2:
        y = make.depthwise(x, multiplier=pick(1, 1, 2, 3), **window)
    elif kind == 3:
        y = make.fully_connected(x, units=pick(1, 2, 5, 16))
    else:
        y = make.pool(x, kind=("AVERAGE_POOL_2D", "MAX_POOL_2D")[kind - 4], **window)
    return make.build(outputs=[y])


@needs_wheel
def test_the_distance_is_safe_and_hardly_ever_one_byte_too_large() -> None:
    tight = 0
    for seed in range(150):
        graph = random_window(seed)
        distance = distance_of(graph)
        assert overlapped(graph, distance), seed
        assert overlapped(graph, distance + 5), seed
        tight += not overlapped(graph, distance - 1)
    assert tight >= 140


def gathered(graph: Graph, count: int, distance: int) -> bool:
    """Whether a convolution that gathers ``count`` windows before it writes is right in one memory.

    The output starts ``distance`` bytes before the input. Sums stay integers: what is written
    only has to tell wrong input from right.
    """
    (conv,) = graph.operators
    source, weights, made = (graph.tensors[t] for t in (*conv.inputs[:2], conv.outputs[0]))
    (_, height, width, depth), (_, out_h, out_w, out_c) = source.shape, made.shape
    _, kernel_h, kernel_w, _ = weights.shape
    stride, dilation = (
        [conv.integer(name.format(axis), 1) for axis in "hw"]
        for name in ("stride_{}", "dilation_{}_factor")
    )
    before = [0, 0]
    if conv.integer("padding") == Padding.SAME:
        for axis, (n, o, k) in enumerate(((height, out_h, kernel_h), (width, out_w, kernel_w))):
            reach = (o - 1) * stride[axis] + (k - 1) * dilation[axis] + 1
            before[axis] = max(reach - n, 0) // 2
    values = np.random.default_rng(0).integers(0, 256, height * width * depth).astype(np.uint8)
    taps = weights.array().astype(np.int64)

    def run(memory: np.ndarray, read: int, write: int) -> np.ndarray:
        pixels = [(y, x) for y in range(out_h) for x in range(out_w)]
        for first in range(0, len(pixels), count):
            windows = []
            for y, x in pixels[first : first + count]:
                window = np.zeros((kernel_h, kernel_w, depth), np.int64)
                for i in range(kernel_h):
                    for j in range(kernel_w):
                        row = y * stride[0] - before[0] + i * dilation[0]
                        column = x * stride[1] - before[1] + j * dilation[1]
                        if 0 <= row < height and 0 <= column < width:
                            start = read + (row * width + column) * depth
                            window[i, j] = memory[start : start + depth]
                windows.append(window)
            for number, window in enumerate(windows, start=first):
                sums = (taps * window).sum(axis=(1, 2, 3)) % 251
                memory[write + number * out_c : write + (number + 1) * out_c] = sums
        return memory[write : write + len(pixels) * out_c].copy()

    def memory(read: int) -> np.ndarray:
        total = np.zeros(read + len(values) + out_h * out_w * out_c + abs(distance), np.uint8)
        total[read : read + len(values)] = values
        return total

    apart = run(memory(0), 0, len(values))
    write = max(0, -distance)
    return np.array_equal(run(memory(write + distance), write + distance, write), apart)


@pytest.mark.parametrize(("name", "count"), [("scalar", 2), ("dsp", 2), ("mve", 4)])
def test_the_distance_of_kernels_that_gather_pixels(name: str, count: int) -> None:
    library = kernels(f"cmsis-nn-{name}")
    tight = tried = 0
    for seed in range(150):
        graph = random_window(seed)
        if graph.operators[0].opcode != "CONV_2D":
            continue
        distance = overlap_distance(graph.operators[0], graph, library)
        height = graph.tensors[graph.operators[0].inputs[1]].shape[1]
        if distance is None:
            assert height == 1
            continue
        tried += 1
        assert gathered(graph, count, distance), seed
        assert gathered(graph, count, distance + 5), seed
        # The reference kernels, which check every plan, may ask for more.
        assert distance >= distance_of(graph)
        tight += distance == distance_of(graph) or not gathered(graph, count, distance - 1)
    assert tried >= 20
    assert tight >= tried - 2


@pytest.mark.parametrize("name", ["scalar", "dsp", "mve"])
def test_cmsis_nn_needs_at_least_what_was_measured_on_its_cores(name: str) -> None:
    make = Int8GraphMaker(1)
    graph = make.build(outputs=[make.conv(make.input((1, 12, 12, 16)), channels=16, kernel=(3, 3))])
    distance = overlap_distance(graph.operators[0], graph, kernels(f"cmsis-nn-{name}"))
    # 208 on Cortex-M4 and M55, in steps of 16; 224 for the reference kernels.
    assert distance is not None
    assert -(-distance // 16) * 16 == 224
    assert gathered(graph, 4 if name == "mve" else 2, 208)
    assert not gathered(graph, 4 if name == "mve" else 2, 207)


def test_products_of_matrices_and_operators_without_a_rule_never_overlap() -> None:
    make = Int8GraphMaker(1)
    x = make.input((1, 4, 4, 8))
    y = make.conv(x, channels=8)
    graph = make.build(outputs=[make.unary("RELU", y)])
    conv, relu = graph.operators
    assert overlap_distance(conv, graph, REFERENCE) == 7
    assert overlap_distance(relu, graph, REFERENCE) is None
    for name in ("cmsis-nn-scalar", "cmsis-nn-dsp", "cmsis-nn-mve", "esp-nn-generic"):
        assert overlap_distance(conv, graph, kernels(name)) is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
