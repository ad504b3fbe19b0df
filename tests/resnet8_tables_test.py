"""The script of ResNet-8's tables: bytes of its arms, what counts as best, as lost, as reached."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import resnet8_cifar10
import resnet8_tables
import resnet8_training
from resnet8_arms import ARMS, BIT, HALF, LOW, QUARTER, Arm, Code
from resnet8_tables import Results
from resnet8_training import Stages
from walk import Data

import keras_fmc as fmc


@pytest.fixture(scope="module")
def maps():
    return resnet8_training.stored_maps(resnet8_cifar10.resnet8())


def test_every_map_of_the_network_is_there(maps):
    sizes = sorted(math.prod(shape) for shape in maps.values())
    assert sizes == [4_096] * 4 + [8_192] * 4 + [16_384] * 4


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.group}-{arm.name}")
def test_arms_keep_what_their_group_promises(arm, maps):
    specs = {spec.name: spec for spec in arm.specs(maps)}
    left = {
        name: specs[name].code_bytes if name in specs else math.prod(shape)
        for name, shape in maps.items()
    }
    values = sum(spec.size_bytes for spec in specs.values())
    bits = 8 * sum(spec.code_bytes for spec in specs.values())
    if arm.group in (HALF, QUARTER):
        assert max(left.values()) <= 16_384 // {HALF: 2, QUARTER: 4}[arm.group]
    elif arm.group == LOW:
        assert specs.keys() == maps.keys()
        assert bits <= 2.5 * values
    elif arm.group == BIT:
        assert len(specs) == 3
        assert bits == values
    else:
        assert not specs


def entry(arm: Arm, seed: int, validation: float, test: float, **more) -> dict:
    figures = {"name": arm.name, "group": arm.group, "seed": seed, "seconds": 60.0}
    return {**figures, "validation": validation, "test": test, "stored_bytes": 1, **more}


def arm_of(group: str, name: str) -> Arm:
    return next(arm for arm in ARMS if (arm.group, arm.name) == (group, name))


@pytest.fixture
def results(tmp_path) -> Results:
    plain = arm_of(HALF, "plain, 4 bits")
    projection = arm_of(HALF, "projection, 1/2 of C, 8 bits")
    entries = [
        {"name": "base", "group": "", "seed": 0, "seconds": 0, "validation": 0.9, "test": 0.8},
        entry(ARMS[0], 0, 0.90, 0.850),
        entry(ARMS[0], 1, 0.90, 0.870),
        # The better one in the test is the worse one in validation.
        entry(plain, 0, 0.88, 0.848, fitted_test=0.849, device_test=0.846),
        entry(plain, 1, 0.90, 0.868, fitted_test=0.868, device_test=0.868),
        entry(projection, 0, 0.87, 0.850),
        entry(arm_of(BIT, "plain, 1 bit"), 0, 0.70, 0.700),
        entry(arm_of(BIT, "projection 2x2, C of 4 bits"), 0, 0.71, 0.715),
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"about": "made up", "entries": entries}))
    return Results(str(path))


def test_the_best_code_is_that_of_validation_and_lost_is_counted_seed_by_seed(results):
    found = {what: (arm, value, reached) for what, arm, _, value, reached in
             resnet8_tables.figures(results)}  # fmt: skip
    assert found["half, best code"] == ("plain, 4 bits", pytest.approx(0.2), True)
    name = "projection, 1/2 of C, 8 bits"
    assert found["half, projection alone"] == (name, pytest.approx(0.0, abs=1e-9), True)
    ahead = found["1 bit a value, against plain QAT"]
    assert ahead == ("projection 2x2, C of 4 bits", pytest.approx(1.5), False)
    int8 = found["int8 on the device against the fitted float model"]
    assert int8 == ("half: plain, 4 bits", pytest.approx(0.15), True)
    assert len(found) == 4


def test_every_arm_that_ran_on_the_device_has_a_row(results):
    results.entries.append(entry(ARMS[1], 0, 0.9, 0.9, fitted_test=0.855, device_test=0.852))
    rows = [row for row in resnet8_tables.figures(results) if "device" in row[0]]
    assert [row[1] for row in rows] == ["int8", "half: plain, 4 bits"]
    assert rows[0][3:] == (pytest.approx(0.3), False)


def test_the_table_says_what_is_there(results, capsys):
    resnet8_tables.print_table(results)
    printed = capsys.readouterr().out
    assert "| half, best code | plain, 4 bits | 0.3 or less | 0.20 | yes |" in printed
    assert "| plain, 4 bits | 1" not in printed
    assert "| 0.20 ± 0.00 | 2 |" in printed
    assert "8 runs, 7 minutes of training" in printed


def tiny() -> tuple[keras.Model, Data]:
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = layers.ReLU(name="activation")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="tiny")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 255, (40, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, 40)
    return model, Data("noise", x[:24], y[:24], x[24:32], y[24:32], x[32:], y[32:])


@pytest.fixture
def stages(tmp_path) -> Stages:
    options = SimpleNamespace(out=str(tmp_path), epochs=[1, 1, 1], images=[24, 20], weights=None)
    return Stages(0, tiny()[1], options)


def test_an_arm_is_trained_quantised_and_run_once(stages, monkeypatch):
    base = tiny()[0]
    arm = Arm("plain, 4 bits", HALF, (Code(4),), device=True)
    found = stages.arm(arm, base)
    assert (found["map_bytes"], found["stored_bytes"]) == (16 * 16 * 8, 16 * 16 * 4)
    assert found["device_equal"]
    assert len(stages.data.x_train) == 20
    # The same figures again, without any training.
    monkeypatch.setattr(fmc, "finetune", None)
    assert stages.arm(arm, base) == found
    assert found["seconds"] > 0


def test_the_published_way_trains_nothing_but_the_bottlenecks(stages):
    base = tiny()[0]
    arm = Arm("published", HALF, (Code(None, 1 / 2),), published=True, quantised=False)
    found = stages.arm(arm, base)
    assert 0 <= found["test"] <= 1
    trained = fmc.load_model(stages.folder / "0-half_published-codes.keras")
    for layer in base.layers:
        for weight, kept in zip(
            layer.get_weights(), trained.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(weight, kept)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
