"""Sample models: shipped, loaded by address and checksum, and refused when they are not right."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from keras_fmc import samples
from keras_fmc.errors import BadInputError
from keras_fmc.samples.__main__ import main

CONTENT = b"a model"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sample called far.tflite at an address that is a file of this machine."""
    path = tmp_path / "far" / "far.tflite"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    checksum = hashlib.sha256(CONTENT).hexdigest()
    sample = samples.Sample("far away", path.as_uri(), checksum)
    monkeypatch.setitem(samples.SAMPLES, "far.tflite", sample)
    monkeypatch.setenv(samples.CACHE_VARIABLE, str(tmp_path / "cache"))
    return path


def test_the_shipped_model_is_the_one_that_is_expected() -> None:
    path = samples.sample_model("digits.tflite")
    content = path.read_bytes()
    assert content[4:8] == b"TFL3"
    assert hashlib.sha256(content).hexdigest() == samples.SAMPLES["digits.tflite"].sha256


def test_a_model_is_loaded_once(remote: Path, tmp_path: Path) -> None:
    path = samples.sample_model("far.tflite")
    assert path == tmp_path / "cache" / "far.tflite"
    remote.unlink()
    assert samples.sample_model("far.tflite").read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["far.tflite"]


def test_what_cannot_be_reached_is_named_with_a_remedy(remote: Path, tmp_path: Path) -> None:
    remote.unlink()
    with pytest.raises(BadInputError, match=r"cannot load file://.*far\.tflite") as error:
        samples.sample_model("far.tflite")
    assert samples.CACHE_VARIABLE in str(error.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", [n for n, s in samples.SAMPLES.items() if s.address])
def test_an_address_is_told_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(address: str, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(samples.urllib.request, "urlopen", unreachable)
    monkeypatch.setenv(samples.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(BadInputError, match="no route to host") as error:
        samples.sample_model(name)
    assert f" {samples.SAMPLES[name].address};" in str(error.value)


def test_other_bytes_are_refused_and_not_kept(remote: Path, tmp_path: Path) -> None:
    remote.write_bytes(b"another")
    with pytest.raises(BadInputError, match="is not the file it should be; expected SHA-256"):
        samples.sample_model("far.tflite")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_copy_is_refused(remote: Path) -> None:
    path = samples.sample_model("far.tflite")
    path.write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="is not the file it should be"):
        samples.sample_model("far.tflite")


def test_the_program_copies_lists_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(
        samples.SAMPLES
    )
    assert main(["digits.tflite"]) == 0
    assert (tmp_path / "digits.tflite").read_bytes()[4:8] == b"TFL3"
    assert main(["nothing.tflite"]) == 2
    assert "no such sample model" in capsys.readouterr().err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
