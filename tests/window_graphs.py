"""Graphs of one convolution or pool, for the shapes that tables of kernels are of."""

from __future__ import annotations

from typing import Any

from deploy.graph import Graph, Padding
from tests.int8_graphs import Int8GraphMaker


def graph_of(case: dict[str, Any]) -> Graph:
    make = Int8GraphMaker(0)
    x = make.input((case.get("batch", 1), *case["extent"], case["depth"]))
    kernel, stride = tuple(case["kernel"]), tuple(case["stride"])
    padding = Padding.SAME if case["same"] else Padding.VALID
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    dilation = tuple(case["dilation"])
    if case["op"] == "CONV_2D":
        y = make.conv(
            x, channels=case["channels"], dilation=dilation, groups=case.get("groups", 1), **window
        )
    elif case["op"] == "DEPTHWISE_CONV_2D":
        y = make.depthwise(x, multiplier=case["multiplier"], dilation=dilation, **window)
    elif case["op"] == "TRANSPOSE_CONV":
        y = make.transpose_conv(x, channels=case["channels"], **window)
    else:
        y = make.pool(x, **window)
    return make.build(outputs=[y])
