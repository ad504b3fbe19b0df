"""Keras layers of the project, one a file."""

import keras  # noqa: F401  (before the modules below: keras_fmc.model.registration)

from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.projection import ProjectionBottleneck

__all__ = ["FakeQuant", "ProjectionBottleneck"]
