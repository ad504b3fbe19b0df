"""LiteRT with the reference kernels: the oracle whose outputs TensorFlow Lite Micro repeats.

The reference resolver is used on purpose: XNNPACK rounds differently and refuses some graphs.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

import numpy as np

from deploy import flatbuffer
from deploy.implicit import METADATA_NAME, explicit
from keras_fmc.errors import BadInputError, UnsupportedModelError, VerificationError

_SHAPE = "shape"


def unavailable_reason() -> str | None:
    """Returns why models cannot be run in LiteRT here, or None if they can."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed"
    return None


def load() -> None:
    """Imports the runtime, where it is installed, before the first model needs it."""
    if unavailable_reason() is None:
        importlib.import_module("ai_edge_litert.interpreter")


def run(content: bytes, inputs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Runs a model with LiteRT's reference kernels and returns its outputs.

    Args:
        content: the bytes of a .tflite file; an offline plan in it is ignored, and views that
            have no operator there for the sake of that plan get one.
        inputs: samples; each holds one array for each input of the model, in its dtype.

    Returns:
        For each sample one array for each output.

    Raises:
        UnsupportedModelError: LiteRT refuses the model.
        BadInputError: a sample does not match the model's inputs, or LiteRT is not installed.
        VerificationError: invoking the model fails.
    """
    reason = unavailable_reason()
    if reason is not None:
        raise BadInputError("cannot run LiteRT", received=reason)
    if METADATA_NAME.encode() in content:
        content = flatbuffer.write(explicit(flatbuffer.read(content)))
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            num_threads=1,
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError("LiteRT refuses the model", received=error) from error
    details = interpreter.get_input_details()
    expected = [(tuple(int(n) for n in d[_SHAPE]), np.dtype(d["dtype"])) for d in details]
    outputs = [d["index"] for d in interpreter.get_output_details()]
    results = []
    for sample in inputs:
        received = [(tuple(values.shape), values.dtype) for values in sample]
        if received != expected:
            raise BadInputError(
                "a sample does not match the inputs of the model",
                expected=_describe(expected),
                received=_describe(received),
            )
        for detail, values in zip(details, sample, strict=True):
            interpreter.set_tensor(detail["index"], values)
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise VerificationError("LiteRT fails to invoke the model", received=error) from error
        results.append([interpreter.get_tensor(index) for index in outputs])
    return results


def _describe(ends: list[tuple[tuple[int, ...], np.dtype]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in ends) or "nothing"
