"""Operators of packing and unpacking, as stock TensorFlow Lite Micro has them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deploy.codes.layout import Stage
from deploy.graph import (
    Activation,
    GraphBuilder,
    Operator,
    Options,
    Padding,
    Quantization,
    Tensor,
)

_INT8, _INT32 = 9, 2
"""Of the schema's TensorType, for CAST."""


@dataclass(slots=True)
class Emitter:
    """Adds tensors to a builder and collects operators that are to be put somewhere.

    Attributes:
        builder: of the graph; its operators are left alone.
        name: prefix of the new tensors.
        operators: in order.
    """

    builder: GraphBuilder
    name: str
    operators: list[Operator] = field(default_factory=list)

    def stage(self, source: int, stage: Stage, *, zero_code: int, output: int) -> int:
        """Applies a stage of `CodeLayout` and returns `output`.

        Args:
            source: its int8 values stand for the codes 0, 1, … from `zero_code` on.
            output: a tensor of the same scale; an integer 0 becomes its zero point.
        """
        tensor = self.builder.tensors[source]
        scale, zero_point = _single(tensor)
        rows, columns = stage.weights.shape
        bias = stage.bias + stage.weights.sum(axis=1) * (zero_point - zero_code)
        weights = self._constant(
            f"{self.name}_weights",
            stage.weights.astype(np.int8).reshape(rows, 1, 1, columns),
            quantization=Quantization(tuple(stage.gain.tolist()), (0,) * rows, 0),
        )
        biases = self._constant(
            f"{self.name}_bias",
            bias.astype(np.int32),
            quantization=Quantization(tuple((scale * stage.gain).tolist()), (0,) * rows, 0),
        )
        options = Options(
            "Conv2DOptions",
            (
                ("padding", int(Padding.VALID)),
                ("stride_w", 1),
                ("stride_h", 1),
                ("fused_activation_function", int(Activation.NONE)),
                ("dilation_w_factor", 1),
                ("dilation_h_factor", 1),
            ),
        )
        return self._add("CONV_2D", (source, weights, biases), output, options, version=3)

    def look_up(
        self, source: int, table: np.ndarray, quantization: Quantization, *, output: int | None
    ) -> int:
        """Replaces each int8 v by row v + 128 of `table`, side by side along the last axis.

            source (…, c) int8 → CAST → ADD 128 → GATHER (…, c, n) → RESHAPE (…, c·n)

        Args:
            table: int8 of shape (256, n), or (256,), which needs no RESHAPE.
            output: of shape (…, c·n); None makes one.
        """
        shape = self.builder.tensors[source].shape
        wide = self.tensor("index", shape, dtype="int32")
        index = self.tensor("row", shape, dtype="int32")
        width = table.size // len(table)
        flat = (*shape[:-1], shape[-1] * width)
        if output is None:
            output = self.tensor("codes", flat, quantization)
        offset = self._constant(f"{self.name}_offset", np.array(128, np.int32))
        values = self._constant(
            f"{self.name}_table", table.astype(np.int8), quantization=quantization
        )
        casts = Options("CastOptions", (("in_data_type", _INT8), ("out_data_type", _INT32)))
        self._add("CAST", (source,), wide, casts)
        adds = Options("AddOptions", (("fused_activation_function", int(Activation.NONE)),))
        self._add("ADD", (wide, offset), index, adds)
        gathers = Options("GatherOptions", (("axis", 0), ("batch_dims", 0)))
        if table.ndim == 1:
            return self._add("GATHER", (values, index), output, gathers, version=2)
        rows = self.tensor("looked_up", (*shape, width), quantization)
        new_shape = self._constant(f"{self.name}_shape", np.array(flat, np.int32))
        self._add("GATHER", (values, index), rows, gathers, version=2)
        reshapes = Options("ReshapeOptions", (("new_shape", flat),))
        return self._add("RESHAPE", (rows, new_shape), output, reshapes)

    def requantize(self, source: int, output: int) -> int:
        """Brings a map to the scale of `output`."""
        return self._add("QUANTIZE", (source,), output, Options("QuantizeOptions"))

    def first_channels(self, source: int, output: int) -> int:
        """Keeps as many channels as `output` has."""
        shape = self.builder.tensors[output].shape
        begin = self._constant(f"{self.name}_begin", np.zeros(len(shape), np.int32))
        size = self._constant(f"{self.name}_size", np.array(shape, np.int32))
        return self._add("SLICE", (source, begin, size), output, Options("SliceOptions"), version=2)

    def tensor(
        self,
        suffix: str,
        shape: tuple[int, ...],
        quantization: Quantization | None = None,
        *,
        dtype: str = "int8",
    ) -> int:
        """Adds an activation called after the emitter."""
        return self.builder.tensor(Tensor(f"{self.name}_{suffix}", shape, dtype, quantization))

    def _constant(
        self, name: str, values: np.ndarray, *, quantization: Quantization | None = None
    ) -> int:
        """Adds a constant, or finds the same: several maps and readers share tables."""
        data = values.tobytes()
        for index, tensor in enumerate(self.builder.tensors):
            if (
                tensor.data == data
                and tensor.shape == values.shape
                and tensor.dtype == str(values.dtype)
                and tensor.quantization == quantization
            ):
                return index
        return self.builder.constant(name, values, quantization=quantization)

    def _add(
        self,
        opcode: str,
        inputs: tuple[int, ...],
        output: int,
        options: Options,
        *,
        version: int = 1,
    ) -> int:
        self.operators.append(Operator(opcode, inputs, (output,), options, version))
        return output


def _single(tensor: Tensor) -> tuple[float, int]:
    assert tensor.quantization is not None
    return tensor.quantization.scales[0], tensor.quantization.zero_points[0]
