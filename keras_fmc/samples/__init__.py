"""Small models to try things on: one that ships with the package, others by address and checksum.

``python -m keras_fmc.samples NAME`` copies one into the current folder.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from keras_fmc.errors import BadInputError

CACHE_VARIABLE = "KERAS_FMC_CACHE"
"""Environment variable that names the folder of loaded models."""

_SHIPPED = Path(__file__).parent
_MLPERF_TINY = (
    "https://raw.githubusercontent.com/mlcommons/tiny/1afd2c9820f795965a6134facd0b4dfae41ef23f/"
    "benchmark/training/"
)
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """A model file.

    Attributes:
        about: what the model does, and where it comes from.
        address: where it is loaded from; None where it ships with the package.
        sha256: of its bytes.
    """

    about: str
    address: str | None
    sha256: str


SAMPLES = {
    "digits.tflite": Sample(
        "scikit-learn's digits at 32x32, three convolutions (docs/sample.py)",
        None,
        "8f7f41c1731f02642b2635b1a6d738cc2f8a8c10ad3a36629aad432d944c074a",
    ),
    "vww_96_int8.tflite": Sample(
        "person detection at 96x96, MLPerf Tiny (Apache-2.0)",
        _MLPERF_TINY + "visual_wake_words/trained_models/vww_96_int8.tflite",
        "597a384c8c2c8a1276f04702f25013b7838f2f814f1ca7c174d295b73e3d6b7b",
    ),
    "pretrainedResnet_quant.tflite": Sample(
        "ResNet-8 for CIFAR-10, MLPerf Tiny (Apache-2.0)",
        _MLPERF_TINY + "image_classification/trained_models/pretrainedResnet_quant.tflite",
        "3c002613d1b2475eb51dd78dfb85a546c8ae658dee71cf6ade43b022fe205415",
    ),
    "kws_ref_model.tflite": Sample(
        "keyword spotting, MLPerf Tiny (Apache-2.0)",
        _MLPERF_TINY + "keyword_spotting/trained_models/kws_ref_model.tflite",
        "aeea436800704fce17b17292e4412630ad856e9d777c044c64ef748a880bd0ae",
    ),
    "ad01_int8.tflite": Sample(
        "anomaly detection, MLPerf Tiny (Apache-2.0)",
        _MLPERF_TINY + "anomaly_detection/trained_models/ad01_int8.tflite",
        "87cf24194ef93d1d9b11a591d805526b98008e351655d29883c825c9c106ba24",
    ),
}
"""File name -> what it is."""


def sample_model(name: str) -> Path:
    """Returns the path of a sample model by its file name, loading it where need be.

    Loaded files are kept in the folder that ``KERAS_FMC_CACHE`` names, by default
    ``~/.cache/keras_fmc``.

    Raises:
        BadInputError: no such sample, its address cannot be reached, or what came is not the file
            that was expected.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise BadInputError(
            "no such sample model", expected=" or ".join(SAMPLES), received=repr(name)
        )
    if sample.address is None:
        _check(_SHIPPED / name, sample, (_SHIPPED / name).read_bytes())
        return _SHIPPED / name
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "keras_fmc")
    path = folder / name
    if path.exists():
        _check(path, sample, path.read_bytes())
        return path
    content = _load(sample.address)
    _check(sample.address, sample, content)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    return path


def _load(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            return answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise BadInputError(
            f"cannot load {address}",
            received=getattr(error, "reason", error),
            remedy=f"Load it by other means and put it into the folder that {CACHE_VARIABLE} "
            "names; digits.tflite ships with the package",
        ) from error


def _check(where: object, sample: Sample, content: bytes) -> None:
    received = hashlib.sha256(content).hexdigest()
    if received != sample.sha256:
        raise BadInputError(
            f"{where} is not the file it should be",
            expected=f"SHA-256 {sample.sha256}",
            received=received,
            remedy="Remove it and load it again",
        )
