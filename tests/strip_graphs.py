"""Random ways of cutting, and random graphs of what strips have to get right."""

from __future__ import annotations

import random

from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.network import Network
from deploy.graph import Activation, Graph, Options, Padding
from tests.int8_graphs import Int8GraphMaker


def random_cuts(network: Network, generator: random.Random) -> Cuts:
    """Any operators, any strips, any halo: most of them nothing that a search would choose."""
    share = generator.choice((0.5, 0.8, 1.0))
    ends: dict[int, tuple[int, ...]] = {}
    for operator, info in network.row_operators.items():
        rows = info.rule.out_rows
        if generator.random() < share:
            inner = generator.sample(range(1, rows), generator.randint(1, min(4, rows - 1)))
            ends[operator] = () if generator.random() < 0.5 else (*sorted(inner), rows)

    def some(part: float) -> frozenset[int]:
        return frozenset(o for o in ends if generator.random() < part)

    return normalised(
        network,
        Cuts(
            ends=ends,
            recomputed=some(generator.choice((0.0, 0.5, 1.0))),
            copied=some(0.5),
            untrimmed=some(generator.choice((0.0, 0.5, 1.0))),
            padded=some(0.3),
            swapped=some(0.3),
            finished=some(0.3),
            upwards=some(0.4),
            when_ready=some(0.4),
            own_place=some(0.2),
        ),
    )


def banded_graph(seed: int) -> Graph:
    """Convolutions of every kernel, stride, dilation and padding, with skips and odd sizes.

    Also what ``random_graph`` rarely draws: a height of 1, resizing by whole factors, splits,
    blocks moved between rows and channels.
    """
    make = Int8GraphMaker(seed)
    generator = random.Random(seed)
    height = 1 if generator.random() < 0.2 else generator.randint(2, 23)
    width = generator.randint(6 if height == 1 else 2, 11)
    maps = [make.input((1, height, width, generator.choice((1, 3, 4))))]
    for _ in range(generator.randint(2, 9)):
        x = generator.choice(maps[-2:])
        maps.append(grown(make, generator, maps, x))
    read = {t for operator in make.graph.operators for t in operator.inputs}
    return make.build(outputs=[t for t in maps if t not in read])


def grown(make: Int8GraphMaker, generator: random.Random, maps: list[int], x: int) -> int:
    _, height, width, _ = make.shape(x)
    kind = generator.choice(("conv", "depthwise", "pool", "add", "other"))
    padding = generator.choice((Padding.SAME, Padding.VALID))
    kernel = generator.randint(1, min(5, height)), generator.randint(1, min(4, width))
    stride = generator.choice((1, 1, 2, 3)), generator.choice((1, 1, 2))
    activation = generator.choice((Activation.NONE, Activation.RELU, Activation.RELU6))
    if kind in ("conv", "depthwise"):
        dilation = (1, 1)
        if stride == (1, 1) and generator.random() < 0.3:
            dilation = generator.choice(((2, 1), (2, 2), (3, 1)))
            if padding == Padding.VALID and (kernel[0] - 1) * dilation[0] >= height:
                dilation = (1, 1)
            if padding == Padding.VALID and (kernel[1] - 1) * dilation[1] >= width:
                dilation = (1, 1)
        window = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
        if kind == "conv":
            depth = generator.choice((2, 4, 8))
            return make.conv(x, channels=depth, activation=activation, **window)
        return make.depthwise(x, multiplier=generator.choice((1, 2)), **window)
    if kind == "pool":
        what = generator.choice(("AVERAGE_POOL_2D", "MAX_POOL_2D"))
        return make.pool(x, kind=what, kernel=kernel, stride=stride, padding=padding)
    if kind == "add":
        partners = [t for t in maps if t != x and make.shape(t) == make.shape(x)]
        y = generator.choice(partners) if partners else make.constant_like(x, make.shape(x))
        return make.binary(generator.choice(("ADD", "MUL", "SUB")), x, y)
    return _reshaped(make, generator, x)


def _reshaped(make: Int8GraphMaker, generator: random.Random, x: int) -> int:
    _, height, width, channels = make.shape(x)
    size = height * width * channels
    if size <= 600 and generator.random() < 0.5:
        factor = generator.choice((2, 3))
        kind = generator.choice(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))
        return make.resize(x, (height * factor, width * 2), kind=kind)
    same = make.quantization(x)
    if channels % 4 == 0 and generator.random() < 0.5:
        shape = (1, 2 * height, 2 * width, channels // 4)
        options = Options("DepthToSpaceOptions", (("block_size", 2),))
        return make.operator("DEPTH_TO_SPACE", [x], shape, same, options)
    if height % 2 == 0 and width % 2 == 0:
        shape = (1, height // 2, width // 2, 4 * channels)
        options = Options("SpaceToDepthOptions", (("block_size", 2),))
        return make.operator("SPACE_TO_DEPTH", [x], shape, same, options)
    return make.unary(generator.choice(("RELU", "LOGISTIC", "SOFTMAX", "HARD_SWISH")), x)
