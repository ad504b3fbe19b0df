"""MobileNetV2 and SqueezeNet 1.1 as int8 graphs with random weights, without TensorFlow.

What a model needs of memory depends on its shapes alone, so any weights will do. Shapes follow
Sandler et al., arXiv 1801.04381, table 2, and the released SqueezeNet 1.1 (arXiv 1602.07360).
"""

from __future__ import annotations

from deploy.graph import Activation, Graph, Padding
from tests.int8_graphs import Int8GraphMaker

# Expansion, channels, repeats, stride of the first.
_BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(*, width: float, size: int, classes: int = 1000, seed: int = 0) -> Graph:
    """MobileNetV2 with SAME padding; ``width`` scales all channels, ``size`` is the image's."""
    make = Int8GraphMaker(seed)
    relu6 = Activation.RELU6

    def scaled(channels: int) -> int:
        # Multiples of 8 that are at least nine tenths of what is wanted.
        wanted = channels * width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    x = make.input((1, size, size, 3))
    x = make.conv(x, channels=scaled(32), kernel=(3, 3), stride=(2, 2), activation=relu6)
    for expansion, channels, repeats, first_stride in _BOTTLENECKS:
        for number in range(repeats):
            stride = first_stride if number == 0 else 1
            depth, y = make.shape(x)[3], x
            if expansion > 1:
                y = make.conv(y, channels=depth * expansion, activation=relu6)
            y = make.depthwise(y, kernel=(3, 3), stride=(stride, stride), activation=relu6)
            y = make.conv(y, channels=scaled(channels))
            same = stride == 1 and make.shape(y) == make.shape(x)
            x = make.binary("ADD", x, y) if same else y
    x = make.conv(x, channels=max(1280, scaled(1280)), activation=relu6)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=classes)])


def squeezenet(*, size: int = 227, classes: int = 1000, seed: int = 0) -> Graph:
    """SqueezeNet 1.1."""
    make = Int8GraphMaker(seed)
    relu = Activation.RELU

    def fire(x: int, squeeze: int, expand: int) -> int:
        x = make.conv(x, channels=squeeze, activation=relu)
        ones = make.conv(x, channels=expand, activation=relu)
        threes = make.conv(x, channels=expand, kernel=(3, 3), activation=relu)
        threes = make.requantize(threes, make.quantization(ones))
        return make.concatenation([ones, threes], axis=3)

    def pool(x: int) -> int:
        return make.pool(x, kind="MAX_POOL_2D", kernel=(3, 3), stride=(2, 2), padding=Padding.VALID)

    x = make.input((1, size, size, 3))
    x = make.conv(
        x, channels=64, kernel=(3, 3), stride=(2, 2), padding=Padding.VALID, activation=relu
    )
    for squeeze in (16, 32):
        x = pool(x)
        x = fire(fire(x, squeeze, 4 * squeeze), squeeze, 4 * squeeze)
    x = pool(x)
    for squeeze in (48, 48, 64, 64):
        x = fire(x, squeeze, 4 * squeeze)
    return make.build(outputs=[make.mean(make.conv(x, channels=classes, activation=relu))])
