"""Networks of the shapes of MLPerf Tiny's four, with random weights, for clones without the files.

Operators, shapes and strides are those of the reference models, so memory is the same; what they
compute is nothing. Reference: Banbury et al., MLPerf Tiny Benchmark, arXiv 2106.07597.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy import flatbuffer
from deploy.graph import Activation, Graph
from tests.int8_graphs import Int8GraphMaker

RELU = Activation.RELU


def autoencoder() -> Graph:
    """ad01_int8: ten fully connected layers around a code of 8."""
    make = Int8GraphMaker(1)
    x = make.input((1, 640))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = make.fully_connected(x, units=units, activation=RELU)
    return make.build(outputs=[make.fully_connected(x, units=640)])


def keywords() -> Graph:
    """kws_ref_model: a separable network over 49 x 10 coefficients."""
    make = Int8GraphMaker(2)
    x = make.input((1, 49, 10, 1))
    x = make.conv(x, channels=64, kernel=(10, 4), stride=(2, 2), activation=RELU)
    for _ in range(4):
        x = make.depthwise(x, kernel=(3, 3), activation=RELU)
        x = make.conv(x, channels=64, kernel=(1, 1), activation=RELU)
    return make.build(outputs=[_classified(make, x, 12)])


def resnet() -> Graph:
    """pretrainedResnet_quant: ResNet-8 for images of 32 x 32."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3), activation=RELU)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        step = {"channels": channels, "stride": (stride, stride)}
        y = make.conv(x, kernel=(3, 3), activation=RELU, **step)
        y = make.conv(y, channels=channels, kernel=(3, 3))
        if stride == 2:
            x = make.conv(x, kernel=(1, 1), **step)
        x = make.binary("ADD", x, y, activation=RELU)
    return make.build(outputs=[_classified(make, x, 10)])


def person_detection() -> Graph:
    """vww_96_int8: MobileNetV1, a quarter as wide, for images of 96 x 96."""
    make = Int8GraphMaker(4)
    x = make.input((1, 96, 96, 3))
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2), activation=RELU)
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    blocks += [(128, 1)] * 5 + [(256, 2), (256, 1)]
    for channels, stride in blocks:
        x = make.depthwise(x, kernel=(3, 3), stride=(stride, stride), activation=RELU)
        x = make.conv(x, channels=channels, kernel=(1, 1), activation=RELU)
    return make.build(outputs=[_classified(make, x, 2)])


def _classified(make: Int8GraphMaker, x: int, classes: int) -> int:
    _, height, width, channels = make.shape(x)
    x = make.pool(x, kernel=(height, width), stride=(height, width))
    x = make.fully_connected(make.reshape(x, (1, channels)), units=classes)
    return make.unary("SOFTMAX", x)


MAKERS: dict[str, Callable[[], Graph]] = {
    "ad01_int8": autoencoder,
    "kws_ref_model": keywords,
    "pretrainedResnet_quant": resnet,
    "vww_96_int8": person_detection,
}


@functools.cache
def stand_in(name: str) -> Path:
    """Returns a file with the network that has the shapes of this one."""
    folder = Path(tempfile.mkdtemp(prefix="fmc-tiny-"))
    path = folder / f"{name}.tflite"
    path.write_bytes(flatbuffer.write(MAKERS[name]()))
    return path
