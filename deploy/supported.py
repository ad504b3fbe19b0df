"""What a model must be before it is planned. Each rule's message tells the user what to do."""

from __future__ import annotations

from collections.abc import Collection

from deploy.graph import ASSIGN, CUSTOM, READ, Graph, Operator
from deploy.lifetimes import tensor_lifetimes
from deploy.operators import OPERATORS, check_operators
from deploy.operators.custom import own_kernels
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.printable import one_line
from keras_fmc.sizes import format_size

_UNKNOWN_TYPES = frozenset({"float16", "float64", "complex64"})
"""Of maps, in no kernel of TensorFlow Lite Micro."""
_WITH_INT8 = (
    "Convert the Keras model that the file was made from: fmc convert MODEL.keras "
    "--calibration X.npy"
)
_LONGEST_NAMES = 200

_WHAT_TO_DO = {
    "ethos-u": (
        "compiled by Vela for an Ethos-U, which plans its memory itself:",
        "TensorFlow Lite Micro runs it on that chip only: plan the .tflite that Vela was given",
    ),
    "edgetpu-custom-op": (
        "compiled for an Edge TPU, whose operator TensorFlow Lite Micro cannot run:",
        "Plan the .tflite that the Edge TPU compiler was given",
    ),
    "TFLM_DECODE": (
        "a decoder of compressed weights, whose memory is not known here:",
        "TensorFlow Lite Micro runs it: plan the .tflite as it was before its weights were "
        "compressed",
    ),
    "Flex": (
        "an operator of TensorFlow itself, which TensorFlow Lite Micro cannot run:",
        "Convert with TFLITE_BUILTINS only, and replace the layer that needs it",
    ),
    "TFLite_": (
        "a custom operator of TensorFlow Lite that TensorFlow Lite Micro lacks:",
        "Export the model without it, or give the firmware a kernel of its own and name it: "
        "--custom",
    ),
}
"""Start of a custom operator's code -> what it is, and what to do."""


def _custom(code: str, lacking: Collection[str]) -> tuple[str, str]:
    """What a custom operator is, and what to do; ``lacking`` are all that have to be named."""
    for start, known in _WHAT_TO_DO.items():
        if code.startswith(start):
            return known
    others = [c for c in lacking if not c.startswith(tuple(_WHAT_TO_DO))]
    names = one_line(",".join(others))
    named = names if len(names) <= _LONGEST_NAMES else one_line(code)[:_LONGEST_NAMES]
    return (
        "custom operator, which TensorFlow Lite Micro does not have of its own:",
        f"Where the firmware has {'a kernel for it' if len(others) == 1 else 'kernels for them'}, "
        f"plan with --custom {named}; otherwise convert with TFLITE_BUILTINS only",
    )


def check_supported(graph: Graph, *, source: str = "model", customs: Collection[str] = ()) -> None:
    """Raises UnsupportedModelError, naming operator and tensor, unless the graph can be planned.

    A graph can be planned when its operators are those of TensorFlow Lite Micro, or ``customs``,
    with static shapes, of maps that are integers, bool or float32, and agree with the operator
    table.
    """
    if not graph.operators:
        raise UnsupportedModelError(
            f"{source} has no operators", remedy="Convert the model again with its layers"
        )
    lacking = [code for code in own_kernels(graph) if code not in customs]
    for part in graph.subgraphs:
        _check_customs(part, source, customs, lacking)
    if any(tensor.is_variable for part in graph.others for tensor in part.tensors):
        raise UnsupportedModelError(
            f"{source} has variable tensors in other subgraphs than the first",
            expected="them in the first, or resource variables",
            remedy="TensorFlow Lite Micro does not allocate them beside a memory plan",
        )
    if not graph.inputs or not graph.outputs:
        raise UnsupportedModelError(
            f"{source} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            expected="at least one of each",
            remedy="Convert the model again",
        )
    _check_resources(graph, source)
    for part in graph.subgraphs:
        _check_part(part, source, customs, is_main=part is graph)


def _check_customs(
    graph: Graph, source: str, customs: Collection[str], lacking: Collection[str]
) -> None:
    for step, operator in enumerate(graph.operators):
        if operator.opcode == "DELEGATE" or (
            (operator.opcode == CUSTOM or operator.custom_code)
            and operator.kind not in OPERATORS
            and operator.custom_code not in customs
        ):
            what, remedy = _custom(operator.custom_code, lacking)
            raise UnsupportedModelError(
                f"{what} {graph.label(step)} in {source}",
                expected="operators of TensorFlow Lite Micro",
                remedy=remedy,
            )


def _check_part(graph: Graph, source: str, customs: Collection[str], *, is_main: bool) -> None:
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
    if is_main:
        _check_dataflow(graph, source)
    check_operators(graph, source=source, customs=customs)


def _check_resources(graph: Graph, source: str) -> None:
    """Every variable has a handle, is assigned somewhere, and is read with that size."""
    sizes: dict[str, int] = {}
    uses: list[tuple[str, Graph, int]] = []
    for part in graph.subgraphs:
        names = part.handles
        for step, operator in enumerate(part.operators):
            if operator.opcode not in (READ, ASSIGN):
                continue
            handle = operator.inputs[0]
            if handle not in names:
                if handle in part.inputs:
                    # It is handed to the subgraph; the runtime holds its size.
                    continue
                raise UnsupportedModelError(
                    f"{part.label(step)} in {source} uses a variable without a handle",
                    expected="the output of a VAR_HANDLE",
                    received=part.tensors[handle].name,
                    remedy=_DAMAGED,
                )
            if operator.opcode == ASSIGN:
                size = part.tensors[operator.inputs[1]].size_bytes
                sizes.setdefault(names[handle], size)
            uses.append((names[handle], part, step))
    for name, part, step in uses:
        operator = part.operators[step]
        value = operator.outputs[0] if operator.outputs else operator.inputs[1]
        received = part.tensors[value].size_bytes
        if sizes.get(name) != received:
            raise UnsupportedModelError(
                f"{part.label(step)} in {source} does not match variable {name}",
                expected=f"{sizes[name]} bytes" if name in sizes else "an ASSIGN_VARIABLE of it",
                received=f"{received} bytes",
                remedy=_DAMAGED,
            )


_DAMAGED = "The file is damaged, or its converter left it wrong: convert the model again"


def _check_variables(graph: Graph, source: str) -> None:
    # What a custom operator keeps, as CIRCULAR_BUFFER does, is there for any other to read.
    kept = {
        index
        for operator in graph.operators
        if operator.opcode == CUSTOM and _keeps_state(operator)
        for index in operator.outputs
    }
    for step, operator in enumerate(graph.operators):
        states = _keeps_state(operator)
        for index in (*operator.present_inputs, *operator.outputs):
            tensor = graph.tensors[index]
            is_output = index in operator.outputs
            allowed = index in kept if is_output else states or index in kept
            if tensor.is_variable and (tensor.data or not allowed):
                raise UnsupportedModelError(
                    f"tensor {tensor.name} of {graph.label(step)} in {source} is a variable",
                    expected="variables without contents, read by SVDF or LSTM, or kept by "
                    "CIRCULAR_BUFFER",
                    remedy=_DAMAGED,
                )


def _keeps_state(operator: Operator) -> bool:
    row = OPERATORS.get(operator.kind)
    return row is not None and row.keeps_state


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
    """Raises UnsupportedModelError unless each map is given once: an input, or by an operator.

    What operators write, none reads before.
    """
    for index in graph.inputs:
        if not graph.tensors[index].in_head or graph.inputs.count(index) > 1:
            raise UnsupportedModelError(
                f"input {graph.tensors[index].name} of {source} is a constant, or stands there "
                "twice",
                remedy="The file is damaged; convert the model again",
            )
    written = {*graph.inputs}
    later = {tensor for operator in graph.operators for tensor in operator.outputs}
    for step, operator in enumerate(graph.operators):
        for tensor in operator.present_inputs:
            if tensor in later and tensor not in written:
                raise _read_early(graph, step, tensor, source)
        for tensor in operator.outputs:
            if tensor in written or graph.tensors[tensor].is_constant:
                raise UnsupportedModelError(
                    f"{graph.label(step)} in {source} writes {graph.tensors[tensor].name} again",
                    remedy="The file is damaged; convert the model again",
                )
            written.add(tensor)


def _read_early(graph: Graph, step: int, tensor: int, source: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{graph.label(step)} in {source} reads {graph.tensors[tensor].name} "
        "before any operator writes it",
        remedy="The file is damaged, or keeps state; convert the model again",
    )


def _check_dataflow(graph: Graph, source: str) -> None:
    check_writes(graph, source)
    written = {*graph.inputs}
    for step, operator in enumerate(graph.operators):
        for tensor in operator.present_inputs:
            if tensor not in written and graph.tensors[tensor].in_head:
                raise _read_early(graph, step, tensor, source)
        written.update(operator.outputs)
    for index in graph.outputs:
        if index in graph.inputs or index not in written:
            kind = "an input" if index in graph.inputs else "a constant"
            raise UnsupportedModelError(
                f"output {graph.tensors[index].name} of {source} is {kind}: no operator writes it",
                expected="outputs that operators write",
                remedy="Export the model without that output; its values are known beforehand",
            )
