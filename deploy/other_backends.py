"""TensorFlow's converter for models on Keras' other backends, in a process of its own.

Keras has one backend in a process, and the converter reads TensorFlow's graphs only.
"""

from __future__ import annotations

import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.quiet import import_tensorflow, quiet
from deploy.runtime.child import Child
from keras_fmc.errors import FmcError, UnsupportedModelError

if TYPE_CHECKING:
    import keras


def converted(model: keras.Model) -> bytes:
    """Returns what the converter makes of an exported model on JAX or PyTorch.

    Raises:
        BadInputError: TensorFlow is not installed.
        UnsupportedModelError: the converter refuses the model, or its process ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        model.save(path)
        child = Child(__name__, path, environment={"KERAS_BACKEND": "tensorflow"})
        try:
            answer: tuple[FmcError | None, bytes] = child.connection.recv()
        except (EOFError, OSError) as cause:
            raise UnsupportedModelError(
                "the process that runs TensorFlow's converter ended",
                remedy="Save the model, and convert it where KERAS_BACKEND is tensorflow",
            ) from cause
        finally:
            child.close()
    error, content = answer
    if error is not None:
        raise error
    return content


def _serve(descriptor: int, path: str) -> None:
    """The process with TensorFlow: answers with an error of ours, or None and the file."""
    connection = Connection(descriptor)
    answer: tuple[FmcError | None, bytes]
    try:
        import_tensorflow()
        from deploy.convert import tensorflow_tflite
        from keras_fmc.model.loading import load_model

        with quiet():
            model = load_model(path)
        answer = (None, tensorflow_tflite(model))
    except FmcError as error:
        answer = (error, b"")
    connection.send(answer)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
