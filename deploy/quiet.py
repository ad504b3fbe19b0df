"""Silence for libraries that write to the terminal on their own."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from keras_fmc.errors import BadInputError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends what Python and C++ code write to stdout and stderr to nowhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        saved = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(sink.fileno(), descriptor)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up lines, which no log level suppresses.

    A command's own process runs Keras on TensorFlow, whatever backend the user trains on.

    Raises:
        BadInputError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with quiet():
            import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadInputError(
            f"Keras models need {error.name}, which is not installed",
            remedy="pip install 'keras-fmc[keras]'; a .tflite model can be planned without it",
        ) from error
