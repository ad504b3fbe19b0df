"""Feature maps, where they live, and the live sets."""

from __future__ import annotations

import json
import random
import sys

import keras
import pytest
import zoo
from keras import layers
from support import shared_path

from deploy.operators import OPERATORS
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers import ProjectionBottleneck
from keras_fmc.maps.feature_maps import Effect, FeatureMaps, MapOperator, Storage, profile
from keras_fmc.model.operations import TABLE


def mobilenet_v2() -> keras.Model:
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None)


def of(*steps: keras.layers.Layer, shape: tuple[int, ...] = (8, 8, 4)) -> FeatureMaps:
    return profile(keras.Sequential([keras.Input(shape, name="x"), *steps]))


def storages(maps: FeatureMaps) -> dict[str, str]:
    return {item.name: item.storage.value for item in maps.maps}


def live(maps: FeatureMaps) -> dict[str, int]:
    return {item.operator: item.size_bytes for item in maps.live_sets}


def test_convolution_with_normalisation_and_activation_stores_one_map():
    maps = of(
        layers.Conv2D(8, 3, padding="same", name="conv"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(name="relu"),
        layers.Conv2D(2, 1, name="next"),
    )
    assert storages(maps) == {
        "x": "stored",
        "conv": "fused",
        "bn": "fused",
        "relu": "stored",
        "next": "stored",
    }
    assert [item.name for item in maps.operators] == ["conv", "next"]
    assert maps.operators[0].kind == "Conv2D + BatchNormalization + ReLU"
    assert maps["relu"].producer == "conv"
    assert maps["relu"].consumers == ("next",)
    assert maps["bn"].home == maps["conv"].home == "relu"
    assert live(maps) == {"conv": 8 * 8 * 4 + 8 * 8 * 8, "next": 8 * 8 * 8 + 8 * 8 * 2}
    assert maps.peak_bytes == 8 * 8 * 12
    assert maps.peak_operators == ("conv",)
    assert maps.largest.name == "relu"


def test_map_with_a_second_reader_is_not_fused():
    inputs = keras.Input((8, 8, 4), name="x")
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    y = layers.ReLU(name="relu")(x)
    maps = profile(keras.Model(inputs, layers.Concatenate(name="join")([x, y])))
    assert storages(maps) == dict.fromkeys(("x", "conv", "relu", "join"), "stored")
    assert live(maps)["join"] == 8 * 8 * (4 + 4 + 8)


def test_residual_addition_takes_the_memory_of_an_input_that_dies():
    maps = profile(zoo.resnet8())
    add = maps["stage0_relu"]
    assert (add.storage, add.home, add.producer) == (Storage.IN_PLACE, "stem_relu", "stage0_add")
    assert maps["stage0_add"].storage is Storage.FUSED
    whole = 32 * 32 * 16
    assert live(maps)["stage0_add"] == 2 * whole
    assert maps.peak_bytes == 3 * whole == 49_152
    assert maps.peak_operators == ("stage0_b_conv",)
    assert maps.live_sets[2].maps == ("stage0_a_relu", "stage0_b_bn", "stem_relu")


def test_addition_whose_inputs_live_on_has_memory_of_its_own():
    inputs = keras.Input((4, 4, 2), name="x")
    a = layers.Conv2D(2, 1, name="a")(inputs)
    b = layers.Conv2D(2, 1, name="b")(inputs)
    added = layers.Add(name="add")([a, b])
    model = keras.Model(inputs, layers.Concatenate(name="join")([a, b, added]))
    maps = profile(model)
    assert maps["add"].storage is Storage.STORED
    assert live(maps)["add"] == 3 * 4 * 4 * 2
    assert live(maps)["join"] == (3 + 3) * 4 * 4 * 2


def test_broadcast_product_overwrites_the_whole_map_not_the_gate():
    inputs = keras.Input((4, 4, 8), name="x")
    x = layers.Conv2D(8, 1, name="conv")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="gate")(x)
    maps = profile(keras.Model(inputs, layers.Multiply(name="scale")([gate, x])))
    assert maps["scale"].home == "conv"
    assert live(maps) == {"conv": 2 * 128, "gate": 128 + 8, "scale": 128 + 8}


def test_reshape_and_dropout_make_no_map():
    maps = of(
        layers.Conv2D(2, 1, name="conv"),
        layers.Dropout(0.5, name="drop"),
        layers.Flatten(name="flat"),
        layers.Dense(3, name="dense"),
    )
    assert storages(maps)["drop"] == storages(maps)["flat"] == "view"
    assert maps["flat"].home == "conv"
    assert maps["flat"].shape == (128,)
    assert live(maps)["dense"] == 128 + 3


def test_overwriting_a_map_waits_for_the_readers_of_its_views():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    flat = layers.Flatten(name="flat")(x)
    y = layers.ReLU(name="relu")(x)
    head = layers.Dense(3, name="head")(flat)
    maps = profile(keras.Model(inputs, [layers.Flatten(name="out")(y), head]))
    assert maps["relu"].storage is Storage.STORED


def test_activation_behind_a_view_leaves_a_map_with_other_readers_alone():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    y = layers.ReLU(name="relu")(layers.Reshape((16, 2), name="reshape")(x))
    z = layers.Conv1D(2, 1, name="deep")(layers.Conv1D(2, 1, name="middle")(y))
    back = layers.Reshape((4, 4, 2), name="back")(z)
    maps = profile(keras.Model(inputs, layers.Concatenate(name="join")([x, back])))
    assert maps["relu"].storage is Storage.STORED
    assert maps["relu"].producer == "relu"


def test_map_that_is_also_an_output_is_not_overwritten():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    maps = profile(keras.Model(inputs, [x, layers.ReLU(name="relu")(x)]))
    assert storages(maps) == dict.fromkeys(("x", "conv", "relu"), "stored")


def test_product_that_broadcasts_a_smaller_map_is_not_joined():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(1, 1, name="conv")(inputs)
    y = layers.Conv2D(5, 1, name="wide")(inputs)
    maps = profile(keras.Model(inputs, x * y))
    assert maps[maps.outputs[0]].home == "wide"
    assert [item.size_bytes for item in maps.live_sets] == [16 * 3, 16 * 8, 16 * 6]


def test_silu_is_a_gate_beside_its_input_and_a_product():
    maps = of(layers.Conv2D(8, 1, activation="silu", name="conv"), shape=(4, 4, 2))
    assert live(maps) == {
        "conv": 4 * 4 * 2 + 4 * 4 * 8,
        "conv:sigmoid": 2 * 4 * 4 * 8,
        "conv:multiply": 2 * 4 * 4 * 8,
    }


@pytest.mark.parametrize("activation", ["relu", "relu6", "sigmoid", "tanh", "hard_silu", "softmax"])
def test_activation_that_runs_in_place_makes_one_map(activation):
    maps = of(layers.Conv2D(8, 1, activation=activation, name="conv"), shape=(4, 4, 2))
    assert live(maps) == {"conv": 4 * 4 * 2 + 4 * 4 * 8}


def test_separable_convolution_has_a_map_inside():
    maps = of(
        layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, name="sep"),
        shape=(4, 4, 3),
    )
    assert maps["sep:depthwise"].shape == (4, 4, 6)
    assert live(maps) == {"sep:depthwise": 16 * (3 + 6), "sep": 16 * (6 + 6)}


def test_bottleneck_stores_its_code():
    maps = of(ProjectionBottleneck(2, name="b"), shape=(4, 4, 8))
    assert maps["b:code"].size_bytes == 4 * 4 * 2
    assert live(maps) == {"b:P": 16 * (8 + 2), "b": 16 * (2 + 8)}


def test_raw_operations_are_modelled_like_layers():
    inputs = keras.Input((4, 4, 2), name="x")
    a = layers.Conv2D(2, 1, name="a")(inputs)
    b = layers.Conv2D(2, 1, name="b")(a)
    maps = profile(keras.Model(inputs, keras.ops.relu(a + b) * 2.0))
    assert [item.storage for item in maps.maps[-3:]] == [
        Storage.FUSED,
        Storage.IN_PLACE,
        Storage.STORED,  # The factor at the output is an operator of its own.
    ]
    assert maps.peak_bytes == 2 * 32
    assert maps.unmodelled == ()


def test_what_has_no_int8_form_is_refused():
    inputs = keras.Input((5,), dtype="int32", name="ids")
    model = keras.Model(inputs, layers.Embedding(10, 3, name="embed")(inputs))
    with pytest.raises(BadInputError, match="input 'ids' of the model is no float32 tensor"):
        profile(model)


def test_outputs_live_to_the_end():
    sizes = {"x": 4, "early": 100, "mid": 5, "late": 3}
    maps = FeatureMaps.from_operators(
        "m",
        [(name, (size,), size) for name, size in sizes.items()],
        [
            MapOperator("a", "Dense", ("x",), ("early",)),
            MapOperator("b", "Dense", ("x",), ("mid",)),
            MapOperator("c", "Dense", ("mid",), ("late",)),
        ],
        inputs=("x",),
        outputs=("early", "late"),
    )
    assert live(maps) == {"a": 4 + 100, "b": 4 + 100 + 5, "c": 100 + 5 + 3}


def brute_force(sizes, operators, inputs, outputs) -> list[int]:
    """Live bytes by looking, for each operator, for a use at or after it of what exists."""
    totals = []
    for index in range(len(operators)):
        exists = set(inputs).union(*(operator.outputs for operator in operators[: index + 1]))
        later = set(outputs).union(*(operator.inputs for operator in operators[index:]))
        needed = exists & (later | set(operators[index].outputs))
        totals.append(sum(sizes[name] for name in needed))
    return totals


@pytest.mark.parametrize("seed", range(25))
def test_live_sets_equal_brute_force_on_random_graphs(seed):
    rng = random.Random(seed)
    names = ["m0"]
    operators = []
    for index in range(1, 13):
        sources = tuple(rng.sample(names, rng.randint(1, min(3, len(names)))))
        operators.append(MapOperator(f"op{index}", "Op", sources, (f"m{index}",)))
        names.append(f"m{index}")
    sizes = {name: rng.randint(1, 100) for name in names}
    outputs = ("m12", rng.choice(names[1:]))
    maps = FeatureMaps.from_operators(
        "random",
        [(name, (size,), size) for name, size in sizes.items()],
        operators,
        inputs=("m0",),
        outputs=outputs,
    )
    expected = brute_force(sizes, operators, ("m0",), outputs)
    assert [item.size_bytes for item in maps.live_sets] == expected
    assert maps.peak_bytes == max(expected)
    assert maps.peak_operators == tuple(
        operator.name
        for operator, size in zip(operators, expected, strict=True)
        if size == max(expected)
    )


def test_codes_have_memory_of_their_own():
    """x → a → add(x, a) in place of x; with codes for x nothing can be made in its place."""
    sizes = {"x": 100, "a": 100, "sum": 100}
    maps = FeatureMaps.from_operators(
        "m",
        [(name, (size,), size) for name, size in sizes.items()],
        [
            MapOperator("conv", "Conv", ("x",), ("a",)),
            MapOperator("add", "Add", ("x", "a"), ("sum",), Effect.ELEMENTWISE),
        ],
        inputs=("x",),
        outputs=("sum",),
    )
    assert [item.size_bytes for item in maps.live_sets] == [200, 200]
    coded = maps.with_sizes({"x": 10})
    assert [item.size_bytes for item in coded.live_sets] == [110, 110]
    assert coded["sum"].home == "a"
    assert maps.with_sizes({"x": 10, "a": 10})["sum"].home == "sum"
    assert maps.with_sizes({"sum": 10}).live_sets[1].size_bytes == 210
    all_coded = maps.with_sizes({"x": 10, "a": 10, "sum": 10})
    assert [item.size_bytes for item in all_coded.live_sets] == [20, 30]
    assert maps.with_sizes({"x": 100, "a": 100})["sum"].home == "sum"
    assert maps.with_sizes({"sum": 100})["sum"].home == "sum"


def test_what_is_taken_apart_and_joined_again_stays_where_it_is():
    """Three rows of 4 bytes; joined in another order they are copied."""
    rows = [
        MapOperator(f"row{i}", "Slice", ("x",), (f"row{i}",), Effect.VIEW, 4 * i) for i in range(3)
    ]
    values = [("a", (12,), 12), ("x", (3, 4), 12), ("y", (3, 4), 12), ("z", (3, 4), 12)]
    values += [(f"row{i}", (4,), 4) for i in range(3)]
    for order, storage, peak in (("012", Storage.VIEW, 24), ("021", Storage.STORED, 24)):
        found = FeatureMaps.from_operators(
            "rows",
            values,
            [
                MapOperator("x", "Dense", ("a",), ("x",)),
                *rows,
                MapOperator("y", "Join", tuple(f"row{i}" for i in order), ("y",), Effect.JOIN),
                MapOperator("z", "Dense", ("y",), ("z",)),
            ],
            inputs=["a"],
            outputs=["z"],
        )
        assert (found["y"].storage, found.peak_bytes) == (storage, peak)
        assert found.live_sets[-2].size_bytes == (12 if storage is Storage.VIEW else 24)


def test_of_copies_that_are_joined_the_first_stands_in_its_place():
    found = FeatureMaps.from_operators(
        "tile",
        [("a", (7,), 7), ("x", (4,), 4), ("y", (12,), 12)],
        [
            MapOperator("x", "Dense", ("a",), ("x",)),
            MapOperator("y", "Join", ("x", "x", "x"), ("y",), Effect.JOIN),
        ],
        inputs=["a"],
        outputs=["y"],
    )
    assert (found["x"].storage, found["x"].home) == (Storage.VIEW, "y")
    assert [live.size_bytes for live in found.live_sets] == [7 + 4, 3 * 4]


def test_the_first_operator_does_not_overwrite_what_is_fed():
    """A buffer is there while the operator runs that reads it first."""
    values = [(name, (size,), size) for name, size in (("x", 8), ("y", 8), ("z", 2))]
    add = MapOperator("y", "Add", ("x",), ("y",), Effect.ELEMENTWISE)
    dense = MapOperator("z", "Dense", ("y",), ("z",))
    found = FeatureMaps.from_operators("add", values, [add, dense], inputs=["x"], outputs=["z"])
    assert found["y"].storage is Storage.STORED
    assert [live.size_bytes for live in found.live_sets] == [8 + 8, 8 + 2]
    dense = MapOperator("z", "Dense", ("x",), ("z",))
    found = FeatureMaps.from_operators(
        "add", values, [dense, add], inputs=["x"], outputs=["y", "z"]
    )
    assert found["y"].storage is Storage.IN_PLACE


def test_map_read_before_it_is_made_is_refused():
    with pytest.raises(BadInputError, match="operator 'a' reads 'y' before it is made"):
        FeatureMaps.from_operators(
            "m",
            [("x", (1,), 1), ("y", (1,), 1)],
            [MapOperator("a", "A", ("y",), ("x",))],
            inputs=(),
            outputs=("x",),
        )


@pytest.mark.long
@pytest.mark.parametrize(
    ("build", "maps", "peak"),
    [
        # Three maps a block; three downsampling branches; five padded copies; image, stem, its
        # pooling, mean, scores. The peak is the padding of the stem's output, 114 = 112 + 2.
        (zoo.resnet18, 8 * 3 + 3 + 5 + 5, (112**2 + 114**2) * 64),
        # Convolutions, poolings, image, scores.
        (zoo.vgg_bn, 13 + 5 + 2, 2 * 224**2 * 64),
        # The first expanded map, and what the depthwise convolution of stride 2, which pads by
        # itself, makes of it.
        (mobilenet_v2, None, (48**2 + 24**2) * 48),
        # Block input, block output and the narrow map between them.
        (lambda: keras.applications.ResNet50(weights=None), None, 56**2 * (256 + 256 + 64)),
    ],
)
def test_large_models_have_a_profile(build, maps, peak):
    found = profile(build())
    assert found.unmodelled == ()
    assert {item.storage for item in found.maps} >= {Storage.STORED, Storage.FUSED}
    assert found.peak_bytes == peak
    if maps is not None:
        assert len(found.kept) == maps


@pytest.mark.parametrize(
    ("file", "peak", "operators"),
    [
        ("pretrainedResnet.h5", 3 * 32 * 32 * 16, ("conv2d_2",)),
        ("vww_96.h5", 48 * 48 * 8 + 48 * 48 * 16, ("conv2d_1",)),
    ],
)
def test_profile_of_mlperf_tiny_files_meets_the_known_lower_bounds(file, peak, operators):
    maps = profile(shared_path(f"models/mlperf_tiny/{file}"))
    assert maps.peak_bytes == peak
    assert maps.peak_operators == operators


def test_nested_model_has_the_profile_of_the_flat_one():
    flat = zoo.small_cnn()
    inputs = keras.Input((16, 16, 3), name="image")
    nested = keras.Model(inputs, zoo.small_cnn()(inputs))
    assert [item.size_bytes for item in profile(nested).live_sets] == [
        item.size_bytes for item in profile(flat).live_sets
    ]


def test_text_and_dict_say_the_same():
    maps = profile(zoo.resnet8())
    data = json.loads(json.dumps(maps.to_dict()))
    assert data["peak_bytes"] == 49_152
    assert data["peak_operators"] == ["stage0_b_conv"]
    assert len(data["maps"]) == len(maps.maps)
    (entry,) = (item for item in data["maps"] if item["name"] == "stage0_relu")
    assert entry == {
        "name": "stage0_relu",
        "shape": [32, 32, 16],
        "bytes": 16_384,
        "storage": "in place",
        "home": "stem_relu",
        "producer": "stage0_add",
        "consumers": ["stage1_a_conv", "stage1_skip_conv"],
    }
    text = maps.to_text()
    assert "peak (*): 49,152 B at stage0_b_conv" in text
    (line,) = (line for line in text.splitlines() if line.startswith("stage0_relu "))
    assert [part.strip() for part in line.split("  ") if part] == [
        "stage0_relu",
        "32x32x16",
        "16,384",
        "in place (stem_relu)",
        "stage0_add",
        "stage1_a_conv, stage1_skip_conv",
    ]
    assert text == profile(zoo.resnet8()).to_text()


def test_unknown_input_size_is_refused_with_the_remedy():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="a")])
    with pytest.raises(BadInputError, match=r"has no fixed size.*\n.*fixed input shape"):
        profile(model)


def test_subclassed_model_is_refused():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedModelError, match="subclassed"):
        profile(Mine())


@pytest.mark.parametrize("name", ["Add", "Subtract", "Multiply", "Maximum", "Minimum"])
def test_what_the_runtime_runs_in_place_keras_maps_do_too(name: str) -> None:
    layer = getattr(layers, name)
    row = OPERATORS[{"Subtract": "SUB", "Multiply": "MUL"}.get(name, name.upper())]
    assert (TABLE[layer].effect is Effect.ELEMENTWISE) == row.in_place


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
