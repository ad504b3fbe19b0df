"""What the calls of a Keras model become on the device, as far as memory is concerned.

Most calls are one operator. A separable convolution is two with a map between them; an activation
that has no operator of its own, such as SiLU, needs its input beside its output; dropout and
reshape leave the bytes alone. The in-place operators are those that TensorFlow Lite Micro runs
correctly with input and output at one address.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_fmc.errors import BadInputError
from keras_fmc.maps.feature_maps import Effect, MapOperator
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueSpec


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IN_PLACE_ACTIVATIONS = _names(
    "relu relu6 leaky_relu sigmoid tanh softmax hard_sigmoid hard_silu hard_swish"
)
_VIEW_LAYERS = _names(
    """ActivityRegularization AlphaDropout Dropout FakeQuant Flatten GaussianDropout GaussianNoise
    Identity Reshape SpatialDropout1D SpatialDropout2D SpatialDropout3D"""
)
_VIEW_OPERATIONS = _names("Copy ExpandDims Identity Ravel Reshape Squeeze StopGradient")
_ELEMENTWISE_LAYERS = _names(
    """Add BatchNormalization LeakyReLU Maximum Multiply Normalization PReLU ReLU Rescaling Softmax
    Subtract"""
)
_ELEMENTWISE_OPERATIONS = _names(
    """Add HardSigmoid HardSilu LeakyRelu Maximum Multiply Relu Relu6 Sigmoid Softmax Subtract Tanh
    TrueDivide"""
)
_COMPUTE_LAYERS = _names(
    """Average AveragePooling1D AveragePooling2D Concatenate Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot ELU
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D
    MaxPooling1D MaxPooling2D Minimum Permute RepeatVector UpSampling1D UpSampling2D
    ZeroPadding1D ZeroPadding2D"""
)
_COMPUTE_OPERATIONS = _names(
    """AveragePool Concatenate Conv DepthwiseConv GetItem Matmul Max MaxPool Mean Pad Stack Sum
    Transpose"""
)


@dataclass(frozen=True, slots=True)
class Lowered:
    """A model as operators over maps; arguments of `keras_fmc.maps.feature_maps.feature_maps`."""

    model: str
    values: tuple[tuple[str, tuple[int, ...], int], ...]
    operators: tuple[MapOperator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    unmodelled: tuple[str, ...]


def lower(graph: LayerGraph) -> Lowered:
    """Returns the operators that the device runs for `graph`, before any fusion.

    Maps keep the names of the graph's values. A map inside one Keras layer is called
    `"layer:part"`.

    Raises:
        BadInputError: a map whose size is not fixed.
    """
    lowering = _Lowering(graph)
    for node in graph.nodes:
        lowering.add(node)
    return Lowered(
        model=graph.name,
        values=tuple(lowering.values),
        operators=tuple(lowering.operators),
        inputs=tuple(graph.values[id_].name for id_ in graph.inputs),
        outputs=tuple(dict.fromkeys(graph.values[id_].name for id_ in graph.outputs)),
        unmodelled=tuple(lowering.unmodelled),
    )


@dataclass(slots=True)
class _Lowering:
    graph: LayerGraph
    values: list[tuple[str, tuple[int, ...], int]] = field(default_factory=list)
    operators: list[MapOperator] = field(default_factory=list)
    unmodelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for value in self.graph.values:
            self._add_value(value.name, value)

    def add(self, node: LayerNode) -> None:
        """Appends the operators of one call."""
        operation = node.operation
        inputs = tuple(self.graph.values[id_].name for id_ in node.inputs)
        outputs = tuple(self.graph.values[id_].name for id_ in node.outputs)
        kind = type(operation).__name__
        expand = _EXPANSIONS.get(kind)
        if expand is not None:
            expand(self, node, inputs[0], outputs[0])
            return
        activation = _activation_name(operation)
        if kind == "Activation":
            self._operator(node.name, activation, inputs, outputs, _activation_effect(activation))
            return
        effect = _effect(operation)
        if effect is None:
            self.unmodelled.append(node.name)
            effect = Effect.COMPUTE
        if _activation_effect(activation) is Effect.COMPUTE:
            linear = self._hidden(node, "linear", self.graph.values[node.outputs[0]])
            self._operator(node.name, kind, inputs, (linear,), effect)
            self._operator(
                f"{node.name}:{activation}", activation, (linear,), outputs, Effect.COMPUTE
            )
            return
        self._operator(node.name, kind, inputs, outputs, effect)

    def separable(self, node: LayerNode, source: str, output: str) -> None:
        """A depthwise convolution, a map of C·depth_multiplier channels, a 1×1 convolution."""
        layer = node.operation
        value = self.graph.values[node.outputs[0]]
        channels = self.graph.values[node.inputs[0]].shape[-1] * layer.depth_multiplier
        spec = ValueSpec("", (*value.shape[:-1], channels), value.dtype)
        middle = self._hidden(node, "depthwise", spec)
        self._operator(f"{node.name}:depthwise", "DepthwiseConv", (source,), (middle,))
        self._operator(node.name, "pointwise Conv", (middle,), (output,))

    def bottleneck(self, node: LayerNode, source: str, output: str) -> None:
        """P makes what is stored, in bytes that are filled, R restores the map."""
        layer = node.operation
        shape = self.graph.values[node.outputs[0]].shape[1:]
        if None in shape:
            self._operator(node.name, "bottleneck", (source,), (output,))
            return
        stored = layer.stored_shape(shape)
        positions = stored[:-1]
        bits = layer.stored_bits(shape) // math.prod(positions)
        code = f"{node.name}:code"
        self.values.append((code, tuple(stored), math.prod(positions) * -(-bits // 8)))
        self._operator(f"{node.name}:P", "P", (source,), (code,))
        self._operator(node.name, "R", (code,), (output,))

    def _hidden(self, node: LayerNode, part: str, spec: ValueSpec) -> str:
        name = f"{node.name}:{part}"
        self._add_value(name, spec)
        return name

    def _add_value(self, name: str, spec: ValueSpec) -> None:
        shape = tuple(size for size in spec.shape[1:] if size is not None)
        if len(shape) < len(spec.shape) - 1:
            raise BadInputError(
                f"feature map {name!r} has no fixed size",
                received=f"shape {spec.shape}",
                remedy="Build the model with a fixed input shape, e.g. keras.Input((96, 96, 3))",
            )
        self.values.append((name, shape, math.prod(shape) * _width_bytes(spec.dtype)))

    def _operator(
        self,
        name: str,
        kind: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        effect: Effect = Effect.COMPUTE,
    ) -> None:
        self.operators.append(MapOperator(name, kind, inputs, outputs, effect))


_EXPANSIONS: dict[str, Callable[[_Lowering, LayerNode, str, str], None]] = {
    "SeparableConv1D": _Lowering.separable,
    "SeparableConv2D": _Lowering.separable,
    "ProjectionBottleneck": _Lowering.bottleneck,
    "GF2Bottleneck": _Lowering.bottleneck,
}


def _effect(operation: keras.Operation) -> Effect | None:
    """Returns the effect of an operation by its class or a class it inherits from, None if
    unknown."""
    if isinstance(operation, keras.layers.Layer):
        views, elementwise, compute = _VIEW_LAYERS, _ELEMENTWISE_LAYERS, _COMPUTE_LAYERS
    else:
        views, elementwise, compute = (
            _VIEW_OPERATIONS,
            _ELEMENTWISE_OPERATIONS,
            _COMPUTE_OPERATIONS,
        )
    for cls in type(operation).__mro__:
        if cls.__name__ in views or _is_augmentation(cls):
            return Effect.VIEW
        if cls.__name__ in elementwise:
            return Effect.ELEMENTWISE
        if cls.__name__ in compute:
            return Effect.COMPUTE
    return None


def _is_augmentation(cls: type) -> bool:
    """Random augmentation layers of Keras do nothing outside training."""
    return cls.__name__.startswith("Random") and ".layers.preprocessing." in cls.__module__


def _activation_name(operation: Any) -> str:
    activation = getattr(operation, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", "activation")


def _activation_effect(name: str) -> Effect:
    if name == "linear":
        return Effect.VIEW
    return Effect.ELEMENTWISE if name in _IN_PLACE_ACTIVATIONS else Effect.COMPUTE


def _width_bytes(dtype: str) -> int:
    """1 for what is float in Keras and int8 on the device; integers keep their width."""
    if dtype.startswith(("float", "bfloat", "bool")):
        return 1
    return max(1, int("".join(filter(str.isdigit, dtype))) // 8)
