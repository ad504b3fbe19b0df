"""Names that the generated files share: macros of the plan, functions, counters of a region."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.backends.c.assign import AddressedRegion, RowLayout
from deploy.proof.names import c_prefix

COUNTER_BYTES = 2
_MOST_ROWS = (1 << 15) - 1


@dataclass(frozen=True, slots=True)
class Names:
    """Names made of the model's: ``macro`` in capitals, ``function`` in small letters."""

    macro: str

    @staticmethod
    def of(model_name: str) -> Names:
        return Names(c_prefix(model_name))

    @property
    def function(self) -> str:
        return self.macro.lower()

    def offset(self, region: int, m: int) -> str:
        return f"{self.macro}_R{region}_M{m}_OFFSET"

    def held(self, region: int, m: int) -> str:
        return f"{self.macro}_R{region}_M{m}_ROWS"

    def scratch(self, region: int) -> str:
        return f"{self.macro}_R{region}_SCRATCH_OFFSET"

    def scratch_bytes(self, step: int) -> str:
        return f"{self.macro}_S{step}_SCRATCH_BYTES"

    def rows(self, m: int) -> str:
        return f"{self.macro}_M{m}_ROWS"

    def row_bytes(self, m: int) -> str:
        return f"{self.macro}_M{m}_ROW_BYTES"

    def size_bytes(self, m: int) -> str:
        return f"{self.macro}_M{m}_BYTES"


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a region that makes rows one by one.

    Attributes:
        made: map -> place in the array of rows made.
        kept: line buffer -> place in the array of first rows held; only of those that slide.
    """

    made: dict[int, int]
    kept: dict[int, int]


def counters(layout: RowLayout, region: AddressedRegion) -> Counters:
    """Returns the counters of a region; a region of one step has none."""
    schedule, maps = region.placed.schedule, layout.program.maps
    if schedule.single:
        return Counters({}, {})
    order = dict.fromkeys(schedule.events)
    made = {m: place for place, m in enumerate(order)}
    sliding = [
        m
        for m in order
        if m in schedule.lines and 1 < schedule.lines[m] < maps[m].rows and not maps[m].sums
    ]
    return Counters(made, {m: place for place, m in enumerate(sliding)})


@dataclass(frozen=True, slots=True)
class State:
    """The counters of a whole program, in static memory; together a multiple of 4 bytes."""

    made: int
    kept: int
    fed: bool
    counter_bytes: int

    @property
    def size_bytes(self) -> int:
        return self.counter_bytes * (self.made + self.kept + int(self.fed))

    @property
    def counter_type(self) -> str:
        return "int16_t" if self.counter_bytes == COUNTER_BYTES else "int32_t"


def state(layout: RowLayout) -> State:
    """Returns the counters that the largest region needs."""
    each = [counters(layout, region) for region in layout.regions]
    most_rows = max((m.rows for m in layout.program.maps), default=0)
    made = max((len(c.made) for c in each), default=0)
    kept = max((len(c.kept) for c in each), default=0)
    fed = layout.fed is not None
    return State(
        made=made + (made + kept + int(fed)) % 2,
        kept=kept,
        fed=fed,
        counter_bytes=COUNTER_BYTES if most_rows <= _MOST_ROWS else 2 * COUNTER_BYTES,
    )


def static_bytes(layout: RowLayout) -> int:
    """Returns all the static RAM of the generated code."""
    return layout.arena_bytes + state(layout).size_bytes
