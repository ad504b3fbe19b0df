"""Plans with codes of fewer bits, of stride 2, over GF(2), and plain ones."""

from __future__ import annotations

import json
import sys

import keras
import pytest
import zoo
from keras import layers

from keras_fmc.choose.ceiling import choose_bottlenecks
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan, SkipReason
from keras_fmc.errors import BadInputError


def linear_cnn() -> keras.Model:
    """A map behind a ReLU, one without, one pooled, and a concatenation."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="rectified")(inputs)
    x = layers.MaxPooling2D(name="pooled")(x)
    x = layers.Conv2D(16, 3, padding="same", name="linear")(x)
    a = layers.Conv2D(8, 1, activation="relu", name="a")(x)
    b = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(x)
    x = layers.Concatenate(name="joined")([a, b])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(8, name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, name="out")(x), name="linear_cnn")


def reasons(plan: CompressionPlan) -> dict[str, SkipReason]:
    return {skip.name: skip.reason for skip in plan.skipped}


@pytest.mark.parametrize(
    ("options", "ranks", "bytes_"),
    [
        # 32×32×16: 5,000 B leave 4 bytes a position, with stride 2 (16×16) 19.
        ({"bits": 8}, 4, 32 * 32 * 4),
        ({"bits": None}, 4, 32 * 32 * 4),
        ({"bits": 6}, 4 * 8 // 6, 32 * 32 * 4),
        ({"bits": 4}, 8, 32 * 32 * 4),
        ({"bits": 2}, 16, 32 * 32 * 4),
        ({"bits": 1}, 16, 32 * 32 * 2),
        ({"bits": 4, "strides": 2}, 2 * 19, 16 * 16 * 19),
        ({"bits": 6, "strides": 2, "kernel_size": 3}, 19 * 8 // 6, 16 * 16 * 19),
        ({"bits": 1, "strides": 2}, 4 * 16, 16 * 16 * 8),
        ({"kind": "gf2", "bits": 4}, 32, 32 * 32 * 4),
        ({"kind": "gf2", "bits": 2}, 32, 32 * 32 * 4),
        ({"kind": "gf2", "bits": 8, "strides": 2}, 8 * 19, 16 * 16 * 19),
        ({"kind": "gf2", "bits": 2, "strides": 2}, 4 * 16 * 2, 16 * 16 * 16),
    ],
)
def test_what_fits_under_a_ceiling(options, ranks, bytes_):
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=5_000, **options)
    spec = plan["stem_relu"]
    assert (spec.rank, spec.code_bytes) == (ranks, bytes_)
    assert spec.strides == options.get("strides", 1)
    assert spec.kernel_size == options.get("kernel_size", spec.strides)
    assert spec.stored_shape == (32 // spec.strides, 32 // spec.strides, ranks)
    assert all(spec.code_bytes <= 5_000 for spec in plan.bottlenecks)


def test_bytes_that_are_filled_in_part_are_counted_and_said():
    spec = BottleneckSpec("x", (7, 5, 16), 3, bits=6, strides=2, kernel_size=2)
    assert spec.position_bits == 18
    assert spec.spare_bits == 6
    assert spec.code_bytes == 4 * 3 * 3
    assert spec.to_text() == (
        "x  7x5x16  16 -> 3 of 6 bits, 2x2 stride 2  560 -> 36 B (6 spare bits a position)"
    )
    full = BottleneckSpec("x", (8, 8, 16), 4, bits=6)
    assert (full.spare_bits, full.code_bytes) == (0, 64 * 3)
    assert "spare" not in full.to_text()


def test_plain_codes_keep_all_channels_of_the_maps_above_the_ceiling():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=0.5, kind="plain", bits=4)
    same = choose_bottlenecks(zoo.resnet8(), ceiling=0.5)
    assert [s.name for s in plan.bottlenecks] == [s.name for s in same.bottlenecks]
    for spec in plan.bottlenecks:
        assert (spec.rank, spec.kind) == (spec.shape[-1], BottleneckKind.PLAIN)
        assert spec.code_bytes == spec.size_bytes // 2
    assert plan.head_bytes == same.head_bytes


def test_a_plain_code_that_does_not_fit_names_the_lowest_ceiling():
    with pytest.raises(
        BadInputError,
        match=r"5,000 B has no room for map 'stem_relu' \(32x32x16\) in 4 bits; expected at least "
        r"8,192 B, 8 B a position",
    ):
        choose_bottlenecks(zoo.resnet8(), ceiling=5_000, kind="plain", bits=4)
    assert choose_bottlenecks(zoo.resnet8(), ceiling=8_192, kind="plain", bits=4).bottlenecks


def test_signed_codes_are_picked_where_a_map_can_be_negative():
    for kind, bits in (("gf2", 4), ("plain", 4)):
        plan = choose_bottlenecks(linear_cnn(), ceiling=1023, kind=kind, bits=bits,
                                  eligible=lambda item: item.name != "rectified")  # fmt: skip
        signed = {spec.name: spec.signed for spec in plan.bottlenecks}
        assert signed == {"linear": True, "joined": False}
        lines = [line for line in plan.to_text().splitlines() if ", signed" in line]
        assert [line.split()[0] for line in lines] == ["linear"]
    projections = choose_bottlenecks(linear_cnn(), ceiling=512)
    assert not any(spec.signed for spec in projections.bottlenecks)


def test_no_plain_code_of_one_bit_for_a_signed_map():
    plan = choose_bottlenecks(linear_cnn(), ceiling=512, kind="plain", bits=1)
    assert reasons(plan)["linear"] is SkipReason.SIGNED
    with pytest.raises(BadInputError, match="of one bit for map 'x', which can be negative"):
        BottleneckSpec("x", (4, 4, 8), 8, bits=1, kind=BottleneckKind.PLAIN, signed=True)


def test_codes_pass_pooling_and_concatenation():
    plan = choose_bottlenecks(linear_cnn(), ceiling=511, kind="plain", bits=1,
                              eligible=lambda item: item.name != "mean")  # fmt: skip
    found = reasons(plan)
    assert found["pooled"] is SkipReason.POOLED
    assert found["a"] is found["b"] is SkipReason.JOINED
    assert [spec.name for spec in plan.bottlenecks] == ["rectified", "joined"]
    # linear (16 channels at 8x8) is signed and stays; a, b and the pooled map hold codes.
    assert plan.head_bytes == 8 * 8 * 16 + 8 * 8 + 8 * 8
    pair = choose_bottlenecks(linear_cnn(), ceiling=256, kind="gf2", bits=4)
    assert [s.name for s in pair.bottlenecks] == ["rectified", "pooled", "linear", "joined"]
    # A branch that is not joined under the ceiling has a code of its own.
    alone = choose_bottlenecks(linear_cnn(), ceiling=256, kind="plain", bits=2,
                               eligible=lambda item: item.name in ("a", "b"))  # fmt: skip
    assert [spec.name for spec in alone.bottlenecks] == ["a", "b"]


def test_vectors_have_projections_of_8_bits_only():
    eligible = choose_bottlenecks(linear_cnn(), ceiling=4, eligible=lambda m: m.name == "hidden")
    assert [spec.name for spec in eligible.bottlenecks] == ["hidden"]
    for options in ({"bits": 4}, {"strides": 2}, {"kind": "gf2"}, {"kind": "plain", "bits": 2}):
        plan = choose_bottlenecks(linear_cnn(), ceiling=1.0, **options)
        assert reasons(plan)["hidden"] is SkipReason.NOT_A_MAP


def test_padded_copies_are_codes_where_padding_commutes():
    inputs = keras.Input((8, 8, 3), name="x")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 3, strides=2, name="next")(x))
    plain = choose_bottlenecks(model, ceiling=8 * 8 * 8, kind="plain", bits=4)
    assert plain.head_bytes == 8 * 8 * 8 + 10 * 10 * 8
    # The padded copy of a map that is restored exists as strips, beside the code and the output.
    gf2 = choose_bottlenecks(model, ceiling=8 * 8 * 8, kind="gf2", bits=8)
    assert gf2.head_bytes == 8 * 8 * 8 + 8 * 8 * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "magic"}, "kind of the bottlenecks; expected 'projection' or 'gf2' or 'plain'"),
        ({"bits": 3}, "a projection bottleneck; expected bits of 8, 6, 4, 2, 1, None for float"),
        ({"kind": "gf2", "bits": 1}, "a gf2 bottleneck; expected bits of 8, 6, 4, 2; received 1"),
        ({"kind": "plain"}, "a plain bottleneck; expected bits of 6, 4, 2, 1; received 8"),
        ({"kind": "plain", "bits": 4, "strides": 2}, "plain codes keep every position"),
        ({"strides": 2, "kernel_size": 1}, "window of the bottlenecks; .*received 1 with 2"),
        ({"hidden": (8,)}, "hidden binary layers; expected kind='gf2'; received 'projection'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BadInputError, match=message):
        choose_bottlenecks(zoo.resnet8(), ceiling=0.5, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 2, "strides": 2, "kernel_size": 3},
        {"kind": "gf2", "bits": 4, "hidden": (24,)},
        {"kind": "plain", "bits": 4},
    ],
)
def test_plans_survive_json(options):
    plan = choose_bottlenecks(linear_cnn(), ceiling=1024, **options)
    assert plan.bottlenecks
    assert CompressionPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_plans_of_version_1_still_load():
    plan = choose_bottlenecks(zoo.resnet8(), ceiling=0.25)
    data = json.loads(json.dumps(plan.to_dict()))
    data["version"] = 1
    for item in data["bottlenecks"]:
        for key in ("strides", "kernel_size", "hidden", "signed"):
            del item[key]
    assert CompressionPlan.from_dict(data) == plan


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
