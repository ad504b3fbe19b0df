"""Installs the built wheel into an empty environment, without Keras, and plans a model there.

    python tests/install_check.py _build/dist/keras_fmc-0.1.0-py3-none-any.whl

An environment for each version of Python that ``setup.py`` names and this machine has, found in
``PATH`` or below ``PYENV_ROOT``. The model is made here with the builders of the tests; the new
environments see nothing of the repository. Prints what it did; any step that fails ends it, and so
does a plan that is another one than that of the first version.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from int8_graphs import Int8GraphMaker  # noqa: E402

from deploy import flatbuffer  # noqa: E402


def versions() -> list[str]:
    """Returns the versions of Python that setup.py names, such as 3.11."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def interpreter(version: str) -> str | None:
    """Returns a Python of a version that runs; a shim that leads nowhere does not."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [shutil.which(name), *sorted(pyenv.glob(f"{version}.*/bin/{name}"), reverse=True)]
    for place in filter(None, places):
        asked = [str(place), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return str(place)
    return None


def check(python: str, wheel: Path, folder: Path) -> bytes:
    """Installs ``wheel`` below ``folder``, runs its command there and returns the planned model."""
    make = Int8GraphMaker()
    x = make.conv(make.input((1, 16, 16, 3)), channels=8, kernel=(3, 3))
    graph = make.build(outputs=[make.mean(x)])
    (folder / "model.tflite").write_bytes(flatbuffer.write(graph))
    run(folder, python, "-m", "venv", "env")
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
    return (folder / "built" / "model.tflite").read_bytes()


def check_all(wheel: Path) -> None:
    """Checks every version that this machine has; one at least."""
    planned: dict[str, bytes] = {}
    for version in versions():
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not on this machine")
            continue
        print(f"Python {version}:")
        with tempfile.TemporaryDirectory() as temporary:
            planned[version] = check(python, wheel, Path(temporary))
    assert planned, f"none of Python {', '.join(versions())} is here"
    assert len(set(planned.values())) == 1, f"other plans in {', '.join(planned)}"


def run(folder: Path, *command: object) -> str:
    words = [str(part) for part in command]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    check_all(Path(sys.argv[1]))
