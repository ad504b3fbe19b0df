"""A U-Net for the images of `unet_data`."""

from __future__ import annotations

import keras
from keras import layers
from unet_data import CLASSES, SIZE, Split, mean_iou


def unet(width: int = 8) -> keras.Model:
    """Four levels of two convolutions; the logits of each pixel."""

    def conv(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=name)(x)

    inputs = layers.Input((SIZE, SIZE, 3), name="image")
    x = inputs
    skips = []
    for level in range(3):
        x = conv(x, width << level, f"down{level}a")
        x = conv(x, width << level, f"skip{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = conv(conv(x, width << 3, "bottom_a"), width << 3, "bottom")
    for level in (2, 1, 0):
        x = layers.UpSampling2D(2, name=f"up{level}")(x)
        x = layers.Concatenate(name=f"join{level}")([x, skips[level]])
        x = conv(x, width << level, f"up{level}a")
        x = conv(x, width << level, f"up{level}b")
    outputs = layers.Conv2D(len(CLASSES), 1, name="logits")(x)
    return keras.Model(inputs, outputs, name="unet")


class Watch(keras.callbacks.Callback):
    """Prints the mean IoU in validation after each epoch."""

    def __init__(self, data: Split) -> None:
        super().__init__()
        self.data = data

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        iou = iou_of(self.model, self.data)
        print(
            f"epoch {epoch + 1}: loss {(logs or {}).get('loss', 0):.4f}, IoU {iou:.4f}", flush=True
        )


def iou_of(model: keras.Model, data: Split) -> float:
    """Mean IoU of a model over a split."""
    return mean_iou(model.predict(data.x, batch_size=32, verbose=0).argmax(-1), data.y)
