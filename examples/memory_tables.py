"""The memory tables of the GF(2) paper, from plans of whole models that were run in TFLM.

    python examples/memory_tables.py [squeezenet] [ssd512] [mobilenet_v2] [--size N]

Each model is converted to int8, the maps that the paper compresses are packed, and fusion runs the
rest strip by strip (`fused_plan`). That plan runs in TensorFlow Lite Micro in an arena of exactly
its size, and its outputs are those of the int8 model before packing, bit for bit. For each way of
storing a map the table has the bytes of it that this plan holds, what the paper states, what its
released models store if every binary channel is counted, and what it costs: multiply-accumulates
and operators of the plan, bytes of look-up tables, and the arena.

Weights are random, so nothing is said about accuracy here. Sums of stored maps are no peaks: the
arena is the honest figure, and holds the image and the maps after those that are fused as well.
The whole takes about a quarter of an hour on two cores; what is measured goes to --results at once
and is not measured again.

Source of the figures: Gudovskiy, Hodgkinson & Rigazio, "DNN Feature Map Compression using Learned
Representation over GF(2)", ECCV workshops 2018, tables 1 to 5.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
from fused_plan import fuse
from mobilenet_v2 import mobilenet_v2
from squeezenet import COMPRESSED, SQUEEZED, squeezenet
from ssd512_squeezenet import fusion_elements, ssd512_extractor

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.backends.tflm.codes.lower import lower_codes
from deploy.convert import to_int8_tflite
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.passes import run_passes
from deploy.passes.short_names import shorten_names
from deploy.runtime import tflm
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck


@dataclass(frozen=True)
class Way:
    """A way of storing the compressed maps.

    Attributes:
        name: of the row.
        layer: makes the layer that a map goes through; None stores int8.
        paper_kb, released_kb: sums in the paper, and of its released models, 1 KB = 1024 B.
    """

    name: str
    layer: Callable[[], keras.layers.Layer] | None = None
    paper_kb: float | None = None
    released_kb: float | None = None


def codes(bits: int, *, signed: bool = False) -> Callable[[], keras.layers.Layer]:
    form = "free" if signed else "unsigned"
    return lambda: CodeQuantizer(bits, form=form, momentum=0.9)


def gf2(
    bits: int, window: int, strides: int, *, signed: bool = False
) -> Callable[[], keras.layers.Layer]:
    """Stores as many bits as the 16 channels have planes, for a pixel or for 2×2 of them."""
    return lambda: GF2Bottleneck(
        16 * bits, bits=bits, kernel_size=window, strides=strides, signed=signed, momentum=0.9
    )


SQUEEZENET = (
    Way("8 bits", None, 189.9),
    Way("6 bits", codes(6), 165.4),
    Way("4 bits", codes(4), 140.9),
    Way("GF(2) 1×1, 6 bits", gf2(6, 1, 1), 165.4, 177.6),
    Way("GF(2) 1×1, 4 bits", gf2(4, 1, 1), 140.9, 153.1),
    Way("GF(2) 3×3 stride 2, 8 bits", gf2(8, 3, 2), 116.4, 119.4),
    Way("GF(2) 3×3 stride 2, 6 bits", gf2(6, 3, 2), 110.3, 113.3),
)
SSD512 = (
    Way("8 bits"),
    Way("6 bits", codes(6)),
    Way("4 bits", codes(4)),
    Way("2 bits", codes(2)),
    Way("GF(2) 2×2 stride 2, 8 bits", gf2(8, 2, 2)),
)
MOBILENET_V2 = (
    Way("8 bits", None),
    Way("6 bits", codes(6)),
    Way("4 bits", codes(4)),
    Way("GF(2) 1×1, 6 bits", gf2(6, 1, 1)),
    Way("GF(2) 2×2 stride 2, 8 bits", gf2(8, 2, 2)),
)
MOBILENET_V2_LINEAR = (
    Way("8 bits with sign", None),
    Way("6 bits with sign", codes(6, signed=True)),
    Way("4 bits with sign", codes(4, signed=True)),
    Way("GF(2) 2×2 stride 2, 8 bits with sign", gf2(8, 2, 2, signed=True)),
)


@dataclass(frozen=True)
class Measured:
    """What the plan of a model stores and costs; `stored_bytes` of the compressed maps."""

    stored_bytes: int
    macs: int
    operators: int
    table_bytes: int
    arena_bytes: int
    seconds: float


@dataclass(frozen=True)
class Results:
    """What was measured already, in a file."""

    path: Path

    def get(self, key: str) -> Measured | None:
        found = self._all().get(key)
        return None if found is None else Measured(**found)

    def put(self, key: str, measured: Measured) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        everything = {**self._all(), key: asdict(measured)}
        self.path.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")

    def _all(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}


def store_with(way: Way) -> Callable[[Any, str], Any] | None:
    if way.layer is None:
        return None

    def store(x: Any, name: str) -> Any:
        layer = way.layer()  # type: ignore[misc]
        layer.name = f"{name}_code"
        return layer(x)

    return store


def measure(model: keras.Model, compressed: tuple[str, ...], fused: tuple[str, ...]) -> Measured:
    """Converts, packs, fuses, plans, runs and counts a model.

    Args:
        compressed: layers whose maps are compressed.
        fused: layers whose maps fusion stores besides.
    """
    begin = time.perf_counter()
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:]))
    images = images.astype(np.float32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    # Gives batch normalisations their statistics and codes their range.
    model(images, training=True)
    content = to_int8_tflite(fmc.quantize(model, calibration=images))
    plain = run_passes(shorten_names(flatbuffer.read(content)))
    lowered = lower_codes(plain)
    packed = run_passes(lowered.graph)
    stored = [item.packed for item in lowered.stored]
    stored = stored or [map_of(plain, layer) for layer in compressed]
    if len(stored) != len(compressed):
        raise SystemExit(f"{model.name} stores {', '.join(stored)}")
    plan = fuse(packed, [*stored, *(map_of(packed, layer) for layer in fused)])
    inputs = tflm.random_inputs(content, samples=1)
    roomy = 4 * sum(plain.tensors[i].size_bytes for i in plain.activations()) + 2**22
    before = tflm.run(content, inputs, arena_bytes=roomy, isolated=True)[0]
    after = plan.run(inputs)[0]
    if not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
        raise SystemExit(f"the packed and fused {model.name} differs from the one before")
    return Measured(
        sum(plan.stored_bytes(name) for name in stored),
        graph_macs(plan.graph),
        len(plan.graph.operators),
        _table_bytes(plan.graph),
        plan.arena_bytes,
        time.perf_counter() - begin,
    )


def map_of(graph: Graph, layer: str) -> str:
    """The map that a convolution writes, by the layer's name."""
    names = [
        graph.tensors[operator.outputs[0]].name
        for operator in graph.operators
        if operator.opcode == "CONV_2D"
    ]
    found = [name for name in names if f"/{layer}_" in name or f"/{layer}/" in name]
    return found[0]


def _table_bytes(graph: Graph) -> int:
    tables = {op.inputs[0] for op in graph.operators if op.opcode == "GATHER"}
    return sum(graph.tensors[table].size_bytes for table in tables)


def print_rows(rows: list[tuple[Way, Measured]], others_bytes: int) -> None:
    """Prints a table; `others_bytes` are the stored maps that are not compressed."""
    print(
        f"  {'compressed maps stored as':38} {'bytes':>9} {'all maps':>10} {'paper':>9} "
        f"{'released':>9} {'MACs':>6} {'ops':>5} {'tables':>8} {'arena':>11}"
    )
    base = rows[0][1]
    for way, found in rows:
        total_kb = (found.stored_bytes + others_bytes) / 1024
        print(
            f"  {way.name:38} {found.stored_bytes:9,} {total_kb:7.2f} KB "
            f"{_kb(way.paper_kb):>9} {_kb(way.released_kb):>9} {found.macs / base.macs:5.2f}× "
            f"{found.operators:5} {found.table_bytes:6,} B "
            f"{found.arena_bytes:9,} B"
        )


def _kb(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} KB"


Rows = list[tuple[Way, Measured]]


def rows_of(
    title: str,
    ways: tuple[Way, ...],
    make: Callable[[Any], keras.Model],
    compressed: tuple[str, ...],
    fused: tuple[str, ...],
    results: Results,
) -> Rows:
    rows = []
    for way in ways:
        key = f"{title}: {way.name}"
        found = results.get(key)
        if found is None:
            found = measure(make(store_with(way)), compressed, fused)
            results.put(key, found)
            print(f"  measured {key} in {found.seconds:.0f} s", file=sys.stderr, flush=True)
            keras.utils.clear_session()
        rows.append((way, found))
    return rows


_COMPRESSED = tuple(f"{name}_squeeze" for name in COMPRESSED)
_OTHERS = tuple(f"{name}_squeeze" for name in SQUEEZED if name not in COMPRESSED)


def squeezenet_table(size: int, results: Results) -> None:
    title = f"SqueezeNet 1.1, {size}×{size}"
    make = lambda store: squeezenet(size, store=store)  # noqa: E731
    rows = rows_of(title, SQUEEZENET, make, _COMPRESSED, _OTHERS, results)
    print(f"\n{title}: squeezed maps of fire2 and fire3, and of all modules")
    model = squeezenet(size)
    others = sum(int(np.prod(model.get_layer(name).output.shape[1:])) for name in _OTHERS)
    print_rows(rows, others)
    print("  paper and released are sums over all modules, at 227×227")


def ssd512_table(size: int, results: Results) -> None:
    title = f"SSD512 on SqueezeNet, {size}×{size}"
    make = lambda store: ssd512_extractor(size, store=store)  # noqa: E731
    rows = rows_of(title, SSD512, make, _COMPRESSED, _OTHERS, results)
    print(f"\n{title}: maps up to fire3")
    print_rows(rows, 0)
    everything, fused = fusion_elements(size)
    stored = {way.name: found.stored_bytes for way, found in rows}
    last = stored["GF(2) 2×2 stride 2, 8 bits"]
    floats, fused_floats = 4 * everything, 4 * fused
    print(
        f"  fusion {floats / fused_floats:.1f}× (paper 19×), "
        f"8 bits {fused_floats / stored['8 bits']:.1f}× (4×), "
        f"4 bits {fused_floats / stored['4 bits']:.1f}× (8×), "
        f"GF(2) another {stored['4 bits'] / last:.1f}× (2×);\n"
        f"  {floats:,} B → {last:,} B, {floats / last:.0f}× (two orders of magnitude)"
    )


def mobilenet_v2_table(size: int, results: Results) -> None:
    for relu, ways in ((True, MOBILENET_V2), (False, MOBILENET_V2_LINEAR)):
        kind = "with the ReLU of the paper" if relu else "linear"
        title = f"MobileNetV2, {size}×{size}, {kind}"
        make = lambda store, relu=relu: mobilenet_v2(size, relu=relu, store=store)  # noqa: E731
        fused = ("block_1_project", "block_2_project", "block_3_project")
        block = "first_block_relu" if relu else "expanded_conv_project"
        rows = rows_of(title, ways, make, (block,), fused, results)
        print(f"\n{title}: the map after the first block")
        print_rows(rows, 0)


TABLES = {
    "squeezenet": (squeezenet_table, 227),
    "ssd512": (ssd512_table, 512),
    "mobilenet_v2": (mobilenet_v2_table, 224),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help=f"of {', '.join(TABLES)}; all by default")
    parser.add_argument("--size", type=int, help="of the images, instead of the paper's")
    default = Path(__file__).resolve().parent.parent / "_build" / "memory_tables.json"
    parser.add_argument("--results", type=Path, default=default, help="what was measured already")
    options = parser.parse_args()
    unknown = sorted(set(options.models) - set(TABLES))
    if unknown:
        parser.error(f"no table for {', '.join(unknown)}; there are {', '.join(TABLES)}")
    for name in options.models or TABLES:
        table, size = TABLES[name]
        table(options.size or size, Results(options.results))
    print(
        f"\nEvery plan ran in tflite_micro {tflm.version()} in an arena of exactly the size given, "
        "with the\noutputs of the int8 model, bit for bit. Random weights: these tables say "
        "nothing about accuracy."
    )


if __name__ == "__main__":
    main()
