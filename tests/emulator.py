"""Generated C on emulated cores: outputs, static RAM, stack, instructions.

Cortex-M needs Debian's qemu-system-arm and gcc-arm-none-eabi; RISC-V gcc-riscv64-unknown-elf and
qemu-system-misc. The instruction count is that of QEMU's
-icount; it says nothing of wait states or pipelines.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.backends.c.build import GeneratedModel
from deploy.graph import C_TYPES

_HERE = Path(__file__).with_name("emulated")
_TIMEOUT_SECONDS = 500
_PAINTED_BYTES = 32768


@dataclass(frozen=True, slots=True)
class Core:
    """A core, the machine that QEMU knows it in, and where that has memory."""

    name: str
    machine: str
    cpu: str
    flash: int
    ram: int
    ram_bytes: int
    abi: str = "soft"
    tools: str = "arm-none-eabi"
    emulator: str = "qemu-system-arm"
    start: tuple[str, ...] = ("start.c",)
    library: tuple[str, ...] = ("--specs=nosys.specs",)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the compiler that choose the core."""
        if self.tools != "arm-none-eabi":
            alone = ("-msmall-data-limit=0", "-ffreestanding", f"-I{_HERE / 'riscv'}")
            return f"-march={self.cpu}", f"-mabi={self.abi}", *alone
        return f"-mcpu={self.cpu}", "-mthumb", f"-mfloat-abi={self.abi}"


M3 = Core("Cortex-M3", "mps2-an385", "cortex-m3", 0x0, 0x20000000, 0x400000)
M4 = Core("Cortex-M4", "mps2-an386", "cortex-m4", 0x0, 0x20000000, 0x400000)
M55_VECTORS = Core("Cortex-M55", "mps3-an547", "cortex-m55", 0x0, 0x20000000, 0x80000, abi="hard")
"""With vector instructions, which the soft ABI leaves out."""
M55 = Core("Cortex-M55", "mps3-an547", "cortex-m55", 0x0, 0x20000000, 0x80000)
RISC_V = Core(
    *("RISC-V", "virt", "rv32imac", 0x80000000, 0x81000000, 0x400000),
    abi="ilp32",
    tools="riscv64-unknown-elf",
    emulator="qemu-system-riscv32",
    start=("start_riscv.c", "string.c"),
    library=("-nostdlib", "-lgcc"),
)
"""32 bits, with multiplication and compressed instructions, as small microcontrollers have it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run on a core showed."""

    equal: int
    samples: int
    stack_bytes: int
    instructions: int
    static_bytes: int
    code_bytes: int


def missing(core: Core = M4) -> str | None:
    """Returns which tool for a core is not here, or None."""
    tools = (f"{core.tools}-gcc", f"{core.tools}-size", core.emulator)
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    return f"{', '.join(lacking)} not installed" if lacking else None


def run_on(
    core: Core,
    model: GeneratedModel,
    samples: Sequence[Sequence[np.ndarray]],
    expected: Sequence[Sequence[np.ndarray]],
    folder: Path,
    *,
    flags: Sequence[str] = ("-O2",),
    library: Sequence[str] = (),
) -> Ran:
    """Compiles a model for a core and runs it on samples; compares with what is expected.

    ``library``: what links the kernel library that the model calls, and where its headers are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in model.files.items():
        (folder / name).write_text(text)
    (folder / "main.c").write_text(_main(model, samples, expected))
    own = sorted(name for name in model.files if name.endswith(".c"))
    options = (*core.options, *(o for o in library if o.startswith("-")))
    base = [f"{core.tools}-gcc", *options, "-std=c99", *flags, "-I.", f"-I{_HERE}"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]
    _call([*base, *strict, "-c", *own], folder)
    objects = [name[:-1] + "o" for name in own]
    around = ("say.c", *core.start)
    _call([*base, "-c", "main.c", *(str(_HERE / name) for name in around)], folder)
    memory = {"FLASH": core.flash, "RAM": core.ram, "RAM_BYTES": core.ram_bytes}
    defines = [f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()]
    link = [f"-T{_HERE / 'link.ld'}", *defines, "-nostartfiles", *core.library]
    archives = [o for o in library if not o.startswith("-")]
    linked = [*objects, "main.o", *(f"{name[:-1]}o" for name in around), *archives]
    _call([*base, *linked, *link, "-o", "firmware.elf"], folder)
    sizes = _sizes(f"{core.tools}-size", objects, folder)
    machine = ["-M", core.machine, "-nographic", "-semihosting", "-icount", "shift=0"]
    machine += [] if core.tools == "arm-none-eabi" else ["-bios", "none"]
    said = _call([core.emulator, *machine, "-kernel", "firmware.elf"], folder)
    figures = {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", said, re.M)}
    return Ran(
        equal=figures["equal"],
        samples=len(samples),
        stack_bytes=figures["stack"],
        instructions=figures["instructions"],
        static_bytes=sizes["data"] + sizes["bss"],
        code_bytes=sizes["text"] - model.constant_bytes,
    )


def _sizes(tool: str, objects: Sequence[str], folder: Path) -> dict[str, int]:
    lines = _call([tool, *objects], folder).splitlines()[1:]
    rows = [[int(value) for value in line.split()[:3]] for line in lines]
    return dict(zip(("text", "data", "bss"), map(sum, zip(*rows, strict=True)), strict=True))


def _call(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command[:6])} …: {(done.stderr + done.stdout)[:1500]}")
    return done.stdout + done.stderr


def _array(name: str, arrays: Sequence[Sequence[np.ndarray]]) -> str:
    content = b"".join(a.tobytes() for sample in arrays for a in sample)
    values = ",".join(str(v) for v in np.frombuffer(content, np.int8))
    return f"static const int8_t {name}[] = {{{values}}};"


def _main(
    model: GeneratedModel,
    samples: Sequence[Sequence[np.ndarray]],
    expected: Sequence[Sequence[np.ndarray]],
) -> str:
    ins = [a.nbytes for a in samples[0]]
    outs = [a.nbytes for a in expected[0]]
    starts = np.cumsum([0, *ins]).tolist()
    kinds = [C_TYPES[model.graph.tensors[t].dtype] for t in model.graph.inputs]
    out_kinds = [model.graph.tensors[t].dtype for t in model.graph.outputs]
    arguments = [
        f"(const {kind} *)(const void *)(given + n * {sum(ins)} + {start})"
        for kind, start in zip(kinds, starts, strict=False)
    ]
    buffers = "".join(
        f"static {C_TYPES[kind]} out{k}[{size // np.dtype(kind).itemsize}];\n"
        for k, (kind, size) in enumerate(zip(out_kinds, outs, strict=True))
    )
    out_names = [f"out{k}" for k in range(len(outs))]
    values: Mapping[str, object] = {
        "name": model.name,
        "check": f"bad |= {model.name}_check() ? 2 : 0;" if model.uses_library else "",
        "run": _run_text(model, arguments, out_names),
        "checks": " && ".join(
            f"!memcmp(out{k}, wanted + n * {sum(outs)} + {start}, {size})"
            for k, (start, size) in enumerate(zip(np.cumsum([0, *outs]), outs, strict=False))
        ),
    }
    body = _MAIN.format(**values, samples=len(samples), painted=_PAINTED_BYTES)
    head = '#include <stdint.h>\n#include <string.h>\n#include "emulated.h"\n'
    data = _array("given", samples) + "\n" + _array("wanted", expected)
    return f'{head}#include "{model.name}.h"\n{data}\n{buffers}{body}'


def _run_text(model: GeneratedModel, arguments: list[str], outs: list[str]) -> str:
    if model.fed_rows is None:
        return f"  return (int){model.name}_run({', '.join(arguments + outs)});"
    row = model.graph.tensors[model.graph.inputs[model.fed_input]].size_bytes // model.fed_rows
    others = [k for k in range(len(arguments)) if k != model.fed_input]
    filled = "".join(
        f"  memcpy({model.name}_input{k}(), {arguments[k]}, "
        f"{model.graph.tensors[model.graph.inputs[k]].size_bytes});\n"
        for k in others
    )
    return filled + (
        f"  int bad = (int){model.name}_begin();\n"
        f"  for (int r = 0; r < {model.fed_rows}; r++) "
        f"bad |= (int){model.name}_feed_row({arguments[model.fed_input]} + r * {row});\n"
        f"  return bad | (int){model.name}_finish({', '.join(outs)});"
    )


_MAIN = """
static __attribute__((noinline)) int run_sample(int n) {{
{run}
}}

int main(void) {{
  uint64_t ticks = 0, per_tick = clock_instructions_per_tick();
  int equal = 0, bad = 0;
  uint32_t stack = 0;
  {check}
  for (int n = 0; n < {samples}; n++) {{
    uint32_t sp, low;
    STACK_POINTER(sp);
    for (low = sp - 64 - {painted}; low < sp - 64; low += 4) {{
      *(volatile uint32_t *)low = 0xA5A5A5A5u;
    }}
    clock_start();
    bad |= run_sample(n);
    ticks = clock_ticks();
    for (low = sp - 64 - {painted}; *(volatile uint32_t *)low == 0xA5A5A5A5u;) {{
      low += 4;
    }}
    stack = sp - low > stack ? sp - low : stack;
    equal += {checks};
  }}
  say_number("equal", (uint64_t)equal);
  say_number("stack", stack);
  say_number("instructions", ticks * per_tick);
  say_number("name_{name}", 0);
  return bad;
}}
"""
