"""A trained scale and offset for each channel."""

from __future__ import annotations

from typing import Any

import keras

from keras_fmc.model.registered import register


@register
class ChannelScale(keras.layers.Layer):
    """y = scale * x + offset over the last axis; `keras_fmc.fold` merges it as it does a BN.

    Weights: scale, offset of shape (channels,), as far as used.

    Args:
        use_scale: whether there is a scale; 1 otherwise.
        use_offset: whether there is an offset; 0 otherwise.

    Input and output: (batch, …, channels).
    """

    def __init__(self, *, use_scale: bool = True, use_offset: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_scale = bool(use_scale)
        self.use_offset = bool(use_offset)
        self.scale = self.offset = None
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],)
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")
        if self.use_offset:
            self.offset = self.add_weight(name="offset", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        outputs = inputs if self.scale is None else inputs * self.scale
        return outputs if self.offset is None else outputs + self.offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"use_scale": self.use_scale, "use_offset": self.use_offset}
        return {**super().get_config(), **config}


def channel_scale(
    name: str | None,
    channels: int,
    *,
    scale: Any = None,
    offset: Any = None,
    trainable: bool = True,
) -> ChannelScale:
    """Returns a built layer with these values, arrays of (channels,), or without where None."""
    layer = ChannelScale(use_scale=scale is not None, use_offset=offset is not None, name=name)
    layer.build((None, channels))
    for weight, value in ((layer.scale, scale), (layer.offset, offset)):
        if weight is not None:
            weight.assign(value)
    layer.trainable = trainable
    return layer
