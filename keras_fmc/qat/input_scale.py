"""A scale in front of everything, as `Rescaling(1 / 255)`, that costs the device nothing.

    image 0 … 255 → x / 255 → Conv2D

What is scaled has the codes of the image where its range is that of the image, scaled; so the layer
is no operator, and the convolution behind it reads the image. `keras_fmc.quantize` gives it that
range, and `deploy.convert` leaves the operator out.
"""

from __future__ import annotations

import numpy as np
from keras import layers, ops

from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers, producers
from keras_fmc.model.operations import Role, row_of
from keras_fmc.qat.weight_layers import QUANTIZED

BYTES = (0.0, 255.0)
"""Range of an image of bytes, each of which has a code of its own."""

_LEAST_IMAGE = 128.0
"""What whole numbers must reach to be taken for bytes."""


def scaled_inputs(graph: LayerGraph) -> dict[int, tuple[int, float]]:
    """Returns, of a folded graph, what is scaled → the input that it is a multiple of, and the
    factor, where nothing else reads the input and only layers with weights read the multiple."""
    readers, makers = consumers(graph), producers(graph)
    found = {}
    for node in graph.nodes:
        factor = _factor(node)
        source = node.inputs[0] if node.inputs else -1
        # What does nothing at inference, such as augmentation, may stand between.
        while factor is not None and source in makers and len(readers[source]) == 1:
            maker = graph.nodes[makers[source]]
            if not _is_absent(maker):
                break
            source = maker.inputs[0]
        if factor is None or source not in graph.inputs:
            continue
        (output,) = node.outputs
        reading = [graph.nodes[index] for index in readers[output]]
        further = []
        while reading:
            reader = reading.pop()
            if _is_absent(reader) and not set(reader.outputs) & set(graph.outputs):
                reading += [graph.nodes[i] for made in reader.outputs for i in readers[made]]
            else:
                further.append(reader.operation)
        weighted = all(type(operation) in _WEIGHTED for operation in further)
        alone = len(readers[source]) == 1 and source not in graph.outputs
        if further and weighted and alone and output not in graph.outputs:
            found[output] = (source, factor)
    return found


def _is_absent(node: LayerNode) -> bool:
    row = row_of(node.operation)
    absent = row is not None and row.role is Role.ABSENT
    return absent and not isinstance(node.operation, FakeQuant)


def is_image(samples: np.ndarray) -> bool:
    """Whether all values are whole numbers of a byte."""
    low, high = float(samples.min(initial=0.0)), float(samples.max(initial=0.0))
    if low < BYTES[0] or not _LEAST_IMAGE <= high <= BYTES[1]:
        return False
    return bool(np.all(samples == np.round(samples)))


_WEIGHTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
assert set(_WEIGHTED) < set(QUANTIZED)


def _factor(node: LayerNode) -> float | None:
    """s of a depthwise convolution that computes s · x, s > 0."""
    layer = node.operation
    if type(layer) is not layers.DepthwiseConv2D or layer.kernel_size != (1, 1):
        return None
    if layer.strides != (1, 1) or layer.depth_multiplier != 1 or layer.trainable:
        return None
    if getattr(layer.activation, "__name__", "") != "linear":
        return None
    kernel = np.asarray(ops.convert_to_numpy(layer.kernel), np.float64)
    biased = layer.use_bias and np.any(ops.convert_to_numpy(layer.bias))
    factor = float(kernel.flat[0])
    return factor if factor > 0 and not biased and np.all(kernel == factor) else None
