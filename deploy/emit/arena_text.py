"""How a firmware declares its arena, or two, and hands them to the interpreter."""

from __future__ import annotations

from deploy.proof.names import c_comment
from deploy.report.report import Report, ReportMemory

_ALLOCATOR_INCLUDE = '\n#include "tensorflow/lite/micro/micro_allocator.h"'
_VARIABLES_INCLUDE = '\n#include "tensorflow/lite/micro/micro_resource_variable.h"'
_ONE = """
  MicroAllocator* allocator = MicroAllocator::Create(tensor_arena, {prefix}_ARENA_BYTES);"""
_TWO = """
  // The tail goes into the first buffer, the head and what planning needs into the second.
  MicroAllocator* allocator =
      MicroAllocator::Create(tail_arena, {prefix}_TAIL_ARENA_BYTES, tensor_arena,
                             {prefix}_HEAD_ARENA_BYTES);"""
SHARED = """
  MicroAllocator* allocator = shared_arena::Allocator();"""
"""The allocator of models that share an arena."""
_VARIABLES = """
  // The model keeps state in {count} variables, which count in the arena.
  MicroResourceVariables* variables =
      allocator == nullptr ? nullptr : MicroResourceVariables::Create(allocator, {count});
  if (variables == nullptr) {{
    MicroPrintf("{symbol}: the arena does not hold the variables");
    return false;
  }}"""
_SHARED_INCLUDE = '\n#include "shared_arena.h"\n#include "shared_plan.h"'
_USED = """\
MicroPrintf("{symbol}: arena_used_bytes %d, planned %d (head %d + tail %d), arena %d", used,
              {prefix}_USED_BYTES, {prefix}_HEAD_BYTES, {prefix}_TAIL_BYTES,
              {prefix}_ARENA_BYTES);"""
_SHARED_USED = """\
MicroPrintf("{symbol}: arena_used_bytes with those before it %d, planned %d, arena %d", used,
              {prefix}_SHARED_USED_BYTES, SHARED_ARENA_BYTES);"""
_ARRAY = """\
{section}alignas({prefix}_ARENA_ALIGNMENT)
    {attribute}uint8_t {array}[{prefix}_{size}];"""


def arena_values(
    kind: str, report: Report, prefix: str, *, section: str | None, shared: bool
) -> dict[str, str]:
    """Returns what templates say of the memory: includes, arrays, where they stand.

    Args:
        section: linker section of the arena, instead of the usual one of the kind.
        shared: the arena is declared elsewhere.
    """
    memory = next((m for m in report.memories if m.holds_arena), None)
    other = next((m for m in report.memories if m.holds_tail), None)
    array = _array(kind, memory, prefix, "tensor_arena", section, "arena")
    used = _USED.format(prefix=prefix, symbol=prefix.lower())
    macros = {"used": f"{prefix}_USED_BYTES", "arena_macro": f"{prefix}_ARENA_BYTES"}
    if shared:
        macros = {"used": f"{prefix}_SHARED_USED_BYTES", "arena_macro": "SHARED_ARENA_BYTES"}
        return {
            "section_include": "",
            "arenas": "// The arena is shared: shared_arena.cc has it.",
            "shared_include": _SHARED_INCLUDE,
            "used_report": _SHARED_USED.format(prefix=prefix, symbol=prefix.lower()),
            **macros,
        }
    if report.head_arena_bytes is None:
        return {
            "section_include": _include(kind, [memory]),
            "shared_include": "",
            "used_report": used,
            **macros,
            "arenas": f"// {placement(memory)}\n{array.format(size='ARENA_BYTES')}",
            "placement": placement(memory),
            "arrays": f"    uint8_t tensor_arena[{report.arena_bytes}];   // aligned to 16 bytes",
        }
    tail = _array(kind, other, prefix, "tail_arena", None, "tail")
    head_text, tail_text = f"The head. {placement(memory)}", f"The tail. {placement(other)}"
    return {
        "section_include": _include(kind, [memory, other]),
        "shared_include": "",
        "used_report": used,
        **macros,
        "arenas": f"// {head_text}\n{array.format(size='HEAD_ARENA_BYTES')}\n\n"
        f"// {tail_text}\n{tail.format(size='TAIL_ARENA_BYTES')}",
        "placement": f"{head_text} {tail_text}",
        "arrays": f"    uint8_t tensor_arena[{report.head_arena_bytes}];   // the head\n"
        f"    uint8_t tail_arena[{report.tail_arena_bytes}];   // the tail; both aligned to 16",
    }


def allocator_values(
    prefix: str, symbol: str, *, variables: int, two: bool, shared: bool
) -> dict[str, str]:
    """Returns how the interpreter gets its memory: an array, or an allocator of one's own."""
    if not variables and not two and not shared:
        memory = f"tensor_arena,\n{' ' * 42}{prefix}_ARENA_BYTES"
        return {"allocator_include": "", "allocator": "", "memory": memory}
    allocator = (SHARED if shared else _TWO if two else _ONE).format(prefix=prefix)
    state = _VARIABLES.format(count=variables, symbol=symbol) if variables else ""
    return {
        "allocator_include": _ALLOCATOR_INCLUDE + (_VARIABLES_INCLUDE if variables else ""),
        "allocator": allocator + state,
        "memory": "allocator, variables" if variables else "allocator",
    }


def placement(memory: ReportMemory | None) -> str:
    """Returns in which memory an array was planned to stand."""
    if memory is None:
        return "No board was named: the arena may stand in any RAM that is large enough."
    at = "" if memory.address is None else f" at 0x{memory.address:08x}"
    kept = f", {memory.reserve_bytes} of them kept for the firmware" if memory.reserve_bytes else ""
    return f"Planned into {plain(memory.name)}{at}, {memory.size_bytes} bytes{kept}."


def is_external(memory: ReportMemory | None) -> bool:
    return memory is not None and memory.external


def plain(text: str) -> str:
    """Text that can stand in comments, format strings, Markdown and CMake alike."""
    return c_comment(text).replace('"', "'").replace("%", "").replace("`", "'")


def _array(
    kind: str, memory: ReportMemory | None, prefix: str, array: str, section: str | None, part: str
) -> str:
    """How an array is kept out of the image and, where that is possible, put into its memory."""
    attribute = ""
    if section is None and kind == "zephyr":
        text, attribute = "// The arena need not be zeroed.\n", "__noinit "
    elif section is None and kind == "esp-idf":
        text = "// Internal RAM, where .bss is.\n"
        if is_external(memory):
            text = "// External RAM; sdkconfig.defaults enables it.\n"
            attribute = "EXT_RAM_BSS_ATTR "
    else:
        macro = f"MODEL_{part.upper()}_SECTION"
        text = (
            "// A linker script that collects .bss* takes it as it is.\n"
            f'#ifndef {macro}\n#define {macro} "{section or f".bss.{array}"}"\n#endif\n'
        )
        attribute = f"__attribute__((section({macro}))) "
    return _ARRAY.format(
        section=text, prefix=prefix, attribute=attribute, array=array, size="{size}"
    )


def _include(kind: str, memories: list[ReportMemory | None]) -> str:
    if kind == "zephyr":
        return "\n#include <zephyr/linker/section_tags.h>\n"
    if kind == "esp-idf" and any(map(is_external, memories)):
        return '\n#include "esp_attr.h"\n'
    return ""
