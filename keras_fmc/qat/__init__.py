"""Quantisation-aware training: a float model in, a model out that trains on int8's grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_fmc.errors import BadInputError

BACKENDS = ("native", "tfmot")

__all__ = ["BACKENDS", "quantize"]


def quantize(
    model: keras.Model,
    *,
    calibration: object,
    backend: str = "native",
    momentum: float | None = None,
    weight_bits: int | Mapping[str, int] = 8,
) -> Any:
    """Returns a model that rounds weights and activations where, and as, the int8 device does.

    Whatever is unfolded is folded first (`keras_fmc.fold`), so training sees the graph that runs.
    The result predicts like the quantised network at once, trains with the user's own `compile`
    and `fit`, and is what `deploy.convert` turns into an int8 model. It is not compiled. Layers
    keep their names and whether they are trainable. Sums are rounded once, where the kernels of
    the device round twice; `keras_fmc.device_rounding` makes the difference good.

    Args:
        model: a built Keras 3 model with float32 inputs of fixed size; left alone.
        calibration: some hundred samples as in training, see
            `keras_fmc.model.calibration.calibration_arrays`; ranges of activations come from them.
        backend: "native" gives a Keras 3 model with a scale for each output channel of every
            convolution. "tfmot" gives a tf_keras model made by TensorFlow's Model Optimization
            Toolkit, whose depthwise kernels have one scale; it needs the extra `[tfmot]`.
        momentum: None keeps the calibrated ranges while training; a number in [0, 1), such as
            0.99, lets them follow the batches (`keras_fmc.FakeQuant`). Native only.
        weight_bits: of the codes of weights, 2 to 8: of all layers, or by name or pattern of a
            layer, as in ``{"dense": 4, "block_*": 6}``; layers that are not named, and transposed
            convolutions, have 8. The largest weight has the largest code, 2^(bits - 1) - 1. In the
            file codes stay int8, so that every kernel runs them; fewer values compress better.
            Native only.

    Returns:
        A `keras.Model`, or a `tf_keras.Model` with the backend "tfmot".

    Raises:
        BadInputError: unusable model or calibration data, an unknown backend, or a missing extra.
        UnsupportedModelError: a layer that has no int8 form, or with "tfmot" one whose codes have
            fewer than 8 bits or stride 2; names it.
    """
    from keras_fmc.model.calibration import calibration_arrays
    from keras_fmc.qat.checks import check_deployable

    if backend not in BACKENDS:
        raise BadInputError("unknown QAT backend", " or ".join(map(repr, BACKENDS)), repr(backend))
    check_deployable(model)
    arrays = calibration_arrays(model, calibration)
    if backend == "native":
        from keras_fmc.qat import native

        return native.quantize(model, arrays, momentum=momentum, weight_bits=weight_bits)
    if weight_bits != 8:
        raise BadInputError(
            "weight_bits with the backend 'tfmot'",
            expected="8",
            received=weight_bits,
            remedy="Use the backend 'native'",
        )
    if momentum is not None:
        raise BadInputError(
            "momentum with the backend 'tfmot'",
            expected="momentum=None",
            received=momentum,
            remedy="Leave it out: the toolkit has its own moving ranges",
        )
    from keras_fmc.qat import tfmot
    from keras_fmc.qat.checks import check_eight_bits

    check_eight_bits(model)
    return tfmot.quantize(model, arrays)
