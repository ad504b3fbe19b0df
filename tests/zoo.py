"""Models for tests, with fresh weights.

Batch normalisations have momentum 0.9: with Keras' 0.99 their statistics lag far behind in
trainings of a few hundred steps.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def small_cnn(size: int = 16, channels: int = 3, classes: int = 10) -> keras.Model:
    """Convolution, normalisation and activation of each kind, average pooling, dense softmax."""
    inputs = keras.Input((size, size, channels), name="image")
    x = _conv_bn_relu(inputs, 8, 3, name="stem")
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name="dw_bn")(x)
    x = layers.ReLU(6.0, name="dw_relu")(x)
    x = _conv_bn_relu(x, 16, 3, strides=2, name="down")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(
        inputs, layers.Dense(classes, activation="softmax", name="logits")(x), name="small_cnn"
    )


def resnet8(size: int = 32, classes: int = 10) -> keras.Model:
    """The MLPerf Tiny image classification model: stem, three residual stages of one block."""
    inputs = keras.Input((size, size, 3), name="image")
    x = _conv_bn_relu(inputs, 16, 3, name="stem")
    for stage, filters in enumerate((16, 32, 64)):
        strides = 1 if stage == 0 else 2
        y = _conv_bn_relu(x, filters, 3, strides=strides, name=f"stage{stage}_a")
        y = layers.Conv2D(filters, 3, padding="same", name=f"stage{stage}_b_conv")(y)
        y = layers.BatchNormalization(momentum=0.9, name=f"stage{stage}_b_bn")(y)
        if strides == 2:
            x = layers.Conv2D(filters, 1, strides=2, name=f"stage{stage}_skip_conv")(x)
        x = layers.Add(name=f"stage{stage}_add")([x, y])
        x = layers.ReLU(name=f"stage{stage}_relu")(x)
    x = layers.AveragePooling2D(x.shape[1], name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    outputs = layers.Dense(classes, activation="softmax", name="logits")(x)
    return keras.Model(inputs, outputs, name="resnet8")


def resnet18(size: int = 224, classes: int = 1000) -> keras.Model:
    """ResNet18 as in torchvision: 7×7 stem, max pooling, four stages of two basic blocks.

    PyTorch pads strided convolutions evenly; Keras needs a padding layer for that.
    """
    inputs = keras.Input((size, size, 3), name="image")
    x = _padded_conv(inputs, 64, 7, strides=2, name="stem_conv")
    x = layers.BatchNormalization(momentum=0.9, name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}_{block}"
            strides = 2 if stage > 1 and block == 0 else 1
            y = _padded_conv(x, filters, 3, strides=strides, name=f"{name}_conv1")
            y = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn1")(y)
            y = layers.ReLU(name=f"{name}_relu1")(y)
            y = _padded_conv(y, filters, 3, strides=1, name=f"{name}_conv2")
            y = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn2")(y)
            if strides == 2:
                x = layers.Conv2D(
                    filters, 1, strides=2, use_bias=False, name=f"{name}_downsample_conv"
                )(x)
                x = layers.BatchNormalization(momentum=0.9, name=f"{name}_downsample_bn")(x)
            x = layers.Add(name=f"{name}_add")([y, x])
            x = layers.ReLU(name=f"{name}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="fc")(x), name="resnet18")


VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


def vgg_bn(blocks: tuple[int, ...] = VGG16, size: int = 224, classes: int = 1000) -> keras.Model:
    """VGG with batch normalisation; `blocks` gives the convolutions before each max pooling.

    One narrow dense layer stands for the three of the original, whose weights would only cost
    memory here.
    """
    inputs = keras.Input((size, size, 3), name="image")
    x = inputs
    for block, (count, filters) in enumerate(
        zip(blocks, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for conv in range(1, count + 1):
            x = _conv_bn_relu(x, filters, 3, name=f"block{block}_{conv}")
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(classes, name="fc")(x), name="vgg_bn")


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every weight a random value that keeps activations of order one: batch
    normalisations get uneven gains, shifts and statistics."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) >= 2:
            fan_in = np.prod(weight.shape[:-1])
            value = rng.normal(0, np.sqrt(2 / fan_in), weight.shape)
        else:
            value = rng.normal(0, 0.3, weight.shape)
        weight.assign(value.astype("float32"))
    return model


def _conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel: int, *, name: str, strides: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _padded_conv(
    x: keras.KerasTensor, filters: int, kernel: int, *, name: str, strides: int
) -> keras.KerasTensor:
    """A convolution without bias that pads (kernel - 1) / 2 on every side, as PyTorch does."""
    if strides == 1:
        return layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name)(x)
    x = layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel, strides=strides, use_bias=False, name=name)(x)
