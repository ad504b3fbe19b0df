"""Generated C, compiled with this machine's compiler and run on inputs.

A small program reads inputs from its standard input until there are no more, runs each and
writes the outputs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deploy.graph import C_TYPES, Graph
from keras_fmc.errors import VerificationError

_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT_SECONDS = 600


def compiler() -> str | None:
    """Returns the C compiler of this machine (the variable CC, or what is on the path)."""
    chosen = os.environ.get("CC")
    candidates = (chosen,) if chosen else _COMPILERS
    return next((path for name in candidates if (path := shutil.which(name))), None)


def unavailable_reason() -> str | None:
    """Returns why C cannot be compiled here, or None if it can."""
    if compiler() is None:
        chosen = os.environ.get("CC")
        return f"the compiler {chosen} (CC) is not here" if chosen else "no C compiler is here"
    return None


def run(
    files: Mapping[str, str],
    samples: Sequence[Sequence[np.ndarray]],
    *,
    name: str,
    graph: Graph,
    fed_rows: int | None = None,
    fed_input: int = 0,
    check: bool = False,
    flags: Sequence[str] = ("-O1",),
    libraries: Sequence[str] = (),
) -> list[list[np.ndarray]]:
    """Compiles a generated model and returns its outputs for each sample.

    Args:
        files: name -> text, of the files of the model.
        name: prefix of its functions.
        graph: the model's graph, for the shapes of its outputs.
        fed_rows: the rows of the image, where it is fed row by row.
        fed_input: which input that is.
        check: the model has a function that checks its kernel library, which is called first.
        flags: of the compiler.
        libraries: what is linked besides the files.

    Raises:
        VerificationError: it does not compile, or stops with an error.
    """
    with tempfile.TemporaryDirectory(prefix="fmc-c-") as folder:
        program = build(
            files,
            Path(folder),
            name=name,
            graph=graph,
            fed_rows=fed_rows,
            fed_input=fed_input,
            check=check,
            flags=flags,
            libraries=libraries,
        )
        given = b"".join(array.tobytes() for sample in samples for array in sample)
        result = subprocess.run(
            [program], input=given, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    if result.returncode != 0 or result.stderr:
        said = result.stderr.decode("utf-8", "replace")[:500]
        raise VerificationError(
            "the generated C stops with an error", received=f"status {result.returncode}: {said}"
        )
    return _outputs(result.stdout, len(samples), graph)


def build(
    files: Mapping[str, str],
    folder: Path,
    *,
    name: str,
    graph: Graph,
    fed_rows: int | None = None,
    fed_input: int = 0,
    check: bool = False,
    flags: Sequence[str] = ("-O1",),
    libraries: Sequence[str] = (),
) -> Path:
    """Compiles a generated model with a program that runs it; returns the program."""
    for file, text in files.items():
        (folder / file).write_text(text)
    header = files[f"{name}.h"]
    others = [
        k for k in range(len(graph.inputs)) if k != fed_input and f"_input{k}(void)" in header
    ]
    main = main_source(name, graph, fed_rows, fed_input=fed_input, others=others, check=check)
    (folder / "main.c").write_text(main)
    sources = sorted(file for file in files if file.endswith(".c"))
    command = [
        compiler() or "cc",
        "-std=c99",
        *flags,
        *sources,
        "main.c",
        *libraries,
        "-o",
        "program",
    ]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        raise VerificationError(
            "the generated C does not compile",
            received=result.stderr.decode("utf-8", "replace")[:500],
            remedy="This is a defect of the generator; please report it with the model",
        )
    return folder / "program"


def main_source(
    name: str,
    graph: Graph,
    fed_rows: int | None,
    *,
    fed_input: int = 0,
    others: Sequence[int] = (),
    check: bool = False,
) -> str:
    """Returns the program that feeds samples from standard input to a generated model.

    ``others``: the inputs that are filled in place before an image is fed.
    """
    inputs = [graph.tensors[t].size_bytes for t in graph.inputs]
    outputs = [graph.tensors[t].size_bytes for t in graph.outputs]
    many_in, many_out = len(inputs) > 1, len(outputs) > 1
    in_names = [f"input{k if many_in else ''}" for k in range(len(inputs))]
    out_names = [f"output{k if many_out else ''}" for k in range(len(outputs))]
    buffers = [
        f"static {C_TYPES[graph.tensors[t].dtype]} {buffer}[{graph.tensors[t].elements}];"
        for t, buffer in zip((*graph.inputs, *graph.outputs), in_names + out_names, strict=True)
    ]
    reads = " && ".join(
        f"fread({n}, 1, {s}, stdin) == {s}" for n, s in zip(in_names, inputs, strict=True)
    )
    if fed_rows is None:
        run_lines = [f"if ({name}_run({', '.join(in_names + out_names)})) return 1;"]
    else:
        row = graph.tensors[graph.inputs[fed_input]].elements // fed_rows
        run_lines = [
            *(f"memcpy({name}_input{k}(), input{k}, sizeof(input{k}));" for k in others),
            f"if ({name}_begin()) return 1;",
            f"for (int r = 0; r < {fed_rows}; r++) "
            f"if ({name}_feed_row({in_names[fed_input]} + r * {row})) return 1;",
            f"if ({name}_finish({', '.join(out_names)})) return 1;",
        ]
    writes = [f"fwrite({n}, 1, {s}, stdout);" for n, s in zip(out_names, outputs, strict=True)]
    body = "\n".join("    " + line for line in [*run_lines, *writes])
    first = f"  if ({name}_check()) return 2;\n" if check else ""
    return (
        f'#include <stdio.h>\n#include <string.h>\n#include "{name}.h"\n'
        + "\n".join(buffers)
        + f"\nint main(void) {{\n{first}  while ({reads}) {{\n{body}\n  }}\n  return 0;\n}}\n"
    )


def _outputs(content: bytes, count: int, graph: Graph) -> list[list[np.ndarray]]:
    sizes = [graph.tensors[t].size_bytes for t in graph.outputs]
    if len(content) != count * sum(sizes):
        raise VerificationError(
            "the generated C wrote another number of bytes",
            expected=count * sum(sizes),
            received=len(content),
        )
    found, at = [], 0
    for _ in range(count):
        arrays = []
        for t, size in zip(graph.outputs, sizes, strict=True):
            tensor = graph.tensors[t]
            part = np.frombuffer(content[at : at + size], dtype=tensor.dtype)
            arrays.append(part.reshape(tensor.shape))
            at += size
        found.append(arrays)
    return found
