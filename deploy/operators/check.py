"""Holds a graph against the operator table, before anything is planned.

What passes can be planned without a look at whether it makes sense: indices, counts, types,
scales, options and shapes go together, and no tensor is larger than an arena can be.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from deploy.graph import Graph, Tensor
from deploy.operators.row import DAMAGED, OperatorRow, Site
from deploy.operators.table import OPERATORS
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.sizes import format_size

LARGEST_ARENA_BYTES = 64 * 2**20
"""More than any microcontroller has, external memory included; what runtimes are given to try."""

_QUANTIZED = ("int8", "uint8", "int16")


def check_operators(graph: Graph, *, source: str = "model", customs: Collection[str] = ()) -> None:
    """Checks every operator of a graph against its row, and every tensor that operators use.

    ``customs`` are codes of custom operators that are the user's own and have no row.

    Raises:
        UnsupportedModelError: an operator without a row, or what does not go together; names
            operator and tensor.
    """
    for index in graph.activations():
        _check_size(graph.tensors[index], source)
    used = {i for op in graph.operators for i in (*op.present_inputs, *op.outputs)}
    for index in sorted(used | set(graph.inputs) | set(graph.outputs)):
        _check_quantization(graph.tensors[index], source)
    for index, operator in enumerate(graph.operators):
        if operator.kind in OPERATORS or operator.custom_code not in customs:
            check_operator(graph, index, source=source)


def check_operator(graph: Graph, index: int, *, source: str = "model") -> None:
    """Checks one operator against its row.

    Raises:
        UnsupportedModelError: as ``check_operators``.
    """
    site = Site(graph, index, source)
    row = OPERATORS.get(site.operator.kind)
    if row is None:
        raise UnsupportedModelError(
            f"TensorFlow Lite Micro has no kernel for {graph.label(index)} in {source}",
            expected="its operators, which docs/reference/operators.md lists",
            remedy="Replace the layer that it comes from, and convert the model again",
        )
    _check_counts(site, row)
    _check_options(site, row)
    row.types(site)
    _check_scales(site, row)
    _check_shapes(site, row)


def check_shapes(graph: Graph, *, source: str = "model", opcodes: Collection[str]) -> None:
    """Checks counts of inputs and outputs, and of ``opcodes`` the shapes as well.

    This is what a graph has to hold to that is not planned, whatever its types; operators without
    a row are left alone.

    Raises:
        UnsupportedModelError: as ``check_operators``.
    """
    for index, operator in enumerate(graph.operators):
        row = OPERATORS.get(operator.kind)
        if row is not None:
            _check_counts(Site(graph, index, source), row)
            if operator.opcode in opcodes:
                _check_shapes(Site(graph, index, source), row)


def _check_shapes(site: Site, row: OperatorRow) -> None:
    graph = site.graph
    expected = row.shapes(site)
    for output, shape in zip(site.operator.outputs, expected, strict=True):
        tensor = graph.tensors[output]
        if shape is not None and tensor.shape != shape:
            site.fail(
                f"makes {tensor.name} of another shape than the file says",
                shape,
                tensor.shape,
                remedy=site.shape_remedy,
            )


def _check_counts(site: Site, row: OperatorRow) -> None:
    operator = site.operator
    for what, count, (fewest, most) in (
        ("inputs", len(operator.inputs), row.inputs),
        ("outputs", len(operator.outputs), row.outputs),
    ):
        if not fewest <= count <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            site.fail(f"has a wrong number of {what}", wanted, count)
    for position, tensor in enumerate(operator.inputs):
        if tensor < 0 and position not in row.optional:
            site.fail(f"has no input {position}", "a tensor", tensor)


def _check_options(site: Site, row: OperatorRow) -> None:
    options = site.operator.options
    if options is None:
        if row.needs_options:
            site.fail("has no options table", row.options)
    elif row.options and options.kind != row.options:
        site.fail("has options of another operator", row.options, options.kind)


def _check_scales(site: Site, row: OperatorRow) -> None:
    operator = site.operator
    inputs = [(p, i) for p, i in enumerate(operator.inputs) if i >= 0]
    for position, index in [*inputs, *((-1, i) for i in operator.outputs)]:
        tensor = site.graph.tensors[index]
        if tensor.dtype not in _QUANTIZED:
            continue
        count = 0 if tensor.quantization is None else len(tensor.quantization.scales)
        if row.weights is not None and position == row.weights[0]:
            channels = tensor.shape[row.weights[1]]
            allowed = {1, channels}
            if count > 1 and tensor.quantization and tensor.quantization.axis != row.weights[1]:
                site.fail(
                    f"has scales of {tensor.name} along another dimension",
                    row.weights[1],
                    tensor.quantization.axis,
                )
        else:
            allowed = {1} if row.has_scale else {0, 1}
            if not row.has_scale and tensor.is_constant:
                continue
        if count not in allowed:
            wanted = " or ".join(str(n) for n in sorted(allowed))
            site.fail(f"has a wrong number of scales for {tensor.name}", wanted, count)


def _check_size(tensor: Tensor, source: str) -> None:
    if tensor.elements == 0:
        raise UnsupportedModelError(
            f"tensor {tensor.name} of {source} is empty",
            expected="a dimension of 1 or more everywhere",
            received=tensor.shape,
            remedy=DAMAGED,
        )
    if tensor.size_bytes > LARGEST_ARENA_BYTES:
        raise UnsupportedModelError(
            f"tensor {tensor.name} of {source} is too large for any microcontroller",
            expected=f"{format_size(LARGEST_ARENA_BYTES)} at most",
            received=tensor.shape,
            remedy="Export the model for smaller inputs",
        )


def _check_quantization(tensor: Tensor, source: str) -> None:
    quantization = tensor.quantization
    if quantization is None:
        return

    def fail(what: str, expected: str, received: object) -> None:
        raise UnsupportedModelError(
            f"tensor {tensor.name} of {source} has {what}",
            expected=expected,
            received=received,
            remedy=DAMAGED,
        )

    scales, zeros = quantization.scales, quantization.zero_points
    is_bias = tensor.is_constant and tensor.dtype not in _QUANTIZED
    # Runtimes read no zero points of biases.
    if len(zeros) != len(scales) and (zeros or not is_bias):
        fail("scales and zero points that do not match", f"{len(scales)} zero points", len(zeros))
    if tensor.dtype not in (*_QUANTIZED, "int32"):
        return
    for scale in scales:
        if not math.isfinite(scale) or scale < 0 or (scale == 0 and tensor.dtype != "int32"):
            fail("a wrong scale", "finite and above 0", scale)
    limits = np.iinfo(tensor.dtype)
    for zero in zeros:
        if not limits.min <= zero <= limits.max:
            fail("a wrong zero point", f"{limits.min} to {limits.max}", zero)
    if len(scales) > 1 and tensor.dtype != "int32":
        rank, axis = len(tensor.shape), quantization.axis
        if not 0 <= axis < rank or tensor.shape[axis] != len(scales):
            fail(
                "scales that do not match its channels",
                f"{len(scales)} channels in dimension {axis}",
                tensor.shape,
            )
