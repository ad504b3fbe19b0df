"""One strip of one group of operators: which rows each of them reads and writes.

Worked out backwards from the rows that the group's last operator has to deliver. Each operator
is asked to hand over a tensor with certain rows, of which some have to be exact; it picks the
smallest window of its input that yields them. With SAME padding the rows beside a cut come out
wrong, so windows reach further than what is strictly needed; a *padded* operator
instead gets explicit zeros at the sides and no wrong rows.
"""

from __future__ import annotations

from typing import NamedTuple

from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.network import Network
from deploy.operators.by_rows import RowOperator
from deploy.operators.rows import (
    RowRule,
    Rows,
    Scattering,
    Shifting,
    Sliding,
)
from keras_fmc.errors import VerificationError
from keras_fmc.padding import same_padding


class TileStep(NamedTuple):
    """One operator of a strip: input rows ``window``, output rows ``out``.

    ``padding`` (rows before and after) is set where the operator gets a PAD of its own, or is
    itself one. ``single``: the strip has one row, and a stride as large as the window makes SAME
    padding leave out the rows before and after it.
    """

    operator: int
    window: Rows
    out: Rows
    padding: tuple[int, int] | None
    single: bool = False


class Tile(NamedTuple):
    """The steps of a strip in order, and what it reads from outside: (tensor, rows)."""

    steps: tuple[TileStep, ...]
    reads: tuple[tuple[int, Rows], ...]
    macs: int


_Window = tuple[Rows, Rows, tuple[int, int] | None, bool]


def tile_flags(members: tuple[int, ...], cuts: Cuts) -> tuple[int, ...]:
    """What cuts say of operators as far as their tiles depend on it."""
    return tuple([(o in cuts.untrimmed) + 2 * (o in cuts.padded) for o in members])


class TileSolver:
    """Solves strips of the groups of one way of cutting, remembering what it solved."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._known: dict[tuple[object, ...], Tile] = {}
        self._windows: dict[tuple[object, ...], _Window] = {}

    def solve(
        self, members: tuple[int, ...], rows: Rows, cuts: Cuts, flags: tuple[int, ...]
    ) -> Tile:
        """Returns the strip in which the last of ``members`` delivers exactly ``rows``.

        ``flags`` are ``tile_flags`` of the members, which the caller has at hand.
        """
        key = (members, flags, rows)
        tile = self._known.get(key)
        if tile is None:
            tile = self._known[key] = self._solve(members, rows, cuts)
        return tile

    def _solve(self, members: tuple[int, ...], rows: Rows, cuts: Cuts) -> Tile:
        network = self.network
        inside = frozenset(members)
        slack = self._slack(members, cuts)
        wanted: dict[int, tuple[Rows, Rows]] = {members[-1]: (rows, rows)}
        steps: list[TileStep] = []
        reads: list[tuple[int, Rows]] = []
        macs = 0
        for operator in reversed(members):
            tensor_rows, exact_rows = wanted[operator]
            info = network.row_operators[operator]
            window, out, padding, single = self._window(
                info, tensor_rows, exact_rows, slack.get(operator, (0, 0)), operator in cuts.padded
            )
            needed = info.rule.needed(exact_rows)
            for position in info.row_inputs:
                tensor = network.graph.operators[operator].inputs[position]
                producer = network.producer.get(tensor, -1)
                if producer in inside:
                    earlier = wanted.get(producer)
                    wanted[producer] = (
                        (window, needed)
                        if earlier is None
                        else (_hull(earlier[0], window), _hull(earlier[1], needed))
                    )
                else:
                    reads.append((tensor, window))
            steps.append(TileStep(operator, window, out, padding, single))
            macs += self._macs(info, window, out)
        return Tile(tuple(reversed(steps)), tuple(dict.fromkeys(reversed(reads))), macs)

    def _slack(self, members: tuple[int, ...], cuts: Cuts) -> dict[int, Rows]:
        """(top, bottom) wrong rows that the inputs of each operator bring along at a cut."""
        wrong_rows: dict[int, Rows] = {}
        slack: dict[int, Rows] = {}
        for operator in members:
            info = self.network.row_operators[operator]
            top = bottom = 0
            for position in info.row_inputs:
                tensor = self.network.graph.operators[operator].inputs[position]
                producer = self.network.producer.get(tensor, -1)
                if producer in wrong_rows and producer in cuts.untrimmed:
                    top = max(top, wrong_rows[producer][0])
                    bottom = max(bottom, wrong_rows[producer][1])
            slack[operator] = (top, bottom)
            rule = info.rule
            if isinstance(rule, Sliding):
                own = (0, 0)
                if rule.same and operator not in cuts.padded:
                    before = rule.pad_before
                    own = (before, max(rule.kernel_extent - rule.stride - before, 0))
                wrong_rows[operator] = (
                    -(-(top + own[0]) // rule.stride),
                    -(-(bottom + own[1]) // rule.stride),
                )
            else:
                # Their strips are cropped at once.
                wrong_rows[operator] = (0, 0)
        return slack

    def _window(
        self, info: RowOperator, tensor_rows: Rows, exact_rows: Rows, slack: Rows, padded: bool
    ) -> _Window:
        key = (info.index, tensor_rows, exact_rows, slack, padded)
        found = self._windows.get(key)
        if found is None:
            found = self._windows[key] = _find_window(info, tensor_rows, exact_rows, slack, padded)
        return found

    def _macs(self, info: RowOperator, window: Rows, out: Rows) -> int:
        macs = self.network.macs[info.index]
        if isinstance(info.rule, Scattering):
            return macs * (window[1] - window[0]) // info.rule.in_rows
        return macs * (out[1] - out[0]) // info.rule.out_rows


def _find_window(
    info: RowOperator, tensor_rows: Rows, exact_rows: Rows, slack: Rows, padded: bool
) -> _Window:
    """The window with the fewest rows that serves; see ``TileStep``."""
    rule = info.rule
    if tensor_rows == (0, rule.out_rows):
        return (0, rule.in_rows), tensor_rows, _own_padding(rule, tensor_rows), False
    if isinstance(rule, Shifting):
        # At least one row of the strip has to come from the input.
        start = min(tensor_rows[0], rule.shift + rule.in_rows - 1)
        stop = max(tensor_rows[1], rule.shift + 1)
        rows = start, stop
        return rule.needed(rows), rows, _own_padding(rule, rows), False
    if isinstance(rule, Sliding) and rule.same and rule.kernel_extent > 1:
        window = rule.needed(tensor_rows)
        before = window[0] - (tensor_rows[0] * rule.stride - rule.pad_before)
        reach = (tensor_rows[1] - 1) * rule.stride - rule.pad_before + rule.kernel_extent
        after = reach - window[1]
        if padded and before >= 0 and after >= 0:
            return window, tensor_rows, (before, after), False
        if not info.pads_columns and before == after == 0:
            # Nothing to pad beside or around the rows: VALID is exact.
            return window, tensor_rows, (0, 0), False
        height = window[1] - window[0]
        if tensor_rows[1] - tensor_rows[0] == 1 and (before, after) == same_padding(
            height, rule.kernel_extent, height
        ):
            return window, tensor_rows, None, True
    needed = rule.needed(exact_rows)
    core = rule.core(tensor_rows)
    start, stop = min(needed[0], core[0]), max(needed[1], core[1])
    if needed[0] > 0:
        start = max(0, min(start, needed[0] - slack[0]))
    if needed[1] < rule.in_rows:
        stop = min(rule.in_rows, max(stop, needed[1] + slack[1]))
    best: tuple[bool, Rows, Rows] | None = None
    for extra in range(2 * rule.in_rows):
        for above in range(extra + 1):
            window = (start - above, stop + extra - above)
            if window[0] < 0 or window[1] > rule.in_rows:
                continue
            out = rule.run(window)
            if out is None or out[0] > tensor_rows[0] or out[1] < tensor_rows[1]:
                continue
            good = rule.exact(window, needed)
            if good[0] > exact_rows[0] or good[1] < exact_rows[1]:
                continue
            if best is None or (out == tensor_rows and not best[0]):
                best = (out == tensor_rows, window, out)
        if best is not None:
            return best[1], best[2], None, False
    raise VerificationError(f"strips of operator {info.index} are not exact even on the whole map")


def _own_padding(rule: RowRule, rows: Rows) -> tuple[int, int] | None:
    return rule.padding(rows) if isinstance(rule, Shifting) else None


def _hull(a: Rows, b: Rows) -> Rows:
    return min(a[0], b[0]), max(a[1], b[1])
