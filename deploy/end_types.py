"""Inputs and outputs of other types than int8: bytes of a camera, floats.

uint8     →  QUANTIZE  →  int8 …        code of the byte = int8 code + 128, the same scale
float32   →  QUANTIZE  →  int8 …
… int8    →  QUANTIZE  →  uint8
… int8    →  DEQUANTIZE → float32
"""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from keras_fmc.errors import BadInputError

TYPES = ("int8", "uint8", "float32")


def with_types(graph: Graph, *, input_type: str = "int8", output_type: str = "int8") -> Graph:
    """Returns an int8 graph whose ends have these types; names and order stay.

    Raises:
        BadInputError: an unknown type.
    """
    for end, kind in (("input", input_type), ("output", output_type)):
        if kind not in TYPES:
            raise BadInputError(f"unknown type of {end}s", ", ".join(TYPES), repr(kind))
    if input_type == output_type == "int8":
        return graph
    tensors = list(graph.tensors)
    first: list[Operator] = []
    last: list[Operator] = []
    moved_in: dict[int, int] = {}
    moved_out: dict[int, int] = {}

    def outside(index: int, kind: str) -> int:
        """The tensor of the other type, which takes the name."""
        inner = tensors[index]
        tensors.append(dataclasses.replace(_of_type(inner, kind), name=inner.name))
        tensors[index] = dataclasses.replace(inner, name=f"{inner.name}_int8")
        return len(tensors) - 1

    if input_type != "int8":
        for index in graph.inputs:
            moved_in[index] = outside(index, input_type)
            first.append(
                Operator("QUANTIZE", (moved_in[index],), (index,), Options("QuantizeOptions"))
            )
    if output_type != "int8":
        opcode = "QUANTIZE" if output_type == "uint8" else "DEQUANTIZE"
        options = Options("QuantizeOptions" if output_type == "uint8" else "DequantizeOptions")
        for index in dict.fromkeys(graph.outputs):
            moved_out[index] = outside(index, output_type)
            last.append(Operator(opcode, (index,), (moved_out[index],), options))
    signatures = tuple(
        dataclasses.replace(
            signature,
            inputs=tuple((name, moved_in.get(index, index)) for name, index in signature.inputs),
            outputs=tuple((name, moved_out.get(index, index)) for name, index in signature.outputs),
        )
        for signature in graph.signatures
    )
    return graph.replace(
        tensors=tuple(tensors),
        operators=(*first, *graph.operators, *last),
        inputs=tuple(moved_in.get(index, index) for index in graph.inputs),
        outputs=tuple(moved_out.get(index, index) for index in graph.outputs),
        signatures=signatures,
    )


def _of_type(tensor: Tensor, kind: str) -> Tensor:
    if kind == "float32":
        return dataclasses.replace(tensor, dtype="float32", quantization=None)
    quantization = tensor.quantization
    assert quantization is not None
    shifted = Quantization(
        quantization.scales, tuple(zero + 128 for zero in quantization.zero_points)
    )
    return dataclasses.replace(tensor, dtype="uint8", quantization=shifted)
