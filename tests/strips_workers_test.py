"""Walks in several processes: the same result from any number, and from workers that die."""

import dataclasses
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

import pytest

from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.strips import choose_strips, walks, workers
from deploy.backends.tflm.strips.choose import StripChoice
from deploy.flatbuffer import write
from deploy.graph import Graph
from deploy.runtime.child import Child
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker

_WHEEL = target(board="host")
_PATIENCE_SECONDS = 120

_DEATHS = {
    "before it reads": "os._exit(1)",
    "after it has read": "connection.recv(); os._exit(9)",
    "within an answer": "connection.recv(); os.write(descriptor, b'\\0\\0\\1\\0abc'); os._exit(0)",
    "after nonsense": "connection.recv(); connection.send_bytes(b'no pickle'); connection.recv()",
    "by a signal": "connection.recv(); os.kill(os.getpid(), 9)",
}


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    monkeypatch.setattr(walks, "EFFORT", dataclasses.replace(walks.EFFORT, small_work=1_500))
    workers.close()
    yield
    workers.close()


def graph() -> Graph:
    make = Int8GraphMaker(3)
    x = make.input((1, 24, 16, 3))
    for stride in ((1, 1), (2, 2), (2, 2)):
        x = make.conv(x, channels=8, kernel=(3, 3), stride=stride)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=4)])


def content(choice: StripChoice) -> bytes:
    return write(embed(choice.graph, choice.memory.offsets))


def in_time(count: int) -> StripChoice:
    """What a search with so many processes finds; fails if it hangs."""
    found: list[StripChoice | BaseException] = []

    def search() -> None:
        try:
            found.append(choose_strips(graph(), target=_WHEEL, workers=count, plan_rounds=0))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=search, daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    assert found, "the search hangs"
    assert isinstance(found[0], StripChoice), found[0]
    return found[0]


def dying(monkeypatch, how: str) -> list[subprocess.Popen[bytes]]:
    """Makes every worker a process that ends in one way; returns those that were started."""
    started = []
    code = (
        "import os, sys; from multiprocessing.connection import Connection; "
        f"descriptor = int(sys.argv[1]); connection = Connection(descriptor); {how}"
    )
    usual = subprocess.Popen

    def start(command, **options):
        process = usual([sys.executable, "-c", code, command[-1]], **options)
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


@pytest.mark.parametrize("how", _DEATHS.values(), ids=_DEATHS)
def test_a_worker_that_dies_changes_nothing(monkeypatch, how):
    usual = content(in_time(1))
    started = dying(monkeypatch, how)
    found = in_time(3)
    assert content(found) == usual
    assert not found.interrupted
    assert started
    assert all(process.wait(timeout=_PATIENCE_SECONDS) is not None for process in started)
    assert not workers._idle


def test_a_worker_that_died_between_two_searches_is_replaced():
    usual = content(in_time(2))
    (worker,) = workers._idle.values()
    worker.process.kill()
    worker.process.wait()
    assert content(in_time(2)) == usual


def test_where_no_process_can_be_started_the_caller_does_it_all(monkeypatch):
    usual = content(in_time(1))

    def refuse(*arguments, **options):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert content(in_time(3)) == usual


def test_a_worker_ends_with_its_caller():
    """Nobody is left waiting where the caller is gone, however it ended."""
    worker = Child(workers.__name__)
    assert isinstance(worker.connection, Connection)
    worker.connection.close()
    assert worker.process.wait(timeout=_PATIENCE_SECONDS) == 0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
