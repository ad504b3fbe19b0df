"""Small quantised Keras layers and their conversion, for tests of what the device computes."""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import numpy as np

from deploy import flatbuffer
from deploy.graph import Graph
from keras_fmc.layers.fake_quant import FakeQuant, fake_quant_weights

INPUT_RANGE = (-1.0, 127 / 128)
"""Of `int8_input`: the scale is 1/128 and the zero point 0."""


class QuantizedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel training sees in int8, channel by channel."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, fake_quant_weights(kernel, axis=-1))


def int8_input(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Returns a Keras input and the same on the int8 grid of `INPUT_RANGE`."""
    image = keras.Input(shape)
    return image, FakeQuant(fixed_range=INPUT_RANGE)(image)


def random_codes(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random int8 inputs of one sample and the real values that they stand for."""
    codes = np.random.default_rng(seed).integers(-128, 128, (1, *shape)).astype(np.int8)
    return codes, (codes / 128).astype(np.float32)


def convert(model: keras.Model) -> tuple[bytes, Graph]:
    """Converts a model that quantises itself; batch 1, int8 inputs and outputs."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        signature = [
            keras.InputSpec(shape=(1, *t.shape[1:]), dtype="float32", name=t.name)
            for t in model.inputs
        ]
        model.export(folder, format="tf_saved_model", verbose=False, input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content = converter.convert()
    return content, flatbuffer.read(content)


def opcodes(graph: Graph) -> list[str]:
    return [operator.opcode for operator in graph.operators]


def output_quantization(graph: Graph, output: int = 0) -> tuple[float, int]:
    """Returns scale and zero point of an output."""
    quantization = graph.tensors[graph.outputs[output]].quantization
    assert quantization is not None
    return quantization.scales[0], quantization.zero_points[0]
