"""SAME padding, as TensorFlow and its runtimes place it."""

from __future__ import annotations


def same_padding(in_size: int, kernel_extent: int, stride: int) -> tuple[int, int]:
    """(before, after) of SAME padding: total = max(0, (ceil(in / s) - 1) s + k - in)."""
    total = max(0, (-(-in_size // stride) - 1) * stride + kernel_extent - in_size)
    return total // 2, total - total // 2
