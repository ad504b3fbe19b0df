"""Why a layer cannot come to the device, and what to write instead."""

from __future__ import annotations

from keras import layers

from keras_fmc.canonical.editor import Refusal
from keras_fmc.model.layer_graph import LayerNode
from keras_fmc.model.operations import activation_name, is_activation

_ATTEND = "Use MultiHeadAttention, which is taken apart into operators of the device"
_UNROLL = (
    "Replace it by Conv1D layers, dilated and causal for a long view, or convert the model with "
    "TensorFlow's own quantisation (unroll=True, batch 1) and give the .tflite to `fmc plan`"
)
_CURVED = "Use relu, leaky_relu, hard_swish or silu, which the device has in int8"

_REMEDIES: dict[str, str] = {
    "GroupedQueryAttention": _ATTEND,
    "AdditiveAttention": _ATTEND,
    "ConvLSTM1D": _UNROLL,
    "ConvLSTM2D": _UNROLL,
    "Conv3D": "Fold the third dimension into channels, and use Conv2D",
    "Embedding": "Look the rows up outside: let the model begin behind it, with an input of the "
    "vectors. An Embedding of fixed positions, inside a layer of your own, is a constant",
    "Masking": "Feed samples of one length, padded with zeros",
    "LocallyConnected2D": "Use Conv2D",
}

_STOCK = "Use one of the layers that keras_fmc.supported() lists"


def refusal(node: LayerNode) -> Refusal:
    """Returns what to say about a layer that `row_of` does not know."""
    operation = node.operation
    kind = type(operation).__name__
    if is_activation(operation):
        name = activation_name(operation)
        return Refusal(node.name, f"activation {name!r} has no int8 form here", _CURVED)
    if not type(operation).__module__.startswith("keras."):
        what = f"custom layer {kind} has no int8 form here"
        return Refusal(node.name, what, "Write its call() with keras.ops and stock layers")
    interpolation = getattr(operation, "interpolation", None)
    if isinstance(operation, (layers.UpSampling2D, layers.Resizing)):
        what = f"interpolation {interpolation!r} has no int8 form here"
        return Refusal(node.name, what, "Use 'nearest' or 'bilinear'")
    if isinstance(operation, layers.BatchNormalization):
        return Refusal(
            node.name,
            "BatchNormalization has no int8 form here without a fixed scale per channel",
            "Call it without training=True, on the last axis",
        )
    return Refusal(node.name, f"{kind} has no int8 form here", _REMEDIES.get(kind, _STOCK))
