"""Boards, runtimes and kernel libraries, as versioned data with a loader that checks them."""

from deploy.targets.boards import board, boards, kernels, runtime
from deploy.targets.records import Board, Kernels, Memory, Runtime
from deploy.targets.target import HOST, Target, boards_text, target

__all__ = [
    "HOST",
    "Board",
    "Kernels",
    "Memory",
    "Runtime",
    "Target",
    "board",
    "boards",
    "boards_text",
    "kernels",
    "runtime",
    "target",
]
