"""Which factor of equation (6) trains a GF(2) bottleneck better: 1 or 2 / B?

A small network learns Fashion-MNIST; then its largest map goes through a GF(2) bottleneck, and all
weights are trained for one more epoch, with either factor, from the same start and the same
batches. Prints loss and accuracy on a validation split for each seed.

    python benchmarks/bench_gf2_gradient.py [--seeds 2] [--images 16000]

Source of the question: Gudovskiy, Hodgkinson & Rigazio 2018, §3.3 leave the factor open; their
released code uses 2 / B.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
from fashion_mnist import load
from keras import layers

from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.start.gf2_start import start_from_data

CASES = {
    "6 bits, 1×1, 64 of 96 stored": {"stored_channels": 64, "bits": 6},
    "4 bits, 1×1, 32 of 64 stored": {"stored_channels": 32, "bits": 4},
    "6 bits, 2×2 stride 2, 96 of 384 stored": {
        "stored_channels": 96, "bits": 6, "kernel_size": 2, "strides": 2,
    },
}  # fmt: skip
OPTIMIZERS = {
    "SGD": lambda rate: keras.optimizers.SGD(rate(0.05), momentum=0.9),
    "Adam": lambda rate: keras.optimizers.Adam(rate(2e-3)),
}


def network() -> keras.Model:
    """Three convolutions; the map of the first, 32×32×16, is the largest."""
    inputs = keras.Input((32, 32, 1))
    x = inputs
    for index, filters in enumerate((16, 32, 64)):
        x = layers.Conv2D(filters, 3, 1 if index == 0 else 2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU(name=f"map{index}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def with_bottleneck(model: keras.Model, bottleneck: GF2Bottleneck) -> keras.Model:
    """Returns a copy of the model whose first map goes through the bottleneck."""

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        outputs = layer(*args, **kwargs)
        return bottleneck(outputs) if layer.name == "map0" else outputs

    copy = keras.models.clone_model(model, call_function=call)
    for layer in model.layers[1:]:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def train(
    model: keras.Model, data: tuple[np.ndarray, np.ndarray], epochs: int, optimizer: str
) -> None:
    steps = epochs * -(-len(data[0]) // 128)
    model.compile(
        OPTIMIZERS[optimizer](lambda r: keras.optimizers.schedules.CosineDecay(r, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*data, batch_size=128, epochs=epochs, verbose=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=16_000)
    options = parser.parse_args()
    data = load(None, train_images=options.images)
    training = data.x_train, data.y_train
    validation = data.x_validation, data.y_validation
    keras.utils.set_random_seed(0)
    base = network()
    train(base, training, 6, "Adam")
    print("float:", report(base, validation), flush=True)
    probe = keras.Model(base.input, base.get_layer("map0").output)
    maps = keras.ops.convert_to_numpy(probe(training[0][:64]))
    for name, arguments in CASES.items():
        for optimizer in OPTIMIZERS:
            for seed in range(options.seeds):
                for factor in (1.0, 2 / int(arguments["bits"])):
                    keras.utils.set_random_seed(seed)
                    bottleneck = GF2Bottleneck(**arguments, gradient_scale=factor)
                    model = with_bottleneck(base, bottleneck)
                    start_from_data(bottleneck, lambda: [maps], seed=seed)
                    train(model, training, 1, optimizer)
                    print(
                        f"{name}, {optimizer}, seed {seed}, factor {factor:.3f}: "
                        f"{report(model, validation)}",
                        flush=True,
                    )


def report(model: keras.Model, data: tuple[np.ndarray, np.ndarray]) -> str:
    logits = model.predict(data[0], batch_size=500, verbose=0)
    loss = keras.losses.sparse_categorical_crossentropy(data[1], logits, from_logits=True)
    accuracy = float((logits.argmax(-1) == data[1]).mean())
    return f"loss {float(np.mean(keras.ops.convert_to_numpy(loss))):.4f}, accuracy {accuracy:.4f}"


if __name__ == "__main__":
    main()
