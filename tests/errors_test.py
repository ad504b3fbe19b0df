"""Errors and sizes as users meet them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from keras_fmc.errors import BadInputError, DoesNotFitError, FmcError, VerificationError
from keras_fmc.sizes import parse_size


def test_an_error_says_what_expected_received_and_remedy() -> None:
    error = BadInputError("k is too small", expected="k >= 1", received=0, remedy="Raise it")
    assert str(error) == "k is too small; expected k >= 1; received 0.\nRaise it."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_exit_codes_are_those_of_the_command_line() -> None:
    codes = [
        e("x").exit_code for e in (FmcError, BadInputError, DoesNotFitError, VerificationError)
    ]
    assert codes == [2, 2, 1, 3]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        (65536, 65536),
        ("64KB", 64 * 1024),
        ("64KiB", 64 * 1024),
        ("64 kb", 64 * 1024),
        ("1.5MB", 3 * 512 * 1024),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "64 furlongs", "-5", "0", "0.3", True, None, "1e400"])
def test_other_sizes_are_refused(text: object) -> None:
    with pytest.raises(BadInputError, match="size"):
        parse_size(text)  # type: ignore[arg-type]


def test_importing_the_packages_is_light() -> None:
    code = (
        "import sys, keras_fmc, deploy, deploy.pipeline, deploy.cli;"
        "heavy = {'tensorflow', 'keras', 'ortools', 'numba', 'scipy', 'tqdm'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_a_public_function_keeps_its_name_from_the_submodule() -> None:
    code = (
        "import keras_fmc.fold, deploy.convert, keras_fmc, deploy;"
        "from keras_fmc.fold import fold;"
        "assert keras_fmc.fold is fold, keras_fmc.fold;"
        "from deploy.pipeline import convert;"
        "assert deploy.convert is convert, deploy.convert;"
        "assert 'insert_bottlenecks' in dir(keras_fmc);"
        "print(getattr(deploy, 'missing', 'none'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


@pytest.mark.long
def test_importing_the_package_beside_keras_is_enough_to_load_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    save = (
        "import keras, keras_fmc;"
        "i = keras.Input((4, 4, 8));"
        "keras.Model(i, keras_fmc.ProjectionBottleneck(2)(i)).save({!r})"
    )
    load = "import keras, keras_fmc; print(keras.saving.load_model({!r}).layers[-1].rank)"
    other = "import keras_fmc; print(keras_fmc.load_model({!r}).layers[-1].rank)"
    without = "import keras; keras.saving.load_model({!r})"
    done = [
        subprocess.run(
            [sys.executable, "-c", code.format(str(path))],
            capture_output=True,
            text=True,
            check=False,
        )
        for code in (save, load, other, without)
    ]
    assert [d.returncode for d in done] == [0, 0, 0, 1]
    assert done[1].stdout.strip() == done[2].stdout.strip() == "2"
    # Keras' own error names what has to be imported.
    assert "keras_fmc.layers.projection" in done[3].stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
