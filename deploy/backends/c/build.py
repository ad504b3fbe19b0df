"""The row program of a graph as C files: search, layout, text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.backends.c.again import Tried, with_maps_made_again
from deploy.backends.c.assign import RowLayout, assign
from deploy.backends.c.bits import with_bits
from deploy.backends.c.emit import model_source
from deploy.backends.c.header import header
from deploy.backends.c.library import HEADER, SOURCE, KernelLibrary
from deploy.backends.c.lowering import lower
from deploy.backends.c.names import Names, static_bytes
from deploy.backends.c.packing import best_packing, candidates
from deploy.backends.c.plan_header import plan_header
from deploy.backends.c.program import RowProgram
from deploy.backends.c.proof import plan_source
from deploy.backends.c.replay import replay
from deploy.backends.c.rows_again import with_rows_made_again
from deploy.backends.c.search import search
from deploy.graph import Graph
from deploy.proof.names import c_comment
from keras_fmc.errors import UnsupportedModelError

_KERNELS = Path(__file__).with_name("kernels")
_STAND_IN = Path(__file__).with_name("stand_in")
_INCLUDED = re.compile(r'#include "(\w+\.h)"')
_QUICK_WORK = 12_000
"""Steps times rows that are made, up to which a search takes about a third of a second."""
_END_TYPES = ("int8", "uint8", "int16", "int32", "float32")


@dataclass(frozen=True, slots=True)
class GeneratedModel:
    """A model as C.

    Attributes:
        graph: what the C computes, maps of codes packed.
        source: the same before packing.
        files: name -> text, of all files that firmware compiles.
        static_bytes: all static RAM of the code.
        constant_bytes: weights, biases, multipliers, tables and descriptors, in flash.
        made_again: whether some maps are computed more than once.
    """

    graph: Graph
    source: Graph = field(repr=False)
    layout: RowLayout
    name: str
    files: Mapping[str, str] = field(repr=False)
    static_bytes: int
    constant_bytes: int
    made_again: bool = False

    @property
    def uses_library(self) -> bool:
        """Whether kernels of a library of the user's are called."""
        return SOURCE in self.files

    @property
    def fed_rows(self) -> int | None:
        """Rows of the image, where the application feeds it row by row."""
        fed = self.layout.fed
        return None if fed is None else self.layout.program.maps[fed].rows

    @property
    def fed_input(self) -> int:
        """Which input that is."""
        program = self.layout.program
        return 0 if self.layout.fed is None else program.inputs.index(self.layout.fed)


def file_names(model_name: str) -> tuple[str, ...]:
    """Returns the names of all files that a model of this name may come with."""
    name = Names.of(model_name).function
    own = (f"{name}.h", f"{name}.c", f"{name}_constants.h", f"{name}_constants.c")
    kernels = sorted(path.name for path in _KERNELS.iterdir() if path.suffix in (".c", ".h"))
    return (*own, "arena_plan.h", "arena_plan.c", *kernels)


def stand_in_files() -> dict[str, str]:
    """Returns what takes the place of the library where a model is compiled without it."""
    own = {path.name: path.read_text() for path in sorted(_STAND_IN.iterdir())}
    return own | _kernel_files(["fmc_softmax.c"])


def generate(
    graph: Graph,
    *,
    model_name: str,
    fed: bool = False,
    library: KernelLibrary | None = None,
    max_macs: float = 1.0,
) -> GeneratedModel:
    """Returns the C of a graph; with ``fed`` the application hands over the image row by row.

    Of several inputs the image is the largest that can be fed; the others stand whole.

    Args:
        library: the kernel library of the user's; None: portable kernels.
        max_macs: most multiply-accumulates, as a multiple of the graph's: above 1 maps may be made
            more than once where that saves memory.

    Raises:
        UnsupportedModelError: an operator has no C semantics, or needs the image as a whole;
            names it.
    """
    found = laid_out(graph, fed=fed, library=library, max_macs=max_macs)
    return generated(
        found.graph,
        found.coded,
        found.layout,
        model_name=model_name,
        made_again=found.graph is not graph or found.rows_again,
    )


def quick_static_bytes(graph: Graph) -> int | None:
    """Returns the static RAM of a graph's C with the image in RAM, where that is quick to know.

    None where the search would take more than a moment, or C refuses the model.
    """
    try:
        program = lower(graph)
    except UnsupportedModelError:
        return None
    if _work(program) > _QUICK_WORK:
        return None
    try:
        return laid_out(graph, fed=False).static_bytes
    except UnsupportedModelError:
        return None


def _work(program: RowProgram) -> int:
    """Steps times rows that are made: what a search takes grows with it."""
    return len(program.steps) * sum(program.maps[step.output].rows for step in program.steps)


def laid_out(
    graph: Graph,
    *,
    fed: bool,
    library: KernelLibrary | None = None,
    max_macs: float = 1.0,
    quick: bool = False,
) -> Tried:
    """Returns the graph with maps made again and codes packed for which it is smallest.

    Args:
        quick: all codes or none, and nothing made again.

    Raises:
        UnsupportedModelError: as ``generate``.
    """
    tried = _with_codes(graph, fed=fed, library=library, quick=quick)
    if quick or max_macs <= 1.0:
        return tried

    def attempt(other: Graph) -> Tried | None:
        try:
            return _with_codes(other, fed=fed, library=library, quick=False)
        except UnsupportedModelError:
            return None

    work = _work(tried.layout.program)

    def by_rows(found: Tried, most_macs: float) -> Tried:
        layout = with_rows_made_again(
            found.coded,
            found.layout,
            most_macs=most_macs,
            work=work,
            lay_out=lambda program: lay_out(program, fed=found.layout.fed),
        )
        return dataclasses.replace(found, layout=layout, static_bytes=static_bytes(layout))

    return with_maps_made_again(
        tried, max_macs=max_macs, work=work, lay_out=attempt, by_rows=by_rows
    )


def _with_codes(graph: Graph, *, fed: bool, library: KernelLibrary | None, quick: bool) -> Tried:
    """The graph with the codes packed for which it is smallest, and its layout."""
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].dtype not in _END_TYPES:
            raise UnsupportedModelError(
                f"input or output {graph.tensors[index].name} is {graph.tensors[index].dtype}",
                expected=f"one of {', '.join(_END_TYPES)}",
                remedy="--runtime=tflm runs it",
            )

    def measured(coded: Graph) -> tuple[int, RowLayout]:
        program = lower(coded, library)
        if not program.steps:
            raise UnsupportedModelError(
                "the model computes nothing: its outputs are views of its inputs",
                remedy="--runtime=tflm runs it",
            )
        layout = _fed_layout(program) if fed else lay_out(program, fed=None)
        return static_bytes(layout), layout

    in_bits = with_bits(graph)
    coded, layout = best_packing(in_bits, candidates(graph, in_bits), measured, quick=quick)
    return Tried(graph, coded, layout, static_bytes(layout))


def generated(
    source: Graph, coded: Graph, layout: RowLayout, *, model_name: str, made_again: bool = False
) -> GeneratedModel:
    """Returns the C of a graph that is laid out already."""
    return GeneratedModel(
        graph=coded,
        source=source,
        layout=layout,
        name=Names.of(model_name).function,
        files=_files(coded, layout, model_name),
        static_bytes=static_bytes(layout),
        constant_bytes=sum(c.size_bytes for c in layout.program.constants),
        made_again=made_again,
    )


def lay_out(program: RowProgram, *, fed: int | None) -> RowLayout:
    """Returns the program of least height with its addresses."""
    found = search(program, fed=fed)
    if found is None:
        raise _needs_whole(program, fed)
    layout = assign(program, found, fed=fed)
    if fed is not None and layout.regions[0].placed.schedule.lines[fed] >= program.maps[fed].rows:
        raise _needs_whole(program, fed)
    return layout


def _fed_layout(program: RowProgram) -> RowLayout:
    """The layout with the largest input fed that can be; the others stand whole."""
    maps = program.maps
    refusal: UnsupportedModelError | None = None
    for m in sorted(set(program.inputs), key=lambda m: (-maps[m].size_bytes, m)):
        try:
            if maps[m].rows == 1 or m in program.outputs:
                raise _needs_whole(program, m)
            return lay_out(program, fed=m)
        except UnsupportedModelError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _needs_whole(program: RowProgram, fed: int | None) -> UnsupportedModelError:
    readers = [s.label for s in program.steps for r in s.reads if r.map == fed]
    late = readers[-1] if readers else "an output"
    return UnsupportedModelError(
        "the image cannot be fed row by row",
        expected="an image of several rows whose first rows are done with before the last come",
        received=f"{late} needs it as a whole",
        remedy="Use --input=whole",
    )


def _files(graph: Graph, layout: RowLayout, model_name: str) -> dict[str, str]:
    name = Names.of(model_name).function
    kernels = sorted({source for step in layout.program.steps for source in step.sources})
    return {
        f"{name}.h": header(graph, layout, model_name=model_name),
        f"{name}.c": model_source(graph, layout, model_name=model_name),
        f"{name}_constants.h": _constants_header(layout, name, model_name),
        f"{name}_constants.c": _constants_source(layout, name, model_name),
        "arena_plan.h": plan_header(layout, model_name=model_name),
        "arena_plan.c": plan_source(layout, replay(layout), model_name=model_name),
        **_kernel_files(["fmc_fixed_point.h", "fmc_kernels.h", *kernels]),
    }


def _kernel_files(names: Sequence[str]) -> dict[str, str]:
    """Kernels with the headers that they include."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and (_KERNELS / name).exists():
            found[name] = (_KERNELS / name).read_text()
            waiting += _INCLUDED.findall(found[name])
    return dict(sorted(found.items()))


def _constants_header(layout: RowLayout, name: str, model_name: str) -> str:
    guard = f"{name.upper()}_CONSTANTS_H_"
    by_library = any(step.source == SOURCE for step in layout.program.steps)
    headers = ("fmc_kernels.h", HEADER) if by_library else ("fmc_kernels.h",)
    lines = [
        f"/* Constants of {c_comment(model_name)}, for flash. Generated. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        *(f'#include "{header}"' for header in headers),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *(f"extern const {c.declaration};" for c in layout.program.constants),
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _constants_source(layout: RowLayout, name: str, model_name: str) -> str:
    lines = [
        f"/* Constants of {c_comment(model_name)}, for flash. Generated. */",
        f'#include "{name}_constants.h"',
        "",
    ]
    lines += [f"const {c.declaration} = {c.value};" for c in layout.program.constants]
    return "\n".join(lines) + "\n"
