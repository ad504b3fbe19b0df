"""The memory tables of the GF(2) paper, from models that were converted, packed and run in TFLM.

    python examples/memory_tables.py [squeezenet] [ssd512] [mobilenet_v2] [--size N] [--plan]

For each way of storing a map: the bytes that are stored (of the tensors of the packed int8 model),
what the paper states, what its released models store if every binary channel is counted, and what
it costs: multiply-accumulates of the whole model, operators, and bytes of tables. Each packed model
is run in TensorFlow Lite Micro, and its outputs are those of the model before packing, bit for bit.

Weights are random, so nothing is said about accuracy here. Sums of stored maps are no peaks; --plan
adds the arena that the planned model needs, which takes minutes a row.

Source of the figures: Gudovskiy, Hodgkinson & Rigazio, "DNN Feature Map Compression using Learned
Representation over GF(2)", ECCV workshops 2018, tables 1 to 5.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
from mobilenet_v2 import mobilenet_v2
from squeezenet import COMPRESSED, SQUEEZED, squeezenet
from ssd512_squeezenet import fusion_elements, ssd512_extractor

import deploy
import keras_fmc as fmc
from deploy import flatbuffer
from deploy.codes.choose import lower_codes
from deploy.convert import to_int8_tflite
from deploy.graph import Graph
from deploy.macs import graph_macs
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
    """What a model stores and costs; `stored_bytes` of the compressed maps, by the packed model."""

    stored_bytes: int
    macs: int
    operators: int
    table_bytes: int
    arena_bytes: int | None


def store_with(way: Way) -> Callable[[Any, str], Any] | None:
    if way.layer is None:
        return None

    def store(x: Any, name: str) -> Any:
        layer = way.layer()  # type: ignore[misc]
        layer.name = f"{name}_code"
        return layer(x)

    return store


def measure(model: keras.Model, stored_int8_bytes: int, *, plan: bool) -> Measured:
    """Converts, packs, runs and counts a model; `stored_int8_bytes` if none of it is packed."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:]))
    images = images.astype(np.float32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    # Gives batch normalisations their statistics and codes their range.
    model(images, training=True)
    content = to_int8_tflite(fmc.quantize(model, calibration=images))
    plain = flatbuffer.read(content)
    lowered = lower_codes(plain)
    packed = flatbuffer.write(lowered.graph)
    inputs = tflm.random_inputs(content, samples=1)
    arena = 4 * sum(plain.tensors[i].size_bytes for i in plain.activations()) + 2**22
    before = tflm.run(content, inputs, arena_bytes=arena, isolated=True)[0]
    after = tflm.run(packed, inputs, arena_bytes=arena, isolated=True)[0]
    if not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
        raise SystemExit(f"the packed {model.name} differs from the one before")
    return Measured(
        sum(item.packed_bytes for item in lowered.stored) or stored_int8_bytes,
        graph_macs(lowered.graph),
        len(lowered.graph.operators),
        _table_bytes(lowered.graph),
        deploy.plan(content).report.arena_bytes if plan else None,
    )


def _table_bytes(graph: Graph) -> int:
    tables = {op.inputs[0] for op in graph.operators if op.opcode == "GATHER"}
    return sum(graph.tensors[table].size_bytes for table in tables)


def print_rows(rows: list[tuple[Way, Measured]], others_bytes: int) -> None:
    """Prints a table; `others_bytes` are the stored maps that are not compressed."""
    print(
        f"  {'compressed maps stored as':38} {'bytes':>9} {'all maps':>10} {'paper':>9} "
        f"{'released':>9} {'MACs':>6} {'ops':>4} {'tables':>8} {'arena':>11}"
    )
    base = rows[0][1]
    for way, found in rows:
        total_kb = (found.stored_bytes + others_bytes) / 1024
        print(
            f"  {way.name:38} {found.stored_bytes:9,} {total_kb:7.2f} KB "
            f"{_kb(way.paper_kb):>9} {_kb(way.released_kb):>9} {found.macs / base.macs:5.2f}× "
            f"{found.operators:4} {found.table_bytes:6,} B "
            f"{'' if found.arena_bytes is None else f'{found.arena_bytes:,} B':>11}"
        )


def _kb(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} KB"


def squeezed_bytes(model: keras.Model, names: tuple[str, ...]) -> int:
    return sum(int(np.prod(model.get_layer(f"{n}_squeeze").output.shape[1:])) for n in names)


def squeezenet_table(size: int, *, plan: bool) -> None:
    print(f"\nSqueezeNet 1.1, {size}×{size}: squeezed maps of fire2 and fire3, and of all modules")
    rows = []
    for way in SQUEEZENET:
        model = squeezenet(size, store=store_with(way))
        rows.append((way, measure(model, squeezed_bytes(model, COMPRESSED), plan=plan)))
    others = tuple(name for name in SQUEEZED if name not in COMPRESSED)
    print_rows(rows, squeezed_bytes(model, others))
    print("  paper and released are sums over all modules, at 227×227")


def ssd512_table(size: int, *, plan: bool) -> None:
    print(f"\nSSD512 on SqueezeNet, {size}×{size}: maps up to fire3")
    rows = []
    for way in SSD512:
        model = ssd512_extractor(size, store=store_with(way))
        rows.append((way, measure(model, squeezed_bytes(model, COMPRESSED), plan=plan)))
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


def mobilenet_v2_table(size: int, *, plan: bool) -> None:
    for relu, ways in ((True, MOBILENET_V2), (False, MOBILENET_V2_LINEAR)):
        print(
            f"\nMobileNetV2, {size}×{size}: the map after the first block, "
            f"{'with the ReLU of the paper' if relu else 'linear'}"
        )
        rows = []
        for way in ways:
            model = mobilenet_v2(size, relu=relu, store=store_with(way))
            rows.append((way, measure(model, (size // 2) ** 2 * 16, plan=plan)))
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
    parser.add_argument("--plan", action="store_true", help="also plan the arena of each model")
    options = parser.parse_args()
    unknown = sorted(set(options.models) - set(TABLES))
    if unknown:
        parser.error(f"no table for {', '.join(unknown)}; there are {', '.join(TABLES)}")
    for name in options.models or TABLES:
        table, size = TABLES[name]
        table(options.size or size, plan=options.plan)
    print("\nRandom weights: these tables say nothing about accuracy.")


if __name__ == "__main__":
    main()
