"""Codes of fewer bits through training, conversion and packing: the device stores what QAT does."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pytest
from keras import layers
from qat_models import _unit, digits, fit

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.backends.tflm.codes.lower import lower_codes
from deploy.codes.levels import find_code_maps
from deploy.convert import to_int8_tflite
from deploy.graph import Graph
from deploy.passes.reference_versions import with_reference_versions
from deploy.runtime import litert, tflm
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.model.layer_graph import trace
from keras_fmc.qat.device_form import device_form

GF2, PLAIN = BottleneckKind.GF2, BottleneckKind.PLAIN


def residual() -> keras.Model:
    """Two residual blocks; the maps of the first have 12 channels."""
    inputs = keras.Input((16, 16, 1))
    x = layers.ReLU(name="stem")(_unit(inputs, 12, relu=False))
    y = layers.ReLU(name="branch")(_unit(x, 12, relu=False))
    y = layers.BatchNormalization(name="linear", momentum=0.8)(layers.Conv2D(12, 3, 1, "same")(y))
    x = layers.ReLU(name="joined")(layers.Add()([x, y]))
    y = _unit(x, 16, strides=2)
    z = _unit(x, 16, window=1, strides=2)
    x = layers.ReLU()(layers.Add()([y, z]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="residual")


@functools.cache
def trained(name: str) -> keras.Model:
    x, y, _, _ = digits()
    keras.utils.set_random_seed(3)
    return fit({"residual": residual, "mobile": mobile}[name](), x, y, epochs=4, rate=5e-3)


def mobile() -> keras.Model:
    """An inverted residual with ReLU6 and a linear narrow map."""
    inputs = keras.Input((16, 16, 1))
    x = _unit(inputs, 8, strides=2)
    y = layers.ReLU(6.0, name="expanded")(_unit(x, 24, window=1, relu=False))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.ReLU(6.0, name="filtered")(layers.BatchNormalization(momentum=0.8)(y))
    y = layers.Conv2D(8, 1, use_bias=False)(y)
    y = layers.BatchNormalization(name="narrow", momentum=0.8)(y)
    x = layers.Add()([x, y])
    x = layers.ReLU(6.0, name="wide")(_unit(x, 24, window=1, relu=False))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="mobile")


def shape_of(model: keras.Model, name: str) -> tuple[int, ...]:
    return tuple(model.get_layer(name).output.shape[1:])


def with_codes(model: keras.Model, *wanted: dict) -> tuple[keras.Model, CompressionPlan]:
    """The QAT model with these bottlenecks, after a few steps of training."""
    x, y, _, _ = digits()
    specs = [BottleneckSpec(**{"shape": shape_of(model, spec["name"]), **spec}) for spec in wanted]
    plan = CompressionPlan(model.name, 0, tuple(specs), (), 0, 0)
    rewritten = fmc.insert_bottlenecks(model, plan, calibration=x[:200]).model
    qat = fmc.quantize(rewritten, calibration=x[:200])
    keras.utils.set_random_seed(4)
    return fit(qat, x[:640], y[:640], epochs=1, rate=1e-4), plan


def values_on_device(graph: Graph, tensors: Sequence[int], images: np.ndarray) -> list[np.ndarray]:
    """int8 values of tensors of a converted model for images, in TensorFlow Lite Micro."""
    quantization = graph.tensors[graph.inputs[0]].quantization
    scale, zero_point = quantization.scales[0], quantization.zero_points[0]
    content = flatbuffer.write(graph.replace(outputs=tuple(tensors)))
    codes = np.clip(np.floor(images / scale + 0.5) + zero_point, -128, 127).astype(np.int8)
    results = tflm.run(content, [[image[None]] for image in codes], arena_bytes=1 << 21)
    return [np.concatenate([result[i] for result in results]) for i in range(len(tensors))]


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A map of codes in a QAT model.

    Attributes:
        layer: that makes it.
        output: of the layer.
        read: from values of `output` to those on the device, and back.
        scale, zero_point: of the device's tensor.
    """

    layer: keras.Layer
    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]
    scale: float
    zero_point: int

    @property
    def output(self) -> keras.KerasTensor:
        return self.layer.output if isinstance(self.layer, fmc.CodeQuantizer) else self.layer.input


def stored_maps(qat: keras.Model) -> list[Stored]:
    """The stored maps of a QAT model, in the order of execution."""
    found = []
    for layer in qat.layers:
        if isinstance(layer, fmc.CodeQuantizer) and layer.is_sign:
            # The device packs the bit before it is centred.
            found.append(Stored(layer, lambda y: y + 1, lambda bit: bit - 1, 2.0, 126))
        elif isinstance(layer, fmc.CodeQuantizer):
            found.append(Stored(layer, lambda y: y, lambda y: y, layer.scale, layer.zero_point))
    return found


def device_tensors(graph: Graph, stored: Sequence[Stored]) -> list[int]:
    """The tensor of each stored map: its shape and quantisation tell."""
    order = graph.producers()
    maps = sorted((found.tensor for found in find_code_maps(graph)), key=lambda t: order[t])
    chosen: list[int] = []
    for item in stored:
        chosen.append(
            next(
                t
                for t in maps
                if t not in chosen
                and graph.tensors[t].shape[1:] == item.output.shape[1:]
                and graph.tensors[t].quantization.scales[0] == pytest.approx(item.scale, rel=1e-4)
                and graph.tensors[t].quantization.zero_points[0] == item.zero_point
            )
        )
    return chosen


def differences(qat: keras.Model, graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Layer → |device - QAT| in levels, each from the same stored maps before it."""
    stored = stored_maps(qat)
    device = values_on_device(graph, device_tensors(graph, stored), images)
    found = {}
    for index, item in enumerate(stored):
        before = [other.output for other in stored[:index]]
        model = keras.Model([qat.input, *before], item.output)
        known = [
            other.write((values.astype(np.float32) - other.zero_point) * np.float32(other.scale))
            for other, values in zip(stored[:index], device, strict=False)
        ]
        wanted = item.read(keras.ops.convert_to_numpy(model([images, *known])))
        codes = np.rint(wanted / item.scale).astype(int) + item.zero_point
        found[item.layer.name] = np.abs(device[index] - codes)
    return found


PLANS: dict[str, list[dict]] = {
    "projections": [
        {"name": "stem", "rank": 8, "bits": 6},
        {"name": "branch", "rank": 9, "bits": 4},
        {"name": "linear", "rank": 12, "bits": 2},
        {"name": "joined", "rank": 12, "bits": 1},
    ],
    "plain": [
        {"name": "stem", "rank": 12, "bits": 6, "kind": PLAIN},
        {"name": "branch", "rank": 12, "bits": 1, "kind": PLAIN},
        {"name": "linear", "rank": 12, "bits": 4, "kind": PLAIN, "signed": True},
        {"name": "joined", "rank": 12, "bits": 2, "kind": PLAIN},
    ],
    "windows": [
        {"name": "stem", "rank": 24, "bits": 4, "kind": GF2},
        {"name": "branch", "rank": 64, "bits": 4, "kind": GF2, "strides": 2, "kernel_size": 2},
        {"name": "linear", "rank": 16, "bits": 2, "strides": 2, "kernel_size": 2},
        {"name": "joined", "rank": 12, "bits": 4, "strides": 2, "kernel_size": 3},
    ],
    "mobile": [
        {"name": "expanded", "rank": 16, "bits": 4},
        {"name": "filtered", "rank": 24, "bits": 2, "kind": PLAIN},
        {"name": "narrow", "rank": 8, "bits": 4, "kind": PLAIN, "signed": True},
        {"name": "wide", "rank": 96, "bits": 4, "kind": GF2},
    ],
}
EXACT = 0.999
"""Share of codes that agree, by the bar of the project."""


@functools.cache
def converted(name: str) -> tuple[keras.Model, CompressionPlan, Graph]:
    qat, plan = with_codes(trained("mobile" if name == "mobile" else "residual"), *PLANS[name])
    return qat, plan, flatbuffer.read(to_int8_tflite(qat))


@pytest.mark.parametrize("name", PLANS)
def test_codes_of_the_device_are_those_of_training(name):
    qat, _, graph = converted(name)
    found = differences(fmc.device_rounding(qat), graph, digits()[2][:24])
    assert len(found) == len(PLANS[name])
    for layer, difference in found.items():
        assert float((difference == 0).mean()) >= EXACT, layer
        assert difference.max() <= 1, layer


@pytest.mark.parametrize("name", PLANS)
def test_one_rounding_is_at_most_a_level_off(name):
    """A model as it is trained."""
    qat, _, graph = converted(name)
    found = differences(qat, graph, digits()[2][:24])
    for layer, difference in found.items():
        assert float((difference == 0).mean()) >= 0.98, layer
        assert difference.max() <= 1, layer
    assert any((difference > 0).any() for difference in found.values())


@pytest.mark.parametrize("name", PLANS)
def test_packed_bytes_are_those_of_the_plan_and_outputs_stay(name):
    _, plan, graph = converted(name)
    names = {
        graph.tensors[tensor].name: found.bits
        for found in find_code_maps(graph)
        for tensor in [found.tensor]
    }
    sizes = {}
    for spec in plan.bottlenecks:
        bits = 1 if spec.kind is GF2 else spec.bits
        shape = (1, *spec.stored_shape)
        sizes[spec.name] = next(
            t.name for t in graph.tensors
            if t.name in names and t.shape == shape and names[t.name] == bits
            and t.name not in sizes.values()
        )  # fmt: skip
    maps = {tensor: names[tensor] for tensor in sizes.values()}
    lowered = lower_codes(graph, maps=maps)
    stored = {item.name: item.packed_bytes for item in lowered.stored}
    for spec in plan.bottlenecks:
        assert stored[sizes[spec.name]] == spec.code_bytes
        assert spec.code_bytes == np.prod(spec.stored_shape[:-1]) * -(-spec.position_bits // 8)
    rng = np.random.default_rng(0)
    inputs = [[rng.integers(-128, 128, (1, 16, 16, 1)).astype(np.int8)] for _ in range(4)]
    plain = litert.run(flatbuffer.write(with_reference_versions(graph)), inputs)
    packed = litert.run(flatbuffer.write(with_reference_versions(lowered.graph)), inputs)
    for before, after in zip(plain, packed, strict=True):
        np.testing.assert_array_equal(before[0], after[0])


def test_training_moves_the_weights_of_every_kind():
    x, y, _, _ = digits()
    qat, _, _ = converted("windows")
    before = {weight.path: np.array(weight) for weight in qat.trainable_weights}
    again = keras.models.clone_model(qat)
    again.set_weights(qat.get_weights())
    fit(again, x[:256], y[:256], epochs=1, rate=1e-3)
    moved = [
        not np.array_equal(np.array(new), old)
        for new, old in zip(again.trainable_weights, before.values(), strict=True)
    ]
    assert np.mean(moved) > 0.95
    names = [w.path for w in again.trainable_weights]
    assert any("stem_bottleneck/compression" in name for name in names)


def test_quantised_models_with_codes_save_and_load(tmp_path):
    qat, _, _ = converted("windows")
    qat.save(tmp_path / "qat.keras")
    loaded = fmc.load_model(tmp_path / "qat.keras")
    x = digits()[2][:8]
    np.testing.assert_array_equal(loaded(x), qat(x))
    core = loaded.get_layer("stem_bottleneck")
    assert core.quantizes_input is False
    assert core.quantizer.range == loaded.get_layer("stem_bottleneck_code").range


def test_average_pooling_of_codes_is_a_convolution():
    """AVERAGE_POOL_2D would round means to the levels of the code."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.AveragePooling2D(2, name="mean")(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))
    x = digits()[0]
    spec = {"name": "conv", "shape": (16, 16, 8), "rank": 8, "bits": 1, "kind": PLAIN}
    plan = CompressionPlan(model.name, 0, (BottleneckSpec(**spec),), (), 0, 0)
    coded = fmc.insert_bottlenecks(model, plan, calibration=x[:100]).model
    qat = fmc.quantize(coded, calibration=x[:100])
    levels = np.unique(np.asarray(keras.Model(qat.input, qat.get_layer("mean").output)(x[:20])))
    high = coded.get_layer("conv_bottleneck").scale
    np.testing.assert_allclose(levels, high * np.arange(5) / 4, rtol=1e-5)
    difference = np.abs(np.asarray(qat(x[:20])) - np.asarray(coded(x[:20]))).max()
    assert difference < 0.05 * np.abs(np.asarray(coded(x[:20]))).max()
    opcodes = [operator.opcode for operator in flatbuffer.read(to_int8_tflite(qat)).operators]
    assert opcodes == ["CONV_2D", "MAX_POOL_2D", "DEPTHWISE_CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


@pytest.mark.parametrize(
    "between",
    [layers.Dropout, layers.GaussianDropout, layers.SpatialDropout2D, layers.GaussianNoise],
)
def test_what_does_nothing_at_inference_hides_no_codes(between):
    inputs = keras.Input((8, 8, 2))
    x = between(0.1)(CodeQuantizer(bits=2)(inputs))
    graph = device_form(trace(keras.Model(inputs, layers.AveragePooling2D(2)(x))))
    assert isinstance(graph.nodes[-1].operation, layers.DepthwiseConv2D)


def branches(*, read_raw: bool) -> keras.Model:
    inputs = keras.Input((16, 16, 1))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    b = layers.Conv2D(4, 1, activation="relu6", name="b")(inputs)
    x = layers.Concatenate(name="joined")([a, b])
    y = layers.Conv2D(8, 1, name="raw")(a) if read_raw else x
    x = layers.Add()([layers.Conv2D(8, 1)(x), layers.Conv2D(8, 1)(y)])
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="branches")


def test_the_code_of_a_concatenation_is_made_in_its_branches():
    x = digits()[0][:64]
    model = branches(read_raw=False)
    plan = fmc.choose_bottlenecks(model, ceiling=16 * 16 * 4, kind="plain", bits=4,
                                  eligible=lambda item: item.name == "joined")  # fmt: skip
    assert [spec.name for spec in plan.bottlenecks] == ["joined"]
    coded = fmc.insert_bottlenecks(model, plan, calibration=x).model
    qat = fmc.quantize(coded, calibration=x)
    joined = np.asarray(keras.Model(qat.input, qat.get_layer("joined").output)(x))
    wanted = np.asarray(keras.Model(coded.input, coded.get_layer("joined_bottleneck").output)(x))
    assert len(np.unique(joined)) <= 16
    assert (np.abs(joined - wanted) < 1e-5).mean() > 0.98
    graph = flatbuffer.read(to_int8_tflite(qat))
    assert 4 in {found.bits for found in find_code_maps(graph)
                 if graph.tensors[found.tensor].shape[-1] == 8}  # fmt: skip


def test_a_map_that_is_read_before_its_code_is_refused():
    x = digits()[0][:64]
    model = branches(read_raw=True)
    spec = {"name": "joined", "shape": (16, 16, 8), "rank": 8, "bits": 4, "kind": PLAIN}
    plan = CompressionPlan(model.name, 0, (BottleneckSpec(**spec),), (), 0, 0)
    coded = fmc.insert_bottlenecks(model, plan, calibration=x).model
    with pytest.raises(UnsupportedModelError, match="layer 'raw' reads 'a' as it is"):
        fmc.quantize(coded, calibration=x)


@pytest.mark.parametrize("name", ["projections", "plain", "windows"])
def test_the_backend_of_the_toolkit_refuses_codes(name):
    x = digits()[0]
    model = trained("residual")
    wanted = [spec for spec in PLANS[name] if spec["name"] == "stem"]
    specs = [BottleneckSpec(**{"shape": shape_of(model, s["name"]), **s}) for s in wanted]
    plan = CompressionPlan(model.name, 0, tuple(specs), (), 0, 0)
    rewritten = fmc.insert_bottlenecks(model, plan, calibration=x[:50]).model
    with pytest.raises(UnsupportedModelError, match=r"'tfmot' knows no .* such as 'stem_bottle"):
        fmc.quantize(rewritten, calibration=x[:50], backend="tfmot")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
