"""Running models in the wheel and in LiteRT: outputs, arenas, errors, crashes of a child."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from deploy.runtime import isolation, litert, tflm
from keras_fmc.errors import BadInputError, UnsupportedModelError, VerificationError
from tests.support import MLPERF_TINY, mlperf_tiny

pytestmark = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)

# Measured with the wheel of 2026-10-23, see the anchors of the project.
SMALLEST = {
    "ad01_int8": 4640,
    "kws_ref_model": 24272,
    "pretrainedResnet_quant": 55984,
    "vww_96_int8": 103680,
}
HEAD = {
    "ad01_int8": 768,
    "kws_ref_model": 16000,
    "pretrainedResnet_quant": 49152,
    "vww_96_int8": 73728,
}


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_smallest_arena_allocates_and_16_bytes_less_do_not(name: str) -> None:
    content = mlperf_tiny(name).read_bytes()
    smallest = tflm.smallest_arena(content)
    assert smallest == SMALLEST[name]
    assert tflm.fits(content, smallest)
    assert not tflm.fits(content, smallest - 16)


@pytest.mark.parametrize("guess", [16, 4640, 4641, 1 << 20])
def test_smallest_arena_does_not_depend_on_the_guess(guess: int) -> None:
    assert tflm.smallest_arena(mlperf_tiny("ad01_int8").read_bytes(), guess=guess) == 4640


def test_a_right_guess_costs_two_constructions(monkeypatch: pytest.MonkeyPatch) -> None:
    content = mlperf_tiny("ad01_int8").read_bytes()
    tried: list[int] = []
    fits = tflm.fits

    def counted(content: bytes, arena_bytes: int) -> bool:
        tried.append(arena_bytes)
        return fits(content, arena_bytes)

    monkeypatch.setattr(tflm, "fits", counted)
    tflm.smallest_arena(content, guess=4640)
    assert tried == [4640, 4640 - 16]


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_allocations_are_head_and_tail(name: str) -> None:
    found = tflm.allocations(mlperf_tiny(name).read_bytes(), tflm.ROOMY_ARENA_BYTES)
    assert found.head_bytes == HEAD[name]
    assert found.total_bytes == found.head_bytes + found.tail_bytes
    assert 0 < sum(found.details.values()) <= found.tail_bytes


def test_litert_and_tflm_agree_within_two_steps_of_the_output() -> None:
    content = mlperf_tiny("pretrainedResnet_quant").read_bytes()
    samples = tflm.random_inputs(content, samples=4, seed=3)
    ours = tflm.run(content, samples, arena_bytes=SMALLEST["pretrainedResnet_quant"])
    theirs = litert.run(content, samples)
    for (a,), (b,) in zip(ours, theirs, strict=True):
        assert a.shape == b.shape == (1, 10)
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 2


def test_isolated_run_gives_the_same_outputs() -> None:
    content = mlperf_tiny("kws_ref_model").read_bytes()
    samples = tflm.random_inputs(content, seed=1)
    here = tflm.run(content, samples, arena_bytes=1 << 20)
    there = tflm.run(content, samples, arena_bytes=1 << 20, isolated=True)
    assert len(here) == 2
    for (a,), (b,) in zip(here, there, strict=True):
        np.testing.assert_array_equal(a, b)


def test_noise_of_the_runtime_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    tflm.allocations(mlperf_tiny("ad01_int8").read_bytes(), 1 << 20)
    assert capfd.readouterr() == ("", "")


def test_a_small_arena_says_what_was_missing() -> None:
    with pytest.raises(tflm.ArenaTooSmallError, match=r"does not allocate in 4096 bytes.*missing"):
        tflm.run(mlperf_tiny("vww_96_int8").read_bytes(), [], arena_bytes=4096)


@pytest.mark.parametrize("run", [lambda c, s: tflm.run(c, s, arena_bytes=1 << 20), litert.run])
def test_a_wrong_sample_names_both_shapes(run: object) -> None:
    content = mlperf_tiny("ad01_int8").read_bytes()
    sample = [np.zeros((1, 639), np.int8)]
    with pytest.raises(BadInputError, match=r"expected int8\[1, 640\]; received int8\[1, 639\]"):
        run(content, [sample])  # type: ignore[operator]


def test_a_broken_model_is_refused() -> None:
    content = b"\x00" * 64
    with pytest.raises(UnsupportedModelError, match="refuses the model"):
        tflm.run(content, [], arena_bytes=1 << 20, isolated=True)
    with pytest.raises(UnsupportedModelError, match="refuses the model"):
        litert.run(content, [])


def test_a_crash_of_the_child_is_an_error_and_the_next_call_works() -> None:
    content = mlperf_tiny("ad01_int8").read_bytes()
    # KWS crashes the runtime itself in arenas of about 4 KB, where temporaries do not fit.
    victim = mlperf_tiny("kws_ref_model").read_bytes()
    assert not any(tflm.fits(victim, arena) for arena in range(4160, 4224, 16))
    assert tflm.fits(content, 4640)
    with pytest.raises(isolation.CrashedError, match="ended during run; received signal SIGKILL"):
        _killed(content)
    assert tflm.fits(content, 4640)


def _killed(content: bytes) -> None:
    tflm.fits(content, 4640)
    worker = isolation._worker
    assert worker is not None
    os.kill(worker.process.pid, signal.SIGKILL)
    tflm.run(content, tflm.random_inputs(content), arena_bytes=4640, isolated=True)


def test_outputs_that_change_are_a_verification_error() -> None:
    content = mlperf_tiny("ad01_int8").read_bytes()
    samples = tflm.random_inputs(content)
    expected = [[a ^ 1 for a in sample] for sample in tflm.run(content, samples, arena_bytes=9999)]
    with pytest.raises(VerificationError, match=r"differs in an arena of 4640 bytes.*640 of 640"):
        tflm.smallest_arena(content, guess=4640, inputs=samples, expected=expected)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
