"""Reading layers that scale and shift channels: BN, Rescaling, Normalization, ChannelScale."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from keras_fmc.fold.graph import float64
from keras_fmc.fold.report import KeepReason
from keras_fmc.layers.channel_scale import ChannelScale
from keras_fmc.model.layer_graph import LayerNode


@dataclass(frozen=True, slots=True)
class Affine:
    """scale · x + shift over the last axis, both (C,)."""

    scale: np.ndarray
    shift: np.ndarray
    trainable: bool


def read_affine(node: LayerNode, rank: int, channels: int | None) -> Affine | KeepReason | None:
    """Returns what an affine layer computes, why it has no fixed form, or None for others."""
    layer = node.operation
    if type(layer) is layers.BatchNormalization:
        if node.kwargs.get("training"):
            return KeepReason.TRAINING_STATISTICS
        if layer.axis not in (-1, rank - 1):
            return KeepReason.AXIS
        scale = 1 / np.sqrt(float64(layer.moving_variance) + layer.epsilon)
        if layer.scale:
            scale = scale * float64(layer.gamma)
        shift = -float64(layer.moving_mean) * scale
        if layer.center:
            shift = shift + float64(layer.beta)
        return Affine(scale, shift, layer.trainable)
    if type(layer) is ChannelScale:
        size = channels or 1
        scale = np.ones(size) if layer.scale is None else float64(layer.scale)
        shift = np.zeros(size) if layer.offset is None else float64(layer.offset)
        return Affine(scale, shift, layer.trainable)
    if type(layer) is layers.Rescaling:
        return _constants(np.asarray(layer.scale), np.asarray(layer.offset), channels)
    if type(layer) is layers.Normalization and not layer.invert:
        deviation = np.maximum(np.sqrt(float64(layer.variance)), keras.config.epsilon())
        return _constants(1 / deviation, -float64(layer.mean) / deviation, channels)
    return None


def _constants(scale: np.ndarray, shift: np.ndarray, channels: int | None) -> Affine | KeepReason:
    """Spreads numbers for the whole tensor, or one a channel, over the channels."""
    if channels is None or any(np.size(part) not in (1, channels) for part in (scale, shift)):
        return KeepReason.AXIS
    spread = [np.broadcast_to(np.ravel(part), (channels,)).copy() for part in (scale, shift)]
    return Affine(spread[0], spread[1], trainable=False)
