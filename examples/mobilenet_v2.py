"""MobileNetV2 with a place to compress the map after its first bottleneck block.

That map, 112×112×16 at 224×224 (Caffe's conv2_1/linear), is nearly three times as large as that of
any other block. It is linear: either it gets a ReLU, as in the paper, or its code needs a sign.

Source: Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", arXiv 1801.04381;
Gudovskiy et al. 2018, §4.1.
"""

from __future__ import annotations

import keras
from keras import layers
from squeezenet import Store

FIRST_BLOCK = "expanded_conv_project_BN"


def mobilenet_v2(
    size: int = 224,
    classes: int = 1000,
    *,
    alpha: float = 1.0,
    relu: bool = False,
    store: Store | None = None,
) -> keras.Model:
    """Returns MobileNetV2 with random weights.

    Args:
        relu: whether the map of the first block goes through a ReLU.
        store: what the map then goes through.
    """
    stock = keras.applications.MobileNetV2(
        (size, size, 3), alpha=alpha, weights=None, classes=classes
    )

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        x = layer(*args, **kwargs)
        if layer.name == FIRST_BLOCK:
            if relu:
                x = layers.ReLU(name="first_block_relu")(x)
            if store is not None:
                x = store(x, "first_block")
        return x

    model = keras.models.clone_model(stock, call_function=call)
    return keras.Model(model.inputs, model.outputs, name="mobilenet_v2")
