"""What a model is planned for: a board, a runtime and a kernel library together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.targets.boards import board as find_board
from deploy.targets.boards import boards
from deploy.targets.boards import kernels as find_kernels
from deploy.targets.boards import runtime as find_runtime
from deploy.targets.records import Board, Kernels, Memory, Runtime
from keras_fmc.errors import BadInputError
from keras_fmc.sizes import format_size

HOST = "host"
"""The board that stands for the tflite_micro wheel on this machine: no limit."""


@dataclass(frozen=True, slots=True)
class Target:
    """A board with the runtime and the kernels that its firmware is built with.

    ``reserve`` replaces the board's usual reserve where it is not None.
    """

    board: Board
    runtime: Runtime
    kernels: Kernels
    reserve: int | None = None

    def reserve_bytes(self, memory: Memory) -> int:
        """Bytes of a memory that the firmware itself needs: only the first one holds it."""
        if memory is not self.board.memories[0] and memory != self.board.memories[0]:
            return 0
        return self.board.reserve_bytes if self.reserve is None else self.reserve

    def available_bytes(self, memory: Memory) -> int:
        """Bytes of a memory that are left for the arena."""
        return max(memory.size_bytes - self.reserve_bytes(memory), 0)

    def memory_for(self, arena_bytes: int) -> Memory:
        """Returns the memory that an arena should stand in.

        An arena is one array, so memories do not add up. It is the first memory with room for it,
        memory inside the chip before external memory; where nothing has room, the one that lacks
        least.
        """
        inside_first = sorted(self.board.memories, key=lambda memory: memory.external)
        for memory in inside_first:
            if arena_bytes <= self.available_bytes(memory):
                return memory
        return max(inside_first, key=self.available_bytes)

    def memories_for_two(self, head_bytes: int, tail_bytes: int) -> tuple[Memory, Memory] | None:
        """Returns where the buffers of head and tail should stand, or None if there is no room.

        The head is read and written most, so it goes into the first memory that has room for it
        while another one has room for the tail; memory inside the chip before external memory.
        """
        inside_first = sorted(self.board.memories, key=lambda memory: memory.external)
        for head in inside_first:
            for tail in inside_first:
                if (
                    head != tail
                    and head_bytes <= self.available_bytes(head)
                    and tail_bytes <= self.available_bytes(tail)
                ):
                    return head, tail
        return None

    def limit_bytes(self, arena_bytes: int) -> int | None:
        """Returns what an arena may use of its memory (`memory_for`); None if nothing limits it."""
        if self.board.name == HOST:
            return None
        return self.available_bytes(self.memory_for(arena_bytes))

    def limit_source(self, arena_bytes: int) -> str:
        """Returns where ``limit_bytes`` comes from, for messages."""
        if self.board.name == HOST:
            return "no limit"
        memory = self.memory_for(arena_bytes)
        text = f"{memory.name} of {self.board.title}, {format_size(memory.size_bytes)}"
        reserve = self.reserve_bytes(memory)
        text += f" less a reserve of {format_size(reserve)}" if reserve else ""
        if not memory.external:
            return text
        inside = [self.available_bytes(m) for m in self.board.memories if not m.external]
        if not inside:
            return f"external {text}"
        over = format_size(arena_bytes - max(inside))
        return f"external {text}, as it is {over} too large for the memory inside"

    def describe(self) -> str:
        """Returns board, core, runtime and kernels on one line."""
        return (
            f"{self.board.title} ({self.board.core}), {self.runtime.name}, "
            f"{self.kernels.name} kernels"
        )


def target(
    *,
    board: str = HOST,
    kernels: str | None = None,
    runtime: str | None = None,
    reserve_bytes: int | None = None,
    board_file: str | Path | None = None,
) -> Target:
    """Returns the target of a board, with other kernels, runtime or reserve where named.

    Raises:
        BadInputError: an unknown name, a reserve that leaves nothing, or kernels whose sizes
            are not known for the runtime's ABI.
    """
    entry = find_board(board, board_file=board_file)
    result = Target(
        board=entry,
        runtime=find_runtime(runtime or entry.runtime),
        kernels=find_kernels(kernels or entry.kernels),
        reserve=reserve_bytes,
    )
    if reserve_bytes is not None and reserve_bytes < 0:
        raise BadInputError("the reserve is negative", received=reserve_bytes)
    if entry.name != HOST and not any(map(result.available_bytes, entry.memories)):
        raise BadInputError(
            f"the reserve leaves nothing of {entry.name}",
            expected=f"less than {entry.memories[0].size_bytes} bytes",
            received=reserve_bytes,
        )
    abi = result.runtime.abi
    for opcode, rule in result.kernels.rules.items():
        if rule.data_bytes and abi not in rule.data_bytes:
            raise BadInputError(
                f"the sizes of {result.kernels.name} ({opcode}) are not known for "
                f"{result.runtime.name}",
                expected=f"a runtime of ABI {' or '.join(sorted(rule.data_bytes))}",
                received=f"ABI {abi}",
                remedy="Name a board that runs these kernels, or a runtime with --runtime",
            )
    return result


def boards_text(*, board_file: str | Path | None = None) -> str:
    """Returns the boards as a table: name, core, memories, flash, kernels, reserve."""
    rows = [("board", "core", "memories", "flash", "kernels", "reserve", "what it is")]
    for entry in boards(board_file=board_file):
        memories = " + ".join(f"{m.name} {_kib(m.size_bytes)}" for m in entry.memories)
        flash = "-" if entry.flash_bytes is None else _kib(entry.flash_bytes)
        if entry.name == HOST:
            memories = "no limit"
        rows.append(
            (
                entry.name,
                entry.core,
                memories,
                flash,
                entry.kernels,
                _kib(entry.reserve_bytes) if entry.reserve_bytes else "-",
                entry.title,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _kib(size_bytes: int) -> str:
    return f"{size_bytes // 1024}K" if size_bytes % 1024 == 0 else f"{size_bytes}B"
