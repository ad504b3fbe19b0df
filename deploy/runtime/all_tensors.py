"""Every tensor of a model after one run in LiteRT with the reference kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploy.runtime.litert import unavailable_reason
from keras_fmc.errors import BadInputError


def run_all(
    content: bytes, sample: Sequence[np.ndarray], wanted: Sequence[int]
) -> dict[int, np.ndarray]:
    """Returns tensor index → values, for the tensors ``wanted``.

    Args:
        content: the bytes of a .tflite file.
        sample: one array for each input, in its dtype.
    """
    reason = unavailable_reason()
    if reason is not None:
        raise BadInputError("cannot run LiteRT", received=reason)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), sample, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return {index: np.array(interpreter.get_tensor(index)) for index in wanted}
