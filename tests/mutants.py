"""Small models, damaged in many ways: bytes, ends, and every field of the flatbuffer.

    for seed in range(1000):
        content = mutant(seed)

The same seed gives the same bytes. ``outcome`` tells how the command line ends with them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from deploy import cli, flatbuffer
from deploy.runtime import isolation
from tests.random_graphs import random_graph
from tests.single_operators import NAMES, single_operator

SECONDS = 60
"""What one command may take; a guard against those that never end."""

_INTEGERS = (-(2**31), -129, -2, -1, 0, 1, 2, 3, 5, 16, 127, 128, 255, 65536, 2**31 - 1)
_FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-30, 3e38, 0.5)
_TEXTS = (b"", b"\x1b[31mred", b"a" * 5000, b"a\x00b\nc", b"\xff\xfe", b"*/ x /*")
_RANDOM_GRAPHS = 40


@functools.cache
def bases() -> tuple[bytes, ...]:
    """Sound models: one of each operator, and small networks."""
    singles = [flatbuffer.write(single_operator(name)) for name in NAMES]
    graphs = [random_graph(seed, operators=(2, 8)) for seed in range(_RANDOM_GRAPHS)]
    return (*singles, *map(flatbuffer.write, graphs))


def mutant(seed: int) -> bytes:
    """Returns the damaged model of a seed."""
    rng = np.random.default_rng(seed)
    content = bases()[int(rng.integers(len(bases())))]
    return _WAYS[int(rng.integers(len(_WAYS)))](content, rng)


def outcome(content: bytes, command: str = "plan", *options: str) -> tuple[int, str]:
    """Returns the exit status of a command for a model file, and what it printed as errors.

    It runs in this process; what takes longer than ``SECONDS`` raises TimeoutError.
    """
    errors = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, _limited():
        path = Path(folder) / "m.tflite"
        path.write_bytes(content)
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = cli.main([command, str(path), *options])
    return status, errors.getvalue()


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    timeout, isolation.TIMEOUT_SECONDS = isolation.TIMEOUT_SECONDS, SECONDS / 4
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        isolation.TIMEOUT_SECONDS = timeout


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    """One aligned word becomes another value."""
    place = 4 * int(rng.integers(len(content) // 4))
    value = _INTEGERS[int(rng.integers(len(_INTEGERS)))]
    return content[:place] + value.to_bytes(4, "little", signed=value < 0) + content[place + 4 :]


def _field(content: bytes, rng: np.random.Generator) -> bytes:
    """One field of one table becomes another value, or two do."""
    while True:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        for _ in range(int(rng.integers(1, 3))):
            places = list(_places(model))
            table, name = places[int(rng.integers(len(places)))]
            setattr(table, name, _another(getattr(table, name), rng))
        builder = flatbuffers.Builder(1 << 12)
        with contextlib.suppress(Exception):
            # What does not go into the field at all is drawn again.
            builder.Finish(model.Pack(builder), b"TFL3")
            return bytes(builder.Output())


def _places(table: Any) -> Iterator[tuple[Any, str]]:
    for name, value in vars(table).items():
        yield table, name
        for inner in value if isinstance(value, list) else [value]:
            if hasattr(inner, "Pack"):
                yield from _places(inner)


def _another(value: Any, rng: np.random.Generator) -> Any:
    def pick(options: tuple[Any, ...]) -> Any:
        return options[int(rng.integers(len(options)))]

    if isinstance(value, bool):
        return not value
    if isinstance(value, int | np.integer):
        return int(value) + pick((-1, 1)) if rng.integers(3) == 0 else pick(_INTEGERS)
    if isinstance(value, float | np.floating):
        return pick(_FLOATS)
    if isinstance(value, str | bytes):
        return pick(_TEXTS)
    if isinstance(value, np.ndarray | list) and len(value):
        return _another_list(value, rng)
    return pick((None, np.array([1, 2], np.int32)))


def _another_list(value: Any, rng: np.random.Generator) -> Any:
    items = list(value)
    place = int(rng.integers(len(items)))
    way = int(rng.integers(5))
    if way == 0:
        return None
    if way == 1:
        del items[place]
    elif way == 2:
        items.insert(place, items[place])
    elif way == 3:
        other = int(rng.integers(len(items)))
        items[place], items[other] = items[other], items[place]
    elif not hasattr(items[place], "Pack"):
        items[place] = _another(items[place], rng)
    if isinstance(value, np.ndarray):
        with np.errstate(all="ignore"):
            return np.array([_fitting(i, value.dtype) for i in items], value.dtype)
    return items


def _fitting(item: Any, dtype: np.dtype) -> Any:
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return min(max(int(item), limits.min), limits.max)
    return item


_WAYS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _flip,
    _word,
    _truncate,
    *[_field] * 5,
)
