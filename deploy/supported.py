"""What a model must be before it is planned. Each rule's message tells the user what to do."""

from __future__ import annotations

from deploy.graph import Graph
from deploy.lifetimes import tensor_lifetimes
from deploy.operators import OPERATORS, check_operators
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.sizes import format_size

_UNKNOWN_TYPES = frozenset({"float16", "float64", "complex64"})
"""Of maps, in no kernel of TensorFlow Lite Micro."""
_WITH_INT8 = (
    "Convert the Keras model that the file was made from: fmc convert MODEL.keras "
    "--calibration X.npy"
)
_CONTROL_FLOW = frozenset({"IF", "WHILE", "CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE"})


_CUSTOM = {
    "ethos-u": (
        "compiled by Vela for an Ethos-U, which plans its memory itself:",
        "Plan the .tflite that Vela was given",
    ),
    "edgetpu-custom-op": (
        "compiled for an Edge TPU, whose operator TensorFlow Lite Micro cannot run:",
        "Plan the .tflite that the Edge TPU compiler was given",
    ),
    "TFLite_Detection_PostProcess": (
        "TensorFlow Lite Micro's custom operator",
        "TensorFlow Lite Micro runs it, but its memory is not known here: export the model with "
        "the raw boxes and scores as outputs, and select boxes in the application",
    ),
    "Signal": (
        "TensorFlow Lite Micro's custom signal operator",
        "TensorFlow Lite Micro runs it with its own plan, but its memory is not known here: plan "
        "the network that reads the features by itself",
    ),
}
"""Start of a custom operator's code -> what it is, and what to do."""


def _custom(code: str) -> tuple[str, str]:
    for start, known in _CUSTOM.items():
        if code.startswith(start):
            return known
    return "unknown operator", "Convert with TFLITE_BUILTINS only"


def check_supported(graph: Graph, *, source: str = "model") -> None:
    """Raises UnsupportedModelError, naming operator and tensor, unless the graph can be planned.

    A graph can be planned when it is a single subgraph of builtin operators with static shapes,
    of maps that are integers, bool or float32, whose operators agree with the
    operator table.
    """
    if not graph.operators:
        raise UnsupportedModelError(
            f"{source} has no operators", remedy="Convert the model again with its layers"
        )
    for step, operator in enumerate(graph.operators):
        if operator.opcode in ("CUSTOM", "DELEGATE") or operator.custom_code:
            what, remedy = _custom(operator.custom_code)
            raise UnsupportedModelError(
                f"{what} {graph.label(step)} in {source}",
                expected="builtin operators of TensorFlow Lite Micro",
                remedy=remedy,
            )
        if operator.opcode in _CONTROL_FLOW:
            raise UnsupportedModelError(
                f"{graph.label(step)} in {source} keeps state or branches",
                remedy="Export the model without variables and control flow",
            )
    if not graph.inputs or not graph.outputs:
        raise UnsupportedModelError(
            f"{source} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            expected="at least one of each",
            remedy="Convert the model again",
        )
    for index in graph.activations():
        tensor = graph.tensors[index]
        if tensor.dtype in _UNKNOWN_TYPES:
            raise UnsupportedModelError(
                f"tensor {tensor.name} of {source} is {tensor.dtype}, for which TensorFlow Lite "
                "Micro has no kernels",
                expected="int8, or float32",
                remedy=_WITH_INT8,
            )
    _check_variables(graph, source)
    _check_dataflow(graph, source)
    check_operators(graph, source=source)


def _check_variables(graph: Graph, source: str) -> None:
    for step, operator in enumerate(graph.operators):
        row = OPERATORS.get(operator.opcode)
        for index in (*operator.present_inputs, *operator.outputs):
            tensor = graph.tensors[index]
            if tensor.is_variable and (
                row is None or not row.keeps_state or tensor.data or index in operator.outputs
            ):
                raise UnsupportedModelError(
                    f"tensor {tensor.name} of {graph.label(step)} in {source} is a variable",
                    expected="variables without contents, read by SVDF or LSTM",
                    remedy="The file is damaged, or its converter left it wrong: convert the "
                    "model again",
                )


def float_warnings(graph: Graph) -> tuple[str, ...]:
    """Returns what int8 would save where maps are float32: the largest sum of maps at once."""
    spans = tensor_lifetimes(graph)
    sums = {"float32": [0] * (len(graph.operators) + 1), "int8": [0] * (len(graph.operators) + 1)}
    for index, (first, last) in spans.items():
        tensor = graph.tensors[index]
        small = tensor.elements if tensor.dtype == "float32" else tensor.size_bytes
        for step in range(first, last + 1):
            sums["float32"][step] += tensor.size_bytes
            sums["int8"][step] += small
    before, after = max(sums["float32"]), max(sums["int8"])
    if before == after:
        return ()
    return (
        f"maps of the model are float32: up to {format_size(before)} of maps are alive at once, "
        f"and would be {format_size(after)} as int8. Convert the Keras model with int8 inputs and "
        "outputs: fmc convert MODEL.keras --calibration X.npy",
    )


def check_writes(graph: Graph, source: str = "model") -> None:
    """Raises UnsupportedModelError unless each map is given once: an input, or by an operator."""
    for index in graph.inputs:
        if not graph.tensors[index].in_head or graph.inputs.count(index) > 1:
            raise UnsupportedModelError(
                f"input {graph.tensors[index].name} of {source} is a constant, or stands there "
                "twice",
                remedy="The file is damaged; convert the model again",
            )
    written = {*graph.inputs}
    for step, operator in enumerate(graph.operators):
        for tensor in operator.outputs:
            if tensor in written or not graph.tensors[tensor].in_head:
                raise UnsupportedModelError(
                    f"{graph.label(step)} in {source} writes {graph.tensors[tensor].name} again",
                    remedy="The file is damaged; convert the model again",
                )
            written.add(tensor)


def _check_dataflow(graph: Graph, source: str) -> None:
    check_writes(graph, source)
    written = {*graph.inputs}
    for step, operator in enumerate(graph.operators):
        for tensor in operator.present_inputs:
            if tensor not in written and graph.tensors[tensor].in_head:
                raise UnsupportedModelError(
                    f"{graph.label(step)} in {source} reads {graph.tensors[tensor].name} "
                    "before any operator writes it",
                    remedy="The file is damaged, or keeps state; convert the model again",
                )
        written.update(operator.outputs)
    for index in graph.outputs:
        if index in graph.inputs or index not in written:
            kind = "an input" if index in graph.inputs else "a constant"
            raise UnsupportedModelError(
                f"output {graph.tensors[index].name} of {source} is {kind}: no operator writes it",
                expected="outputs that operators write",
                remedy="Export the model without that output; its values are known beforehand",
            )
