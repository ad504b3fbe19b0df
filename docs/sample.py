"""Makes ``keras_fmc/samples/digits.tflite``, the model that ships with the package.

Three convolutions, trained on the digits inside scikit-learn and quantised after training:
``python docs/sample.py`` prints its accuracy and the SHA-256 that ``keras_fmc/samples`` expects.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from deploy.convert import to_int8_tflite
from deploy.runtime import litert

_OUT = Path(__file__).resolve().parent.parent / "keras_fmc" / "samples" / "digits.tflite"


def main() -> None:
    keras.utils.set_random_seed(0)
    digits = load_digits()
    x = np.kron(digits.images / 16, np.ones((1, 4, 4)))[..., None].astype("float32")
    y = digits.target
    model = _model()
    model.compile(keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    model.fit(x[:1400], y[:1400], epochs=60, batch_size=32, verbose=2)
    content = to_int8_tflite(model, calibration=x[:300])
    codes = np.clip(np.round(x[1400:] * 255) - 128, -128, 127).astype(np.int8)
    outputs = litert.run(content, [[code[None]] for code in codes])
    accuracy = np.mean([np.argmax(output[0]) for output in outputs] == y[1400:])
    _OUT.write_bytes(content)
    print(f"{_OUT.name}: {len(content):,} bytes, test accuracy {accuracy:.1%}")
    print(hashlib.sha256(content).hexdigest())


def _model() -> keras.Model:
    image = layers.Input((32, 32, 1), name="image")
    x = image
    for number, (filters, strides) in enumerate(((16, 1), (16, 2), (32, 2)), start=1):
        x = layers.Conv2D(
            filters, 3, strides, padding="same", use_bias=False, name=f"conv{number}"
        )(x)
        x = layers.ReLU(name=f"relu{number}")(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    scores = layers.Dense(10, activation="softmax", name="scores")(x)
    return keras.Model(image, scores, name="digits")


if __name__ == "__main__":
    main()
