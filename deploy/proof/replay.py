"""An independent check of a memory plan, by replaying the graph on an arena of labels.

Every byte that an operator computes gets a label of its own. The replay knows two things: what
each tensor ought to hold (value semantics, no memory), and what the arena really holds when
operators read and write at the planned offsets. Wherever an operator reads a label that is not
the one it ought to read, the plan is wrong. Nothing here is shared with the lifetimes or the
planner: overlaps, views and in-place operators are seen by their effect alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.graph import ITEM_BYTES, Graph, Operator
from keras_fmc.errors import VerificationError

_RENAMING = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
_COPYING = _RENAMING | {"SLICE", "STRIDED_SLICE", "CONCATENATION"}
_NO_VALUE = -1


@dataclass(frozen=True, slots=True)
class ScratchUse:
    """A kernel's buffer: bytes [offset, offset + size_bytes) during operator ``step``."""

    step: int
    offset: int
    size_bytes: int


def verify_plan(
    graph: Graph,
    offsets: Sequence[int],
    *,
    head_bytes: int,
    in_place: Iterable[str] = (),
    overlaps: Mapping[int, int] | None = None,
    scratch: Sequence[ScratchUse] = (),
) -> None:
    """Raises VerificationError, naming operator and tensors, unless the plan is right.

    Args:
        offsets: byte offset of every tensor; -1 for constants and unused tensors.
        head_bytes: no planned byte may stand at or after this.
        in_place: opcodes whose output may start at the very address of an input.
        overlaps: operator -> smallest allowed (input start - output start) in bytes, for
            operators whose kernel reads every input byte before it overwrites it.
        scratch: where the kernels' buffers stand.
    """
    _Replay(graph, offsets, head_bytes, frozenset(in_place), dict(overlaps or {}), scratch).run()


class _Replay:
    def __init__(
        self,
        graph: Graph,
        offsets: Sequence[int],
        head_bytes: int,
        in_place: frozenset[str],
        overlaps: dict[int, int],
        scratch: Sequence[ScratchUse],
    ) -> None:
        if len(offsets) != len(graph.tensors):
            raise VerificationError(
                "the plan is for another graph",
                expected=f"{len(graph.tensors)} offsets",
                received=len(offsets),
            )
        self.graph = graph
        self.offsets = offsets
        self.in_place = in_place
        self.overlaps = overlaps
        self.scratch = scratch
        self.head_bytes = head_bytes
        self.arena = np.full(head_bytes, _NO_VALUE, np.int64)
        self.ought: dict[int, np.ndarray] = {}
        self.next_label = 0

    def run(self) -> None:
        self._check_bounds()
        last_use = {t: step for step, op in enumerate(self.graph.operators) for t in op.inputs}
        for tensor in self.graph.inputs:
            self._write(tensor, self._fresh(tensor))
        for tensor in self.graph.inputs:
            self._expect(tensor, "the graph's inputs", None)
        for step, operator in enumerate(self.graph.operators):
            self._step(step, operator)
            for tensor in operator.present_inputs:
                if last_use[tensor] == step and tensor not in self.graph.outputs:
                    self.ought.pop(tensor, None)
        for tensor in self.graph.outputs:
            if self.graph.tensors[tensor].in_head:
                self._expect(tensor, "the graph's outputs", None)

    def _check_bounds(self) -> None:
        used = {*self.graph.inputs, *self.graph.outputs}
        for operator in self.graph.operators:
            used.update(operator.present_inputs, operator.outputs)
        for index in sorted(used):
            tensor = self.graph.tensors[index]
            if not tensor.in_head:
                continue
            offset = self.offsets[index]
            if offset < 0 or offset + tensor.size_bytes > self.head_bytes:
                raise VerificationError(
                    f"tensor {tensor.name} stands outside the arena",
                    expected=f"{tensor.size_bytes} bytes within [0, {self.head_bytes})",
                    received=f"offset {offset}",
                )
            if offset % ITEM_BYTES[tensor.dtype]:
                raise VerificationError(
                    f"tensor {tensor.name} is misaligned",
                    expected=f"a multiple of {ITEM_BYTES[tensor.dtype]} for {tensor.dtype}",
                    received=f"offset {offset}",
                )

    def _step(self, step: int, operator: Operator) -> None:
        label = self.graph.label(step)
        for use in self.scratch:
            if use.step == step:
                self._scratch(use, operator, label)
        if operator.opcode in _COPYING:
            self._copy(operator, label)
            return
        for tensor in operator.present_inputs:
            if self.graph.tensors[tensor].in_head:
                self._expect(tensor, label, operator)
        outputs = [output for output in operator.outputs if self.graph.tensors[output].in_head]
        for output in outputs:
            for tensor in operator.present_inputs:
                self._may_overlap(step, operator, tensor, output, label)
        fresh = {output: self._fresh(output) for output in outputs}
        for output, labels in fresh.items():
            self._write(output, labels)
        for output in outputs:
            self._expect(output, label, operator)

    def _copy(self, operator: Operator, label: str) -> None:
        """Hands labels on, right or wrong: a wrong one matters when a computation reads it."""
        output = operator.outputs[0]
        destination = self._addresses(output)
        ought, actual, source = [], [], []
        for tensor in self._copied_inputs(operator):
            if not self.graph.tensors[tensor].in_head:
                labels = self._labels(tensor)
                ought.append(self._window(operator, labels, tensor))
                actual.append(ought[-1])
                source.append(np.full(ought[-1].shape, _NO_VALUE, np.int64))
            else:
                ought.append(self._window(operator, self.ought[tensor], tensor))
                addresses = self._window(operator, self._addresses(tensor), tensor)
                actual.append(self.arena[addresses])
                source.append(addresses)
        axis = self._axis(operator)
        shape = (*self.graph.tensors[output].shape, -1)
        wanted = np.concatenate(ought, axis).reshape(shape)
        found = np.concatenate(actual, axis).reshape(shape)
        origin = np.concatenate(source, axis).reshape(shape)
        moved = origin != destination
        if operator.implicit and moved.any():
            raise VerificationError(
                f"{label} has no operator in the file, but its bytes do not stand in its place",
                expected="every byte at the address that it is read from",
                received=f"{np.count_nonzero(moved)} of {moved.size} bytes elsewhere",
            )
        if moved.any() and self._marked(origin[moved])[destination[moved]].any():
            raise VerificationError(
                f"{label} copies between ranges that overlap",
                expected="the same address for every byte, or ranges that do not overlap",
            )
        self._write(output, found)
        self.ought[output] = wanted

    def _marked(self, addresses: np.ndarray) -> np.ndarray:
        """Whether each byte of the head is among the addresses; those of constants are not."""
        marked = np.zeros(self.head_bytes, bool)
        marked[addresses[addresses != _NO_VALUE]] = True
        return marked

    def _copied_inputs(self, operator: Operator) -> tuple[int, ...]:
        return operator.inputs if operator.opcode == "CONCATENATION" else operator.inputs[:1]

    def _axis(self, operator: Operator) -> int:
        if operator.opcode != "CONCATENATION":
            return 0
        rank = len(self.graph.tensors[operator.outputs[0]].shape)
        return operator.integer("axis") % rank

    def _window(self, operator: Operator, values: np.ndarray, tensor: int) -> np.ndarray:
        if operator.opcode == "SLICE":
            begin = self.graph.tensors[operator.inputs[1]].array().ravel()
            size = self.graph.tensors[operator.outputs[0]].shape
            return values[tuple(slice(b, b + n) for b, n in zip(begin, size, strict=True))]
        if operator.opcode == "STRIDED_SLICE":
            return values[self._strides(operator, tensor)]
        return values

    def _strides(self, operator: Operator, tensor: int) -> tuple[slice | int, ...]:
        if operator.integer("ellipsis_mask") or operator.integer("new_axis_mask"):
            raise VerificationError(
                "a strided slice with an ellipsis or a new axis cannot be replayed",
                received=self.graph.tensors[tensor].name,
            )
        begin, end, step = (self.graph.tensors[i].array().ravel() for i in operator.inputs[1:4])
        index: list[slice | int] = []
        for axis in range(len(begin)):
            bit = 1 << axis
            if operator.integer("shrink_axis_mask") & bit:
                index.append(int(begin[axis]))
                continue
            low = None if operator.integer("begin_mask") & bit else int(begin[axis])
            high = None if operator.integer("end_mask") & bit else int(end[axis])
            index.append(slice(low, high, int(step[axis])))
        return tuple(index)

    def _may_overlap(
        self, step: int, operator: Operator, tensor: int, output: int, label: str
    ) -> None:
        if not self.graph.tensors[tensor].in_head:
            return
        start, end = self._range(tensor)
        out_start, out_end = self._range(output)
        if end <= out_start or out_end <= start:
            return
        if start == out_start and operator.opcode in self.in_place:
            return
        if step in self.overlaps and start - out_start >= self.overlaps[step]:
            return
        raise VerificationError(
            f"{label} overwrites its input {self.graph.tensors[tensor].name} while it reads it",
            expected="ranges that do not overlap",
            received=f"[{start}, {end}) and [{out_start}, {out_end})",
        )

    def _scratch(self, use: ScratchUse, operator: Operator, label: str) -> None:
        stop = use.offset + use.size_bytes
        for tensor in (*operator.present_inputs, *operator.outputs):
            if not self.graph.tensors[tensor].in_head:
                continue
            start, end = self._range(tensor)
            if start < stop and use.offset < end:
                raise VerificationError(
                    f"scratch of {label} overlaps {self.graph.tensors[tensor].name}",
                    expected="ranges that do not overlap",
                    received=f"[{use.offset}, {stop}) and [{start}, {end})",
                )
        self.arena[use.offset : min(stop, self.head_bytes)] = _NO_VALUE

    def _range(self, tensor: int) -> tuple[int, int]:
        offset = self.offsets[tensor]
        return offset, offset + self.graph.tensors[tensor].size_bytes

    def _addresses(self, tensor: int) -> np.ndarray:
        start, end = self._range(tensor)
        return np.arange(start, end).reshape(*self.graph.tensors[tensor].shape, -1)

    def _labels(self, tensor: int) -> np.ndarray:
        shape = (*self.graph.tensors[tensor].shape, ITEM_BYTES[self.graph.tensors[tensor].dtype])
        size = self.graph.tensors[tensor].size_bytes
        labels = np.arange(self.next_label, self.next_label + size).reshape(shape)
        self.next_label += size
        return labels

    def _fresh(self, tensor: int) -> np.ndarray:
        self.ought[tensor] = self._labels(tensor)
        return self.ought[tensor]

    def _write(self, tensor: int, labels: np.ndarray) -> None:
        start, end = self._range(tensor)
        self.arena[start:end] = labels.ravel()
        self.ought[tensor] = labels

    def _expect(self, tensor: int, label: str, operator: Operator | None) -> None:
        start, end = self._range(tensor)
        if tensor not in self.ought or not np.array_equal(
            self.arena[start:end], self.ought[tensor].ravel()
        ):
            writes = operator is not None and tensor in operator.outputs
            raise VerificationError(
                f"{label} {'writes' if writes else 'reads'} tensor "
                f"{self.graph.tensors[tensor].name} over bytes that another tensor holds",
                expected=f"[{start}, {end}) to hold one value from its operator to this one",
            )
