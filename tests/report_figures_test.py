"""Every key of report.json means what its definition says: recomputed from the files alone."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from code_graphs import skip_graph

from deploy import flatbuffer, pipeline
from deploy.backends.c.build import generate
from deploy.graph import Graph
from deploy.passes import run_passes
from deploy.report import keys
from deploy.report.report import Report
from deploy.runtime import tflm
from deploy.targets import board as board_named
from deploy.targets.cores import cores
from tests.int8_graphs import Int8GraphMaker

ROOT = Path(__file__).resolve().parent.parent
ITEM = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}
TYPES = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
OPCODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


class File:
    """A .tflite file as the schema's own reader sees it."""

    def __init__(self, content: bytes) -> None:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        (graph,) = model.subgraphs
        self.size_bytes = len(content)
        self.tensors = graph.tensors
        self.names = [t.name.decode() for t in graph.tensors]
        self.shapes = [tuple(t.shape.tolist()) if t.shape is not None else () for t in self.tensors]
        self.types = [TYPES[t.type] for t in self.tensors]
        items = [ITEM[t] for t in self.types]
        self.bytes = [int(np.prod(s)) * n for s, n in zip(self.shapes, items, strict=True)]
        self.constant = [model.buffers[t.buffer].data is not None for t in self.tensors]
        self.inputs, self.outputs = graph.inputs.tolist(), graph.outputs.tolist()
        self.operators = [
            (
                OPCODES[
                    max(
                        model.operatorCodes[o.opcodeIndex].builtinCode,
                        model.operatorCodes[o.opcodeIndex].deprecatedBuiltinCode,
                    )
                ],
                [i for i in o.inputs.tolist() if i >= 0],
                o.outputs.tolist(),
                o,
            )
            for o in graph.operators
        ]
        self.offsets: list[int] = []
        self.views: set[int] = set()
        for entry in model.metadata or ():
            if entry.name == b"keras_fmc.views":
                self._add_views(model.buffers[entry.buffer].data.view(np.int32).tolist())
            if entry.name == b"OfflineMemoryAllocation":
                data = model.buffers[entry.buffer].data.view(np.int32)
                self.offsets = data[3 : 3 + data[2]].tolist()

    def _add_views(self, entry: list[int]) -> None:
        """Puts the views that have no operator where they would stand."""
        place = 2
        for _ in range(entry[1]):
            position, kind, output, _, count = entry[place : place + 5]
            inputs = entry[place + 5 : place + 5 + count]
            opcode = ("SLICE", "CONCATENATION", "RESHAPE")[kind]
            self.operators.insert(position, (opcode, inputs, [output], None))
            self.views.add(position)
            place += 5 + count

    @property
    def written(self) -> int:
        return len(self.operators) - len(self.views)

    def macs(self, index: int) -> int:
        """Products of weights and activations, from shapes alone."""
        opcode, inputs, outputs, _ = self.operators[index]
        if opcode == "TRANSPOSE_CONV":
            out_c, kh, kw, in_c = self.shapes[inputs[1]]
            n, h, w, _ = self.shapes[inputs[2]]
            return n * h * w * in_c * kh * kw * out_c
        made = int(np.prod(self.shapes[outputs[0]]))
        if opcode == "CONV_2D":
            return made * int(np.prod(self.shapes[inputs[1]][1:]))
        if opcode == "DEPTHWISE_CONV_2D":
            return made * int(np.prod(self.shapes[inputs[1]][1:3]))
        if opcode == "FULLY_CONNECTED":
            return made * self.shapes[inputs[1]][1]
        return 0

    def time(self, figures: dict[str, dict[str, float]], more: int) -> float:
        """Calls, products and bytes written, each at its price; 1 where the file has no prices."""
        total = 0.0
        for index, (opcode, _, outputs, _) in enumerate(self.operators):
            if index in self.views:
                continue
            price = figures.get(opcode, figures.get("*", {}))
            each = price.get("output_byte", 0) + more * price.get("asserted_byte", 0)
            total += price.get("call", 0) + price.get("product", 0) * self.macs(index)
            total += each * sum(self.bytes[t] for t in outputs)
        return total or 1.0

    def scratch(self, index: int, library: str) -> int:
        """The sum of an operator's buffers, by the formulas of the library's sources."""
        opcode, inputs, outputs, _ = self.operators[index]
        if opcode == "MEAN":
            axes = int(np.prod(self.shapes[inputs[1]]))
            return 4 * (int(np.prod(self.shapes[outputs[0]])) + len(self.shapes[inputs[0]]) + axes)
        if library == "reference":
            return 4 * int(np.prod(self.shapes[outputs[0]])) if opcode == "TRANSPOSE_CONV" else 0
        assert library == "cmsis-nn-dsp"
        if opcode == "CONV_2D":
            _, kh, kw, in_c = self.shapes[inputs[1]]
            return 0 if kh == kw == 1 else 4 * -(-kh * kw * in_c // 4) * 4
        if opcode == "DEPTHWISE_CONV_2D":
            _, kh, kw, c = self.shapes[inputs[1]]
            return 0 if kh == kw == 3 else 2 * c * kh * kw
        if opcode == "AVERAGE_POOL_2D":
            return 4 * self.shapes[inputs[0]][3]
        if opcode == "TRANSPOSE_CONV":
            out_c, kh, kw, in_c = self.shapes[inputs[1]]
            assert in_c > 16
            return 4 * -(-kh * kw * in_c // 4) * 4 + kh * kw * in_c * out_c
        return 0

    def spans(self) -> dict[int, tuple[int, int]]:
        """First and last operator of every tensor that is no constant."""
        steps: dict[int, list[int]] = {}
        for index, (_, inputs, outputs, _) in enumerate(self.operators):
            for tensor in (*inputs, *outputs):
                steps.setdefault(tensor, []).append(index)
        for tensor in self.inputs:
            steps.setdefault(tensor, []).append(0)
        for tensor in self.outputs:
            steps.setdefault(tensor, []).append(len(self.operators) - 1)
        return {t: (min(s), max(s)) for t, s in sorted(steps.items()) if not self.constant[t]}


@dataclass(frozen=True)
class Case:
    report: dict[str, Any]
    text: str
    source: File
    model: File
    source_bytes: bytes
    model_bytes: bytes
    settings: dict[str, Any]


def chain() -> Graph:
    make = Int8GraphMaker(11)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(make.conv(x, channels=16, kernel=(3, 3)), channels=8, kernel=(3, 3))
    return make.build(outputs=[make.mean(x)])


def branches() -> Graph:
    """Scratch of several kinds and, in the transposed convolution, of two buffers at once."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 9, 9, 5)), channels=20, kernel=(3, 3))
    y = make.depthwise(x, kernel=(5, 5))
    z = make.binary("ADD", make.unary("RELU", x), y)
    z = make.transpose_conv(z, channels=6, kernel=(2, 2), stride=(2, 2))
    z = make.pool(z)
    flat = make.reshape(z, (1, int(np.prod(make.shape(z)))))
    return make.build(outputs=[make.unary("SOFTMAX", make.fully_connected(flat, units=7)), x])


PLANS: dict[str, tuple[Callable[[], Graph], dict[str, Any]]] = {
    "strips": (chain, {"board": "nano33ble", "overlap": False}),
    "outputs grow": (chain, {"board": "portentah7", "strips": False, "overlap": True}),
    "branches": (branches, {"board": "nano33ble", "strips": False}),
    "wheel": (branches, {"board": "host", "strips": False}),
    "codes": (lambda: skip_graph(bits=4), {"board": "nano33ble", "strips": False}),
    "external": (
        chain,
        {"board": "esp32", "kernels": "reference", "strips": False, "reserve_bytes": 150 * 1024},
    ),
    "bare limit": (branches, {"board": "nano33ble", "strips": False, "arena_bytes": 40_000}),
}


@pytest.fixture(scope="module", params=PLANS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    build, settings = PLANS[request.param]
    source = flatbuffer.write(build())
    out = tmp_path_factory.mktemp("plan")
    assert pipeline.plan(source, out=out, **settings).exit_code == 0
    text = (out / "report.json").read_text()
    content = (out / "model.tflite").read_bytes()
    return Case(json.loads(text), text, File(source), File(content), source, content, settings)


def grid_of(case: Case) -> np.ndarray:
    """Which byte of the head holds how many values during which operator."""
    grid = np.zeros((len(case.model.operators), case.report["head_bytes"]), int)
    for piece in case.report["pieces"]:
        grid[piece["start"] : piece["stop"], piece["offset"] : piece["offset"] + piece["size"]] += 1
    return grid


def report_values(case: Case) -> Iterator[tuple[str, object, object]]:
    """Yields (key, what it says, what it ought to say)."""
    report, model, source = case.report, case.model, case.source
    entry = board_named(case.settings["board"])
    steps = range(len(model.operators))
    kernels = report["kernels"]
    scratch = [model.scratch(i, kernels) for i in steps]
    ends = [t["offset"] + -(-t["size"] // 16) * 16 for t in report["tensors"]]
    grid = grid_of(case)
    live = (grid > 0).sum(axis=1)
    yield "format", report["format"], 1
    yield "model", report["model"], "model"
    yield "board", report["board"], case.settings["board"]
    yield "core", report["core"], entry.core
    yield "runtime", report["runtime"], entry.runtime
    yield "kernels", kernels, case.settings.get("kernels", entry.kernels)
    used = report["head_bytes"] + report["tail_bytes"]
    yield "arena_bytes", report["arena_bytes"] >= used, report["arena_bytes"] % 16 == 0
    yield "scratch_bytes", report["scratch_bytes"], max(scratch)
    most = max(ends) + sum(-(-s // 16) * 16 + 16 for s in scratch)
    yield "head_bytes", max(ends) <= report["head_bytes"] <= most, True
    if case.settings["board"] == "host":
        seen = tflm.allocations(case.model_bytes, 1 << 20, isolated=True)
        yield "head_bytes", report["head_bytes"], seen.head_bytes
        yield "tail_bytes", report["tail_bytes"], seen.tail_bytes
        yield "arena_bytes", report["arena_bytes"], report["verified_arena_bytes"]
    yield "tail_bytes", 12 * len(model.tensors) < report["tail_bytes"] < report["arena_bytes"], True
    # What is alive during an operator, scratch included, bounds every plan from below.
    needed = max(int(b) + s for b, s in zip(live, scratch, strict=True))
    bound = report["lower_bound_bytes"]
    yield "lower_bound_bytes", needed <= bound <= report["head_bytes"], True
    yield "proven_optimal", report["proven_optimal"] or bound < report["head_bytes"], True
    limit = case.settings.get("arena_bytes", None)
    sizes = [m["size_bytes"] - m["reserve_bytes"] for m in report["memories"]]
    homes = [m["holds_arena"] for m in report["memories"]]
    if case.settings["board"] != "host":
        yield "limit_bytes", report["limit_bytes"], limit or sizes[homes.index(True)]
    else:
        yield "limit_bytes", report["limit_bytes"], None
    within = report["limit_bytes"] is None or report["arena_bytes"] <= report["limit_bytes"]
    yield "fits", report["fits"], within
    words = "no limit" if report["limit_bytes"] is None else "--arena" if limit else entry.title
    yield "limit_source", words in report["limit_source"], True
    macs = sum(model.macs(i) for i in steps)
    before = sum(source.macs(i) for i in range(len(source.operators)))
    yield "macs", report["macs"], macs
    yield "macs_ratio", report["macs_ratio"], pytest.approx(macs / before, rel=1e-12)
    yield "flash_bytes", report["flash_bytes"], len(case.model_bytes)
    yield "passes", report["passes"], "plain_slices,drop_dead,order_for_memory:states=20000"
    yield "engine", bool(re.fullmatch(r"[a-z ,-]+", report["engine"])), True
    found = tflm.smallest_arena(case.model_bytes, guess=report["verified_arena_bytes"])
    yield "verified_arena_bytes", report["verified_arena_bytes"], found
    yield "predicted_arena_bytes_wheel", report["predicted_arena_bytes_wheel"], found
    yield "verified_reason", f"{found:,} bytes" in report["verified_reason"], True
    rng = np.random.default_rng(1)
    shape = source.shapes[source.inputs[0]]
    inputs = [[rng.integers(-128, 128, shape).astype(np.int8)] for _ in range(3)]
    pairs = zip(
        *(
            tflm.run(content, inputs, arena_bytes=1 << 21, isolated=True)
            for content in (case.source_bytes, case.model_bytes)
        ),
        strict=True,
    )
    same = all(np.array_equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))
    yield "bit_exact", report["bit_exact"], same
    yield "verified", report["verified"], same
    yield "peak_operator", report["peak_operator"], int(live.argmax())
    there: Counter[str] = Counter()
    for piece in report["pieces"]:
        if piece["start"] <= report["peak_operator"] < piece["stop"]:
            there[piece["tensor"]] += piece["size"]
    yield "peak_tensors", report["peak_tensors"], sorted(there, key=lambda n: (-there[n], n))
    for key, indices in (("inputs", model.inputs), ("outputs", model.outputs)):
        yield key, [p["name"] for p in report[key]], [model.names[i] for i in indices]
    yield "memories", [m["name"] for m in report["memories"]], [m.name for m in entry.memories]
    cut = {label for region in report["regions"] for label in region["operators"]}
    strips = {o[2][0] for o in model.operators if "[" in model.names[o[2][0]]}
    yield "regions", bool(cut), bool(strips)
    gathers = [sum(o[0] == "GATHER" for o in file.operators) for file in (source, model)]
    yield "codes", bool(report["codes"]), gathers[1] > gathers[0]
    chosen = [p for p in report["frontier"] if p["chosen"]]
    yield "frontier", len(chosen), int(bool(report["frontier"]))
    yield "decisions", all(d["subject"] and d["reason"] for d in report["decisions"]), True
    growing = sum((t["alias_reason"] or "").startswith("diagonal") for t in report["tensors"])
    warned = case.settings["board"] == "host" and growing > 0
    yield "warnings", len(report["warnings"]), int(warned)
    for key, file in (("feature_maps_before", source), ("feature_maps_after", model)):
        yield key, len(report[key]), len(file.spans())
    yield "operators", len(report["operators"]), len(model.operators)
    yield "tensors", [t["name"] for t in report["tensors"]], [model.names[t] for t in model.spans()]
    # No byte holds two values at once.
    yield "pieces", int(grid.max()), 1
    yield "target", all(p in report["target"] for p in (entry.title, kernels, entry.core)), True
    digest = hashlib.sha256(case.model_bytes).hexdigest()
    yield "model_sha256", report["model_sha256"], digest
    own = re.sub(r',\n  "sha256": "[0-9a-f]{64}"\n}\n$', "\n}", case.text)
    yield "sha256", report["sha256"], hashlib.sha256(own.encode()).hexdigest()
    yield "baseline", report["baseline"] is not None, True
    times = json.loads((ROOT / f"deploy/targets/kernels/{kernels}.json").read_text())
    took = [
        [file.time(times.get("times", {}), more) for file in (source, model)] for more in (0, 1)
    ]
    known = "times" in times
    yield "time_instructions", report["time_instructions"], round(took[0][1]) if known else None
    for more, key in enumerate(("time_ratio", "time_ratio_assertions")):
        ratio = pytest.approx(took[more][1] / took[more][0], rel=1e-6) if known else None
        yield key, report[key], ratio
    core = cores().get(entry.core)
    if known and core and entry.clock_hz and kernels.startswith(core.kernels):
        each = core.cycles_per_instruction / entry.clock_hz * 1e3
        yield "time_ms", report["time_ms"], pytest.approx(took[0][1] * each, rel=1e-3, abs=0.01)
        yield "time_error", report["time_error"], core.error
    else:
        yield "time_ms", report["time_ms"], None
        yield "time_error", report["time_error"], None
    yield "clock_hz", report["clock_hz"], entry.clock_hz or None
    # Those of head and tail in two memories are in two_arenas_test.
    yield "head_arena_bytes", report["head_arena_bytes"], None
    yield "tail_arena_bytes", report["tail_arena_bytes"], None
    yield "time_source", report["time_source"], times.get("times_source", "")
    # Of generated C only; c_plan_test and c_emulated_test look at its figures.
    yield "stack_bytes", report["stack_bytes"], None
    yield "stack_source", report["stack_source"], ""
    yield "max_macs", report["max_macs"], None
    c = generate(run_passes(flatbuffer.read(case.source_bytes)), model_name="model")
    yield "generated_c_bytes", report["generated_c_bytes"], c.static_bytes
    notes = [f"{name}: {text}" for name, text in ((entry.name, entry.note),) if text]
    yield "notes", report["notes"], notes
    yield "comparison", report["comparison"], []
    yield from estimate_values(case)


def estimate_values(case: Case) -> Iterator[tuple[str, object, object]]:
    """Keys that not every report has: what is known of the search."""
    report = case.report
    if "interrupted" in report:
        yield "interrupted", report["interrupted"], None
    if "search_bound_bytes" in report:
        bound = report["search_bound_bytes"]
        yield "search_bound_bytes", bound is None or 0 < bound <= report["head_bytes"], True


def baseline_values(case: Case) -> Iterator[tuple[str, object, object]]:
    base, source = case.report["baseline"], case.source
    found = tflm.smallest_arena(case.source_bytes, guess=base["verified_arena_bytes"])
    steps = range(len(source.operators))
    yield "arena_bytes", base["arena_bytes"] >= base["head_bytes"] + base["tail_bytes"], True
    ends = [t["offset"] + -(-t["size"] // 16) * 16 for t in base["tensors"]]
    yield "head_bytes", base["head_bytes"] >= max(ends), True
    yield "tail_bytes", 0 < base["tail_bytes"] < base["arena_bytes"], True
    if case.settings["board"] == "host":
        seen = tflm.allocations(case.source_bytes, 1 << 20, isolated=True)
        yield "head_bytes", base["head_bytes"], seen.head_bytes
        yield "tail_bytes", base["tail_bytes"], seen.tail_bytes
        yield "arena_bytes", base["arena_bytes"], found
    scratch = max(source.scratch(i, case.report["kernels"]) for i in steps)
    yield "scratch_bytes", base["scratch_bytes"], scratch
    yield "macs", base["macs"], sum(source.macs(i) for i in steps)
    yield "flash_bytes", base["flash_bytes"], len(case.source_bytes)
    yield "verified_arena_bytes", base["verified_arena_bytes"], found
    yield "predicted_arena_bytes_wheel", base["predicted_arena_bytes_wheel"], found
    limit = case.report["limit_bytes"]
    yield "fits", base["fits"], limit is None or base["arena_bytes"] <= limit
    entry = board_named(case.settings["board"])
    core, library = cores().get(entry.core), case.report["kernels"]
    times = json.loads((ROOT / f"deploy/targets/kernels/{library}.json").read_text()).get("times")
    wanted = None
    if core and entry.clock_hz and times and library.startswith(core.kernels):
        each = core.cycles_per_instruction / entry.clock_hz * 1e3
        wanted = pytest.approx(source.time(times, 0) * each, rel=1e-3, abs=0.01)
    yield "time_ms", base["time_ms"], wanted
    yield "operators", base["operators"], len(source.operators)
    yield "tensors", len(base["tensors"]), len(source.spans())


def tensor_values(case: Case) -> Iterator[tuple[str, object, object]]:
    rows = ((case.report["tensors"], case.model), (case.report["baseline"]["tensors"], case.source))
    for number, (tensors, file) in enumerate(rows):
        for tensor, (index, span) in zip(tensors, file.spans().items(), strict=True):
            yield "name", tensor["name"], file.names[index]
            if number == 0:
                yield "offset", tensor["offset"], file.offsets[index]
            yield "size", tensor["size"], file.bytes[index]
            yield "first", tensor["first"], span[0]
            yield "last", tensor["last"], span[1]
            yield "shape", tuple(tensor["shape"]), file.shapes[index]
            yield "dtype", tensor["dtype"].upper(), file.types[index]
            known = tensor["alias_of"] is None or tensor["alias_of"] in file.names
            yield "alias_of", known, True
            yield "alias_reason", tensor["alias_reason"] is None, tensor["alias_of"] is None
    # Tensors of one time and one place are aliases of each other, through others or not.
    where = {t["name"]: (t["offset"], t["offset"] + t["size"]) for t in case.report["tensors"]}
    for tensor in case.report["tensors"]:
        if tensor["alias_of"] is not None:
            (a, b), (c, d) = where[tensor["name"]], where[tensor["alias_of"]]
            yield "alias_of", a < d and c < b, True


def piece_values(case: Case) -> Iterator[tuple[str, object, object]]:
    spans = {case.model.names[t]: span for t, span in case.model.spans().items()}
    where = {t["name"]: t for t in case.report["tensors"]}
    for piece in case.report["pieces"]:
        tensor = where[piece["tensor"]]
        yield "tensor", piece["tensor"] in spans, True
        yield "block", piece["block"] in where, True
        inside = tensor["offset"] <= piece["offset"]
        inside &= piece["offset"] + piece["size"] <= tensor["offset"] + tensor["size"]
        yield "offset", inside, True
        yield "size", piece["size"] > 0, True
        yield "start", piece["start"], spans[piece["tensor"]][0]
        yield "stop", piece["start"] <= piece["stop"] <= len(case.model.operators), True
    last = max(p["stop"] for p in case.report["pieces"])
    yield "stop", last, len(case.model.operators)


def operator_values(case: Case) -> Iterator[tuple[str, object, object]]:
    for number, row in enumerate(case.report["operators"]):
        opcode, _, outputs, _ = case.model.operators[number]
        yield "index", row["index"], number
        yield "opcode", row["opcode"], opcode
        yield "name", row["name"], case.model.names[outputs[0]]
        yield "macs", row["macs"], case.model.macs(number)
        yield "implicit", row["implicit"], number in case.model.views


def map_values(case: Case) -> Iterator[tuple[str, object, object]]:
    report = case.report
    for rows, file in (
        (report["feature_maps_before"], case.source),
        (report["feature_maps_after"], case.model),
    ):
        for row, (index, span) in zip(rows, file.spans().items(), strict=True):
            yield "name", row["name"], file.names[index]
            yield "shape", tuple(row["shape"]), file.shapes[index]
            yield "size_bytes", row["size_bytes"], file.bytes[index]
            yield "first", row["first"], span[0]
            yield "last", row["last"], span[1]


def port_values(case: Case) -> Iterator[tuple[str, object, object]]:
    model = case.model
    for rows, indices in (
        (case.report["inputs"], model.inputs),
        (case.report["outputs"], model.outputs),
    ):
        for row, index in zip(rows, indices, strict=True):
            quantization = model.tensors[index].quantization
            yield "name", row["name"], model.names[index]
            yield "shape", tuple(row["shape"]), model.shapes[index]
            yield "dtype", row["dtype"].upper(), model.types[index]
            yield "scale", row["scale"], float(quantization.scale[0])
            yield "zero_point", row["zero_point"], int(quantization.zeroPoint[0])


def memory_values(case: Case) -> Iterator[tuple[str, object, object]]:
    data = json.loads((ROOT / "deploy" / "targets" / "boards.json").read_text())["boards"]
    entry = next(b for b in data if b["name"] == case.settings["board"])
    rows = case.report["memories"]
    for number, (row, memory) in enumerate(zip(rows, entry["memories"], strict=True)):
        count, unit = re.fullmatch(r"(\d+)([KM])B", memory["size"]).groups()
        size = int(count) << {"K": 10, "M": 20}[unit]
        yield "name", row["name"], memory["name"]
        yield "size_bytes", row["size_bytes"], size
        address = None if memory.get("address") is None else int(memory["address"], 16)
        yield "address", row["address"], address
        usual = re.fullmatch(r"(\d+)(KB)?", entry["reserve"])
        reserve = case.settings.get("reserve_bytes", int(usual[1]) << (10 if usual[2] else 0))
        yield "reserve_bytes", row["reserve_bytes"], reserve if number == 0 else 0
        yield "external", row["external"], memory.get("external", False)
        if row["holds_arena"]:
            yield "holds_arena", row["size_bytes"] >= case.report["arena_bytes"], True
        # Of these cases none has head and tail apart; two_arenas_test has.
        yield "holds_tail", row["holds_tail"], False
    yield "holds_arena", sum(r["holds_arena"] for r in rows), 1


def region_values(case: Case) -> Iterator[tuple[str, object, object]]:
    source = case.source
    labels = {f"{o[0]} #{i} ({source.names[o[2][0]]})": i for i, o in enumerate(source.operators)}
    for region in case.report["regions"]:
        yield "operators", set(region["operators"]) <= labels.keys(), True
        members = [labels[label] for label in region["operators"]]
        last = source.names[source.operators[members[-1]][2][0]]
        strips = [t for t in case.model.spans() if case.model.names[t].startswith(f"{last}[")]
        heights = [case.model.shapes[t][1] for t in strips]
        yield "strips", region["strips"], len(strips)
        yield "rows", region["rows"], max(heights)
        yield "halo", region["halo"] in ("kept", "recomputed", "kept and recomputed"), True
        names = {source.names[source.operators[m][2][0]] for m in members}
        now = sum(
            case.model.macs(i)
            for i, o in enumerate(case.model.operators)
            if case.model.names[o[2][0]].split("[")[0] in names
        )
        before = sum(source.macs(m) for m in members)
        yield "macs_ratio", region["macs_ratio"], pytest.approx(now / before, rel=0.01)


def code_values(case: Case) -> Iterator[tuple[str, object, object]]:
    model, source = case.model, case.source
    for code in case.report["codes"]:
        index = source.names.index(code["name"])
        n, h, w, c = source.shapes[index]
        yield "name", index in source.spans(), True
        yield "packed", code["packed"] in model.names, True
        yield "bits", code["bits"], 4
        yield "channels", code["channels"], c
        yield "unpacked_bytes", code["unpacked_bytes"], source.bytes[index]
        size = n * h * w * -(-c * 4 // 8)
        yield "packed_bytes", code["packed_bytes"], -(-size // 16) * 16
        yield "stored_bytes", code["stored_bytes"], -(-size // 16) * 16
        total = sum(code[k] for k in ("p_macs", "pack_macs", "unpack_macs", "r_macs"))
        yield "p_macs", 0 < code["p_macs"] < total <= case.report["macs"], True
        # A 1x1 convolution packs: each byte is made of all channels.
        yield "pack_macs", code["pack_macs"], n * h * w * c * -(-c * 4 // 8)
        yield "unpack_macs", code["unpack_macs"], 0
        readers = [i for i, o in enumerate(source.operators) if index in o[1]]
        yield "r_macs", code["r_macs"], sum(source.macs(i) for i in readers)
        yield "merged", code["merged"], False
        tables = {o[1][0] for o in model.operators if o[0] == "GATHER"}
        yield "table_bytes", code["table_bytes"], sum(model.bytes[t] for t in tables)
        added = model.written - len(source.operators)
        yield "operators", code["operators"], added
        yield "tail_bytes", 32 * added < code["tail_bytes"] < case.report["tail_bytes"], True


def frontier_values(case: Case) -> Iterator[tuple[str, object, object]]:
    points = case.report["frontier"]
    for point in points:
        beaten = [
            p
            for p in points
            if p["arena_bytes"] < point["arena_bytes"] and p["macs_ratio"] < point["macs_ratio"]
        ]
        yield "arena_bytes", beaten == [] or point["chosen"], True
        yield "head_bytes", 0 < point["head_bytes"] < point["arena_bytes"], True
        yield "macs_ratio", point["macs_ratio"] >= 1, True
        yield "operators", point["operators"] >= len(case.source.operators), True
        if point["chosen"]:
            yield "arena_bytes", point["arena_bytes"], case.report["arena_bytes"]
            yield "head_bytes", point["head_bytes"], case.report["head_bytes"]
            ratio = pytest.approx(case.report["macs_ratio"])
            yield "macs_ratio", point["macs_ratio"], ratio
            yield "operators", point["operators"], case.model.written
    yield "chosen", sum(p["chosen"] for p in points), int(bool(points))


def decision_values(case: Case) -> Iterator[tuple[str, object, object]]:
    for decision in case.report["decisions"]:
        yield "subject", bool(decision["subject"]), True
        yield "reason", len(decision["reason"].split()) > 2, True


VALUES = {
    "Report": report_values,
    "Baseline": baseline_values,
    "ReportTensor": tensor_values,
    "ReportPiece": piece_values,
    "ReportOperator": operator_values,
    "FeatureMapEntry": map_values,
    "Port": port_values,
    "ReportMemory": memory_values,
    "Region": region_values,
    "StoredCode": code_values,
    "FrontierPoint": frontier_values,
    "Decision": decision_values,
}
SEEN: Counter[tuple[str, str]] = Counter()


@pytest.mark.parametrize("kind", VALUES)
def test_keys_say_what_their_definitions_say(kind: str, case: Case) -> None:
    for key, says, ought in VALUES[kind](case):
        SEEN[kind, key] += 1
        assert says == ought, key


ELSEWHERE = {"ComparedMap"}
"""What Keras models say of themselves: compare_test."""


def test_every_key_was_checked() -> None:
    extra = {("Report", "format"), ("Report", "sha256")}
    kinds = [kind for kind in keys.objects() if kind.__name__ not in ELSEWHERE]
    wanted = {(kind.__name__, key.name) for kind in kinds for key in keys.keys(kind)}
    if SEEN:
        assert set(SEEN) == wanted | extra


def test_the_plans_are_of_every_kind() -> None:
    assert {kind.__name__ for kind in keys.objects()} == set(VALUES) | ELSEWHERE


def test_the_documentation_has_a_row_for_every_key() -> None:
    text = keys.to_markdown()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert len(rows) == 2 + sum(len(keys.keys(kind)) for kind in keys.objects())


def test_every_number_has_a_unit_and_every_key_a_definition() -> None:
    for kind in keys.objects():
        for key in keys.keys(kind):
            assert key.definition
            numeric = "integer" in key.kind or "number" in key.kind
            assert bool(key.unit) == numeric, (kind.__name__, key.name)


def test_a_field_without_a_definition_is_an_error() -> None:
    @dataclass(frozen=True)
    class Some:
        """Some.

        Attributes:
            one (count): of them.
        """

        one: int
        two: int

    with pytest.raises(LookupError, match=r"no definition of \['two'\]"):
        keys.keys(Some)


def test_keys_of_the_file_are_those_of_the_table(case: Case) -> None:
    names = [key.name for key in keys.keys(Report)]
    assert list(case.report) == ["format", *names, "sha256"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
