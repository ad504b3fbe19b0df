"""``arena_plan.h`` of a row program: every number that ``NAME.c`` uses for memory, by name."""

from __future__ import annotations

from deploy.backends.c.assign import AddressedRegion, RowLayout
from deploy.backends.c.names import Names, static_bytes
from deploy.proof.names import c_comment, short_name


def plan_header(layout: RowLayout, *, model_name: str) -> str:
    """Returns arena_plan.h."""
    names = Names.of(model_name)
    guard = f"{names.macro}_ARENA_PLAN_H_"
    lines = [
        f"/* Memory of {c_comment(model_name)}; arena_plan.c proves it. Generated. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "/* Bytes for maps, line buffers and sums; with the counters, all static memory. */",
        f"#define {names.macro}_ARENA_BYTES {layout.arena_bytes}",
        f"/* {static_bytes(layout)} bytes with the counters. */",
        "",
        "/* Maps: rows, bytes of a row, bytes of the whole. */",
    ]
    for m, entry in enumerate(layout.program.maps):
        lines += [
            f"/* {c_comment(short_name(entry.name))} */",
            f"#define {names.rows(m)} {entry.rows}",
            f"#define {names.row_bytes(m)} {entry.row_bytes}",
            f"#define {names.size_bytes(m)} {entry.size_bytes}",
        ]
    for number, step in enumerate(layout.program.steps):
        if step.scratch is not None:
            lines += [
                f"/* Scratch of {c_comment(step.label)} */",
                f"#define {names.scratch_bytes(number)} {step.scratch_bytes}",
            ]
    for number, region in enumerate(layout.regions):
        lines += ["", *_region(layout, number, region, names)]
    return "\n".join([*lines, "", "#endif", ""])


def _region(layout: RowLayout, number: int, region: AddressedRegion, names: Names) -> list[str]:
    schedule = region.placed.schedule
    steps = layout.program.steps[schedule.first : schedule.stop]
    first, last = steps[0].label, steps[-1].label
    span = first if len(steps) == 1 else f"{first} to {last}"
    lines = [f"/* Region {number}: {c_comment(span)} */"]
    roles = (
        (schedule.passengers, "stays whole"),
        (schedule.sources, "is read whole"),
        (schedule.sinks, "is made whole"),
    )
    for maps, role in roles:
        lines += [
            f"#define {names.offset(number, m)} {region.offsets[m]} /* {role} */" for m in maps
        ]
    for m, rows in schedule.lines.items():
        lines.append(f"#define {names.offset(number, m)} {region.offsets[m]} /* line buffer */")
        lines.append(f"#define {names.held(number, m)} {rows}")
    if any(step.scratch is not None for step in steps):
        lines.append(f"#define {names.scratch(number)} {region.placed.scratch}")
    return lines
