"""Efforts by name, and what ends a search early: a limit that the user set, or Ctrl-C."""

import os
import signal
import sys
import threading
import time

import pytest

from deploy.effort import Guard, effort_named
from keras_fmc.errors import BadInputError


def test_efforts_have_names_and_grades():
    assert [effort_named(name).grade for name in ("quick", "normal", "thorough")] == [0, 1, 2]
    with pytest.raises(BadInputError, match=r"quick, normal, thorough.*'fast'"):
        effort_named("fast")


def test_without_a_limit_no_clock_is_read(monkeypatch):
    def no_clock() -> float:
        raise AssertionError("a clock was read")

    monkeypatch.setattr(time, "monotonic", no_clock)
    guard = Guard()
    assert not guard()
    assert guard.reason is None
    with pytest.raises(AssertionError):
        Guard(1.0)


def test_a_time_limit_ends_a_search_and_says_so(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    guard = Guard(2.5)
    now[0] = 102.4
    assert not guard()
    now[0] = 102.5
    assert guard()
    assert guard.reason == "the time limit of 2.5 s"
    # What ended it first is the reason.
    guard.interrupt()
    assert guard.reason == "the time limit of 2.5 s"


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_is_above_zero(limit):
    with pytest.raises(BadInputError, match="time limit is not positive"):
        Guard(limit)


def test_the_first_ctrl_c_ends_the_search_and_the_second_interrupts():
    usual = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Guard() as guard:
            os.kill(os.getpid(), signal.SIGINT)
            assert guard()
            assert guard.reason == "Ctrl-C"
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)


def test_handlers_of_others_and_other_threads_are_left_alone():
    def own(number: int, frame: object) -> None:
        del number, frame

    usual = signal.signal(signal.SIGINT, own)
    try:
        with Guard():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, usual)
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with Guard() as guard:
                assert not guard()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert failures == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
