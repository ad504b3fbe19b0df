"""Diagonal overlap: how far the output of a convolution may grow into its input.

A kernel that writes its output front to back, and reads each part of its input for the last time
before the output gets there, may have both in overlapping memory, the output first. This works
out the smallest safe distance from the loop order of the reference kernels. Other libraries read
in another order (CMSIS-NN gathers several pixels before it writes one), so that the distance
belongs to the kernels, and a library without a rule never overlaps.
"""

from __future__ import annotations

import numpy as np

from deploy.backends.tflm.scratch import OperatorNumbers
from deploy.graph import Graph, Operator
from deploy.operators import OPERATORS
from deploy.operators.window import MovesOver
from deploy.targets.records import GATHERED_PIXELS, Kernels


def overlap_distance(operator: Operator, graph: Graph, kernels: Kernels) -> int | None:
    """Returns the smallest safe ``input start - output start`` in bytes, or None for never.

    With D the distance, o the index of a byte that the kernel writes and i the lowest index of
    the input that it still reads afterwards: D = max over all writes of (o + 1 - i).

    The result may be used with any larger distance. It is not rounded to the alignment.
    """
    rule = kernels.overlap.get(operator.opcode)
    if rule is None or not operator.inputs or operator.inputs[0] < 0:
        return None
    source, made = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    numbers = OperatorNumbers(graph, operator)
    window = OPERATORS[operator.opcode].window
    if window is None:
        return None
    is_run = window(graph, operator).over is MovesOver.RUN
    batched = source.shape[:1] != (1,) and not is_run
    if not source.in_head or source.dtype != "int8" or made.dtype != "int8" or batched:
        return None
    if is_run:
        starts = np.arange(made.elements // numbers["out_c"]) * numbers["kernel_c"]
    else:
        starts = _window_starts(numbers)
    if rule in GATHERED_PIXELS:
        if graph.tensors[operator.inputs[1]].dtype != "int8":
            return None
        return _gathered(GATHERED_PIXELS[rule], numbers, starts)
    return _pixel_by_pixel(rule, numbers, starts)


def overlap_distances(graph: Graph, kernels: Kernels) -> dict[int, int]:
    """Returns operator -> distance, for those whose output may grow into their input."""
    found = {
        step: overlap_distance(operator, graph, kernels)
        for step, operator in enumerate(graph.operators)
    }
    return {step: distance for step, distance in found.items() if distance is not None}


def _gathered(count: int, numbers: OperatorNumbers, starts: np.ndarray) -> int | None:
    """The distance for kernels that gather the windows of some pixels before they write them.

    A pixel is read when all groups of ``count`` pixels before its own are written. The result
    serves the reference kernels as well, so that they can check a plan.
    """
    grouped = numbers["kernel_c"] != numbers["in_c"]
    if grouped or (numbers["kernel_h"] == 1 and (numbers["kernel_w"] == 1 or numbers["in_h"] == 1)):
        # Products of matrices, channel by channel.
        return None
    pixels = np.arange(len(starts))
    written = pixels // count * count * numbers["out_c"]
    gathered = int((written - starts)[count:].max(initial=np.iinfo(np.int64).min))
    return max(gathered, _pixel_by_pixel("all channels", numbers, starts))


def _pixel_by_pixel(rule: str, numbers: OperatorNumbers, starts: np.ndarray) -> int:
    pixels = np.arange(len(starts)) * numbers["out_c"]
    # A window that starts earlier than one before it belongs to a later pixel, and is worse there:
    # each pixel has only its own window to fear, and after its last channel that of the next.
    worst = int((pixels[1:] - starts[1:]).max(initial=np.iinfo(np.int64).min))
    within = _within_pixel(rule, numbers)
    if within is not None:
        worst = max(worst, int((pixels - starts).max()) + within)
    return worst if len(starts) > 1 or within is not None else 0


def _window_starts(numbers: OperatorNumbers) -> np.ndarray:
    """Returns for each output pixel the index of the first input element of its window."""
    depth = numbers["in_c"]
    rows, columns = (
        np.maximum(
            np.arange(numbers[f"out_{axis}"]) * numbers[f"stride_{axis}"] - numbers[f"pad_{axis}"],
            0,
        )
        for axis in "hw"
    )
    return ((rows[:, None] * numbers["in_w"] + columns[None, :]) * depth).reshape(-1)


def _within_pixel(rule: str, numbers: OperatorNumbers) -> int | None:
    """Returns max(written channel + 1 - lowest channel still read) before a pixel is done.

    "all channels": every output channel reads the whole window. "own channel": output channel
    c reads input channel c // multiplier. None where a pixel has a single output channel.
    """
    depth = numbers["out_c"]
    if rule == "all channels":
        return depth - 1 if depth > 1 else None
    multiplier, source = numbers["multiplier"], numbers["in_c"]
    amounts = []
    if multiplier > 1:
        amounts.append((source - 1) * (multiplier - 1) + multiplier - 1)
    if source > 1:
        amounts.append((source - 1) * (multiplier - 1))
    return max(amounts, default=None)
