"""The random graphs of the property tests: whole, the same from a seed, and runnable."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.runtime import litert, tflm
from tests.random_graphs import KINDS, random_graph

SEEDS = range(60)


def test_a_seed_gives_the_same_bytes() -> None:
    assert flatbuffer.write(random_graph(7)) == flatbuffer.write(random_graph(7))
    assert flatbuffer.write(random_graph(7)) != flatbuffer.write(random_graph(8))


def test_every_tensor_is_used() -> None:
    for seed in SEEDS:
        graph = random_graph(seed)
        active = set(graph.activations())
        read = graph.consumers()
        for index, tensor in enumerate(graph.tensors):
            assert tensor.is_constant or index in active, (seed, tensor.name)
            assert index in read or index in graph.outputs, (seed, tensor.name)


def test_every_kind_of_operator_appears() -> None:
    seen = Counter(op.opcode for seed in SEEDS for op in random_graph(seed).operators)
    assert min(seen.values()) >= 2
    assert len(seen) == 30


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone(kind: str) -> None:
    graph = random_graph(1, kinds=(kind,), operators=(3, 3), head=False)
    opcodes = {operator.opcode for operator in graph.operators}
    assert opcodes
    assert not opcodes & {"FULLY_CONNECTED", "SOFTMAX", "MEAN"}
    assert kind in ("slice", "strided_slice") or "SLICE" not in opcodes


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")
def test_litert_and_tflm_run_them_and_agree_within_one_step() -> None:
    exact = 0
    for seed in SEEDS:
        content = flatbuffer.write(random_graph(seed))
        samples = tflm.random_inputs(content, seed=seed)
        ours = tflm.run(content, samples, arena_bytes=tflm.ROOMY_ARENA_BYTES)
        theirs = litert.run(content, samples)
        worst = max(
            int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        assert worst <= 1, seed
        exact += worst == 0
    assert exact >= len(SEEDS) * 9 // 10


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
