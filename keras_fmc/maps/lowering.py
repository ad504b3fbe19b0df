"""What a Keras model becomes on the device, as far as memory is concerned.

The operators are those of the folded model in the form in which it is quantised, which the
converter turns into the operators of the file, one for one; maps have the names of the user's
layers. Layers that folding merges into their neighbours leave no operator. The in-place operators
are those that TensorFlow Lite Micro runs correctly with input and output at one address.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from keras_fmc.errors import BadInputError
from keras_fmc.fold.fold import fold_for_device
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.constant_map import ConstantMap
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.slice import Slice
from keras_fmc.maps.feature_maps import Effect, MapOperator
from keras_fmc.model.custom_layers import is_elementwise
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers
from keras_fmc.model.operations import activation_name, row_of
from keras_fmc.qat.device_form import device_form
from keras_fmc.qat.input_scale import scaled_inputs
from keras_fmc.qat.other_scales import with_other_scales
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS


@dataclass(frozen=True, slots=True)
class Lowered:
    """A model as operators over maps; arguments of `FeatureMaps.from_operators`."""

    model: str
    values: tuple[tuple[str, tuple[int, ...], int], ...]
    operators: tuple[MapOperator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    vanished: dict[str, str]


def lower(graph: LayerGraph) -> Lowered:
    """Returns the operators that the device runs for a model in canonical form.

    Maps keep the names of the graph's values: of those that the device does not tell apart, such as
    a convolution's and that of its batch normalisation, the last one names the map. A map inside
    one Keras layer is called `"layer:part"`.

    Raises:
        BadInputError: a map whose size is not fixed.
    """
    if any(isinstance(node.operation, FAKE_QUANT_LAYERS) for node in graph.nodes):
        return _Lowering(graph, graph, {}).run()
    folded = fold_for_device(graph)
    device = with_other_scales(device_form(folded.graph, split_codes=False))
    return _Lowering(graph, device, folded.gone).run()


class _Lowering:
    def __init__(self, source: LayerGraph, device: LayerGraph, gone: dict[int, int]) -> None:
        self.source, self.device, self.gone = source, device, gone
        self.makers = {value: node for node in source.nodes for value in node.outputs}
        self.calls = sorted((node.name for node in source.nodes), key=len, reverse=True)
        self.names = self._names()
        self.values: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self.operators: list[MapOperator] = []
        self.constants: set[str] = set()

    def run(self) -> Lowered:
        for value in self.device.inputs:
            self._value(value)
        # A scale in front is no operator: what reads it reads the input.
        self.names |= {
            value: self.names[source] for value, (source, _) in scaled_inputs(self.device).items()
        }
        for node in self.device.nodes:
            self._add(node)
        vanished = {
            self.source.values[value].name: self.names[self._home(value)]
            for value in self.makers
            if self._home(value) in self.names
        }
        held = set(self.names.values())
        return Lowered(
            model=self.source.name,
            values=tuple(self.values.values()),
            operators=tuple(self.operators),
            inputs=tuple(self.names[value] for value in self.device.inputs),
            outputs=tuple(dict.fromkeys(self.names[value] for value in self.device.outputs)),
            vanished={name: home for name, home in vanished.items() if name not in held},
        )

    def _home(self, value: int) -> int:
        while value in self.gone:
            value = self.gone[value]
        return value

    def _is_inside(self, value: int, gone: int) -> bool:
        """Whether a value stands inside a layer of the user's and is what that layer makes."""
        return (
            value >= len(self.source.values)
            and self.device.values[value].shape == self.source.values[gone].shape
        )

    def _names(self) -> dict[int, str]:
        """Value of the device → name of the map: the last of the user's values that it holds and
        through which alone it is read."""
        readers = consumers(self.source)
        heir = {
            source: value
            for value, source in self.gone.items()
            if value in self.makers
            and (
                # What stands inside a call has no name of its own, unless it is a code.
                self._is_inside(source, value)
                or (
                    len(readers.get(source, ())) == 1
                    and source not in self.source.outputs
                    and source in self.makers[value].inputs
                )
            )
        }
        names = {}
        for node in self.device.nodes:
            for value in node.outputs:
                last = value
                while last in heir:
                    last = heir[last]
                if last < len(self.source.values):
                    names[value] = self.source.values[last].name
                else:
                    name = self.device.values[value].name
                    is_call = name in self.calls
                    names[value] = f"{name}:linear" if is_call else self._part(name, _MAPS)
        names.update({value: self.source.values[value].name for value in self.device.inputs})
        return names

    def _part(self, name: str, words: dict[str, str]) -> str:
        """`"layer:part"` for the name of what stands inside a layer of the user's."""
        for call in self.calls:
            if name.startswith(f"{call}_"):
                part = name.removeprefix(f"{call}_")
                part = words.get(part, part)
                return f"{call}:{part}" if part else call
        return name

    def _value(self, value: int) -> None:
        spec = self.device.values[value]
        name = self.names[value]
        shape = tuple(size for size in spec.shape[1:] if size is not None)
        if len(shape) < len(spec.shape) - 1:
            raise BadInputError(
                f"feature map {name!r} has no fixed size",
                received=f"shape {spec.shape}",
                remedy="Build the model with a fixed input shape, e.g. keras.Input((96, 96, 3))",
            )
        bits = self._bits(value)
        if bits is None:
            size = math.prod(shape) * _width_bytes(spec.dtype)
        else:
            size = math.prod(shape[:-1]) * -(-shape[-1] * bits // 8)
        self.values[name] = (name, shape, size)

    def _bits(self, value: int) -> int | None:
        """Bits of the codes of a projection, in bytes that are filled; None for other maps."""
        name = self.names[value]
        readers = [node for node in self.device.nodes if value in node.inputs]
        if len(readers) == 1 and isinstance(readers[0].operation, CodeQuantizer):
            name = self.names[readers[0].outputs[0]]
        call = name.removesuffix(":code")
        made = [node for node in self.source.nodes if node.name == call != name]
        return (made[0].operation.bits or 8) if made else None

    def _add(self, node: LayerNode) -> None:
        operation = node.operation
        if self._is_constant(node):
            self.constants |= {self.names[value] for value in node.outputs}
            return
        inputs = tuple(self.names[value] for value in node.inputs)
        inputs = tuple(name for name in inputs if name not in self.constants)
        outputs = tuple(self.names[value] for value in node.outputs)
        for value in node.outputs:
            self._value(value)
        if inputs == outputs:
            return
        user_calls = set(self.calls)
        name = node.name if node.name in user_calls else self._part(node.name, _OPERATORS)
        if isinstance(operation, GF2Bottleneck):
            self._bottleneck(node, name, inputs[0], outputs[0])
            return
        if is_elementwise(operation):
            self._look_up(node, name, inputs[0], outputs[0])
            return
        kinds = [_kind(node)]
        value = node.outputs[0]
        merged = [gone for gone in self.gone if self._home(gone) == value and gone in self.makers]
        kinds += [_kind(self.makers[gone]) for gone in sorted(merged) if _is_behind(self, gone)]
        effect = self._effect(node)
        offset = self._offset(node) if effect is Effect.VIEW else 0
        self.operators.append(MapOperator(name, " + ".join(kinds), inputs, outputs, effect, offset))

    def _is_constant(self, node: LayerNode) -> bool:
        """Whether what a call makes is a constant of the device, as its rounding is."""
        reads = [self.names[value] for value in node.inputs]
        return isinstance(node.operation, ConstantMap) or self.constants.issuperset(reads)

    def _offset(self, node: LayerNode) -> int:
        """Where a part begins, in elements, which are bytes here."""
        operation = node.operation
        shape = [size or 1 for size in self.device.values[node.inputs[0]].shape[1:]]
        if isinstance(operation, Slice):
            starts = list(operation.starts)
        elif isinstance(operation, keras.layers.Cropping2D):
            starts = [before for before, _ in operation.cropping] + [0]
        else:
            return 0
        return sum(start * math.prod(shape[axis + 1 :]) for axis, start in enumerate(starts))

    def _effect(self, node: LayerNode) -> Effect:
        """What the operator does to memory. Rows stand one behind the other, so what takes or joins
        whole ones copies nothing."""
        operation = node.operation
        shapes = [self.device.values[value].shape[1:] for value in (*node.inputs, *node.outputs)]
        if isinstance(operation, keras.layers.Concatenate):
            axis = operation.axis % (len(shapes[0]) + 1)
            outer = [size for shape in shapes for size in shape[: axis - 1]]
            return Effect.JOIN if all(size == 1 for size in outer) else Effect.COMPUTE
        if isinstance(operation, keras.layers.Permute):
            # Axes of one position each may stand anywhere.
            moved = [axis for axis in operation.dims if shapes[0][axis - 1] != 1]
            return Effect.VIEW if moved == sorted(moved) else Effect.COMPUTE
        if isinstance(operation, (keras.layers.Cropping2D, Slice)):
            before, behind = shapes
            cut = [one != other for one, other in zip(before, behind, strict=True)]
            first = cut.index(True) if True in cut else 0
            rows = all(size == 1 for size in behind[:first]) and not any(cut[first + 1 :])
            return Effect.VIEW if rows else Effect.COMPUTE
        row = row_of(operation)
        return Effect.COMPUTE if row is None else row.effect

    def _look_up(self, node: LayerNode, name: str, source: str, output: str) -> None:
        """CAST, ADD and GATHER: places are int32."""
        shape = tuple(size or 1 for size in self.device.values[node.outputs[0]].shape[1:])
        size = math.prod(shape) * _PLACE_BYTES
        code, place = f"{name}:code", f"{name}:place"
        self.values |= {part: (part, shape, size) for part in (code, place)}
        self.operators += [
            MapOperator(code, "CAST", (source,), (code,)),
            MapOperator(place, "ADD", (code,), (place,), Effect.ELEMENTWISE),
            MapOperator(name, _kind(node), (place,), (output,)),
        ]

    def _bottleneck(self, node: LayerNode, name: str, source: str, output: str) -> None:
        """P makes what is stored, in bytes that are filled, R restores the map."""
        layer = node.operation
        shape = self.device.values[node.outputs[0]].shape[1:]
        stored = layer.stored_shape(shape)
        positions = math.prod(stored[:-1])
        bits = layer.stored_bits(shape) // positions
        code = f"{name}:code"
        self.values[code] = (code, tuple(stored), positions * -(-bits // 8))
        self.operators.append(MapOperator(f"{name}:P", "P", (source,), (code,)))
        self.operators.append(MapOperator(name, "R", (code,), (output,)))


_PLACE_BYTES = 4
_MAPS = {"projection": "code"}
_OPERATORS = {"projection": "P", "restoration": ""}
"""Parts of a bottleneck as maps and operators are called."""


def _is_behind(lowering: _Lowering, gone: int) -> bool:
    """Whether a merged layer stood behind the operator that took it: not one of its readers."""
    return lowering.makers[gone].operation.__class__.__name__ in (
        "BatchNormalization",
        "Rescaling",
        "Normalization",
    )


def _kind(node: LayerNode) -> str:
    if isinstance(node.operation, keras.layers.Activation):
        return activation_name(node.operation)
    return type(node.operation).__name__


def _width_bytes(dtype: str) -> int:
    """1 for what is float in Keras and int8 on the device; integers keep their width."""
    if dtype.startswith(("float", "bfloat", "bool")):
        return 1
    return max(1, int("".join(filter(str.isdigit, dtype))) // 8)
