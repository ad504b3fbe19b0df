"""Operators that keep state in variable tensors, from one inference to the next."""

from __future__ import annotations

from deploy.operators.row import Shape, Site

_GATE_WEIGHTS = range(1, 9)
_GATE_BIASES = range(12, 16)
_HIDDEN, _CELL = 18, 19
LSTM_ABSENT = tuple(
    position
    for position in range(24)
    if position not in (0, *_GATE_WEIGHTS, *_GATE_BIASES, _HIDDEN, _CELL)
)
"""Inputs of peepholes, projection and layer normalisation, which the runtime has not."""


def svdf(site: Site) -> tuple[Shape | None, ...]:
    """(b, d), features (f, d), time (f, m), bias (f / rank), state (b, m · f) → (b, f / rank)."""
    batch, depth = site.ranked(0, 2)
    filters, width = site.ranked(1, 2)
    rows, memory = site.ranked(2, 2)
    rank = site.positive("rank")
    if width != depth:
        site.fail_at(1, f"{depth} columns", site.shape(1))
    if rows != filters or filters % rank:
        site.fail_at(2, f"{filters} rows, a multiple of the rank {rank}", site.shape(2))
    if site.has(3) and site.tensor(3).elements != filters // rank:
        site.fail_at(3, f"{filters // rank} values", site.tensor(3).elements)
    _check_state(site, 4, (batch, memory * filters))
    return ((batch, filters // rank),)


def svdf_types(site: Site) -> None:
    """int8 throughout with a state and time weights of int8 or int16, or float32 throughout."""
    dtype = _data_type(site)
    states = ("float32",) if dtype == "float32" else ("int8", "int16")
    _check_type(site, (1,), (dtype,))
    _check_type(site, (2, 4), states)
    _check_type(site, (3,), ("float32" if dtype == "float32" else "int32",))
    _check_output(site, dtype)
    if dtype == "int8" and not site.has(3):
        site.fail("has no bias", "a bias: the runtime reads its scale", "none")


def svdf_products(site: Site) -> int:
    """Features: b · f · d; time: b · f · m."""
    batch = site.shape(0)[0]
    return batch * (site.tensor(1).elements + site.tensor(2).elements)


def lstm(site: Site) -> tuple[Shape | None, ...]:
    """(b, t, d), or (t, b, d) where time is major → as many steps of s values.

    Weights of the four gates are (s, d) for the input and (s, s) for the hidden state.
    """
    first, second, depth = site.ranked(0, 3)
    state, _ = site.ranked(1, 2)
    for position in _GATE_WEIGHTS:
        wanted = (state, depth if position < 5 else state)
        if site.shape(position) != wanted:
            site.fail_at(position, wanted, site.shape(position))
    for position in _GATE_BIASES:
        if site.shape(position) != (state,):
            site.fail_at(position, (state,), site.shape(position))
    for position in LSTM_ABSENT:
        if site.has(position):
            site.fail_at(position, "none: the runtime has a plain LSTM only", site.shape(position))
    batch = second if site.operator.option("time_major") else first
    for position in (_HIDDEN, _CELL):
        _check_state(site, position, (batch, state))
    return ((first, second, state),)


def lstm_types(site: Site) -> None:
    """int8 or int16 maps with int8 weights and a cell state of int16, or float32 throughout."""
    dtype = _data_type(site, "int16")
    is_float = dtype == "float32"
    _check_type(site, _GATE_WEIGHTS, ("float32" if is_float else "int8",))
    biases = {"float32": "float32", "int8": "int32", "int16": "int64"}
    _check_type(site, _GATE_BIASES, (biases[dtype],))
    _check_type(site, (_HIDDEN,), (dtype,))
    _check_type(site, (_CELL,), ("float32" if is_float else "int16",))
    _check_output(site, dtype)


def lstm_products(site: Site) -> int:
    """Each step: 4 · s · (d + s)."""
    first, second, _ = site.shape(0)
    return first * second * sum(site.tensor(position).elements for position in _GATE_WEIGHTS)


def _data_type(site: Site, *more: str) -> str:
    allowed = ("int8", *more, "float32")
    dtype = site.tensor(0).dtype
    if dtype not in allowed:
        site.fail_at(0, " or ".join(allowed), dtype)
    return dtype


def _check_type(site: Site, positions: range | tuple[int, ...], allowed: tuple[str, ...]) -> None:
    for position in positions:
        if site.has(position) and site.tensor(position).dtype not in allowed:
            site.fail_at(position, " or ".join(allowed), site.tensor(position).dtype)


def _check_output(site: Site, dtype: str) -> None:
    if site.output.dtype != dtype:
        site.fail(f"cannot write {site.output.name}", dtype, site.output.dtype)


def _check_state(site: Site, position: int, shape: Shape) -> None:
    if site.shape(position) != shape:
        site.fail_at(position, shape, site.shape(position))
    if not site.tensor(position).is_variable:
        site.fail_at(position, "a variable tensor, which keeps the state", "another tensor")
