"""STRIDED_SLICE becomes SLICE only where NumPy's slice says the same, masks and signs included."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.flatbuffer import write
from deploy.graph import Graph, Options
from deploy.passes.slices import plain_slices
from deploy.runtime import litert
from tests.int8_graphs import Int8GraphMaker


def sliced(
    shape: tuple[int, ...],
    begin: list[int],
    end: list[int],
    *,
    begin_mask: int = 0,
    end_mask: int = 0,
    strides: list[int] | None = None,
    **masks: int,
) -> tuple[Graph, np.ndarray, np.ndarray]:
    """A graph of one STRIDED_SLICE, an input for it, and what NumPy makes of that."""
    strides = strides or [1] * len(shape)
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    index = tuple(
        slice(
            None if begin_mask >> axis & 1 else begin[axis],
            None if end_mask >> axis & 1 else end[axis],
            strides[axis],
        )
        for axis in range(len(shape))
    )
    wanted = values[index]
    make = Int8GraphMaker(1)
    x = make.input(shape)
    names = (("begin", begin), ("end", end), ("strides", strides))
    operands = [x, *(make.integers(name, numbers) for name, numbers in names)]
    fields = {"begin_mask": begin_mask, "end_mask": end_mask, "ellipsis_mask": 0}
    fields |= {"new_axis_mask": 0, "shrink_axis_mask": 0, **masks}
    options = Options("StridedSliceOptions", tuple(fields.items()))
    y = make.operator("STRIDED_SLICE", operands, wanted.shape, make.quantization(x), options)
    graph = make.build(outputs=[y])
    operator = replace(graph.operators[0], version=2)
    return graph.replace(operators=(operator,)), values, wanted


@st.composite
def windows(draw: st.DrawFn) -> dict[str, object]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=4, max_size=4)))
    begin, end = [], []
    for n in shape:
        low = draw(st.integers(0, n - 1))
        high = draw(st.integers(low + 1, n))
        begin.append(draw(st.sampled_from((low, low - n))))
        end.append(high if high == n else draw(st.sampled_from((high, high - n))))
    masks = {name: draw(st.integers(0, 15)) for name in ("begin_mask", "end_mask")}
    return {"shape": shape, "begin": begin, "end": end, **masks}


@settings(max_examples=120, derandomize=True, deadline=None)
@given(windows())
def test_any_window_of_steps_of_one_becomes_the_slice_of_numpy(window: dict[str, object]) -> None:
    graph, values, wanted = sliced(**window)  # type: ignore[arg-type]
    passed = plain_slices(graph)
    assert [o.opcode for o in passed.operators] == ["SLICE"]
    for one in (graph, passed):
        ((found,),) = litert.run(write(one), [[values]])
        assert np.array_equal(found, wanted)


def test_a_begin_that_the_mask_skips_does_not_count() -> None:
    for axis in range(4):
        begin, end = [1] * 4, [3] * 4
        graph, values, wanted = sliced((3,) * 4, begin, end, begin_mask=1 << axis)
        assert wanted.shape[axis] == 3
        passed = plain_slices(graph)
        starts = passed.tensors[passed.operators[0].inputs[1]].array().tolist()
        assert starts == [0 if i == axis else 1 for i in range(4)]
        ((found,),) = litert.run(write(passed), [[values]])
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(6))
def test_steps_above_one_stay(seed: int) -> None:
    generator = random.Random(seed)
    strides = [1, 1, 1, 1]
    strides[generator.randrange(4)] = generator.choice((2, 3, -1))
    begin = [3 if s < 0 else 0 for s in strides]
    end = [-5 if s < 0 else 4 for s in strides]
    graph, _, _ = sliced((4,) * 4, begin, end, strides=strides)
    assert plain_slices(graph) is graph


@pytest.mark.parametrize("mask", ["ellipsis_mask", "new_axis_mask", "shrink_axis_mask"])
def test_masks_that_change_axes_stay(mask: str) -> None:
    graph, _, _ = sliced((2,) * 4, [0] * 4, [2] * 4, **{mask: 1})
    assert plain_slices(graph) is graph


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
