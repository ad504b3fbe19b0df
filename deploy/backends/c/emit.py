"""``NAME.c``: the program as functions, one for each map that rows are asked of.

A region of one step is a loop. Any other region has a function for each map, which makes the
map's next row: it asks the maps that it reads for their rows, slides its line buffer if that is
full, and calls the kernel. With a fed image the functions return 0 where a row of it is lacking,
and start again at the same place when it has come.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from deploy.backends.c.assign import AddressedRegion, RowLayout
from deploy.backends.c.library import PREFIX, SOURCE
from deploy.backends.c.names import Names, counters, state
from deploy.backends.c.program import Read, Step
from deploy.backends.c.rows_text import above_text, first_text, stop_text
from deploy.backends.c.schedule import turn_rows
from deploy.graph import C_TYPES, Graph
from deploy.proof.names import c_comment

_TEMPLATES = Path(__file__).with_name("templates")
_INDENT = "  "
_LINE = 99


def model_source(graph: Graph, layout: RowLayout, *, model_name: str) -> str:
    """Returns NAME.c."""
    return _SourceWriter(graph, layout, model_name).text()


class _SourceWriter:
    def __init__(self, graph: Graph, layout: RowLayout, model_name: str) -> None:
        self.graph, self.layout, self.program = graph, layout, layout.program
        self.names = Names.of(model_name)
        self.model_name = model_name
        self.functions: list[str] = []
        self.bodies: list[str] = []

    def text(self) -> str:
        for number, region in enumerate(self.layout.regions):
            self.bodies.append(_RegionWriter(self, number, region).write())
        fed = self.layout.fed is not None
        template = Template((_TEMPLATES / ("fed.c" if fed else "whole.c")).read_text())
        common = Template((_TEMPLATES / "common.c").read_text())
        after = self.bodies[1:] if fed else self.bodies
        inputs, outputs = self.graph.inputs, self.graph.outputs
        values = {
            "model": c_comment(self.model_name),
            "name": self.names.function,
            "NAME": self.names.macro,
            **self._places_of_state(),
            "functions": "\n".join(self.functions),
            "parameters": self.parameters(),
            "null_checks": " || ".join(f"!{p}" for p in self._pointers()) or "0",
            "copies_in": _lines(self._copy_in(k) for k in range(len(inputs))),
            "copies_out": _lines(self._copy_out(k) for k in range(len(outputs))),
            "regions": "\n".join(after),
            "first_region": self.bodies[0] if fed else "",
            "accessors": "\n".join(self._accessors()),
            "check": self._check(),
            "output_parameters": ", ".join(self._output_parameters()),
            "output_null_checks": " || ".join(f"!{p}" for p in self._pointers() if p[0] == "o"),
            **self._fed_values(),
        }
        text = common.substitute(values) + template.substitute(values)
        return "\n".join(wrapped(line) for line in text.split("\n"))

    def _fed_values(self) -> dict[str, str]:
        """What the functions of a fed image say of it."""
        m = self.layout.fed
        if m is None:
            return {}
        region = self.layout.regions[0]
        place = counters(self.layout, region)
        sinks = region.placed.schedule.sinks
        busy = [f"FMC_STATE.made[{place.made[s]}] < {self.names.rows(s)}" for s in sinks]
        return {
            "rows": self.names.rows(m),
            "busy": " || ".join(busy),
            "type": self._type(self.program.maps[m].tensor),
        }

    def parameters(self) -> str:
        parts = [
            f"const {self._type(t)} *input{_suffix(k, self.graph.inputs)}"
            for k, t in enumerate(self.graph.inputs)
        ]
        return ", ".join(parts + self._output_parameters())

    def _output_parameters(self) -> list[str]:
        return [
            f"{self._type(t)} *output{_suffix(k, self.graph.outputs)}"
            for k, t in enumerate(self.graph.outputs)
        ]

    def _pointers(self) -> list[str]:
        return [f"input{_suffix(k, self.graph.inputs)}" for k in range(len(self.graph.inputs))] + [
            f"output{_suffix(k, self.graph.outputs)}" for k in range(len(self.graph.outputs))
        ]

    def _type(self, tensor: int) -> str:
        return C_TYPES[self.graph.tensors[tensor].dtype]

    def _place(self, m: int, region: int) -> str:
        return f"FMC_ARENA + {self.names.offset(region, m)}"

    def _copy_in(self, k: int) -> str:
        m, pointer = self.program.inputs[k], f"input{_suffix(k, self.graph.inputs)}"
        size = f"{self.names.size_bytes(m)}"
        if self._region_of_input(m) is None:
            return f"(void){pointer};"
        place = self._place(m, 0)
        return (
            f"if ((const void *){pointer} != (const void *)({place})) {{ "
            f"memmove({place}, {pointer}, {size}); }}"
        )

    def _region_of_input(self, m: int) -> int | None:
        return 0 if m in self.layout.regions[0].offsets else None

    def _copy_out(self, k: int) -> str:
        m, pointer = self.program.outputs[k], f"output{_suffix(k, self.graph.outputs)}"
        place = self._place(m, len(self.layout.regions) - 1)
        return f"memmove({pointer}, {place}, {self.names.size_bytes(m)});"

    def _accessors(self) -> list[str]:
        found = []
        name = self.names.function
        fed = self.layout.fed
        for k, t in enumerate(self.graph.inputs):
            m = self.program.inputs[k]
            if m == fed or self._region_of_input(m) is None:
                continue
            kind, suffix = self._type(t), _suffix(k, self.graph.inputs)
            found.append(
                f"{kind} *{name}_input{suffix}(void) {{\n"
                f"  return ({kind} *)(void *)(FMC_ARENA + {self.names.offset(0, m)});\n}}\n"
            )
        return found

    def _check(self) -> str:
        """Compares the library with what the plan was made for; empty without one."""
        if all(step.source != SOURCE for step in self.program.steps):
            return ""
        name, macro = self.names.function, self.names.macro
        lines = [
            f"{name}_status {name}_check(void) {{",
            f"  if (!{PREFIX}_agrees()) {{ return {macro}_LIBRARY_DIFFERS; }}",
        ]
        for number, step in enumerate(self.program.steps):
            for asked in step.scratch.asked if step.scratch is not None else ():
                more = f"{asked} > {self.names.scratch_bytes(number)}"
                lines.append(f"  if ({more}) {{ return {macro}_LIBRARY_NEEDS_MORE; }}")
        return "\n".join([*lines, f"  return {macro}_OK;", "}", "", ""])

    def _places_of_state(self) -> dict[str, str]:
        """Where the counters are declared, where they stand, and what they are called there."""
        declared = self._state()
        if not declared:
            return dict.fromkeys(("state", "state_beside", "state_within", "state_name"), "")
        return {
            "state": declared,
            "state_beside": "static counters_t counters;\n#define FMC_STATE counters\n",
            "state_within": "  counters_t counters;\n",
            "state_name": "#define FMC_STATE memory.counters\n",
        }

    def _state(self) -> str:
        entry = state(self.layout)
        lines = []
        if entry.made:
            lines.append(f"  {entry.counter_type} made[{entry.made}]; /* rows made of each map */")
        if entry.kept:
            lines.append(
                f"  {entry.counter_type} kept[{entry.kept}]; /* first row that a buffer holds */"
            )
        if entry.fed:
            lines.append(f"  {entry.counter_type} fed; /* 1 once a run began, plus the rows fed */")
        if not lines:
            return ""
        return "typedef struct {\n" + "\n".join(lines) + "\n} counters_t;\n\n"


class _RegionWriter:
    """The code of one region."""

    def __init__(self, writer: _SourceWriter, number: int, region: AddressedRegion) -> None:
        self.writer, self.number, self.region = writer, number, region
        self.schedule = region.placed.schedule
        self.program, self.names = writer.program, writer.names
        self.maps = self.program.maps
        self.counters = counters(writer.layout, region)
        self.fed = self.schedule.fed
        self.producers = {
            self.program.steps[s].output: s for s in range(self.schedule.first, self.schedule.stop)
        }

    def write(self) -> str:
        lines = [f"/* Region {self.number}: {self.region.placed.height_bytes} bytes. */"]
        for move in self.region.moves:
            name = self.names.offset(self.number, move.map)
            before = self.names.offset(self.number - 1, move.map)
            size = self.names.size_bytes(move.map)
            lines.append(f"memmove(FMC_ARENA + {name}, FMC_ARENA + {before}, {size});")
        if self.schedule.single:
            lines += self._single(self.program.steps[self.schedule.first])
        elif self.schedule.events:
            lines += self._rows()
        return "\n".join(_INDENT + line for line in lines)

    # One step.

    def _single(self, step: Step) -> list[str]:
        out = self.maps[step.output]
        label = f"/* {_label(step)} */"
        place = f"FMC_ARENA + {self.names.offset(self.number, step.output)}"
        if step.many_rows or self.region.at_once(self.program):
            (read,) = step.reads
            values = {
                **self._scratch(step),
                "in0": f"FMC_ARENA + {self.names.offset(self.number, read.map)}",
                "rows0": str(read.view_rows),
                "above0": str(-read.rows.first(0)),
                "out": place,
                "out_rows": str(out.rows),
            }
            return [label, *step.call.format(**values).split("\n")]
        if out.rows == 1:
            return [label, *self._call(step, "0", place).split("\n")]
        row_bytes = "" if out.sums else f" + row * {self.names.row_bytes(step.output)}"
        body = self._call(step, "row", place + row_bytes).split("\n")
        return [
            label,
            f"for (int32_t row = 0; row < {self.names.rows(step.output)}; row++) {{",
            *(_INDENT + line for line in body),
            "}",
        ]

    # Rows one by one.

    def _rows(self) -> list[str]:
        kind = "int" if self.fed is not None else "void"
        order = list(self.counters.made)
        declared = [f"static {kind} {self._function(m)}(void);" for m in order]
        defined = [self._feed() if m == self.fed else self._make(m) for m in order]
        declared = [line for m, line in zip(order, declared, strict=True) if m != self.fed]
        self.writer.functions += [*declared, *defined]
        lines = []
        if self.fed is None:
            lines.append("memset(&FMC_STATE, 0, sizeof(FMC_STATE));")
        sinks = self.schedule.sinks
        rounds = max(self.maps[m].rows for m in sinks)
        ask = "if (!{}()) {{ return; }}" if self.fed is not None else "{}();"
        if len(sinks) == 1:
            made = self._made(sinks[0])
            limit = self.names.rows(sinks[0])
            return [
                *lines,
                f"while ({made} < {limit}) {{ {ask.format(self._function(sinks[0]))} }}",
            ]
        lines.append(f"for (int32_t turn = 1; turn <= {rounds}; turn++) {{")
        for m in sinks:
            rows = self.maps[m].rows
            assert turn_rows(rounds - 1, rows, rounds) == rows
            limit = "turn" if rows == rounds else f"(turn * {rows} + {rounds - 1}) / {rounds}"
            asked = ask.format(self._function(m))
            lines.append(f"  while ({self._made(m)} < {limit}) {{ {asked} }}")
        return [*lines, "}"]

    def _function(self, m: int) -> str:
        return f"region{self.number}_map{m}"

    def _made(self, m: int) -> str:
        return f"FMC_STATE.made[{self.counters.made[m]}]"

    def _make(self, m: int) -> str:
        step = self.program.steps[self.producers[m]]
        kind = "int" if self.fed is not None else "void"
        lacking = "if (!{}()) {{ return 0; }}" if self.fed is not None else "{}();"
        out = self.maps[m]
        body = []
        body += self._slide(m)
        reads = step.reads[::-1] if self.schedule.backwards else step.reads
        for read in reads:
            if read.map == self.fed:
                stop = self._demand(read, out.rows)
                body.append(f"if ({self._made(read.map)} < {stop}) {{ return 0; }}")
            elif read.map in self.counters.made:
                stop = self._demand(read, out.rows)
                asked = lacking.format(self._function(read.map))
                body.append(f"while ({self._made(read.map)} < {stop}) {{ {asked} }}")
        body += self._call(step, "row", self._target(m)).split("\n")
        body.append(f"{self._made(m)}++;")
        if self.fed is not None:
            body.append("return 1;")
        text = "\n".join(body)
        if re.search(r"\brow\b", text):
            body.insert(0, f"const int32_t row = {self._made(m)};")
        return (
            f"/* {_label(step)} */\n"
            f"static {kind} {self._function(m)}(void) {{\n"
            + "\n".join(_INDENT + line for line in body)
            + "\n}\n"
        )

    def _feed(self) -> str:
        """Copies the next row of the fed image from the application."""
        assert self.fed is not None
        m = self.fed
        body = [
            *self._slide(m),
            f"memcpy({self._target(m)}, from, {self.names.row_bytes(m)});",
            f"{self._made(m)}++;",
        ]
        if re.search(r"\brow\b", "\n".join(body)):
            body.insert(0, f"const int32_t row = {self._made(m)};")
        inner = "\n".join(_INDENT + line for line in body)
        return (
            "/* The next row of the image. */\n"
            f"static void take_row(const void *from) {{\n{inner}\n}}\n"
        )

    def _demand(self, read: Read, out_rows: int) -> str:
        if read.all_rows or self.maps[read.map].sums:
            return self.names.rows(read.map)
        return stop_text(read, "row", out_rows)

    def _slide(self, m: int) -> list[str]:
        """Gives up the rows at the front of a line buffer that nothing reads any more."""
        if m not in self.counters.kept:
            return []
        kept = f"FMC_STATE.kept[{self.counters.kept[m]}]"
        row_bytes = self.names.row_bytes(m)
        needed = []
        for number in range(self.schedule.first, self.schedule.stop):
            step = self.program.steps[number]
            for read in step.reads:
                if read.map == m:
                    needed.append(self._still_needed(step, read))
        assert needed
        least = needed[0]
        for other in needed[1:]:
            least = f"fmc_at_most({least}, {other})"
        place = f"FMC_ARENA + {self.names.offset(self.number, m)}"
        kind = state(self.writer.layout).counter_type
        return [
            f"const int32_t needed = fmc_at_most({least}, row);",
            f"if (needed > {kept}) {{",
            f"  memmove({place}, {place} + (needed - {kept}) * {row_bytes}, "
            f"(uint32_t)((row - needed) * {row_bytes}));",
            f"  {kept} = ({kind})needed;",
            "}",
        ]

    def _still_needed(self, step: Step, read: Read) -> str:
        rows = self.maps[read.map].rows
        if step.output not in self.counters.made:
            return str(rows)
        made, out_rows = self._made(step.output), self.maps[step.output].rows
        first = "0" if read.all_rows else first_text(read, made, out_rows)
        return f"({made} < {out_rows} ? {first} : {rows})"

    def _target(self, m: int) -> str:
        place = f"FMC_ARENA + {self.names.offset(self.number, m)}"
        if self.maps[m].sums or self.maps[m].rows == 1:
            return place
        return self._row_of(m, "row", self.names.row_bytes(m))

    def _row_of(self, m: int, row: str, row_bytes: str) -> str:
        """The address of a row of a map of this region."""
        place = f"FMC_ARENA + {self.names.offset(self.number, m)}"
        if m in self.counters.kept:
            return f"{place} + ({row} - FMC_STATE.kept[{self.counters.kept[m]}]) * {row_bytes}"
        if m in self.schedule.lines and self.schedule.lines[m] == 1 and self.maps[m].rows > 1:
            return place
        if row == "0":
            return place
        return f"{place} + {_product(row)} * {row_bytes}"

    def _call(self, step: Step, row: str, out: str) -> str:
        """The kernel call that makes one row, after what it takes more than once."""
        rows = self.maps[step.output].rows
        values = {"row": row, "out": out, "out_rows": "1", **self._scratch(step)}
        before = []
        for k, read in enumerate(step.reads):
            first, stop = first_text(read, row, rows), stop_text(read, row, rows)
            values[f"rows{k}"] = _difference(stop, first)
            values[f"above{k}"] = above_text(read, row, rows)
            if not re.fullmatch(r"\w+", first):
                before.append(f"const int32_t first{k} = {first};")
                values[f"rows{k}"] = values[f"rows{k}"].replace(f"({first})", f"first{k}")
                values[f"above{k}"] = values[f"above{k}"].replace(f"({first})", f"first{k}")
                first = f"first{k}"
            values[f"first{k}"] = first
            if self.maps[read.map].sums:
                values[f"in{k}"] = f"FMC_ARENA + {self.names.offset(self.number, read.map)}"
            else:
                own = not read.all_rows
                row_bytes = self.names.row_bytes(read.map) if own else str(read.view_row_bytes)
                values[f"in{k}"] = self._row_of(read.map, first, row_bytes)
        call = step.call.format(**values)
        return "\n".join([*(line for line in before if line.split()[2] in call), call])

    def _scratch(self, step: Step) -> dict[str, str]:
        if step.scratch is None:
            return {}
        return {
            "scratch": f"FMC_ARENA + {self.names.scratch(self.number)}",
            "scratch_bytes": self.names.scratch_bytes(self.producers[step.output]),
        }


def _label(step: Step) -> str:
    """Operator, number and the first of the joined names of its output."""
    return c_comment(step.label.split(";")[0] + (")" if ";" in step.label else ""))


def wrapped(line: str) -> str:
    """Breaks a line of C that is too long at blanks, outside of comments."""
    if len(line) <= _LINE or line.lstrip().startswith(("/*", "*", "#")):
        return line
    indent = len(line) - len(line.lstrip())
    lines, rest, margin = [], line, indent
    while len(rest) > _LINE:
        at = rest.rfind(" ", margin + 8, _LINE)
        comma = rest.rfind(", ", margin + 8, _LINE)
        at = comma + 1 if comma > 0 else at
        if at <= margin:
            break
        lines.append(rest[:at].rstrip())
        margin = indent + 4
        rest = " " * margin + rest[at:].lstrip()
    return "\n".join([*lines, rest])


def _product(text: str) -> str:
    return text if re.fullmatch(r"\w+", text) or text.endswith(")") else f"({text})"


def _difference(stop: str, first: str) -> str:
    if stop.isdigit() and first.isdigit():
        return str(int(stop) - int(first))
    if first == "0":
        return stop
    wrapped = first if re.fullmatch(r"\w+", first) else f"({first})"
    return "1" if stop == f"{first} + 1" else f"{stop} - {wrapped}"


def _suffix(k: int, ends: tuple[int, ...]) -> str:
    return str(k) if len(ends) > 1 else ""


def _lines(lines: object) -> str:
    return "\n".join(_INDENT + line for line in lines)  # type: ignore[attr-defined]
