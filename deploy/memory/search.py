"""Exact search: can the blocks be placed below a given height?

It builds placements from low levels to high ones, with the means that MiniMalloc describes
(Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning",
ASPLOS 2023): sections, canonical placements, splitting in time. It branches differently. It takes
the lowest level at which a block still could lie, there a section (a set of blocks that are live
together) with few candidates, and asks which of them lies at that level: one of them, or none.
"None" is a waste: the candidates wait until something placed later pushes them up.

1. Every section must hold what still waits for it: floor + waiting bytes <= capacity.
2. Where no waiting block crosses a point in time any more, the two sides are separate tasks; if
   one fails, the other is not blamed.
3. Sections that often proved too small are branched on first (Boussemart et al., "Boosting
   systematic search by weighting constraints", ECAI 2004). Restarts with other orders do the rest.

Compiled with numba where that is installed; plain Python runs the same code more slowly. The
kernels take tables with named columns, as compiled code gets slow with many separate arrays.
"""

from __future__ import annotations

import numpy as np

from deploy.memory.compiled import compiled
from deploy.memory.instance import (
    ALIGNMENT,
    BLOCK,
    BYTES,
    FIRST,
    HOME_BYTES,
    LAST,
    LIVE_SIZE,
    LOW,
    OTHER,
    PULL,
    PUSH,
    REFERENCE,
    SECTION,
    Instance,
)

FOUND, UNKNOWN, IMPOSSIBLE = 1, 0, -1

# Columns of `load`, a row for each section: bytes and number of the unplaced blocks, how many of
# them are present on both sides of the section's start, how often it was too small, its level.
LOAD, WAITING, CROSSING, FAILURES, LEVEL = range(5)
# Columns of `tasks`: the sections [LO, HI), the task to do afterwards, and the depth whose choice
# made the task: when it fails, everything after that depth is undone.
LO, HI, NEXT, MAKER = range(4)
# Columns of `steps`, a row for each depth: the task, the number of tasks, the candidate that is
# next and how many there are, the choice made, the section and level of the candidates.
TASK, TASKS, POSITION, CANDIDATES, CHOICE, WHERE, AT = range(7)

_FAR = 1 << 60
_NODES_BETWEEN_POLLS = 256


def search(
    instance: Instance,
    order: np.ndarray,
    capacity_bytes: int,
    *,
    node_limit: int,
    stop: np.ndarray,
    failures: np.ndarray | None = None,
) -> tuple[int, np.ndarray, int]:
    """Looks for a placement of at most `capacity_bytes`.

    Args:
        instance: the problem.
        order: the blocks, most urgent first; decides which candidate is tried first.
        capacity_bytes: largest height allowed.
        node_limit: gives up after this many nodes.
        stop: one int64; gives up soon after another thread sets it to something but 0.
        failures: how often each section proved too small before, at least 1; brought up to date.

    Returns:
        FOUND with the offsets, UNKNOWN after giving up, or IMPOSSIBLE. The last proves that no
        placement exists if `instance.complete`. The third value is the number of nodes.
    """
    count, sections = len(instance.blocks), len(instance.member_first) - 1
    if np.any(instance.blocks[:, LIVE_SIZE] > capacity_bytes):
        return IMPOSSIBLE, np.zeros(count, dtype=np.int64), 0
    depths = 6 * count + 16
    widest = int(np.diff(instance.member_first).max(initial=0))
    offset, pushed = np.empty((depths, count), np.int64), np.empty((depths, count), np.bool_)
    offset[0], pushed[0] = 0, True
    load = _initial_load(instance, sections)
    if failures is not None:
        load[:, FAILURES] = failures
    tasks = np.empty((2 * depths + 2 * count, 4), dtype=np.int64)
    steps = np.empty((depths, 7), dtype=np.int64)
    steps[0, TASKS], steps[0, TASK] = _split(load, tasks, 0, 0, sections, -1, -1)
    outcome, depth, nodes = _search(
        instance.blocks,
        instance.push_first,
        instance.pushes,
        instance.member_first,
        instance.members,
        instance.home_first,
        instance.homes,
        instance.solid,
        np.argsort(order).astype(np.int64),
        capacity_bytes,
        node_limit,
        stop,
        load,
        tasks,
        steps,
        np.empty((depths, widest + 1), dtype=np.int64),
        offset,
        pushed,
        np.zeros(count, dtype=np.bool_),
    )
    if failures is not None:
        failures[:] = load[:, FAILURES]
    return int(outcome), offset[depth].copy(), int(nodes)


def _initial_load(instance: Instance, sections: int) -> np.ndarray:
    load = np.zeros((sections, 5), dtype=np.int64)
    np.add.at(load[:, LOAD], instance.homes[:, SECTION], instance.homes[:, HOME_BYTES])
    np.add.at(load[:, WAITING], instance.homes[:, SECTION], 1)
    for first, last in instance.blocks[:, [FIRST, LAST]].tolist():
        load[first + 1 : last, CROSSING] += 1
    load[:, FAILURES] = 1
    return load


@compiled
def _search(
    blocks, push_first, pushes, member_first, members, home_first, homes, solid, rank,
    capacity, node_limit, stop, load, tasks, steps, candidates, offset, pushed, placed,
):  # fmt: skip
    """The loop of `search`; returns the outcome, the depth reached and the number of nodes."""
    depth, nodes = np.int64(0), np.int64(0)
    entering = True
    while True:
        step = steps[depth]
        if entering:
            nodes += 1
            if step[TASK] < 0:
                return FOUND, depth, nodes
            if nodes > node_limit or depth + 2 >= len(steps):
                return UNKNOWN, depth, nodes
            if nodes % _NODES_BETWEEN_POLLS == 0 and stop[0] != 0:
                return UNKNOWN, depth, nodes
            _choose(
                blocks, push_first, pushes, member_first, members, rank, capacity, solid,
                load, tasks, step, candidates[depth], offset[depth], pushed[depth], placed,
            )  # fmt: skip
            entering = False
        task = tasks[step[TASK]]
        if step[POSITION] == step[CANDIDATES]:
            if task[MAKER] < 0:
                return IMPOSSIBLE, depth, nodes
            for undone in range(depth - 1, task[MAKER] - 1, -1):
                if steps[undone, CHOICE] >= 0:
                    _toggle(blocks, home_first, homes, load, placed, steps[undone, CHOICE])
            depth = task[MAKER]
            continue
        block = candidates[depth, step[POSITION]]
        step[POSITION] += 1
        step[CHOICE] = block
        below = depth + 1
        for other in range(len(blocks)):
            offset[below, other] = offset[depth, other]
            pushed[below, other] = pushed[depth, other]
        if block < 0:
            possible = _waste(
                blocks, push_first, pushes, member_first, members, capacity,
                step[WHERE], step[AT], offset[below], pushed[below], placed,
            )  # fmt: skip
        else:
            _toggle(blocks, home_first, homes, load, placed, block)
            possible = _push(
                blocks, push_first, pushes, capacity, block, offset[below], pushed[below], placed
            )
        if possible and not _overfull(
            member_first, members, offset[below], placed, load, task[LO], task[HI], solid, capacity
        ):
            number, first = _split(load, tasks, step[TASKS], task[LO], task[HI], depth, task[NEXT])
            steps[below, TASK], steps[below, TASKS] = first, number
            depth = below
            entering = True
        elif block >= 0:
            _toggle(blocks, home_first, homes, load, placed, block)


@compiled
def _toggle(blocks, home_first, homes, load, placed, block):
    """Takes a block out of the waiting ones, or puts it back."""
    sign = 1 if placed[block] else -1
    placed[block] = not placed[block]
    for section in range(blocks[block, FIRST] + 1, blocks[block, LAST]):
        load[section, CROSSING] += sign
    for row in range(home_first[block], home_first[block + 1]):
        section = homes[row, SECTION]
        load[section, LOAD] += sign * homes[row, HOME_BYTES]
        load[section, WAITING] += sign


@compiled
def _overfull(member_first, members, offset, placed, load, low, high, solid, capacity):
    """Whether some section of [low, high) cannot hold its waiting blocks any more."""
    for section in range(low, high):
        if load[section, LOAD] == 0:
            continue
        floor = np.int64(_FAR)
        for row in range(member_first[section], member_first[section + 1]):
            block = members[row, BLOCK]
            if not placed[block] and members[row, BYTES] > 0:
                floor = min(floor, offset[block] + members[row, LOW])
        need = floor + load[section, LOAD]
        if not solid:
            for row in range(member_first[section], member_first[section + 1]):
                block = members[row, BLOCK]
                if placed[block]:
                    below = max(0, floor - offset[block] - members[row, LOW])
                    need += max(0, members[row, BYTES] - below)
        if need > capacity:
            load[section, FAILURES] += 1
            return True
    return False


@compiled
def _choose(
    blocks, push_first, pushes, member_first, members, rank, capacity, solid,
    load, tasks, step, candidates, offset, pushed, placed,
):  # fmt: skip
    """Lists the candidates of one section at the lowest level; -1 at the end means none of them."""
    step[POSITION] = step[CANDIDATES] = 0
    low, high = tasks[step[TASK], LO], tasks[step[TASK], HI]
    while True:
        level = np.int64(_FAR)
        for section in range(low, high):
            load[section, LEVEL] = _FAR
            if load[section, WAITING] > 0:
                for row in range(member_first[section], member_first[section + 1]):
                    block = members[row, BLOCK]
                    if not placed[block]:
                        at = offset[block] - blocks[block, REFERENCE]
                        load[section, LEVEL] = min(load[section, LEVEL], at)
                level = min(level, load[section, LEVEL])
        # The section with the fewest candidates for each failure that it has caused.
        best, fewest = -1, 0
        for section in range(low, high):
            if load[section, LEVEL] == level:
                found = 0
                for row in range(member_first[section], member_first[section + 1]):
                    block = members[row, BLOCK]
                    if not placed[block] and pushed[block]:
                        found += offset[block] - blocks[block, REFERENCE] == level
                if best < 0 or found * load[best, FAILURES] < fewest * load[section, FAILURES]:
                    best, fewest = section, found
                if found <= 1:
                    break
        best = section if found <= 1 else best
        found = 0
        for row in range(member_first[best], member_first[best + 1]):
            block = members[row, BLOCK]
            if placed[block] or not pushed[block]:
                continue
            if offset[block] - blocks[block, REFERENCE] == level:
                place = found
                while place > 0 and rank[candidates[place - 1]] > rank[block]:
                    candidates[place] = candidates[place - 1]
                    place -= 1
                candidates[place] = block
                found += 1
        step[WHERE], step[AT] = best, level
        if found > 0:
            candidates[found] = -1
            step[CANDIDATES] = found + 1
            return
        possible = _waste(
            blocks, push_first, pushes, member_first, members, capacity,
            best, level, offset, pushed, placed,
        )  # fmt: skip
        if not possible or _overfull(
            member_first, members, offset, placed, load, best, best + 1, solid, capacity
        ):
            return


@compiled
def _waste(
    blocks, push_first, pushes, member_first, members, capacity,
    section, level, offset, pushed, placed,
):  # fmt: skip
    """No block of the section begins at this level: those that could wait for the next push.

    Returns False if one of them can never be pushed, or only out of the memory.
    """
    for row in range(member_first[section], member_first[section + 1]):
        block = members[row, BLOCK]
        if placed[block] or offset[block] - blocks[block, REFERENCE] != level:
            continue
        lowest = np.int64(_FAR)
        for pull in range(push_first[block], push_first[block + 1]):
            other = pushes[pull, OTHER]
            if not placed[other]:
                lowest = min(lowest, offset[other] + pushes[pull, PULL])
        if lowest == _FAR:
            return False
        alignment = blocks[block, ALIGNMENT]
        lowest = -(-lowest // alignment) * alignment
        if lowest - blocks[block, REFERENCE] <= level:
            return False  # Only without reference points, where nothing is proven anyway.
        if blocks[block, LIVE_SIZE] > 0 and lowest + blocks[block, LIVE_SIZE] > capacity:
            return False
        offset[block] = lowest
        pushed[block] = False
    return True


@compiled
def _push(blocks, push_first, pushes, capacity, block, offset, pushed, placed):
    """Pushes up what is in the way of a placed block; False if something leaves the memory."""
    for row in range(push_first[block], push_first[block + 1]):
        other = pushes[row, OTHER]
        if placed[other]:
            continue
        alignment = blocks[other, ALIGNMENT]
        least = -(-(offset[block] + pushes[row, PUSH]) // alignment) * alignment
        if least > offset[other] or (least == offset[other] and not pushed[other]):
            offset[other] = least
            pushed[other] = True
            if blocks[other, LIVE_SIZE] > 0 and least + blocks[other, LIVE_SIZE] > capacity:
                return False
    return True


@compiled
def _split(load, tasks, number, low, high, maker, after):
    """Makes tasks of what still waits in [low, high), one for each part between two cuts.

    Returns the number of tasks there are now, and the first of those to do next.
    """
    first, previous, begin = np.int64(-1), np.int64(-1), low
    waits = False
    for section in range(low, high):
        waits = waits or load[section, WAITING] > 0
        end = section + 1
        if end < high and load[end, CROSSING] > 0:
            continue
        if waits:
            tasks[number, LO], tasks[number, HI] = begin, end
            tasks[number, MAKER], tasks[number, NEXT] = maker, after
            if previous >= 0:
                tasks[previous, NEXT] = number
            else:
                first = number
            previous = number
            number += 1
        begin, waits = end, False
    return number, after if first < 0 else first
