"""A TFLite model as frozen data: what the passes, the planner and the emitters speak.

A ``Graph`` holds the main subgraph, whose operators stand in execution order, and beside it those
that operators call. Passes are functions ``Graph -> Graph`` and leave their argument alone. Only
``deploy.flatbuffer`` knows the schema.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

ITEM_BYTES: Mapping[str, int] = {
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "resource": 4,
}
"""Bytes of one element, for the types whose elements fill whole bytes; a resource is the number of
a variable outside the tensors, and the runtime keeps it where its VAR_HANDLE keeps its data."""

C_TYPES: Mapping[str, str] = {
    **{dtype: f"{dtype}_t" for dtype in ("int8", "uint8", "int16", "int32", "uint32", "int64")},
    "float32": "float",
}
"""What a type is called in C."""

CALLS: Mapping[str, tuple[str, ...]] = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
}
"""Opcode -> the options that name the subgraphs it calls, in the order of the runtime."""

BRANCHES = frozenset({"IF", "WHILE"})
"""They choose at run time what runs, and how often."""

CUSTOM = "CUSTOM"
HANDLE, READ, ASSIGN = "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"
"""Operators of resource variables."""

STATE_OPCODES = frozenset({READ, ASSIGN, "CALL_ONCE"})
STATE_CUSTOMS = frozenset(
    f"{CUSTOM} {code}"
    for code in (
        "CIRCULAR_BUFFER",
        "SignalDelay",
        "SignalFilterBankSpectralSubtraction",
        "SignalFramer",
        "SignalOverlapAdd",
        "SignalStacker",
    )
)
"""Operators that keep state outside tensors."""


class Padding(IntEnum):
    """``padding`` of convolutions and pools."""

    SAME = 0
    VALID = 1


class Activation(IntEnum):
    """``fused_activation_function`` of an operator."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3
    TANH = 4
    SIGN_BIT = 5


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantisation, real = scale[c] * (code - zero_point[c]).

    One scale for the tensor, or one for each index of dimension ``axis``.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph; a constant where ``data`` is set, which is dense even if the file had
    it ``stored_sparse``."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: bytes | None = field(default=None, repr=False)
    is_variable: bool = False
    shape_signature: tuple[int, ...] | None = None
    stored_sparse: bool = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def in_head(self) -> bool:
        """Whether it shares memory with others: no constant, no variable, which is kept, and no
        handle of one."""
        return self.data is None and not self.is_variable and self.dtype != "resource"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the values, unrounded."""
        return self.elements * ITEM_BYTES[self.dtype]

    def array(self) -> np.ndarray:
        """Returns the values of a constant, read-only."""
        if self.data is None:
            raise ValueError(f"tensor {self.name} is not a constant")
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Options:
    """Parameters of a builtin operator: the schema's table name and its fields, snake case."""

    kind: str
    fields: tuple[tuple[str, object], ...] = ()

    def get(self, name: str, default: object = None) -> object:
        for key, value in self.fields:
            if key == name:
                return value
        return default

    def replace(self, **changes: object) -> Options:
        unknown = changes.keys() - {key for key, _ in self.fields}
        if unknown:
            raise KeyError(f"{self.kind} has no field {sorted(unknown)}")
        return Options(self.kind, tuple((k, changes.get(k, v)) for k, v in self.fields))


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. ``inputs`` and ``outputs`` are tensor indices; -1 is an absent input.

    An ``implicit`` one stands in no file, see ``deploy.implicit``.
    """

    opcode: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None = None
    version: int = 1
    custom_code: str = ""
    custom_options: bytes | None = None
    implicit: bool = False

    @property
    def kind(self) -> str:
        """What tables call it: the opcode, or "CUSTOM " and the code of a custom operator."""
        return f"{CUSTOM} {self.custom_code}" if self.opcode == CUSTOM else self.opcode

    @property
    def title(self) -> str:
        """What people call it: the opcode, or the code of a custom operator."""
        return self.custom_code or self.opcode

    @property
    def called(self) -> tuple[int, ...]:
        """The numbers of the subgraphs that it calls."""
        return tuple(self.integer(name) for name in CALLS.get(self.opcode, ()))

    def option(self, name: str, default: object = None) -> object:
        """Returns a field of the options, or ``default`` where there is none."""
        return default if self.options is None else self.options.get(name, default)

    def integer(self, name: str, default: int = 0) -> int:
        """Returns an integer field of the options (enumerations are integers too)."""
        value = self.option(name, default)
        if not isinstance(value, int):
            raise TypeError(f"{self.opcode}.{name} is {value!r}, not an integer")
        return value

    @property
    def present_inputs(self) -> tuple[int, ...]:
        return tuple(index for index in self.inputs if index >= 0)


@dataclass(frozen=True, slots=True)
class Signature:
    """A named entry point: (name, tensor index) of its inputs and outputs."""

    key: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One subgraph, its operators in execution order.

    ``others`` are the further subgraphs of the file, number 1 and up; what operators call by
    number counts from this one, 0.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = "main"
    description: str = ""
    metadata: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    signatures: tuple[Signature, ...] = ()
    others: tuple[Graph, ...] = ()

    def replace(self, **changes: object) -> Graph:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def activations(self) -> tuple[int, ...]:
        """Returns the tensors that share the arena's head: used, not constants, not variables."""
        used = set(self.inputs) | set(self.outputs)
        for operator in self.operators:
            used.update(operator.present_inputs)
            used.update(operator.outputs)
        return tuple(i for i in sorted(used) if self.tensors[i].in_head)

    @property
    def keeps_state(self) -> bool:
        """Whether an inference depends on those before it."""
        return any(
            operator.opcode in STATE_OPCODES
            or operator.kind in STATE_CUSTOMS
            or any(graph.tensors[i].is_variable for i in operator.present_inputs)
            for graph in self.subgraphs
            for operator in graph.operators
        )

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        """This one and the others, by their numbers."""
        return (self, *self.others)

    @property
    def branches(self) -> bool:
        """Whether operators choose at run time which of the subgraphs run, and how often."""
        return any(
            operator.opcode in BRANCHES for graph in self.subgraphs for operator in graph.operators
        )

    @property
    def handles(self) -> dict[int, str]:
        """Returns tensor -> the resource variable of this subgraph that it is the handle of."""
        return {
            operator.outputs[0]: variable_name(operator)
            for operator in self.operators
            if operator.opcode == HANDLE
        }

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the resource variables, each once, in the order of their handles."""
        named = (name for graph in self.subgraphs for name in graph.handles.values())
        return tuple(dict.fromkeys(named))

    def is_pure(self, operator: Operator) -> bool:
        """Whether it does nothing but make its outputs of its inputs, each time the same."""
        return not (
            operator.called
            or operator.opcode in (CUSTOM, HANDLE, *STATE_OPCODES)
            or any(self.tensors[t].is_variable for t in operator.present_inputs)
        )

    def predecessors(self) -> list[set[int]]:
        """Returns for each operator those that have to run before it though they make nothing
        that it reads: what reads or writes state stays in its order, and calls do."""
        before: list[set[int]] = []
        barrier: int | None = None
        touched: dict[object, list[tuple[int, bool]]] = {}
        names = self.handles
        for index, operator in enumerate(self.operators):
            needs: set[int] = set()
            states: list[tuple[object, bool]] = [
                (t, True) for t in operator.present_inputs if self.tensors[t].is_variable
            ]
            if operator.opcode in (READ, ASSIGN):
                handle = operator.inputs[0]
                states.append((names.get(handle, handle), operator.opcode == ASSIGN))
            is_barrier = bool(operator.called) or operator.opcode == CUSTOM
            if barrier is not None and (states or is_barrier):
                needs.add(barrier)
            if is_barrier:
                needs |= {earlier for uses in touched.values() for earlier, _ in uses}
                barrier, touched = index, {}
            for state, writes in states:
                uses = touched.setdefault(state, [])
                needs |= {earlier for earlier, wrote in uses if writes or wrote}
                uses.append((index, writes))
            before.append(needs - {index})
        return before

    def producers(self) -> dict[int, int]:
        """Returns tensor index -> index of the operator that writes it."""
        return {t: i for i, op in enumerate(self.operators) for t in op.outputs}

    def consumers(self) -> dict[int, tuple[int, ...]]:
        """Returns tensor index -> indices of the operators that read it, in order."""
        readers: dict[int, list[int]] = {}
        for i, operator in enumerate(self.operators):
            for tensor in dict.fromkeys(operator.present_inputs):
                readers.setdefault(tensor, []).append(i)
        return {tensor: tuple(steps) for tensor, steps in readers.items()}

    def label(self, index: int) -> str:
        """Returns "CONV_2D #3 (name of its output)", for messages."""
        operator = self.operators[index]
        return f"{operator.title} #{index} ({self.result_of(operator) or 'no output'})"

    def result_of(self, operator: Operator) -> str:
        """Returns the name of an operator's first output; "" where it has none."""
        return self.tensors[operator.outputs[0]].name if operator.outputs else ""


def variable_name(handle: Operator) -> str:
    """Returns the name of the resource variable that a VAR_HANDLE stands for."""
    name = handle.option("shared_name")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


class GraphBuilder:
    """Collects tensors and operators for a new graph; the frozen result comes from ``build``."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.tensors: list[Tensor] = list(graph.tensors) if graph else []
        self.operators: list[Operator] = list(graph.operators) if graph else []

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray, **fields: object) -> int:
        contiguous = np.ascontiguousarray(values)
        return self.tensor(
            Tensor(
                name,
                tuple(values.shape),
                str(contiguous.dtype),
                data=contiguous.tobytes(),
                **fields,  # type: ignore[arg-type]
            )
        )

    def operator(self, operator: Operator) -> int:
        self.operators.append(operator)
        return len(self.operators) - 1

    def build(self, *, like: Graph | None = None, **fields: object) -> Graph:
        """Returns the graph; what ``fields`` do not name is taken from ``like``."""
        if like is not None:
            return like.replace(
                tensors=tuple(self.tensors), operators=tuple(self.operators), **fields
            )
        return Graph(tuple(self.tensors), tuple(self.operators), **fields)  # type: ignore[arg-type]
