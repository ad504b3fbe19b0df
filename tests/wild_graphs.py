"""Random graphs of what the tidy ones avoid.

    graph = wild_graph(seed)

Outputs that are also read, several outputs in any order, odd numbers of channels, rows that are no
multiple of 16 bytes, batches above 1, maps of one row or one column, blocks of 3, large factors of
resizing, a flat or a uint8 input, RESHAPE to other rows, ReLU6 with concatenations. Not all of them
run in TensorFlow Lite Micro: it has limits of its own, so whoever draws one asks it first.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from deploy.graph import Activation, Graph, GraphBuilder, Operator, Options, Padding
from tests.int8_graphs import Int8GraphMaker
from tests.strip_graphs import grown

_LARGEST_MAP_BYTES = 9000
_CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17)


def wild_graph(seed: int) -> Graph:
    """Returns the graph of a seed."""
    return _Wild(seed).draw()


class _Wild:
    def __init__(self, seed: int) -> None:
        self.make = Int8GraphMaker(seed)
        self.random = random.Random(seed)
        self.maps: list[int] = []

    def draw(self) -> Graph:
        for _ in range(self.random.choice((1, 1, 1, 2))):
            self.maps.append(self._input())
        first = list(self.maps)
        for step in range(self.random.randint(1, 9)):
            # Inputs go first, lest nothing reads them.
            waiting = first[step] if step < len(first) else None
            made = self._step(waiting)
            if made is not None:
                self.maps.append(made)
        read = {t for operator in self.make.graph.operators for t in operator.inputs}
        for x in [t for t in first if t not in read]:
            self.maps.append(self.make.unary("QUANTIZE", x))
        if self.random.random() < 0.4:
            self._head()
        made = [t for operator in self.make.graph.operators for t in operator.outputs]
        read = {t for operator in self.make.graph.operators for t in operator.inputs}
        outputs = [t for t in made if t not in read]
        share = self.random.choice((0.0, 0.0, 0.2, 0.5))
        outputs += [t for t in made if t in read and self.random.random() < share]
        self.random.shuffle(outputs)
        graph = self.make.build(outputs=outputs)
        return batched(graph, self.random.choice((2, 3))) if self.random.random() < 0.12 else graph

    def _input(self) -> int:
        height, width = self.random.choice(
            ((1, 24), (24, 1), (2, 13), (15, 7), (12, 12), (21, 9), (1, 1), (17, 16))
        )
        channels = self.random.choice(_CHANNELS)
        kind = self.random.choice(("map", "map", "map", "map", "flat", "uint8"))
        if kind == "flat":
            x = self.make.input((1, height * width * channels))
            return self.make.reshape(x, (1, height, width, channels))
        x = self.make.input((1, height, width, channels))
        if kind == "uint8":
            tensor = self.make.graph.tensors[x]
            wide = replace(self.make.quantization(x), zero_points=(128,))
            self.make.graph.tensors[x] = replace(tensor, dtype="uint8", quantization=wide)
            same = replace(wide, zero_points=(0,))
            return self.make.requantize(x, same)
        return x

    def _step(self, waiting: int | None) -> int | None:
        for _ in range(20):
            x = waiting if waiting is not None else self.random.choice(self.maps[-3:])
            kind = self.random.choice((self._usual, self._blocks, self._resize, self._rows))
            kind = self.random.choice((kind, self._join, self._odd))
            before = len(self.make.graph.operators)
            made = kind(x)
            if made is not None and self.make.graph.tensors[made].elements <= _LARGEST_MAP_BYTES:
                return made
            del self.make.graph.operators[before:]
        return None

    def _usual(self, x: int) -> int:
        return grown(self.make, self.random, self.maps, x)

    def _odd(self, x: int) -> int:
        kernel = self.random.choice(((1, 1), (3, 3), (1, 3), (3, 1), (2, 2)))
        _, height, width, _ = self.make.shape(x)
        padding = Padding.SAME
        if kernel[0] <= height and kernel[1] <= width and self.random.random() < 0.3:
            padding = Padding.VALID
        activation = self.random.choice((Activation.NONE, Activation.RELU6))
        return self.make.conv(
            x,
            channels=self.random.choice(_CHANNELS),
            kernel=kernel,
            padding=padding,
            activation=activation,
        )

    def _blocks(self, x: int) -> int | None:
        _, height, width, channels = self.make.shape(x)
        block = self.random.choice((2, 3, 3, 4))
        same = self.make.quantization(x)
        fields = (("block_size", block),)
        if height % block == 0 and width % block == 0:
            shape = (1, height // block, width // block, channels * block**2)
            options = Options("SpaceToDepthOptions", fields)
            return self.make.operator("SPACE_TO_DEPTH", [x], shape, same, options)
        if channels % block**2 == 0:
            shape = (1, height * block, width * block, channels // block**2)
            options = Options("DepthToSpaceOptions", fields)
            return self.make.operator("DEPTH_TO_SPACE", [x], shape, same, options)
        after = [(0, -height % block), (0, -width % block)]
        return self._blocks(self.make.pad(x, [(0, 0), *after, (0, 0)]))

    def _resize(self, x: int) -> int | None:
        _, height, width, channels = self.make.shape(x)
        size = height * self.random.choice((1, 3, 5, 8)), width * self.random.choice((1, 2, 7))
        if size[0] * size[1] * channels > _LARGEST_MAP_BYTES:
            return None
        kind = self.random.choice(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))
        return self.make.resize(x, size, kind=kind)

    def _rows(self, x: int) -> int:
        """The same bytes in other rows, or some of the rows."""
        _, height, width, channels = self.make.shape(x)
        if self.random.random() < 0.5:
            shapes = ((1, width, height, channels), (1, height * width, 1, channels))
            shapes += ((1, 1, height * width, channels), (1, height, 1, width * channels))
            return self.make.reshape(x, self.random.choice(shapes))
        first = self.random.randint(0, height - 1)
        rows = self.random.randint(1, height - first)
        return self.make.slice(x, (0, first, 0, 0), (1, rows, width, channels))

    def _join(self, x: int) -> int | None:
        axis = self.random.choice((1, 2, 3))
        shape = self.make.shape(x)
        partners = [
            t
            for t in self.maps
            if all(
                i == axis or a == b
                for i, (a, b) in enumerate(zip(self.make.shape(t), shape, strict=True))
            )
        ]
        parts = [x, *(self.random.choice(partners) for _ in range(self.random.randint(1, 3)))]
        same = [
            t
            if self.make.quantization(t) == self.make.quantization(x)
            else self.make.requantize(t, self.make.quantization(x))
            for t in parts
        ]
        return self.make.concatenation(same, axis=axis)

    def _head(self) -> None:
        x = self.maps[-1]
        x = self.make.fully_connected(self.make.mean(x), units=self.random.choice((2, 5, 10)))
        if self.random.random() < 0.7:
            self.make.unary("SOFTMAX", x)


def batched(graph: Graph, count: int) -> Graph:
    """Returns the graph for so many samples at once."""
    builder = GraphBuilder(graph)
    for index in graph.activations():
        tensor = graph.tensors[index]
        shape = (count * tensor.shape[0], *tensor.shape[1:])
        builder.tensors[index] = replace(tensor, shape=shape, shape_signature=None)
    for index, operator in enumerate(graph.operators):
        position = {"RESHAPE": 1, "SLICE": 2, "STRIDED_SLICE": 2, "TRANSPOSE_CONV": 0}
        place = position.get(operator.opcode)
        if place is None:
            continue
        values = graph.tensors[operator.inputs[place]].array().copy()
        values[0] *= count
        inputs = list(operator.inputs)
        inputs[place] = builder.constant(f"batch of {index}", values.astype(np.int32))
        options = operator.options
        if operator.opcode == "RESHAPE" and options is not None and options.get("new_shape"):
            options = options.replace(new_shape=tuple(int(v) for v in values))
        builder.operators[index] = Operator(
            operator.opcode, tuple(inputs), operator.outputs, options, operator.version
        )
    return builder.build(like=graph)
