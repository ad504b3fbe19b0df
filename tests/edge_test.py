"""An emitted model runs with tflite-runtime, in an environment of its own (numpy 1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import mlperf_tiny

from deploy import pipeline
from deploy.runtime import litert

PYTHON = Path(__file__).resolve().parent.parent / ".venv-edge" / "bin" / "python"

PROGRAM = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType

interpreter = Interpreter(
    model_path=sys.argv[1], experimental_op_resolver_type=OpResolverType.BUILTIN_REF
)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(sys.argv[2]))
interpreter.invoke()
np.save(sys.argv[3], interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="make .venv-edge/.ready builds the environment")
@pytest.mark.parametrize("name", ["kws_ref_model", "pretrainedResnet_quant"])
def test_the_emitted_model_runs_in_tflite_runtime(name: str, tmp_path: Path) -> None:
    result = pipeline.plan(mlperf_tiny(name), out=tmp_path, view_operators=True)
    port = result.report.inputs[0]
    sample = np.random.default_rng(3).integers(-128, 128, port.shape).astype(np.int8)
    np.save(tmp_path / "in.npy", sample)
    arguments = [tmp_path / "model.tflite", tmp_path / "in.npy", tmp_path / "out.npy"]
    subprocess.run([PYTHON, "-c", PROGRAM, *map(str, arguments)], check=True, timeout=120)
    expected = litert.run((tmp_path / "model.tflite").read_bytes(), [[sample]])[0][0]
    actual = np.load(tmp_path / "out.npy")
    # Softmax of different versions may round differently; facts: within 2 steps.
    assert np.abs(expected.astype(int) - actual.astype(int)).max() <= 2
    assert np.argmax(expected) == np.argmax(actual)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
