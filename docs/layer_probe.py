"""What becomes of each Keras layer: it is put into a small model, and that is quantised."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import keras_fmc as fmc

_IMAGE, _SERIES, _VECTOR = (8, 8, 4), (8, 4), (12,)

_OUTSIDE = (
    "Random", "Mel", "STFT", "Text", "String", "Integer", "Hashing", "Hashed", "Discretization",
    "Category", "Aug", "Mix", "AutoContrast", "CutMix", "Equalization", "Histogram", "Limited",
    "Posterization", "Solarization", "BoundingBoxes", "Pipeline", "Cell", "Wrapper", "Flax", "Jax",
    "TFSM", "RNN", "Embedding", "Masking", "Invert", "Grayscale", "3D", "LSTM1D",
    "LSTM2D", "Spectral",
)  # fmt: skip
"""Parts of the names of layers that are no subject of the table: data, text, wrappers, 3-D maps."""

_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Activation": {"activation": "relu"},
    "AdaptiveAveragePooling1D": {"output_size": 4},
    "AdaptiveAveragePooling2D": {"output_size": 4},
    "AdaptiveMaxPooling1D": {"output_size": 4},
    "AdaptiveMaxPooling2D": {"output_size": 4},
    "AveragePooling1D": {"pool_size": 2},
    "AveragePooling2D": {"pool_size": 2},
    "CenterCrop": {"height": 4, "width": 4},
    "Conv1D": {"filters": 4, "kernel_size": 3},
    "Conv1DTranspose": {"filters": 4, "kernel_size": 3},
    "Conv2D": {"filters": 4, "kernel_size": 3},
    "Conv2DTranspose": {"filters": 4, "kernel_size": 3},
    "Cropping2D": {"cropping": 1},
    "Dense": {"units": 4},
    "DepthwiseConv1D": {"kernel_size": 3},
    "DepthwiseConv2D": {"kernel_size": 3},
    "Dot": {"axes": 3},
    "Dropout": {"rate": 0.1},
    "EinsumDense": {"equation": "abcd,de->abce", "output_shape": (8, 8, 4)},
    "GRU": {"units": 4},
    "GaussianDropout": {"rate": 0.1},
    "GaussianNoise": {"stddev": 0.1},
    "AlphaDropout": {"rate": 0.1},
    "GroupNormalization": {"groups": 2},
    "LSTM": {"units": 4},
    "MaxPooling1D": {"pool_size": 2},
    "MaxPooling2D": {"pool_size": 2},
    "MultiHeadAttention": {"num_heads": 1, "key_dim": 4},
    "Permute": {"dims": (2, 1, 3)},
    "RepeatVector": {"n": 2},
    "Rescaling": {"scale": 0.5},
    "Reshape": {"target_shape": (4, 16, 4)},
    "Resizing": {"height": 16, "width": 16},
    "SeparableConv1D": {"filters": 4, "kernel_size": 3},
    "SeparableConv2D": {"filters": 4, "kernel_size": 3},
    "SpatialDropout1D": {"rate": 0.1},
    "SpatialDropout2D": {"rate": 0.1},
}
_VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(
        ("Activation", {"activation": name})
        for name in ("relu6", "leaky_relu", "sigmoid", "tanh", "softmax", "hard_silu", "silu")
    ),
    *(("Activation", {"activation": name}) for name in ("elu", "gelu", "selu", "softplus")),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": 2}),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 2}),
    ("UpSampling2D", {"interpolation": "bilinear"}),
)
_VECTOR_LAYERS = ("RepeatVector",)
_SERIES_LAYERS = ("GRU", "LSTM", "MultiHeadAttention", "Attention")
_TWO = ("Attention", "Average", "Dot", "MultiHeadAttention")
_NO_LAYER = ("Layer", "Lambda", "InputLayer", "Bidirectional", "TimeDistributed", "StackedRNNCells")


def probe() -> Iterator[tuple[str, str, str | None]]:
    """Yields (layer, its arguments, why it is refused or None) by name."""
    asked = [(name, _ARGUMENTS.get(name, {})) for name in _names()]
    for name, arguments in sorted([*asked, *_VARIANTS], key=lambda pair: (pair[0], str(pair[1]))):
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        yield name, shown, refusal(name, arguments)


def refusal(name: str, arguments: dict[str, Any]) -> str | None:
    """Returns the first sentence of the error with which a model with this layer is refused."""
    try:
        model = _model(name, arguments)
        samples = np.random.default_rng(0).random((2, *model.inputs[0].shape[1:]), np.float32)
        fmc.quantize(model, calibration=samples)
    except fmc.FmcError as error:
        return str(error.what)
    return None


def _names() -> list[str]:
    """Names of the classes themselves; Keras has further names for some."""
    found = []
    for name, value in inspect.getmembers(layers, inspect.isclass):
        if not issubclass(value, keras.Layer) or value.__name__ != name or name in _NO_LAYER:
            continue
        if not any(part in name for part in _OUTSIDE) and "Attention" not in name[3:-9]:
            found.append(name)
    return found


def _model(name: str, arguments: dict[str, Any]) -> keras.Model:
    layer = getattr(layers, name)(name="layer", **arguments)
    is_series = "1D" in name or name in _SERIES_LAYERS
    shape = _VECTOR if name in _VECTOR_LAYERS else _SERIES if is_series else _IMAGE
    inputs = layers.Input(shape)
    if isinstance(layer, layers.Normalization):
        layer.adapt(np.random.default_rng(0).random((8, *shape), np.float32))
    takes_list = (
        isinstance(layer, (layers.Add, layers.Concatenate)) or "merging" in type(layer).__module__
    )
    if name == "MultiHeadAttention":
        return keras.Model(inputs, layer(inputs, inputs))
    if takes_list or name in ("Attention", "AdditiveAttention"):
        return keras.Model(inputs, layer([inputs, layers.ReLU()(inputs)]))
    return keras.Model(inputs, layer(inputs))
