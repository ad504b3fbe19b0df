"""Small graphs on which plans went wrong once, each one of a kind."""

from __future__ import annotations

from dataclasses import replace

from deploy.graph import Activation, Graph, Options, Padding
from tests.int8_graphs import Int8GraphMaker


def outputs_that_are_read(*, last: str) -> Graph:
    """Two outputs, of which the second is made of the first by the last operator."""
    make = Int8GraphMaker(1)
    x = make.input((1, 12, 9, 4))
    if last == "SOFTMAX":
        y = make.fully_connected(make.mean(x), units=10)
        z = make.unary("SOFTMAX", y)
    else:
        y = make.unary("RELU", x)
        z = make.conv(y, channels=4) if last == "CONV_2D" else make.unary("RELU", y)
    return make.build(outputs=[y, z])


def odd_rows() -> Graph:
    """Rows of 70 x 7 bytes, no multiple of 16."""
    make = Int8GraphMaker(2)
    x = make.input((1, 69, 70, 7))
    x = make.conv(x, channels=7, kernel=(3, 3))
    x = make.conv(x, channels=5, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.mean(x)])


def flat_input() -> Graph:
    """A keyword model: rows come to be by a RESHAPE of a flat input."""
    make = Int8GraphMaker(3)
    x = make.reshape(make.input((1, 49 * 10)), (1, 49, 10, 1))
    x = make.conv(x, channels=16, kernel=(5, 3))
    x = make.depthwise(x, kernel=(3, 3))
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.mean(x)])


def blocks_of_3() -> Graph:
    """SPACE_TO_DEPTH of blocks of 3 behind a convolution that brings rows from beside a cut."""
    make = Int8GraphMaker(4)
    x = make.input((1, 27, 27, 3))
    y = make.conv(x, channels=4, kernel=(3, 3))
    options = Options("SpaceToDepthOptions", (("block_size", 3),))
    z = make.operator("SPACE_TO_DEPTH", [y], (1, 9, 9, 36), make.quantization(y), options)
    return make.build(outputs=[make.conv(z, channels=4, kernel=(3, 3))])


def uint8_input() -> Graph:
    make = Int8GraphMaker(5)
    x = make.input((1, 32, 32, 3))
    tensors = make.graph.tensors
    wide = replace(make.quantization(x), zero_points=(128,))
    tensors[x] = replace(tensors[x], dtype="uint8", quantization=wide)
    y = make.requantize(x, replace(wide, zero_points=(0,)))
    y = make.conv(y, channels=16, kernel=(3, 3))
    y = make.conv(y, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.mean(y)])


def bool_input() -> Graph:
    make = Int8GraphMaker(6)
    x = make.input((1, 8, 8, 2), dtype="bool")
    options = Options("CastOptions")
    y = make.operator("CAST", [x], (1, 8, 8, 2), None, options, dtype="int32")
    return make.build(outputs=[y])


def codes_of_nobody() -> Graph:
    """ReLU6 maps that happen to have 61 levels, put together: nobody made codes of them."""
    make = Int8GraphMaker(7)
    x = make.input((1, 16, 16, 4))
    first = make.conv(x, channels=8, kernel=(3, 3), activation=Activation.RELU6)
    few = replace(make.quantization(first), scales=(0.1,))
    make.graph.tensors[first] = replace(make.graph.tensors[first], quantization=few)
    second = make.pool(
        first, kind="MAX_POOL_2D", kernel=(3, 3), stride=(1, 1), padding=Padding.SAME
    )
    third = make.concatenation([first, second], axis=3)
    return make.build(outputs=[make.conv(third, channels=4, kernel=(3, 3))])


def nothing_to_share(kind: str) -> Graph:
    """Operators whose output may grow into its input, but stands apart from all of it."""
    make = Int8GraphMaker(8)
    if kind == "FULLY_CONNECTED":
        x = make.input((1, 64))
        for units in (64, 64, 8, 2):
            x = make.fully_connected(x, units=units)
        return make.build(outputs=[x])
    x = make.input((1, 1, 1, 8))
    if kind == "CONV_2D":
        x = make.conv(x, channels=8)
    elif kind == "DEPTHWISE_CONV_2D":
        x = make.depthwise(x, kernel=(1, 1))
    else:
        x = make.pool(x, kind="MAX_POOL_2D", kernel=(1, 1), stride=(1, 1))
    return make.build(outputs=[make.conv(x, channels=2)])


CASES = {
    "logits and softmax": lambda: outputs_that_are_read(last="SOFTMAX"),
    "two RELUs": lambda: outputs_that_are_read(last="RELU"),
    "RELU and convolution": lambda: outputs_that_are_read(last="CONV_2D"),
    "odd rows": odd_rows,
    "flat input": flat_input,
    "blocks of 3": blocks_of_3,
    "uint8 input": uint8_input,
    "bool input": bool_input,
    "codes of nobody": codes_of_nobody,
    **{
        f"nothing to share by {kind}": (lambda kind=kind: nothing_to_share(kind))
        for kind in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D")
    },
}
