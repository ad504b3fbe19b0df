"""Tables of activations, sums, softmax and resizing, against the kernels themselves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.runtime import tflm
from keras_fmc import fixed_point
from keras_fmc.qat.kernel_rounding import DeviceResize, DeviceSoftmax, DeviceSum

Grid = tuple[float, int]
SEEDS = range(12)


def grids(seed: int, count: int) -> list[Grid]:
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(np.log(0.002), np.log(0.3), count)).astype(np.float32)
    return [(float(s), int(z)) for s, z in zip(scales, rng.integers(-128, 128, count), strict=True)]


def kernel(
    opcode: str,
    options: Options | None,
    inputs: Sequence[np.ndarray],
    input_grids: Sequence[Grid],
    output: Grid,
    shape: tuple[int, ...],
    *,
    constants: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Output codes of one operator in TensorFlow Lite Micro."""
    tensors = [
        Tensor(f"x{i}", x.shape, "int8", Quantization((grid[0],), (grid[1],)))
        for i, (x, grid) in enumerate(zip(inputs, input_grids, strict=True))
    ]
    tensors += [
        Tensor(f"c{i}", c.shape, str(c.dtype), data=c.tobytes()) for i, c in enumerate(constants)
    ]
    tensors.append(Tensor("y", shape, "int8", Quantization((output[0],), (output[1],))))
    last = len(tensors) - 1
    graph = Graph(
        tuple(tensors),
        (Operator(opcode, tuple(range(last)), (last,), options),),
        tuple(range(len(inputs))),
        (last,),
    )
    return tflm.run(flatbuffer.write(graph), [list(inputs)], arena_bytes=1 << 20)[0][0]


CODES = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_are_what_the_kernels_make_of_every_code(seed: int) -> None:
    (scale, zero), (out_scale, out_zero) = grids(seed, 2)
    slope = float(np.float32(np.random.default_rng(seed).uniform(0, 0.5)))
    leaky = Options("LeakyReluOptions", (("alpha", slope),))
    cases = {
        "LOGISTIC": (None, (1 / 256, -128), fixed_point.sigmoid_table(scale, zero)),
        "TANH": (None, (1 / 128, 0), fixed_point.tanh_table(scale, zero)),
        "HARD_SWISH": (
            None,
            (out_scale, out_zero),
            fixed_point.hard_swish_table(scale, zero, out_scale, out_zero),
        ),
        "LEAKY_RELU": (
            leaky,
            (out_scale, out_zero),
            fixed_point.leaky_table(scale, zero, out_scale, out_zero, slope),
        ),
        "RELU": (
            None,
            (out_scale, out_zero),
            fixed_point.relu_table(scale, zero, out_scale, out_zero, None),
        ),
    }
    for opcode, (options, output, table) in cases.items():
        theirs = kernel(opcode, options, [CODES], [(scale, zero)], output, CODES.shape)
        np.testing.assert_array_equal(theirs[0], table, err_msg=opcode)


def codes(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def real(x: np.ndarray, grid: Grid) -> np.ndarray:
    return (grid[0] * (x.astype(np.float64) - grid[1])).astype(np.float32)


def level(y: object, grid: Grid) -> np.ndarray:
    return np.clip(np.rint(np.asarray(y) / grid[0]) + grid[1], -128, 127).astype(int)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums(seed: int, sign: int) -> None:
    one, other, output = grids(seed, 3)
    output = (float(np.float32(one[0] + other[0])) if seed % 2 else output[0], output[1])
    if seed == 0:
        other = (one[0], other[1])  # Every second sum is a tie.
        output = (2 * one[0], output[1])
    x, y = codes(seed, (1, 30, 40)), codes(seed + 100, (1, 30, 40))
    kind = ("ADD", "AddOptions") if sign == 1 else ("SUB", "SubOptions")
    options = Options(kind[1], (("fused_activation_function", 0),))
    theirs = kernel(kind[0], options, [x, y], [one, other], output, x.shape)
    layer = DeviceSum(inputs=[one, other], output=output, sign=sign)
    inputs = [real(x, one), real(y, other)]
    mine = layer([inputs[0] + sign * inputs[1], *inputs])
    np.testing.assert_array_equal(level(mine, output), theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_softmax(seed: int) -> None:
    (grid,) = grids(seed, 1)
    x = codes(seed, (50, 2 + 3 * seed))
    output = (1 / 256, -128)
    options = Options("SoftmaxOptions", (("beta", 1.0),))
    theirs = kernel("SOFTMAX", options, [x], [grid], output, x.shape)
    mine = DeviceSoftmax(inputs=[grid], output=output)(
        [np.zeros(x.shape, "float32"), real(x, grid)]
    )
    np.testing.assert_array_equal(level(mine, output), theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_bilinear_resizing(seed: int) -> None:
    (grid,) = grids(seed, 1)
    rows, columns = (int(n) for n in np.random.default_rng(seed).integers(1, 14, 2))
    x = codes(seed, (1, 5, 7, 3))
    options = Options(
        "ResizeBilinearOptions", (("align_corners", False), ("half_pixel_centers", True))
    )
    shape = (1, rows, columns, 3)
    size = np.array([rows, columns], np.int32)
    theirs = kernel("RESIZE_BILINEAR", options, [x], [grid], grid, shape, constants=[size])
    layer = DeviceResize(inputs=[grid], output=grid, size=(rows, columns))
    mine = layer([np.zeros(shape, "float32"), real(x, grid)])
    np.testing.assert_array_equal(level(mine, grid), theirs)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
