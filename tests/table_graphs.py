"""Random networks of every row of the operator table that TFLM can plan, in maps of rank 1 to 5.

    graph = table_graph(seed)

Each operator is drawn as ``operator_draws`` draws it alone, but reads maps that are there: one that
already has the shape it asks for, or one brought to that shape by RESHAPE, SLICE and PAD, and to
its type by CAST. Any map may be an output as well as read. Not all of them run in TensorFlow Lite
Micro: it has limits of its own, so whoever draws one asks it first.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from deploy.graph import Graph, Quantization, Tensor
from deploy.operators import OPERATORS, Site
from deploy.targets import kernels
from tests.operator_draws import Drawing, draw_operator, is_drawn
from tests.stateful_graphs import STATEFUL

_NEVER = frozenset(
    ("DEQUANTIZE", "DIV", "EXP", "FLOOR_DIV", "FLOOR_MOD", "NEG", "QUANTIZE", "RSQRT")
)
"""Float maps, and what TensorFlow Lite Micro computes for some values or types only."""
DRAWN = tuple(
    kind
    for kind in sorted(set(OPERATORS) & set(kernels("reference").rules))
    if is_drawn(kind) and kind not in _NEVER and kind not in STATEFUL
)
"""The rows of the table whose memory is known."""
_LARGEST_MAP_BYTES = 6000
_OFTEN = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONCATENATION", "PACK", "UNPACK"),
    *("SPLIT", "SPLIT_V", "BATCH_TO_SPACE_ND", "MIRROR_PAD", "GATHER", "ADD", "FULLY_CONNECTED"),
)
_CHAIN = ("PRELU", "LEAKY_RELU", "RELU", "RELU6", "HARD_SWISH", "TANH", "LOGISTIC")


def table_graph(seed: int) -> Graph:
    """Returns the graph of a seed."""
    drawing = _Network(seed)
    drawing.start()
    for _ in range(drawing.random.randint(2, 10)):
        drawing.step()
    return drawing.network()


class _Network(Drawing):
    """A drawing whose operators read maps of the network."""

    SUMMED = "int8"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.random = random.Random(seed)
        self.maps: list[int] = []

    def tensor(self, index: int) -> Tensor:
        return self.make.graph.tensors[index]

    def start(self) -> None:
        for _ in range(self.random.choice((1, 1, 2))):
            rank = self.random.choice((2, 3, 4, 4, 4, 5))
            shape = [self.random.choice((1, 2)), *(self.random.randint(2, 8) for _ in range(3))]
            self.maps.append(super().input([*shape, 3][:rank]))

    def step(self) -> None:
        chosen = self.random.random()
        if chosen < 0.12:
            for _ in range(self.random.randint(2, 4)):
                draw_operator(self, self.random.choice(_CHAIN))
        elif chosen < 0.24:
            self._join()
        else:
            draw_operator(self, self.random.choice(self.random.choice((DRAWN, _OFTEN))))

    def shape(self, fewest: int = 1, most: int = 4) -> tuple[int, ...]:
        """The shape of a map that is there, most of the time."""
        shapes = [self.tensor(x).shape for x in self.maps[-4:]]
        suitable = [s for s in shapes if fewest <= len(s) <= most and math.prod(s) < 800]
        if suitable and self.random.random() < 0.9:
            return self.random.choice(suitable)
        return super().shape(fewest, most)

    def input(self, shape: Sequence[int], dtype: str = "int8") -> int:
        shape = tuple(shape)
        same = [
            x for x in self.maps if (self.tensor(x).shape, self.tensor(x).dtype) == (shape, dtype)
        ]
        if same and self.random.random() < 0.9:
            return self._scaled(self.random.choice(same))
        if self.random.random() < 0.05 or not shape:
            return self._new(super().input(shape, dtype))
        x = self._scaled(self._shaped(self.random.choice(self._last("int8")), shape))
        if dtype == "int8":
            return x
        self.add("CAST", [x], dtype=dtype)
        return self.outputs[0]

    def add(
        self,
        opcode: str,
        inputs: Sequence[int],
        *,
        dtype: str = "int8",
        quantization: Quantization | None = None,
        outputs: int = 1,
        **fields: object,
    ) -> None:
        """As alone; the outputs get their shapes now, and every tensor a name of its own."""
        values = {} if quantization is None else {"quantization": quantization}
        super().add(opcode, inputs, dtype=dtype, outputs=outputs, **values, **fields)
        tensors, graph = self.make.graph.tensors, self.make.build(outputs=())
        last = len(graph.operators) - 1
        for index, shape in zip(
            self.outputs, OPERATORS[opcode].shapes(Site(graph, last)), strict=True
        ):
            assert shape is not None
            tensors[index] = dataclasses.replace(tensors[index], shape=shape)
        for index, tensor in enumerate(tensors):
            if not tensor.name.endswith(f"_{index}"):
                tensors[index] = dataclasses.replace(tensor, name=f"{tensor.name}_{index}")
        self.maps += self.outputs

    def network(self) -> Graph:
        operators = self.make.graph.operators
        read = {t for operator in operators for t in operator.inputs}
        made = [t for operator in operators for t in operator.outputs]
        share = self.random.choice((0.0, 0.1, 0.4))
        outputs = [t for t in made if t not in read or self.random.random() < share]
        self.random.shuffle(outputs)
        self.make.inputs = [x for x in self.make.inputs if x in read]
        return self.make.build(outputs=outputs)

    def _new(self, x: int) -> int:
        self.maps.append(x)
        return x

    def _last(self, dtype: str) -> list[int]:
        return [x for x in self.maps if self.tensor(x).dtype == dtype][-4:]

    def _join(self) -> None:
        """CONCATENATION of up to ten maps along any axis."""
        x = self.random.choice(self._last("int8"))
        shape = self.tensor(x).shape
        if not shape:
            return
        axis = self.random.randrange(len(shape))
        count = self.random.randint(2, 10)
        partners = [
            t for t in self._last("int8") if _but(self.tensor(t).shape, axis) == _but(shape, axis)
        ]
        parts = [self._scaled(self.random.choice(partners)) for _ in range(count)]
        if count * math.prod(shape) < _LARGEST_MAP_BYTES:
            self.add("CONCATENATION", parts, axis=axis - self.random.choice((0, len(shape))))

    def _scaled(self, x: int) -> int:
        """The map in the scale that the drawn operators expect."""
        usual = Quantization((0.0625,), (0,))
        if self.tensor(x).dtype != "int8" or self.tensor(x).quantization == usual:
            return x
        self.add("QUANTIZE", [x])
        return self.outputs[0]

    def _shaped(self, x: int, shape: tuple[int, ...]) -> int:
        """The map in that shape: its bytes in other dimensions, or cut and padded."""
        have = self.tensor(x).shape
        if math.prod(have) == math.prod(shape):
            flat = shape
        else:
            flat = (*have, *(1,) * (len(shape) - len(have)))
            if len(have) > len(shape):
                flat = (*have[: len(shape) - 1], math.prod(have[len(shape) - 1 :]))
        if flat != have:
            x = self._copy("RESHAPE", x, [self.constant(flat)], new_shape=flat)
        size = tuple(map(min, flat, shape))
        if size != flat:
            x = self._copy("SLICE", x, [self.constant([0] * len(size)), self.constant(size)])
        if size != shape:
            amounts = [[0, n - m] for n, m in zip(shape, size, strict=True)]
            x = self._copy("PAD", x, [self.constant(amounts)])
        return x

    def _copy(self, opcode: str, x: int, operands: Sequence[int], **fields: object) -> int:
        quantization = self.tensor(x).quantization
        self.add(opcode, [x, *operands], quantization=quantization, **fields)
        return self.outputs[0]


def _but(shape: tuple[int, ...], axis: int) -> tuple[int, ...] | None:
    return (*shape[:axis], *shape[axis + 1 :]) if axis < len(shape) else None
