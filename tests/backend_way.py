"""The whole way of a model on the backend that Keras runs on, as a program.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python -m tests.backend_way se_resnet …

Prints for each model of ``tests.keras_models`` as JSON whether it got bottlenecks, whether training
moved its weights, and how many outputs of the int8 model in TensorFlow Lite Micro are another level
than those of ``device_rounding``, and of how many.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import keras
import numpy as np

import keras_fmc as fmc
from deploy import flatbuffer
from tests.keras_models import MODELS

OWN = "own_layer"


@keras.saving.register_keras_serializable("tests.backend_way")
class Snake(keras.layers.Layer):
    """A layer of the user's own, which a process without this module does not know."""

    def call(self, x: Any) -> Any:
        return x + keras.ops.sin(x) ** 2

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def own_layer() -> keras.Model:
    fmc.register_layer(Snake, elementwise=True)
    inputs = keras.Input((8, 8, 3))
    x = Snake()(keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs))
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def outcome(name: str) -> dict[str, object]:
    """Bottlenecks, quantisation, training, saving and conversion of a model; see above."""
    keras.utils.set_random_seed(3)
    model = own_layer() if name == OWN else MODELS[name]()
    generator = np.random.default_rng(3)
    samples = [generator.random((24, *tensor.shape[1:]), np.float32) for tensor in model.inputs]
    given = samples if len(samples) > 1 else samples[0]
    plan = fmc.choose_bottlenecks(model, ceiling=0.5)
    coded = fmc.insert_bottlenecks(model, plan, calibration=given).model
    qat = fmc.quantize(coded, calibration=given)
    targets = model.predict(given, verbose=0)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in qat.trainable_variables]
    fmc.finetune(qat, given, targets, loss="mse", epochs=1, rate=1e-3)
    moved = any(
        np.any(old != keras.ops.convert_to_numpy(new))
        for old, new in zip(before, qat.trainable_variables, strict=True)
    )
    result = fmc.convert(qat, strips=False)
    outputs = keras.tree.flatten(fmc.predict(result, given))
    rounded = keras.tree.flatten(fmc.device_rounding(qat).predict(given, verbose=0))
    graph = flatbuffer.read(result.content)
    off = total = 0
    for index, device, wanted in zip(graph.outputs, outputs, rounded, strict=True):
        scale = graph.tensors[index].quantization.scales[0]
        levels = np.rint((np.reshape(device, -1) - np.reshape(wanted, -1)) / scale)
        off, total = off + int(np.count_nonzero(levels)), total + levels.size
    return {
        "backend": keras.backend.backend(),
        "compressed": bool(plan.bottlenecks),
        "moved": moved,
        "off": off,
        "of": total,
    }


def main() -> int:
    for name in sys.argv[1:]:
        print(json.dumps({name: outcome(name)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
