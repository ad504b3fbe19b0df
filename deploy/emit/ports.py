"""Inputs and outputs of a model as C++: constants, pointers, quantisation helpers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.graph import C_TYPES, Graph, Tensor
from deploy.proof.names import c_comment, float_literal, short_name
from keras_fmc.errors import UnsupportedModelError

_CPP_TYPES = {**C_TYPES, "bool": "bool"}


@dataclass(frozen=True, slots=True)
class CppPort:
    """An input or output: ``name`` is Input or Output, numbered where there are several."""

    name: str
    side: str
    index: int
    tensor: Tensor

    @property
    def cpp_type(self) -> str:
        return _CPP_TYPES[self.tensor.dtype]

    @property
    def is_quantized(self) -> bool:
        return self.tensor.quantization is not None and self.tensor.dtype in (
            "int8",
            "uint8",
            "int16",
        )

    def declarations(self, *, pointer: bool = True) -> str:
        """Returns what model_runner.h says of the port, with or without where its values are."""
        tensor, const = self.tensor, "" if self.side == "input" else "const "
        shape = "x".join(str(n) for n in tensor.shape) or "scalar"
        what = f"{self.side.capitalize()} {self.index}, {c_comment(short_name(tensor.name))}"
        lines = [
            "",
            f"// {what}: {tensor.dtype} {shape}.",
            f"constexpr size_t k{self.name}Elements = {tensor.elements};",
            *([f"{const}{self.cpp_type}* {self.name}();"] if pointer else []),
        ]
        quantization = tensor.quantization
        if quantization is not None and self.is_quantized:
            lines += [
                f"constexpr float k{self.name}Scale = {float_literal(quantization.scales[0])};",
                f"constexpr int32_t k{self.name}ZeroPoint = {quantization.zero_points[0]};",
                *self._helper(),
            ]
        return "\n".join(lines) + "\n"

    def _helper(self) -> tuple[str, ...]:
        arguments = f"k{self.name}Scale, k{self.name}ZeroPoint"
        if self.side == "input":
            return (
                f"inline {self.cpp_type} Quantize{self.name}(float value) {{",
                f"  return Quantize<{self.cpp_type}>(value, {arguments});",
                "}",
            )
        return (
            f"inline float Dequantize{self.name}({self.cpp_type} code) {{",
            f"  return Dequantize(code, {arguments});",
            "}",
        )

    def accessor(self) -> str:
        """Returns the definition of the pointer's function."""
        const = "" if self.side == "input" else "const "
        return (
            f"{const}{self.cpp_type}* {self.name}() {{\n"
            f"  return static_cast<{const}{self.cpp_type}*>"
            f"(interpreter->{self.side}({self.index})->data.data);\n}}\n"
        )

    def fill(self, namespace: str, indent: str) -> str:
        """Returns the loop that a user replaces by a sensor's values."""
        at = f"{namespace}::{self.name}()[i]"
        value = f"{namespace}::Quantize{self.name}(0.0f)" if self.is_quantized else "0"
        return (
            f"for (size_t i = 0; i < {namespace}::k{self.name}Elements; ++i) {{\n"
            f"{indent}  // Your sensor's values go here.\n{indent}  {at} = {value};\n{indent}}}"
        )

    def result(self, namespace: str) -> str:
        """Returns output i as a real value, or as the integer it is."""
        at = f"{namespace}::{self.name}()[i]"
        return f"{namespace}::Dequantize{self.name}({at})" if self.is_quantized else at


def ports(graph: Graph) -> tuple[tuple[CppPort, ...], tuple[CppPort, ...]]:
    """Returns the inputs and the outputs of a graph.

    Raises:
        UnsupportedModelError: one has a type that firmware cannot fill or read here.
    """
    return tuple(_side(graph, "input")), tuple(_side(graph, "output"))


def _side(graph: Graph, side: str) -> Iterator[CppPort]:
    indices = graph.inputs if side == "input" else graph.outputs
    return side_of([graph.tensors[index] for index in indices], side)


def side_of(tensors: Sequence[Tensor], side: str) -> Iterator[CppPort]:
    """Yields the ports of one side, "input" or "output"."""
    for number, tensor in enumerate(tensors):
        if tensor.dtype not in _CPP_TYPES:
            raise UnsupportedModelError(
                f"{side} {tensor.name} is {tensor.dtype}",
                expected=f"one of {', '.join(_CPP_TYPES)}",
                remedy="Convert with integer inputs and outputs",
            )
        suffix = str(number) if len(tensors) > 1 else ""
        yield CppPort(side.capitalize() + suffix, side, number, tensor)
