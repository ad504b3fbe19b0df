"""Choosing bottlenecks under a ceiling, and plans as data."""

from __future__ import annotations

import functools
import json
import sys

import keras
import pytest
import zoo
from keras import layers

from keras_fmc.choose.ceiling import choose_bottlenecks
from keras_fmc.choose.plan import BottleneckSpec, CompressionPlan, SkipReason
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.maps.feature_maps import profile

resnet18 = functools.cache(zoo.resnet18)
vgg = functools.cache(zoo.vgg_bn)


def ranks(plan: CompressionPlan) -> list[tuple[int, int]]:
    """(C, k) of every bottleneck."""
    return [(spec.shape[-1], spec.rank) for spec in plan.bottlenecks]


def reasons(plan: CompressionPlan) -> dict[str, SkipReason]:
    return {skip.name: skip.reason for skip in plan.skipped}


def test_resnet18_at_4x_as_the_paper_counts():
    plan = choose_bottlenecks(resnet18(), ceiling=1 / 4, eligible="paper")
    assert plan.ceiling_bytes == 56 * 56 * 64 // 4
    assert ranks(plan) == [(64, 16)] * 5 + [(128, 64)] * 4
    assert [spec.name for spec in plan.bottlenecks] == [
        "stem_pool",
        "layer1_0_relu1",
        "layer1_0_relu2",
        "layer1_1_relu1",
        "layer1_1_relu2",
        "layer2_0_relu1",
        "layer2_0_relu2",
        "layer2_1_relu1",
        "layer2_1_relu2",
    ]
    assert reasons(plan)["stem_relu"] is SkipReason.NOT_ELIGIBLE
    assert reasons(plan)["layer1_0_bn2"] is SkipReason.NOT_ELIGIBLE


@pytest.mark.long
def test_vgg16_at_6x_as_the_paper_counts():
    plan = choose_bottlenecks(vgg(zoo.VGG16), ceiling=1 / 6, eligible="paper")
    assert plan.ceiling_bytes == 224 * 224 * 64 // 6
    assert [spec.rank for spec in plan.bottlenecks] == [10, 42, 42, 170, 170]
    assert plan.bottlenecks[1].name == "block1_pool"


@pytest.mark.long
def test_vgg19_at_8x_as_the_paper_counts():
    plan = choose_bottlenecks(vgg(zoo.VGG19), ceiling=1 / 8, eligible="paper")
    assert [spec.rank for spec in plan.bottlenecks] == [8, 32, 32, 128, 128, 128]


def test_all_stored_maps_count_by_default_the_stem_among_them():
    ceiling = 56 * 56 * 64 // 4
    plan = choose_bottlenecks(resnet18(), ceiling=ceiling)
    assert plan["stem_relu"].rank == 56 * 56 * 16 // (112 * 112) == 4
    assert plan["layer1_0_bn2"].rank == 16  # the branch on its way to the addition
    assert plan["layer2_0_downsample_bn"].rank == 64
    # The stem; its pooling; in stage 1 three maps a block, in stage 2 a shortcut as well.
    assert len(plan.bottlenecks) == 1 + 1 + 2 * 3 + 2 * 3 + 1
    stored = {item.name: item for item in profile(resnet18()).kept}
    assert set(stored) == {spec.name for spec in plan.bottlenecks} | set(reasons(plan))
    above = {
        name: reason for name, reason in reasons(plan).items() if stored[name].size_bytes > ceiling
    }
    assert set(above.values()) == {SkipReason.MODEL_INPUT, SkipReason.PADDED_COPY}


def test_fraction_is_of_the_largest_eligible_map():
    assert choose_bottlenecks(resnet18(), ceiling=0.25).ceiling_bytes == 112 * 112 * 64 // 4


def test_maps_that_only_pooling_reads_can_be_left_out():
    plan = choose_bottlenecks(vgg(zoo.VGG16), ceiling="512KB", eligible="unpooled")
    assert plan.ceiling_bytes == 524_288
    assert reasons(plan)["block1_2_relu"] is SkipReason.NOT_ELIGIBLE
    assert {"block1_1_relu", "block1_pool"} <= {spec.name for spec in plan.bottlenecks}
    everything = choose_bottlenecks(vgg(zoo.VGG16), ceiling="512KB")
    assert {spec.name for spec in everything.bottlenecks} == {
        spec.name for spec in plan.bottlenecks
    } | {"block1_2_relu", "block2_2_relu", "block3_3_relu"}


@pytest.mark.parametrize("ceiling", [5_000, 8_192, "8KB", "8KiB", 0.3, 16_384])
def test_codes_fit_under_the_ceiling_and_no_rank_is_smaller_than_it_must_be(ceiling):
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=ceiling)
    stored = {item.name: item.size_bytes for item in profile(zoo.resnet8()).kept}
    for spec in plan.bottlenecks:
        positions = spec.shape[0] * spec.shape[1]
        assert spec.size_bytes == stored[spec.name] > plan.ceiling_bytes
        assert spec.code_bytes == positions * spec.rank <= plan.ceiling_bytes
        assert positions * (spec.rank + 1) > plan.ceiling_bytes
    below = {name for name, reason in reasons(plan).items() if reason is SkipReason.BELOW_CEILING}
    assert all(stored[name] <= plan.ceiling_bytes for name in below)


def test_ceiling_of_the_largest_map_needs_no_bottleneck():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=1.0)
    assert plan.bottlenecks == ()
    assert plan.head_bytes == plan.uncompressed_head_bytes == 49_152


def test_predicted_head_counts_codes_instead_of_maps():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=0.5)
    # Skip, branch and branch output at the second convolution, each 8 of 16 channels.
    assert plan.head_bytes == 3 * 32 * 32 * 8
    assert plan.uncompressed_head_bytes == 3 * 32 * 32 * 16


def test_eligible_function_chooses_maps():
    plan = choose_bottlenecks(
        zoo.resnet8(), ceiling=8_192, eligible=lambda item: item.name == "stage0_relu"
    )
    assert [spec.name for spec in plan.bottlenecks] == ["stage0_relu"]


def test_padded_copies_follow_the_map_that_is_padded():
    inputs = keras.Input((8, 8, 3), name="x")
    x = layers.Conv2D(16, 3, padding="same", name="conv")(inputs)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 3, strides=2, name="next")(x))
    plan = choose_bottlenecks(model, ceiling=8 * 8 * 4)
    assert [(spec.name, spec.rank) for spec in plan.bottlenecks] == [("conv", 4)]
    assert reasons(plan)["pad"] is SkipReason.PADDED_COPY
    assert plan.head_bytes == 8 * 8 * 4 + 10 * 10 * 4
    counted = choose_bottlenecks(model, ceiling=8 * 8 * 4, eligible="paper")
    assert counted.bottlenecks == plan.bottlenecks


def test_what_cannot_have_a_bottleneck_is_listed_with_the_reason():
    inputs = keras.Input((8, 8, 3), name="x")
    x = layers.SeparableConv2D(16, 3, padding="same", name="sep")(inputs)
    x = layers.Conv2D(16, 1, name="out")(x)
    outputs = layers.Reshape((64, 16), name="reshape")(x)
    plan = choose_bottlenecks(keras.Model(inputs, outputs), ceiling=64)
    assert [spec.name for spec in plan.bottlenecks] == ["sep"]
    assert reasons(plan) == {
        "x": SkipReason.MODEL_INPUT,
        "sep:depthwise": SkipReason.INSIDE_LAYER,
        "out": SkipReason.MODEL_OUTPUT,
    }


def test_channels_first_is_refused_at_once():
    inputs = keras.Input((3, 8, 8), name="x")
    x = layers.Conv2D(4, 1, data_format="channels_first", name="conv")(inputs)
    flat = layers.Flatten(name="flat")(x)
    whole = layers.Dense(8, name="dense")(flat)
    model = keras.Model(inputs, layers.Dense(2, name="out")(whole))
    with pytest.raises(UnsupportedModelError, match="'conv': it works with channels first"):
        choose_bottlenecks(model, ceiling=1)


def test_a_budget_is_refused_and_the_call_that_answers_it_is_named():
    with pytest.raises(BadInputError, match=r"knows no budget.*\n.*fmc\.fit_to\(model, .*'64KB'"):
        choose_bottlenecks(zoo.resnet8(), budget="64KB")


def test_ceiling_below_one_channel_names_the_lowest_that_works():
    with pytest.raises(
        BadInputError,
        match=r"1,023 B leaves no channel of map 'stem_relu' \(32x32x16\); expected at least "
        r"1,024 B",
    ):
        choose_bottlenecks(zoo.resnet8(), ceiling=1023)
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=1024)
    assert min(spec.rank for spec in plan.bottlenecks) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a ceiling"),
        ({"ceiling": 0.5, "budget": 100}, "knows no budget"),
        (
            {"ceiling": 1.5},
            r"fraction of the largest map; expected 0 < ceiling <= 1; received 1\.5",
        ),
        ({"ceiling": 0.0}, "fraction of the largest map"),
        ({"ceiling": -5}, "positive whole number of bytes"),
        ({"ceiling": "8 rooms"}, "not a size"),
        ({"ceiling": 0.5, "eligible": "all"}, "eligible maps; expected .*received 'all'"),
        ({"ceiling": 0.5, "bits": 5}, "bits of 8, 6, 4, 2, 1, None for float; received 5"),
        ({"ceiling": 0.5, "eligible": lambda item: False}, "no feature map of model 'resnet8'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(BadInputError, match=message):
        choose_bottlenecks(zoo.resnet8(), **arguments)


def test_plan_survives_json():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=0.25, bits=None)
    assert plan.bottlenecks
    assert plan.skipped
    assert CompressionPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.pop("ceiling_bytes"), "damaged compression plan; received KeyError"),
        (lambda data: data.update(version=3), "not a compression plan; expected version 1 or 2"),
        (
            lambda data: data["bottlenecks"][0].update(kind="magic"),
            "damaged compression plan.*'magic'",
        ),
        (lambda data: data["skipped"][0].update(reason="NO"), "damaged compression plan.*'NO'"),
    ],
)
def test_damaged_plan_is_refused(damage, message):
    data = choose_bottlenecks(zoo.resnet8(), ceiling=0.25).to_dict()
    damage(data)
    with pytest.raises(BadInputError, match=message):
        CompressionPlan.from_dict(data)


def test_plan_says_what_it_does():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=0.5)
    assert "stem_relu  32x32x16  16 -> 8  16,384 -> 8,192 B" in plan.to_text()
    assert plan["stem_relu"] == BottleneckSpec("stem_relu", (32, 32, 16), 8)
    with pytest.raises(KeyError):
        plan["image"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
