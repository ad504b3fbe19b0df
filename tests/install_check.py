"""Installs the built wheel into an empty environment, without Keras, and plans a model there.

    python tests/install_check.py _build/dist/keras_fmc-0.1.0-py3-none-any.whl

The model is made here with the builders of the tests; the new environment sees nothing of the
repository. Prints what it did; any step that fails ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from int8_graphs import Int8GraphMaker  # noqa: E402

from deploy import flatbuffer  # noqa: E402


def check(wheel: Path, folder: Path) -> None:
    """Installs ``wheel`` below ``folder`` and runs its command there."""
    make = Int8GraphMaker()
    x = make.conv(make.input((1, 16, 16, 3)), channels=8, kernel=(3, 3))
    graph = make.build(outputs=[make.mean(x)])
    (folder / "model.tflite").write_bytes(flatbuffer.write(graph))
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    run(folder, programs / "python", "-m", "pip", "install", "--quiet", wheel.resolve())
    installed = run(folder, programs / "python", "-m", "pip", "list", "--format=freeze")
    assert "tensorflow==" not in installed
    assert "keras==" not in installed
    plan = ("plan", "model.tflite", "--board", "nano33ble", "--out", "built")
    print(run(folder, programs / "fmc", *plan).splitlines()[0])
    print(run(folder, programs / "fmc", "verify", "built").strip())
    sample = run(folder, programs / "python", "-m", "keras_fmc.samples", "digits.tflite")
    print(f"sample model: {sample.strip()}, {(folder / 'digits.tflite').stat().st_size:,} bytes")
    report = json.loads((folder / "built" / "report.json").read_text())
    assert report["verified"], report["verified_reason"]


def run(folder: Path, *command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        check(Path(sys.argv[1]), Path(temporary))
