"""Resizing, and moving pixels between space, depth and batch: shapes and rows."""

from __future__ import annotations

import math

from deploy.operators.by_rows import ByRows, Parameters, RowOperator, RowSite, Strip, Uncut
from deploy.operators.row import Shape, Site
from deploy.operators.rows import Resampling, Scattering, Sliding


def resize(site: Site) -> tuple[Shape | None, ...]:
    """(n, h, w, c) → (n, *size, c), size the two values of input 1."""
    batch, _, _, channels = site.ranked(0, 4)
    if site.operator.option("align_corners") and site.operator.option("half_pixel_centers"):
        site.fail("has both align_corners and half_pixel_centers", "one of them at most")
    size = site.integers(1, 2)
    if size is None:
        return (None,)
    if min(size) < 1:
        site.fail_at(1, "1 or more", size)
    return ((batch, *size, channels),)


def space_to_depth(site: Site) -> tuple[Shape | None, ...]:
    """(n, h·b, w·b, c) → (n, h, w, c·b²)."""
    batch, height, width, channels = site.ranked(0, 4)
    block = site.positive("block_size")
    if height % block or width % block:
        site.fail_at(0, f"rows and columns in blocks of {block}", site.shape(0))
    return ((batch, height // block, width // block, channels * block * block),)


def depth_to_space(site: Site) -> tuple[Shape | None, ...]:
    """(n, h, w, c·b²) → (n, h·b, w·b, c)."""
    batch, height, width, channels = site.ranked(0, 4)
    block = site.positive("block_size")
    if channels % (block * block):
        site.fail_at(0, f"a multiple of {block * block} channels", site.shape(0))
    return ((batch, height * block, width * block, channels // (block * block)),)


def space_to_batch_nd(site: Site) -> tuple[Shape | None, ...]:
    """(n, s, …) → (n · Πb, (s + padding) / b, …) for each dimension s after the first."""
    shape, blocks, edges = _blocks(site)
    if blocks is None or edges is None:
        return (None,)
    spatial = []
    for size, block, (before, after) in zip(shape[1:], blocks, edges, strict=False):
        if (size + before + after) % block:
            site.fail_at(0, f"{block} to divide {size} + {before} + {after}", shape)
        spatial.append((size + before + after) // block)
    return ((shape[0] * math.prod(blocks), *spatial, *shape[1 + len(blocks) :]),)


def batch_to_space_nd(site: Site) -> tuple[Shape | None, ...]:
    """(n · Πb, s, …) → (n, s · b - crop, …)."""
    shape, blocks, edges = _blocks(site)
    if blocks is None or edges is None:
        return (None,)
    if shape[0] % math.prod(blocks):
        site.fail_at(0, f"a batch that {math.prod(blocks)} divides", shape)
    spatial = []
    for size, block, (before, after) in zip(shape[1:], blocks, edges, strict=False):
        if size * block - before - after < 1:
            site.fail_at(2, f"less than {size * block}", (before, after))
        spatial.append(size * block - before - after)
    return ((shape[0] // math.prod(blocks), *spatial, *shape[1 + len(blocks) :]),)


def _blocks(
    site: Site,
) -> tuple[Shape, tuple[int, ...] | None, list[tuple[int, int]] | None]:
    """Shape of input 0, block sizes, (before, after) of each."""
    shape = site.shape(0)
    count = site.tensor(1).elements
    if len(shape) not in (3, 4) or count != len(shape) - 2:
        site.fail_at(1, f"a block size for each dimension between first and last of {shape}", count)
    blocks, edges = site.integers(1, count), site.integers(2, 2 * count)
    if blocks is None or edges is None:
        return shape, None, None
    if min(blocks) < 1 or min(edges) < 0:
        site.fail("has wrong blocks", "block sizes from 1, edges from 0", (blocks, edges))
    return shape, blocks, list(zip(edges[::2], edges[1::2], strict=True))


def _resized_rows(site: RowSite) -> RowOperator | Uncut:
    if site.constant(1) is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    rows = site.shape(0)[site.axis]
    if site.operator.option("align_corners") or site.out_rows % rows:
        return Uncut.ALIGNED_CORNERS
    half = bool(site.operator.option("half_pixel_centers"))
    return site.build(Resampling(rows, site.out_rows, site.operator.opcode, half))


def _resized_strip(strip: Strip) -> Parameters:
    return Parameters(strip.operator.options, {1: ("size", list(strip.shape[1:3]))})


def _blocks_of_rows(site: RowSite) -> RowOperator | Uncut:
    block = site.operator.integer("block_size")
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    rows = site.shape(0)[site.axis]
    return site.build(Sliding(rows, site.out_rows, block, block, whole_blocks=True))


def _rows_of_blocks(site: RowSite) -> RowOperator | Uncut:
    block = site.operator.integer("block_size")
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    return site.build(Scattering(site.shape(0)[site.axis], site.out_rows, block, block, False))


RESIZED_ROWS = ByRows(_resized_rows, _resized_strip)
BLOCKS_OF_ROWS = ByRows(_blocks_of_rows)
ROWS_OF_BLOCKS = ByRows(_rows_of_blocks)
