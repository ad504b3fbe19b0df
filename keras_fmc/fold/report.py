"""What folding did and what it left, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import keras


class KeepReason(Enum):
    """Why a layer could not be merged exactly into a neighbour; the value is the user's text."""

    BORDER = "the reader pads with zeros, where a constant would be missing"
    DEPTHWISE = "a depthwise convolution does not mix channels"
    GROUPED = "the groups of the convolution would be lost at the price of more multiplications"
    MAX_POOLING = "max pooling does not commute with a map of channels"
    NONLINEARITY = "a nonlinearity lies between"
    ADDITION = "an addition lies between"
    CONCATENATION = "a concatenation lies between whose readers cannot all take it"
    OTHER_READERS = "the map is read elsewhere, too"
    SHARED_LAYER = "the neighbour's weights serve several calls"
    MODEL_INPUT = "an input of the model comes before it"
    MODEL_OUTPUT = "the map is an output of the model"
    OPERATION = "the neighbour is no layer that weights can be merged into"
    TRAINING_STATISTICS = "it is called with training=True and so has no fixed statistics"
    AXIS = "it does not work on the last axis, or on a tensor that is neither a map nor a vector"
    WINDOW = "a window of stride 2 is a layer of its own"
    PREPROCESSING = "merging it would scale the weights out of the optimiser's reach"


@dataclass(frozen=True, slots=True)
class Folded:
    """A layer that is gone, its effect exactly in the weights of others.

    Attributes:
        layer: name of the source layer; of a bottleneck, of its part.
        into: names of the layers that took it.
    """

    layer: str
    into: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A layer that stays.

    Attributes:
        layer: name of the source layer; of a bottleneck, of its part.
        reason: why.
        neighbour: the layer that could not take it, "" for the model's inputs and outputs.
        stands_as: name of the convolution, depthwise convolution or dense layer that does its work
            in the folded model; "" where it was left as it is.
    """

    layer: str
    reason: KeepReason
    neighbour: str = ""
    stands_as: str = ""

    def __str__(self) -> str:
        at = f" (at {self.neighbour})" if self.neighbour else ""
        form = f"; stands as {self.stands_as}" if self.stands_as else ""
        return f"{self.layer} stays: {self.reason.value}{at}{form}"


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A folded model.

    Attributes:
        model: computes what the source model computes at inference.
        folded: what is gone, in the order of the source model.
        kept: what stays, with a line for each neighbour that could not take it.
    """

    model: keras.Model
    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]
