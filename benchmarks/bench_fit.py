"""Does `fit_to` keep its promise: twelve kinds of small models, fitted, trained a step, converted.

    python benchmarks/bench_fit.py [--runtime c|tflm] [--only unet ...] [--results FILE]

For each kind the arena asked for is a part of what the model needs without bottlenecks. Printed are
that, what was asked, what the what-if plan predicted, and what the trained and converted model
needs; the exit status is 1 if one of them needs more than was asked or is more than 2% off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fit_models
import keras
import numpy as np

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import to_int8_tflite
from deploy.fit.estimate import Question, estimate
from deploy.passes.reference_versions import with_reference_versions
from deploy.settings import PlanSettings

CLOSE = 0.02


def needs(model: keras.Model, x: list[np.ndarray], settings: PlanSettings) -> int:
    """The arena of a model, planned in earnest."""
    graph = with_reference_versions(flatbuffer.read(to_int8_tflite(model, calibration=x)))
    return estimate(Question(graph, settings, 0, True, os.getpid())).arena_bytes


def trained(model: keras.Model, x: list[np.ndarray]) -> keras.Model:
    """One step of it."""
    outputs = model(x)
    targets = [np.zeros(o.shape, np.float32) for o in keras.tree.flatten(outputs)]
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.train_on_batch(x, targets if len(targets) > 1 else targets[0])
    return model


def measured(name: str, runtime: str, effort: str) -> dict[str, object]:
    make, share = fit_models.MODELS[name]
    keras.utils.set_random_seed(0)
    model = make()
    x = fit_models.samples(model, 12)
    settings = PlanSettings(runtime=runtime, effort=effort)
    whole = needs(model, x, settings)
    asked = int(share * whole) if runtime == "c" else int((1 + share) / 2 * whole)
    entry: dict[str, object] = {"model": name, "runtime": runtime, "whole": whole, "asked": asked}
    started = time.process_time()
    try:
        found = fmc.fit_to(
            model, calibration=x, arena_bytes=asked, runtime=runtime, effort=effort, jobs=1
        )
    except fmc.DoesNotFitError as error:
        return {**entry, "refused": str(error).splitlines()[0]}
    seconds = round(time.process_time() - started, 1)
    small = fmc.insert_bottlenecks(model, found.plan, calibration=x).model
    arena = needs(trained(small, x), x, settings)
    return {
        **entry,
        "predicted": found.predicted_arena_bytes,
        "converted": arena,
        "codes": [spec.to_text() for spec in found.plan.bottlenecks],
        "evaluations": found.evaluations,
        "cpu_seconds": seconds,
        "kept": arena <= asked and abs(found.predicted_arena_bytes - arena) <= CLOSE * arena,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtime", choices=["c", "tflm"], default="c")
    parser.add_argument("--only", nargs="+", choices=list(fit_models.MODELS))
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--results", help="a JSON file to add to")
    options = parser.parse_args()
    entries = []
    for name in options.only or fit_models.MODELS:
        entry = measured(name, options.runtime, options.effort)
        entries.append(entry)
        print(json.dumps(entry), flush=True)
        if options.results:
            path = Path(options.results)
            before = json.loads(path.read_text()) if path.exists() else []
            path.write_text(json.dumps([*before, entry], indent=1) + "\n")
    refused = [entry["model"] for entry in entries if "refused" in entry]
    broken = [entry["model"] for entry in entries if not entry.get("kept", True)]
    print(
        f"{len(entries) - len(refused)} of {len(entries)} fitted, {len(broken)} promises broken "
        f"{broken}, not fitted: {refused}; {platform.machine()}, {os.cpu_count()} cores"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
