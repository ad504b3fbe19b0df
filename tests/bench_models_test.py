"""The script over a folder of models says of each what fmc plan makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import deploy
from deploy import flatbuffer
from deploy.report.report import Report
from deploy.runtime import tflm
from tests.int8_graphs import Int8GraphMaker

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.long
@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason()))
def test_planned_and_refused_models_stand_in_the_table(tmp_path: Path) -> None:
    make = Int8GraphMaker(0)
    content = flatbuffer.write(
        make.build(outputs=[make.conv(make.input((1, 6, 6, 3)), channels=4)])
    )
    (tmp_path / "models/inside").mkdir(parents=True)
    (tmp_path / "models/inside/small.tflite").write_bytes(content)
    (tmp_path / "models/half.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.tflite").write_bytes(content[:100])
    report: Report = deploy.plan(content, board="mps2an385", effort="quick").report
    folders = [str(tmp_path / "models"), str(tmp_path / "more")]
    script = [sys.executable, "benchmarks/bench_models.py", *folders]
    run = subprocess.run(
        [*script, "--board=mps2an385", "--effort=quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert lines[0] == "fmc plan --board mps2an385 --strips=true --effort=quick; bytes"
    own, ours = f"{report.baseline.arena_bytes:,}", f"{report.arena_bytes:,}"
    assert lines[4].startswith("| half.tflite |  |  | exit 2: half.tflite is truncated")
    assert lines[5] == f"| inside/small.tflite | {own} | {ours} | yes |"
    assert lines[6].startswith("| a.tflite |  |  | exit 2: a.tflite is truncated")
    assert lines[-1] == "1 of 3 planned"


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    script = [sys.executable, "benchmarks/bench_models.py", str(tmp_path)]
    run = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "no .tflite file in" in run.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
