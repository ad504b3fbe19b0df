"""``NAME.h``: what an application sees of a generated model."""

from __future__ import annotations

from pathlib import Path
from string import Template

from deploy.backends.c.assign import RowLayout
from deploy.backends.c.library import SOURCE
from deploy.backends.c.names import Names, state, static_bytes
from deploy.graph import C_TYPES, Graph, Tensor
from deploy.proof.names import c_comment, float_literal, short_name

_TEMPLATES = Path(__file__).with_name("templates")
_RUN = """\
 *   ${name}_run(${arguments})
 *
 * runs the model. Inputs may be filled in place, at ${name}_input(), and handed over from there:
 * nothing is copied then. They are overwritten by the run."""
_FEED = """\
 *   ${name}_begin()
 *   ${name}_feed_row(row), for each row of the image from the top
 *   ${name}_finish(${arguments})
 *
 * runs the model while the rows come: the image never exists as a whole. A row is copied before
 * ${name}_feed_row returns. ${name}_begin starts again at any time.${others}"""
_OTHERS = " Other inputs are filled in place\n * before it; the run overwrites them."


def header(graph: Graph, layout: RowLayout, *, model_name: str) -> str:
    """Returns NAME.h."""
    names = Names.of(model_name)
    fed = layout.fed is not None
    by_library = any(step.source == SOURCE for step in layout.program.steps)
    template = Template((_TEMPLATES / "model.h").read_text())
    usage = Template(_FEED if fed else _RUN)
    outputs = _arguments("output", len(graph.outputs))
    arguments = outputs if fed else _arguments("input", len(graph.inputs)) + outputs
    return template.substitute(
        model=c_comment(model_name),
        name=names.function,
        NAME=names.macro,
        static_bytes=static_bytes(layout),
        state_bytes=state(layout).size_bytes,
        usage=usage.substitute(
            name=names.function,
            arguments=", ".join(arguments),
            others=_OTHERS if len(graph.inputs) > 1 else "",
        ),
        ports="\n".join(_ports(graph, layout, names)),
        functions="\n".join(_functions(graph, layout, names)),
        check=_check(names) if by_library else "",
        library_statuses=_library_statuses(names.macro)
        if by_library
        else "      /* the image has rows that were not fed */",
    )


def _library_statuses(macro: str) -> str:
    """The statuses of a model whose kernels are those of a library."""
    return (
        ",     /* the image has rows that were not fed */\n"
        f"  {macro}_LIBRARY_DIFFERS,   /* the kernel library does not round as it should */\n"
        f"  {macro}_LIBRARY_NEEDS_MORE /* it needs more scratch than it was given */"
    )


def _check(names: Names) -> str:
    return (
        "/* Whether the kernel library is one that the plan was made for: its buffer sizes, and\n"
        "   what it makes of a small convolution. Call it once at start-up. */\n"
        f"{names.function}_status {names.function}_check(void);\n"
    )


def _arguments(side: str, count: int) -> list[str]:
    return [f"{side}{k if count > 1 else ''}" for k in range(count)]


def _functions(graph: Graph, layout: RowLayout, names: Names) -> list[str]:
    name, kind = names.function, f"{names.function}_status"
    outputs = [
        f"{C_TYPES[graph.tensors[t].dtype]} *{argument}"
        for t, argument in zip(graph.outputs, _arguments("output", len(graph.outputs)), strict=True)
    ]
    inputs = _arguments("input", len(graph.inputs))
    lines = []
    for k, t in enumerate(graph.inputs):
        m = layout.program.inputs[k]
        if m != layout.fed and m in layout.regions[0].offsets:
            lines.append(
                f"/* Where the run reads {inputs[k]}. */\n"
                f"{C_TYPES[graph.tensors[t].dtype]} *{name}_{inputs[k]}(void);"
            )
    if layout.fed is not None:
        row = C_TYPES[graph.tensors[layout.program.maps[layout.fed].tensor].dtype]
        return [
            *lines,
            f"{kind} {name}_begin(void);",
            f"{kind} {name}_feed_row(const {row} *row);",
            f"{kind} {name}_finish({', '.join(outputs)});",
        ]
    parts = [
        f"const {C_TYPES[graph.tensors[t].dtype]} *{argument}"
        for t, argument in zip(graph.inputs, inputs, strict=True)
    ]
    return [*lines, f"{kind} {name}_run({', '.join(parts + outputs)});"]


def _ports(graph: Graph, layout: RowLayout, names: Names) -> list[str]:
    lines = []
    for side, indices in (("INPUT", graph.inputs), ("OUTPUT", graph.outputs)):
        for k, t in enumerate(indices):
            tensor = graph.tensors[t]
            stem = f"{names.macro}_{side}" + (str(k) if len(indices) > 1 else "")
            shape = "x".join(str(n) for n in tensor.shape) or "scalar"
            lines.append(f"/* {c_comment(short_name(tensor.name))}: {tensor.dtype} {shape}. */")
            lines.append(f"#define {stem}_BYTES {tensor.size_bytes}")
            if side == "INPUT" and layout.program.inputs[k] == layout.fed:
                entry = layout.program.maps[layout.fed]
                lines.append(f"#define {stem}_ROWS {entry.rows}")
                lines.append(f"#define {stem}_ROW_BYTES {entry.row_bytes}")
            lines += _quantization(stem, tensor)
            lines.append("")
    return lines


def _quantization(stem: str, tensor: Tensor) -> list[str]:
    q = tensor.quantization
    if q is None or len(q.scales) != 1:
        return []
    return [
        f"#define {stem}_SCALE {float_literal(q.scales[0])}",
        f"#define {stem}_ZERO_POINT ({q.zero_points[0]})",
    ]
