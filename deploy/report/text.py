"""The report as a firmware engineer reads it in a terminal: whether it fits first."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.outcome import StoredCode
from deploy.report.report import ComparedMap, Port, Report, ReportMemory, ReportTensor
from deploy.report.sizes import bytes_text, columns, is_generated, size_lines
from deploy.targets import HOST
from keras_fmc.printable import one_line
from keras_fmc.sizes import format_size

_NAME_WIDTH = 44
_ROWS_SHOWN = 60
_WHEEL = "That is in the tflite_micro wheel of a PC; a device's number comes with its board's name."


def to_text(report: Report) -> str:
    """Returns report.txt without a final newline."""
    blocks = [
        _head(report),
        _sizes(report),
        _firmware(report),
        _peak(report),
        _regions(report),
        _codes(report),
        comparison_table(report.comparison),
        _memories(report),
        _decisions(report),
        f"Rewritten before it was planned: --passes={report.passes}" if report.passes else "",
        _tensors(report),
    ]
    return "\n\n".join(block for block in blocks if block)


def result(report: Report) -> tuple[str, str]:
    """Returns a word and a sentence: fits or not, by how many bytes, in what.

    A number for the wheel says so: on a device it is another.
    """
    word, sentence = _result(report)
    if report.board == HOST and not is_generated(report):
        return word, f"{sentence} {_WHEEL}"
    return word, sentence


def _result(report: Report) -> tuple[str, str]:
    arena = format_size(report.arena_bytes)
    if report.limit_bytes is None and report.fits:
        if is_generated(report):
            return "No limit was given", f"It needs {arena} of static memory."
        return "No limit was given", f"It needs an arena of {arena}."
    where = f" ({report.limit_source})" if report.limit_source else ""
    limit = format_size(report.limit_bytes or 0)
    if report.fits and report.limit_bytes is not None:
        left = format_size(report.limit_bytes - report.arena_bytes)
        return "Fits", f"{arena} of {limit}{where}, {left} left."
    if report.bytes_over == 0:
        # Of generated C: what stands in flash is among the warnings.
        return "Does not fit", f"{arena} would, but not the constants in flash."
    return "Does not fit", f"{arena}, {format_size(report.bytes_over)} over the {limit}{where}."


def target_line(report: Report) -> str:
    """Returns what the numbers hold for: board, core, runtime, kernel library."""
    parts = [report.board, report.core, report.runtime, report.kernels]
    return ", ".join(part for part in parts if part)


def certificate(report: Report) -> str:
    """Returns how good the plan is known to be."""
    bound = format_size(report.lower_bound_bytes)
    if is_generated(report):
        over = format_size(report.arena_bytes - report.lower_bound_bytes)
        rows = "make every row once" if report.macs_ratio <= 1.0 else "make the same rows"
        return f"at most {over} above the least of programs that {rows}: {bound}"
    if report.proven_optimal:
        return (
            "proven optimal for this operator order and these cuts: no plan of them has a head "
            f"below {bound}"
        )
    gap = report.head_bytes - report.lower_bound_bytes
    return (
        f"the head is at most {format_size(gap)} above {bound}, the lower bound for this operator "
        "order and these cuts"
    )


def search_bound(report: Report) -> str:
    """Returns how far the search for ways of cutting may be from its end; empty without one."""
    bound = report.search_bound_bytes
    if bound is None:
        return ""
    if report.head_bytes <= bound:
        return f"no other cuts in this operator order have a smaller head than {format_size(bound)}"
    gap = report.head_bytes - bound
    return (
        f"no cuts in this operator order have a head below {format_size(bound)}, which is "
        f"{format_size(gap)} less; whether any come closer is not known"
    )


def interruption(report: Report) -> str:
    """Returns what ended the search early, and what follows; empty where nothing did."""
    if report.interrupted is None:
        return ""
    return (
        f"interrupted: {report.interrupted} ended the search before its work was done; this is "
        "the best plan so far, and another run may find another"
    )


def evidence(report: Report) -> str:
    """Returns whether the model ran, and how that was seen."""
    return ("verified: " if report.verified else "not verified: ") + report.verified_reason


def frontier_text(report: Report) -> str:
    """Returns the frontier as a table: arena against MACs against operators."""
    if not report.frontier:
        return "The search kept no frontier: there was nothing to choose between."
    rows = [("arena", "head", "MACs", "operators", "")]
    for point in sorted(report.frontier, key=lambda p: (p.arena_bytes, p.macs_ratio)):
        rows.append(
            (
                f"{point.arena_bytes:,}",
                f"{point.head_bytes:,}",
                f"{point.macs_ratio:.3f}x",
                str(point.operators),
                "chosen" if point.chosen else "",
            )
        )
    return "\n".join(columns(rows, right=(0, 1, 2, 3)))


def shape_text(shape: Sequence[int]) -> str:
    """Returns ``1x96x96x3``."""
    return "x".join(str(n) for n in shape) or "scalar"


def head_lines(report: Report) -> list[str]:
    """Returns the result, what it holds for, the declaration, how good it is, what was seen."""
    word, sentence = result(report)
    return [
        f"{one_line(report.model)}: {word}. {sentence}",
        f"  for {target_line(report)}",
        "",
        *(f"  {line}" for line in declarations(report)),
        "",
        f"  {certificate(report)}",
        *(f"  {line}" for line in (search_bound(report), interruption(report)) if line),
        f"  {evidence(report)}",
    ]


def remark_lines(report: Report) -> list[str]:
    """Returns the warnings, then the notes."""
    lines = [f"  warning: {warning}" for warning in report.warnings]
    return lines + [f"  note: {note}" for note in report.notes]


def _head(report: Report) -> str:
    return "\n".join([*head_lines(report), *remark_lines(report)])


def declarations(report: Report) -> list[str]:
    """Returns what the firmware declares: one array, or one for the head and one for the tail."""
    if is_generated(report):
        return [f"static memory: {report.arena_bytes:,} bytes, all of it"]
    if report.head_arena_bytes is None:
        return [f"uint8_t tensor_arena[{report.arena_bytes}];   // aligned to 16 bytes"]
    head = next((m.name for m in report.memories if m.holds_arena), "")
    tail = next((m.name for m in report.memories if m.holds_tail), "")
    return [
        f"uint8_t tensor_arena[{report.head_arena_bytes}];   // the head, in {head}; aligned to 16",
        f"uint8_t tail_arena[{report.tail_arena_bytes}];   // the tail, in {tail}; aligned to 16",
    ]


def _sizes(report: Report) -> str:
    lines = size_lines(report)
    if report.stack_source:
        lines.append(f"  stack: {report.stack_source}")
    return "\n".join(lines)


def port_text(port: Port) -> str:
    """Returns what a firmware has to know of an input or output on one line."""
    text = f"{port.dtype} {shape_text(port.shape)}"
    if port.scale is None or port.zero_point is None:
        return text
    sign = "+" if port.zero_point < 0 else "-"
    return f"{text}, real = {port.scale:.9g} * (code {sign} {abs(port.zero_point)})"


def operator_kinds(report: Report) -> tuple[str, ...]:
    """Returns the operators that the interpreter's resolver has to know, sorted."""
    return tuple(sorted({op.opcode for op in report.operators if not op.implicit}))


def _firmware(report: Report) -> str:
    """What the firmware feeds, reads and registers."""
    lines = [
        f"  {side} {number}: {port_text(port)}  {short(port.name)}"
        for side, ports in (("input", report.inputs), ("output", report.outputs))
        for number, port in enumerate(ports)
    ]
    kinds = operator_kinds(report)
    if kinds and not is_generated(report):
        lines.append(f"  MicroMutableOpResolver<{len(kinds)}>: {', '.join(kinds)}")
    return "\n".join(["For the firmware:", *lines]) if lines else ""


def _peak(report: Report) -> str:
    return "\n".join(peak_lines(report))


def peak_lines(report: Report, *, most: int = 12) -> list[str]:
    """Returns the operator during which most is alive, and what is; at most ``most`` names."""
    if not report.peak_tensors:
        return []
    known = {operator.index: operator for operator in report.operators}
    operator = known.get(report.peak_operator)
    at = f"operator {report.peak_operator}" + (f", {operator.opcode}" if operator else "")
    sizes = {tensor.name: tensor.size_bytes for tensor in report.tensors}
    names = [
        f"  {bytes_text(sizes.get(name)):>12}  {short(name)}" for name in report.peak_tensors[:most]
    ]
    hidden = len(report.peak_tensors) - len(names)
    more = [f"  {'':>12}  and {hidden} more"] if hidden > 0 else []
    return [f"Peak at {at}; alive there:", *names, *more]


def _regions(report: Report) -> str:
    if not report.regions:
        return ""
    generated = is_generated(report)
    lines = ["Made row by row:" if generated else "Runs strip by strip:"]
    for region in report.regions:
        first, last = region.operators[0], region.operators[-1]
        span = short(first) if first == last else f"{short(first)} to {short(last)}"
        if generated:
            lines.append(f"  {span}: {len(region.operators)} operators")
            continue
        lines.append(
            f"  {span}: {len(region.operators)} operators in {region.strips} strips of "
            f"{region.rows} rows, halo {region.halo}, {region.macs_ratio:.3f}x MACs"
        )
    return "\n".join(lines)


def _codes(report: Report) -> str:
    if not report.codes:
        return ""
    rows = [code_head(report), *(code_row(report, code) for code in report.codes)]
    return "\n".join(columns(rows, right=tuple(range(1, len(rows[0])))))


def code_head(report: Report) -> tuple[str, ...]:
    """Returns the heads of the columns of ``code_row``."""
    head = ("stored as codes", "bits", "channels", "int8", "packed")
    if is_generated(report):
        return (*head, "held at most", "tables")
    return (*head, "MACs: P", "pack", "unpack", "R", "tables", "operators", "of the tail")


def code_row(report: Report, code: StoredCode) -> tuple[str, ...]:
    """Returns what is shown of a map that is stored as codes."""
    row = (
        short(code.name),
        str(code.bits),
        str(code.channels),
        f"{code.unpacked_bytes:,}",
        f"{code.packed_bytes:,}",
    )
    if is_generated(report):
        return (*row, f"{code.stored_bytes:,}", f"{code.table_bytes:,}")
    return (
        *row,
        f"{code.p_macs:,}",
        f"{code.pack_macs:,}",
        f"{code.unpack_macs:,}",
        "in table" if code.merged and not code.r_macs else f"{code.r_macs:,}",
        f"{code.table_bytes:,}",
        str(code.operators),
        f"{code.tail_bytes:,}",
    )


def comparison_table(compared: Sequence[ComparedMap]) -> str:
    """Returns where the Keras model and the device differ, empty where nothing was compared."""
    if not compared:
        return ""
    rows = [("Keras beside the device", "shape", "scale", "differs in", "mean", "worst, levels")]
    rows += [
        (
            short(row.name),
            "x".join(map(str, row.shape)),
            f"{row.scale:.4g}",
            f"{row.differing:.2%}",
            f"{row.mean_levels:.3f}",
            str(row.worst_levels),
        )
        for row in compared
    ]
    return "\n".join(columns(rows, right=(2, 3, 4, 5)))


def _memories(report: Report) -> str:
    if not report.memories:
        return ""
    rows = [("memory", "address", "size", "kept for firmware", "for the arena", "")]
    for memory in report.memories:
        rows.append(
            (
                f"{memory.name}, external" if memory.external else memory.name,
                "" if memory.address is None else f"0x{memory.address:08x}",
                f"{memory.size_bytes:,}",
                f"{memory.reserve_bytes:,}",
                f"{memory.available_bytes:,}",
                held_in(report, memory),
            )
        )
    return "\n".join(columns(rows, right=(2, 3, 4)))


def held_in(report: Report, memory: ReportMemory) -> str:
    """Returns what stands in a memory of the board: the arena, or the head or tail of two."""
    if memory.holds_tail:
        return "<- tail"
    if not memory.holds_arena:
        return ""
    return "<- arena" if report.head_arena_bytes is None else "<- head"


def _decisions(report: Report) -> str:
    if not report.decisions:
        return ""
    lines = [f"  {short(d.subject)}: {d.reason}" for d in report.decisions]
    return "\n".join(["Left as it was:", *lines])


def _tensors(report: Report) -> str:
    if not report.tensors:
        return ""
    shown = report.tensors[:_ROWS_SHOWN]
    rows: list[tuple[str, ...]] = [("offset", "size", "operators", "tensor", "shape", "alias of")]
    rows += [_tensor_row(tensor) for tensor in shown]
    lines = columns(rows, right=(0, 1))
    if len(shown) < len(report.tensors):
        lines.append(f"  and {len(report.tensors) - len(shown)} more in report.json")
    return "\n".join(lines)


def _tensor_row(tensor: ReportTensor) -> tuple[str, ...]:
    return (
        str(tensor.offset),
        str(tensor.size_bytes),
        f"{tensor.first}..{tensor.last}",
        short(tensor.name),
        shape_text(tensor.shape),
        "" if tensor.alias_of is None else short(tensor.alias_of),
    )


def short(name: str) -> str:
    """Returns a name that fits a column: the first of joined names, its end if it is long."""
    name = name.split(";", 1)[0]
    return name if len(name) <= _NAME_WIDTH else "..." + name[3 - _NAME_WIDTH :]
