"""``python -m keras_fmc.samples NAME ...``: copies sample models into the current folder."""

from __future__ import annotations

import shutil
import sys

from keras_fmc.errors import FmcError
from keras_fmc.samples import SAMPLES, sample_model


def main(names: list[str]) -> int:
    """Copies the named samples, or lists them all; returns the exit status."""
    if not names:
        for name, sample in SAMPLES.items():
            print(f"{name:<30} {sample.about}")
        return 0
    try:
        for name in names:
            shutil.copyfile(sample_model(name), name)
            print(name)
    except FmcError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
