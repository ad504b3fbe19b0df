"""CMSIS-NN's own answer to how much scratch a kernel needs, from the ``executorch`` package.

The package carries a binding to CMSIS-NN's buffer size functions for scalar, DSP and MVE cores.
Only that one extension module is loaded, neither executorch nor torch:

    pip install --no-deps executorch
    python tests/cmsis_nn_oracle.py        # writes tests/data/cmsis_nn_scratch.json
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import itertools
import json
import random
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "cmsis_nn_scratch.json"
BACKENDS = ("SCALAR", "DSP", "MVE")
Case = dict[str, Any]


@functools.cache
def binding() -> Any:
    """Returns the extension module, or None where executorch is not installed."""
    package = importlib.util.find_spec("executorch")
    for folder in (package.submodule_search_locations or ()) if package else ():
        library = Path(folder) / "backends" / "cortex_m" / "library" / "_cmsis_nn"
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = library / f"cmsis_nn{suffix}"
            if path.exists():
                spec = importlib.util.spec_from_file_location("cmsis_nn", path)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    return None


def grid() -> Iterator[Case]:
    """Yields shapes of convolutions and pools; paddings are those of SAME and VALID."""
    kernels = ((1, 1), (3, 3), (5, 5), (1, 3), (1, 4), (3, 1), (10, 4), (7, 7))
    strides = ((1, 1), (2, 2), (1, 2))
    maps = ((1, 1), (1, 7), (1, 32), (5, 5), (12, 12), (25, 5))
    depths = (1, 3, 4, 8, 16, 17, 40)
    same = (True, False)
    for kernel, stride, extent, depth, padded in itertools.product(
        kernels, strides, maps, depths, same
    ):
        if not padded and any(k > e for k, e in zip(kernel, extent, strict=True)):
            continue
        base = {"kernel": kernel, "stride": stride, "extent": extent, "depth": depth}
        base |= {"same": padded, "dilation": (1, 1)}
        yield {"op": "CONV_2D", "channels": 8, **base}
        yield {"op": "DEPTHWISE_CONV_2D", "multiplier": 1, **base}
        if depth <= 3:
            yield {"op": "DEPTHWISE_CONV_2D", "multiplier": 8, **base}
        if padded and kernel != (7, 7):
            yield {"op": "TRANSPOSE_CONV", "channels": 6, **base}
        if stride == (1, 1) and padded and kernel in ((3, 3), (1, 3)):
            yield {"op": "CONV_2D", "channels": 8, **base, "dilation": (2, 2)}
            yield {"op": "DEPTHWISE_CONV_2D", "multiplier": 1, **base, "dilation": (2, 2)}
        if stride == (2, 2) and not padded and kernel == (3, 3):
            yield {"op": "AVERAGE_POOL_2D", **base}


def drawn(count: int, seed: int) -> Iterator[Case]:
    """Yields random shapes of what the grid leaves out.

    Groups, batches, odd channels, strides and dilations that differ from axis to axis, multipliers
    that do not fit the channels, transposed convolutions of every stride.
    """
    generator = random.Random(seed)
    made = 0
    while made < count:
        kernel = generator.choice((1, 1, 2, 3, 4, 5)), generator.choice((1, 2, 3, 4, 5))
        kernel = generator.choice((kernel, (1, 1), (3, 3)))
        case: Case = {
            "op": generator.choice(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")),
            "kernel": kernel,
            "stride": (generator.randint(1, 3), generator.randint(1, 4)),
            "extent": (generator.choice((1, 1, 2, 3, 7, 12)), generator.randint(1, 20)),
            "same": generator.random() < 0.5,
            "dilation": (1, 1),
            "batch": generator.choice((1, 1, 2, 3)),
            "groups": 1,
        }
        if case["op"] != "TRANSPOSE_CONV" and generator.random() < 0.4:
            case["dilation"] = generator.randint(1, 3), generator.randint(1, 3)
        if case["op"] == "DEPTHWISE_CONV_2D":
            depth = generator.choice((1, 1, 2, 3, 5, 8, 16, 31))
            case |= {"depth": depth, "multiplier": generator.choice((1, 1, 2, 3, 8, 9))}
        elif case["op"] == "CONV_2D":
            groups = generator.choice((1, 1, 2, 3, 4))
            depth = groups * generator.choice((1, 2, 3, 4, 7, 8, 16))
            case |= {"depth": depth, "groups": groups, "channels": groups * generator.randint(1, 9)}
        else:
            depth = generator.choice((1, 3, 8, 16, 17, 20, 33))
            case |= {"depth": depth, "channels": generator.randint(1, 9)}
        if case["op"] != "TRANSPOSE_CONV" and min(output_extent(case)) < 1:
            continue
        made += 1
        yield case


def output_extent(case: Case) -> tuple[int, int]:
    rows, columns = (
        -(-e // s) if case["same"] else -(-(e - (k - 1) * d) // s)
        for e, s, k, d in zip(
            case["extent"], case["stride"], case["kernel"], case["dilation"], strict=True
        )
    )
    return rows, columns


def ask(case: Case, backend: str) -> list[int]:
    """Returns the sizes that CMSIS-NN names for a case, in the order TFLM asks for them."""
    module = binding()
    where, width = getattr(module.Backend, backend), module.DataType.A8W8
    rows, columns = output_extent(case)
    depth, kernel = case["depth"], case["kernel"]
    if case["op"] == "AVERAGE_POOL_2D":
        return [module.avgpool_buffer_size(where, width, columns, depth)]
    padding = [
        max((o - 1) * s + (k - 1) * d + 1 - e, 0) // 2 if case["same"] else 0
        for o, s, k, d, e in zip(
            (rows, columns), case["stride"], kernel, case["dilation"], case["extent"], strict=True
        )
    ]
    batch = case.get("batch", 1)
    window = {
        "input_nhwc": [batch, *case["extent"], depth],
        "padding_hw": padding,
        "stride_hw": list(case["stride"]),
        "dilation_hw": list(case["dilation"]),
    }
    if case["op"] == "CONV_2D":
        channels = case["channels"]
        size = module.convolve_wrapper_buffer_size(
            where,
            width,
            filter_nhwc=[channels, *kernel, depth // case.get("groups", 1)],
            output_nhwc=[batch, rows, columns, channels],
            **window,
        )
        return [size]
    if case["op"] == "DEPTHWISE_CONV_2D":
        channels = depth * case["multiplier"]
        size = module.depthwise_conv_wrapper_buffer_size(
            where,
            width,
            filter_nhwc=[1, *kernel, channels],
            output_nhwc=[batch, rows, columns, channels],
            ch_mult=case["multiplier"],
            **window,
        )
        return [size]
    channels = case["channels"]
    grown = [e * s for e, s in zip(case["extent"], case["stride"], strict=True)]
    window |= {"filter_nhwc": [channels, *kernel, depth]}
    return [
        module.transpose_conv_buffer_size(
            where, width, output_nhwc=[batch, *grown, channels], **window
        ),
        module.transpose_conv_reverse_conv_buffer_size(where, width, **window),
    ]


def main() -> None:
    if binding() is None:
        sys.exit("executorch is not installed: pip install --no-deps executorch")
    rows = [
        {**case, "sizes": [ask(case, b) for b in BACKENDS]}
        for case in (*itertools.islice(grid(), 0, None, 7), *drawn(300, seed=0))
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    version = metadata.version("executorch")
    DATA.write_text(
        f'{{"source": "executorch {version}", "backends": {json.dumps(BACKENDS)}, '
        f'"rows": [\n{lines}\n]}}\n'
    )
    print(f"{len(rows)} rows in {DATA}")


if __name__ == "__main__":
    main()
