"""Keras layers of the project, one a file."""

from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.projection import ProjectionBottleneck

__all__ = ["FakeQuant", "ProjectionBottleneck"]
