"""Arenas of the MLPerf Tiny models: TFLM's own plan, ours, ours with strips; `make bench-mlperf`.

Every plan is run in the tflite_micro wheel at exactly the predicted size before it is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from deploy import pipeline  # noqa: E402
from deploy.report.report import Report  # noqa: E402
from deploy.runtime import tflm  # noqa: E402
from keras_fmc.errors import VerificationError  # noqa: E402

MODELS = {
    "ResNet-8": "pretrainedResnet_quant",
    "VWW": "vww_96_int8",
    "KWS": "kws_ref_model",
    "AD": "ad01_int8",
}


def planned(path: Path, **settings: object) -> Report:
    """Plans a model and insists that it ran at the predicted size, outputs unchanged."""
    report = pipeline.plan(path, **settings).report
    if report.verified_arena_bytes != report.predicted_arena_bytes_wheel or not report.bit_exact:
        raise VerificationError(
            f"{path.name} did not run at the predicted size",
            expected=report.predicted_arena_bytes_wheel,
            received=report.verified_arena_bytes,
        )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = _ROOT.parent / "shared" / "models" / "mlperf_tiny"
    parser.add_argument("--models", type=Path, default=default, help="folder of the .tflite files")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, ",
        end="",
    )
    print(f"tflite_micro {tflm.version()}. Bytes; arena = N of uint8_t tensor_arena[N].\n")
    print("In the wheel (x86-64, reference kernels); the arena is the smallest that ran:\n")
    print(
        "| model | TFLM head | TFLM arena | plan: head | plan: arena | strips: head | "
        "strips: arena | MACs | strips, --minimise=head: head | MACs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, stem in MODELS.items():
        path = arguments.models / f"{stem}.tflite"
        plain = planned(path, strips=False)
        strips = planned(path)
        head = planned(path, minimise="head")
        base = plain.baseline
        assert base is not None
        print(
            f"| {name} | {base.head_bytes:,} | {base.verified_arena_bytes:,} "
            f"| {plain.head_bytes:,} | {plain.verified_arena_bytes:,} "
            f"| {strips.head_bytes:,} | {strips.verified_arena_bytes:,} "
            f"| {strips.macs_ratio:.3f}x | {head.head_bytes:,} | {head.macs_ratio:.3f}x |",
            flush=True,
        )
    board = "nano33ble"
    print()
    for number, (name, stem) in enumerate(MODELS.items()):
        path = arguments.models / f"{stem}.tflite"
        plain, strips = planned(path, strips=False, board=board), planned(path, board=board)
        base = plain.baseline
        assert base is not None
        if not number:
            print(f"Predicted for {plain.core}, {plain.kernels}, {plain.runtime}:\n")
            print("| model | TFLM arena | plan | strips | of it tail | of it scratch | MACs |")
            print("|---|---|---|---|---|---|---|")
        print(
            f"| {name} | {base.arena_bytes:,} | {plain.arena_bytes:,} | {strips.arena_bytes:,} "
            f"| {strips.tail_bytes:,} | {strips.scratch_bytes:,} | {strips.macs_ratio:.3f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
