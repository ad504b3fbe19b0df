"""What a model must be to come to the device: all reasons at once, at the first call."""

from __future__ import annotations

import re

import keras

from keras_fmc.canonical.editor import Refusal
from keras_fmc.canonical.form import canonical
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.fold.fold import fold_for_device
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.model.layer_graph import LayerGraph, trace
from keras_fmc.model.operations import row_of
from keras_fmc.names import layer_name
from keras_fmc.qat.device_form import device_form
from keras_fmc.qat.other_scales import with_other_scales
from keras_fmc.qat.placement import scale_groups
from keras_fmc.qat.refusals import refusal
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS


def check(model: keras.Model) -> None:
    """Checks that a float model can go the whole way to the device.

    `profile`, `choose_bottlenecks`, `insert_bottlenecks` and `quantize` call it first, so that
    nothing is trained that is refused later. A model that is quantised already passes.

    Raises:
        BadInputError: no built Keras 3 model, or inputs or layers of another type than float32 or
            of no fixed size; names the first.
        UnsupportedModelError: a subclassed model, or layers without an int8 form: all of them, a
            line each, with what to write instead.
    """
    checked_graph(model)


def checked_graph(model: keras.Model) -> LayerGraph:
    """Returns the canonical form of a model that `check` accepts.

    Raises:
        BadInputError, UnsupportedModelError: as `check`.
    """
    traced = trace(model)
    _check_types(traced)
    _check_names(model, traced)
    if is_quantised(traced):
        return traced
    _check_training(model, traced)
    form = canonical(model)
    refusals = list(form.refusals) + _channels_first(form.graph)
    known = {item.layer for item in refusals}
    folded = fold_for_device(form.graph).graph
    graph = device_form(folded, split_codes=False)
    for node in graph.nodes:
        operation = node.operation
        if node.name in known or isinstance(operation, (GF2Bottleneck, ProjectionBottleneck)):
            continue
        if row_of(operation) is None:
            refusals.append(refusal(node))
    if refusals:
        raise _refused(model, refusals)
    if not any(isinstance(node.operation, GF2Bottleneck) for node in graph.nodes):
        scale_groups(with_other_scales(graph))
    return form.graph


def check_deployable(model: keras.Model) -> None:
    """Checks a model before it is quantised or converted; as `check`."""
    check(model)


def is_quantised(graph: LayerGraph) -> bool:
    """Whether a model comes from `keras_fmc.quantize` with the backend "native"."""
    return any(isinstance(node.operation, FAKE_QUANT_LAYERS) for node in graph.nodes)


def _refused(model: keras.Model, refusals: list[Refusal]) -> UnsupportedModelError:
    first, *others = dict.fromkeys(refusals)
    if not others:
        return UnsupportedModelError(f"layer {first.layer!r}: {first.what}", remedy=first.remedy)
    lines = "\n".join(f"  {item}." for item in (first, *others))
    return UnsupportedModelError(
        f"model {model.name!r} has {1 + len(others)} layers that cannot come to the device",
        remedy=f"What to write instead:\n{lines}",
    )


def _channels_first(graph: LayerGraph) -> list[Refusal]:
    found = [
        node.name
        for node in graph.nodes
        if getattr(node.operation, "data_format", None) == "channels_first"
        and len(graph.values[node.inputs[0]].shape) > 2
    ]
    if not found:
        return []
    others = f" (so do {len(found) - 1} others)" if len(found) > 1 else ""
    return [
        Refusal(
            found[0],
            f"it works with channels first{others}, which the device does not",
            "Build the model with data_format='channels_last', the default, and feed it (height, "
            "width, channels)",
        )
    ]


_TRAINING = (
    *("train_step", "test_step", "compute_loss", "compute_metrics"),
    *("make_train_function", "make_test_function", "fit"),
)


def _check_training(model: keras.Model, graph: LayerGraph) -> None:
    """Refuses a subclass whose training would be lost: what is built anew is a plain model."""
    if graph.model_class is not None or type(model).__module__.startswith("keras_fmc."):
        return
    for name in _TRAINING:
        module = getattr(getattr(type(model), name), "__module__", "keras.")
        if not module.startswith("keras."):
            raise UnsupportedModelError(
                f"model {model.name!r} is a {type(model).__name__} with a {name}() of its own, "
                "which would be lost, as it cannot be made from inputs and outputs",
                expected="a subclass of keras.Model with __init__(self, inputs, outputs, "
                "name=None, **kwargs), or none",
                remedy="Build it as MyModel(inputs, outputs), or pass keras.Model(model.inputs, "
                "model.outputs)",
            )


def _float_remedy(graph: LayerGraph, value: int) -> str:
    """What to do about an input of integers."""
    tables = [node for node in graph.nodes if isinstance(node.operation, keras.layers.Embedding)]
    for node in tables:
        if value in node.inputs:
            shape = tuple(graph.values[node.outputs[0]].shape[1:])
            return (
                f"Look the rows of {node.layer_name!r} up outside: let the model begin behind it, "
                f"with keras.Input({shape}), and feed it table[tokens], where table is "
                "get_weights()[0] of that layer"
            )
    if graph.values[value].dtype == "uint8":
        return (
            "Build the model with keras.Input(shape), which takes the same bytes as numbers; "
            "convert(..., input_type='uint8') makes the device take bytes"
        )
    return (
        "Build the model with keras.Input(shape, dtype='float32') and feed it preprocessed "
        "samples; the int8 model takes int8"
    )


def _check_names(model: keras.Model, graph: LayerGraph) -> None:
    """Refuses names of layers that TensorFlow takes for no scope; inputs may have any name."""
    named = {f"model {model.name!r}": model.name}
    named |= {f"layer {node.name!r}": node.name for node in graph.nodes}
    wrong = [place for place, name in named.items() if not _SCOPE.fullmatch(name)]
    if wrong:
        raise BadInputError(
            f"{wrong[0]} has a name that TensorFlow does not take",
            expected="letters, digits and any of _ . > -, the first a letter, digit or dot",
            received=", ".join(wrong),
            remedy=f"Write name={layer_name(named[wrong[0]], set())!r} there",
        )


_SCOPE = re.compile("[A-Za-z0-9.][A-Za-z0-9_.>-]*")
"""Names in which a layer's weights can be made; source: `keras_fmc.names.layer_name`."""


def _check_types(graph: LayerGraph) -> None:
    for id_ in graph.inputs:
        value = graph.values[id_]
        if value.dtype != "float32":
            raise BadInputError(
                f"input {value.name!r} of the model is no float32 tensor",
                expected="float32",
                received=value.dtype,
                remedy=_float_remedy(graph, id_),
            )
        if None in value.shape[1:]:
            raise BadInputError(
                f"input {value.name!r} of the model has no fixed size",
                expected="a fixed shape, for the arena is planned ahead",
                received=f"shape {value.shape}",
                remedy="Build the model with a fixed input shape, e.g. keras.Input((96, 96, 3))",
            )
    for node in graph.nodes:
        policy = getattr(node.operation, "dtype_policy", None)
        if policy is not None and policy.compute_dtype != "float32":
            raise BadInputError(
                f"layer {node.name!r} computes in {policy.compute_dtype}",
                expected="float32",
                received=f"policy {policy.name!r}",
                remedy="Rebuild the model under keras.config.set_dtype_policy('float32') and "
                "load its weights",
            )


def check_eight_bits(model: keras.Model) -> None:
    """Checks that all bottlenecks are projections of 8 bits or float codes and of stride 1.

    Raises:
        UnsupportedModelError: one is not; names it.
    """
    for node in trace(model).nodes:
        layer = node.operation
        if isinstance(layer, ProjectionBottleneck):
            fits = layer.strides == 1 and layer.bits in (8, None)
        else:
            fits = not isinstance(layer, (CodeQuantizer, GF2Bottleneck))
        if not fits:
            raise UnsupportedModelError(
                f"the QAT backend 'tfmot' knows no {type(layer).__name__} such as {node.name!r}",
                expected="projections of 8 bits and stride 1",
                remedy="Use the backend 'native'",
            )
