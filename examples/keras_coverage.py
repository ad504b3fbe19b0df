"""Which Keras models get through, and where the others are refused: one line a model.

    python examples/keras_coverage.py --models models.py [--only NAME,…] [--again]

MODELS of the file maps a name to a function that builds a model; SCALE, where it is there, gives
the scale of the inputs of some. Each model goes the whole way: profile, bottlenecks, folding,
quantisation, a step of training, saving, conversion, and TensorFlow Lite Micro. Results are kept
in a JSON file and shown again; a model that is in it is left out on the next run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import to_int8_tflite
from deploy.ends import output_names
from deploy.graph import Graph
from deploy.profile import profile_graph
from deploy.runtime import tflm
from keras_fmc.choose.plan import BottleneckSpec, CompressionPlan
from keras_fmc.maps.feature_maps import Storage

COLUMNS = ("model", "result", "k = C", "profile", "names", "training", "levels off", "worst")
SAMPLES = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path, default=Path("out/keras_coverage.json"))
    parser.add_argument("--again", action="store_true", help="run what is in the results, too")
    options = parser.parse_args()
    module = _load(options.models)
    scales = getattr(module, "SCALE", {})
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    names = [name for name in options.only.split(",") if name] or list(module.MODELS)
    for name in names:
        if name in results and not options.again:
            continue
        started = time.process_time()
        results[name] = row(module.MODELS[name], scale=scales.get(name, 1.0))
        print(f"{name}: {results[name]['result']} ({time.process_time() - started:.0f} s)",
              file=sys.stderr)  # fmt: skip
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(results, indent=1) + "\n")
    print(table({name: results[name] for name in names}))
    return 0


def table(rows: dict[str, dict[str, str]]) -> str:
    """Returns the results as Markdown."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for name, found in rows.items():
        lines.append(" | ".join([name, *(found.get(column, "") for column in COLUMNS[1:])]))
    passed = sum(found["result"] == "whole way" for found in rows.values())
    text = "\n".join(f"| {line} |" for line in lines)
    return f"{text}\n\n{passed} of {len(rows)} go the whole way"


def row(build: Callable[[], keras.Model], *, scale: float = 1.0) -> dict[str, str]:
    """Takes one model the whole way; the fields are `COLUMNS`."""
    keras.utils.set_random_seed(1)
    model = with_random_weights(build())
    found: dict[str, str] = {}
    step = "check"
    try:
        fmc.check(model)
        step = "profile"
        maps = fmc.profile(model)
        x = random_inputs(model, scale)
        step = "insert"
        samples = x if len(x) > 1 else x[0]
        small = fmc.insert_bottlenecks(model, whole_plan(model), calibration=samples).model
        found["k = C"] = f"{difference(model, small, x):.0e}"
        step = "fold"
        folded = fmc.fold(model).model
        found["k = C"] += f", fold {difference(model, folded, x):.0e}"
        step = "quantize"
        qat = fmc.quantize(model, calibration=samples)
        step = "train"
        same = qat.output_names == _names(model)
        train(qat, x)
        step = "save"
        with tempfile.TemporaryDirectory() as folder:
            qat.save(f"{folder}/m.keras")
            own = {cls.__name__: cls for cls in type(qat).__mro__ if issubclass(cls, keras.Model)}
            loaded = keras.saving.load_model(f"{folder}/m.keras", custom_objects=own)
        assert difference(qat, loaded, x) == 0
        found["training"] = "yes" if same else "names"
        step = "device_rounding"
        rounded = fmc.device_rounding(loaded)
        step = "convert"
        content = to_int8_tflite(loaded)
        graph = flatbuffer.read(content)
        found["names"] = "yes" if _ends(graph) == _ends_of(model) else str(_ends(graph))
        mine, theirs = peaks(maps, graph)
        found["profile"] = "equal" if mine == theirs else f"{mine} of {theirs}"
        step = "run"
        off, worst = levels_off(rounded, graph, content, x)
        found["levels off"], found["worst"] = f"{off:.2%}", str(worst)
    except (fmc.UnsupportedModelError, fmc.BadInputError) as error:
        found["result"] = f"refused by {step}: {' '.join(str(error).split())}"
    except Exception as error:
        found["result"] = f"{type(error).__name__} in {step}: {str(error).splitlines()[0][:200]}"
    else:
        found["result"] = "whole way"
    return found


def with_random_weights(model: keras.Model) -> keras.Model:
    """Gives batch normalisation statistics, and biases values; a fresh model hides mistakes."""
    rng = np.random.default_rng(0)
    for weight in model.variables:
        values = np.asarray(weight)
        if weight.name in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(size=values.shape) * 0.2)
        elif weight.name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, values.shape))
    return model


def random_inputs(model: keras.Model, scale: float) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        (rng.normal(size=(SAMPLES, *tensor.shape[1:])) * scale).astype(np.float32)
        for tensor in model.inputs
    ]


def whole_plan(model: keras.Model) -> CompressionPlan:
    """A plan of projections with k = C and float codes for every map that can have one."""
    try:
        plan = fmc.choose_bottlenecks(model, ceiling=1.0)
    except fmc.BadInputError as error:
        if "can get a bottleneck" not in str(error):
            raise
        return CompressionPlan(model.name, 0, (), (), 0, 0)
    specs = tuple(
        BottleneckSpec(name=item.name, shape=item.shape, rank=item.shape[-1], bits=None)
        for item in plan.skipped
        if item.reason.name == "BELOW_CEILING"
    )
    return CompressionPlan(model.name, 0, specs, (), 0, 0)


def difference(one: keras.Model, other: keras.Model, x: list[np.ndarray]) -> float:
    """Largest difference of outputs, relative to the largest output."""
    pairs = zip(_outputs(one, x), _outputs(other, x), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs)


def train(model: keras.Model, x: list[np.ndarray]) -> None:
    """One step with a loss for each output, by name where these differ."""
    outputs = _outputs(model, x)
    inputs = keras.tree.pack_sequence_as(model.input, x)
    if len(set(model.output_names)) < len(outputs):
        model.compile(keras.optimizers.SGD(1e-3), loss="mse", jit_compile=False)
        model.fit(inputs, outputs, epochs=1, verbose=0)
        return
    targets = dict(zip(output_names(model), outputs, strict=True))
    names = list(targets)
    model.compile(keras.optimizers.SGD(1e-3), loss=dict.fromkeys(names, "mse"), jit_compile=False)
    model.fit(inputs, targets if len(names) > 1 else targets[names[0]], epochs=1, verbose=0)


def peaks(maps: Any, graph: Graph) -> tuple[list[int], list[int]]:
    """Bytes before and after conversion: the peak, then all maps with memory of their own."""
    theirs = profile_graph(graph, name="converted").maps
    return tuple(
        [
            found.peak_bytes,
            *sorted(item.size_bytes for item in found.maps if item.storage is Storage.STORED),
        ]
        for found in (maps, theirs)
    )  # type: ignore[return-value]


def levels_off(
    model: keras.Model, graph: Graph, content: bytes, x: list[np.ndarray]
) -> tuple[float, int]:
    """Share of int8 outputs that differ between the rounded model and TFLM, and by how much."""
    ends = [graph.tensors[index] for index in (*graph.inputs, *graph.outputs)]
    grids = [(e.quantization.scales[0], e.quantization.zero_points[0]) for e in ends]
    count = len(graph.inputs)
    codes = [_codes(a, *grid) for a, grid in zip(x, grids[:count], strict=True)]
    # What a code stands for is rounded to that code, wherever it is rounded.
    x = [
        (scale * (code.astype(np.float64) - zero_point)).astype(np.float32)
        for code, (scale, zero_point) in zip(codes, grids, strict=False)
    ]
    samples = [[array[i][None] for array in codes] for i in range(len(x[0]))]
    results = tflm.run(content, samples, arena_bytes=8 << 20, isolated=True)
    off, values, worst = 0, 0, 0
    for index, mine in enumerate(_outputs(model, x)):
        scale, zero_point = grids[count + index]
        theirs = np.concatenate([result[index] for result in results]).astype(int)
        gap = np.abs(np.rint(mine / scale).astype(int) + zero_point - theirs)
        off, values = off + int((gap > 0).sum()), values + gap.size
        worst = max(worst, int(gap.max()))
    return off / values, worst


def _codes(x: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return np.clip(np.floor(x / scale + 0.5) + zero_point, -128, 127).astype(np.int8)


def _outputs(model: keras.Model, x: list[np.ndarray]) -> list[np.ndarray]:
    functional = model._functional if isinstance(model, keras.Sequential) else model
    given = keras.tree.pack_sequence_as(functional._inputs_struct, x)
    return [np.asarray(out) for out in keras.tree.flatten(model(given, training=False))]


def _names(model: keras.Model) -> list[str]:
    functional = model._functional if isinstance(model, keras.Sequential) else model
    return list(functional.output_names)


def _ends(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (graph.tensors[i].name, graph.tensors[i].shape[1:]) for i in (*graph.inputs, *graph.outputs)
    ]


def _ends_of(model: keras.Model) -> list[tuple[str, tuple[int, ...]]]:
    functional = model._functional if isinstance(model, keras.Sequential) else model
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    names += output_names(functional)
    tensors = [*model.inputs, *model.outputs]
    return [(name, tuple(t.shape[1:])) for name, t in zip(names, tensors, strict=True)]


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("coverage_models", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
