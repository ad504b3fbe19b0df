"""Which tensors share bytes, and which value every byte holds when.

Tensors that a view or an in-place operator ties together form a group whose members keep their
distances. A *value* is what one operator computed into one byte; views hand values on without
copying them. Two values never need the same byte at the same time: where a possible view or
in-place operator would force them to, it stays a real copy.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.backends.tflm.views import View, copies_of, views
from deploy.graph import Graph, Operator
from deploy.lifetimes import Step, TensorNumber, reading_steps, tensor_lifetimes, user_step
from deploy.memory.plan import AliasReason
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up


@dataclass(frozen=True, slots=True)
class Alias:
    """Tensor ``tensor`` stands at a fixed distance from ``of``, and why that is allowed."""

    tensor: int
    of: int
    reason: AliasReason


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, stop) of a block that hold one value during operators [first, until)."""

    start: int
    stop: int
    first: int
    until: int
    origin: TensorNumber


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes [start, stop) of a tensor: the value of tensor ``origin`` from byte ``inside`` on."""

    start: int
    stop: int
    origin: TensorNumber
    inside: int


@dataclass(frozen=True, slots=True)
class _Join:
    """What a union did, so that it can be undone: group ``dropped`` moved by ``shift``."""

    dropped: TensorNumber | None
    shift: int


class Sharing:
    """Union-find over tensors with distances, and the values that their bytes hold."""

    def __init__(
        self,
        graph: Graph,
        in_place: frozenset[str],
        view_alignment: int,
        overlaps: Mapping[int, int],
        *,
        alignment: int = HEIGHT_ALIGNMENT_BYTES,
        reasons: frozenset[AliasReason] = frozenset(AliasReason),
        given: Sequence[int] | None = None,
    ) -> None:
        self.alignment = alignment
        self.reasons = reasons
        self.given = given
        self.graph = graph
        self.in_place = in_place
        self.overlaps = overlaps
        self.copies = copies_of(graph)
        self.view_alignment = view_alignment
        self.spans = tensor_lifetimes(graph)
        self.root = {t: t for t in self.spans}
        self.distance = dict.fromkeys(self.spans, 0)
        self.group = {t: [t] for t in self.spans}
        self.aliases: list[Alias] = []
        self.accepted: dict[Step, list[View]] = defaultdict(list)
        # Operator -> its output, where that overwrites an input while the operator runs.
        self.overwriting: dict[Step, TensorNumber] = {}
        self.size = {t: graph.tensors[t].size_bytes for t in self.spans}
        self.writer = {TensorNumber(t): Step(step) for t, step in graph.producers().items()}
        self.readers = reading_steps(graph)
        self.end = user_step(len(graph.operators))
        self._steps = tuple(map(Step, range(self.end)))

    def merge(self) -> None:
        by_step: dict[Step, list[View]] = defaultdict(list)
        for view in views(self.graph, self.copies):
            if view.reason in self.reasons and {view.source, view.target} <= self.spans.keys():
                by_step[view.step].append(view)
        for _, together in sorted(by_step.items()):
            # All inputs of a concatenation at once; where that fails, as many as will go.
            if not self._try_views(together) and len(together) > 1:
                for view in together:
                    self._try_views([view])
        for step, operator in zip(self._steps, self.graph.operators, strict=True):
            self._try_in_place(step, operator)
            if step in self.overlaps:
                self._try_overlap(step, operator)

    def _try_views(self, together: Sequence[View]) -> bool:
        # A slice of anything, and a concatenation of tensors that share nothing yet, bring no
        # second value to any byte, so that nothing needs to be checked.
        first = together[0]
        alone = first.reason is not AliasReason.CONCATENATION_VIEW or (
            len(together) == len(self.graph.operators[first.step].inputs)
            and all(len(self.group[self.root[view.source]]) == 1 for view in together)
        )
        joins: list[_Join] = []
        possible = True
        for view in together:
            item = self.size[view.source] // max(self.graph.tensors[view.source].elements, 1)
            aligned = view.delta % max(item, self.view_alignment) == 0
            join = self._union(view.source, view.target, view.delta) if aligned else None
            if join is None:
                possible = False
                break
            joins.append(join)
            self.accepted[view.step].append(view)
        if possible and not alone:
            possible = self._consistent(together[0].source)
        if not possible:
            accepted = self.accepted[first.step]
            del accepted[len(accepted) - len(joins) :]
            for join in reversed(joins):
                self._split(join)
            return False
        for view in together:
            tensor, of = view.target, view.source
            if view.reason is AliasReason.CONCATENATION_VIEW:
                tensor, of = of, tensor
            self.aliases.append(Alias(tensor, of, view.reason))
        return True

    def _try_in_place(self, step: Step, operator: Operator) -> None:
        if operator.opcode not in self.in_place or self.accepted.get(step):
            return
        if len(operator.outputs) != 1:
            return
        target = TensorNumber(operator.outputs[0])
        if target not in self.spans:
            return
        for source in map(TensorNumber, dict.fromkeys(operator.present_inputs)):
            if source not in self.spans or self.size[source] != self.size[target]:
                continue
            join = self._union(source, target, 0)
            if join is None:
                continue
            self.overwriting[step] = target
            if self._only_touches_start(operator, target) and self._consistent(source):
                self.aliases.append(Alias(target, source, AliasReason.IN_PLACE))
                return
            del self.overwriting[step]
            self._split(join)

    def _try_overlap(self, step: Step, operator: Operator) -> None:
        """Places the output as little before the input as the kernel allows."""
        source, target = TensorNumber(operator.inputs[0]), TensorNumber(operator.outputs[0])
        if not {source, target} <= self.spans.keys():
            return
        distance = round_up(self.overlaps[step], self.alignment)
        if self.given is not None:
            # Farther apart is right, too.
            distance = max(distance, self.given[source] - self.given[target])
        if not -self.size[source] < distance < self.size[target]:
            return
        join = self._union(source, target, -distance)
        if join is None:
            return
        self.overwriting[step] = target
        if self._consistent(source):
            self.aliases.append(Alias(target, source, AliasReason.OVERLAP))
            return
        del self.overwriting[step]
        self._split(join)

    def _only_touches_start(self, operator: Operator, target: TensorNumber) -> bool:
        """Whether every input that shares bytes with the output starts where it starts."""
        start = self.distance[target]
        for tensor in map(TensorNumber, operator.present_inputs):
            if self.root.get(tensor) != self.root[target]:
                continue
            at = self.distance[tensor]
            apart = at >= start + self.size[target] or start >= at + self.size[tensor]
            if at != start and not apart:
                return False
        return True

    def _union(self, source: TensorNumber, target: TensorNumber, delta: int) -> _Join | None:
        """Puts ``target`` at ``source`` + delta; None if it already stands elsewhere."""
        if self.given is not None and self.given[target] - self.given[source] != delta:
            return None
        keep, drop = self.root[source], self.root[target]
        shift = self.distance[source] + delta - self.distance[target]
        if keep == drop:
            return _Join(None, 0) if shift == 0 else None
        if len(self.group[drop]) > len(self.group[keep]):
            keep, drop, shift = drop, keep, -shift
        moved = self.group[drop]
        for tensor in moved:
            self.root[tensor] = keep
            self.distance[tensor] += shift
        self.group[keep] = self.group[keep] + moved
        return _Join(drop, shift)

    def _split(self, join: _Join) -> None:
        if join.dropped is None:
            return
        moved = self.group[join.dropped]
        keep = self.root[join.dropped]
        for tensor in moved:
            self.root[tensor] = join.dropped
            self.distance[tensor] -= join.shift
        self.group[keep] = self.group[keep][: -len(moved)]

    def _consistent(self, tensor: TensorNumber) -> bool:
        """Whether no byte of the tensor's block has to hold two values at once."""
        open_spans: list[Span] = []
        for span in self.values(self.group[self.root[tensor]]):
            open_spans = [s for s in open_spans if s.stop > span.start]
            for other in open_spans:
                if other.first < span.until and span.first < other.until:
                    return False
            open_spans.append(span)
        return True

    def values(self, group: Iterable[TensorNumber]) -> list[Span]:
        """Returns the spans of all values that the tensors of a group hold, by start."""
        parts: dict[TensorNumber, list[_Part]] = {}
        for tensor in group:
            self._parts(tensor, parts)
        reads: dict[TensorNumber, list[tuple[int, int, Step]]] = defaultdict(list)
        for tensor in group:
            for low, high, step in self._reads(tensor):
                for part in parts[tensor]:
                    a, b = max(low, part.start), min(high, part.stop)
                    if a < b:
                        shift = part.inside - part.start
                        reads[part.origin].append((a + shift, b + shift, step))
        spans = []
        for origin in group:
            own = [(p.start, p.stop) for p in parts[origin] if p.origin == origin]
            first = self.writer.get(origin, 0)
            base = self.distance[origin]
            for start, stop, last in _staircase(own, reads[origin], first):
                span = Span(base + start, base + stop, first, last + 1, origin)
                spans += [part for part in self._given_up(span) if part.until > part.first]
        return sorted(spans, key=lambda s: (s.start, s.first, s.stop, s.origin))

    def _parts(self, tensor: TensorNumber, known: dict[TensorNumber, list[_Part]]) -> list[_Part]:
        """Returns whose values the bytes of a tensor hold, filling ``known``."""
        if tensor in known:
            return known[tensor]
        step = self.writer.get(tensor, Step(-1))
        parts: list[_Part] = []
        for view in self.accepted.get(step, ()):
            begin, base = (view.start, 0) if view.delta >= 0 else (0, -view.delta)
            for part in self._parts(view.source, known):
                low, high = max(part.start, begin), min(part.stop, view.stop)
                if low < high:
                    shift = base - begin
                    inside = part.inside + low - part.start
                    parts.append(_Part(low + shift, high + shift, part.origin, inside))
        # What no view brought is a value of the tensor's own.
        parts.sort(key=lambda p: p.start)
        own = [_Part(low, high, tensor, low) for low, high in _gaps(parts, self.size[tensor])]
        known[tensor] = parts + own
        return known[tensor]

    def _reads(self, tensor: TensorNumber) -> list[tuple[int, int, Step]]:
        """Returns (start, stop, step) for the bytes of a tensor that operators really need."""
        reads = []
        for step in self.readers.get(tensor, ()):
            if step == self.end:
                reads.append((0, self.size[tensor], step))
                continue
            operator = self.graph.operators[step]
            accepted = sum(v.source == tensor for v in self.accepted.get(step, ()))
            if accepted and accepted == operator.inputs.count(tensor):
                # A view copies bytes onto themselves: neither a read nor a write.
                continue
            low, high = 0, self.size[tensor]
            parts = [part.span for part in self.copies.get(step, ()) if part.source == tensor]
            if parts:
                item = self.size[tensor] // max(self.graph.tensors[tensor].elements, 1)
                low, high = min(a for a, _ in parts) * item, max(b for _, b in parts) * item
            reads.append((low, high, step))
        return reads

    def _given_up(self, span: Span) -> list[Span]:
        """Ends a value one operator early where the operator that reads it last overwrites it."""
        last = Step(span.until - 1)
        target = self.overwriting.get(last, span.origin)
        if span.origin == target or self.root[target] != self.root[span.origin]:
            return [span]
        low = max(span.start, self.distance[target])
        high = min(span.stop, self.distance[target] + self.size[target])
        if low >= high or span.first == last:
            return [span]
        parts = ((span.start, low, last + 1), (low, high, last), (high, span.stop, last + 1))
        return [
            dataclasses.replace(span, start=start, stop=stop, until=until)
            for start, stop, until in parts
            if start < stop
        ]


def _gaps(parts: Sequence[_Part], size: int) -> list[tuple[int, int]]:
    gaps, position = [], 0
    for part in parts:
        if part.start > position:
            gaps.append((position, part.start))
        position = max(position, part.stop)
    if position < size:
        gaps.append((position, size))
    return gaps


def _staircase(
    own: Sequence[tuple[int, int]], reads: Sequence[tuple[int, int, int]], first: int
) -> list[tuple[int, int, int]]:
    """Cuts a value's bytes where the last reader changes: (start, stop, last reader)."""
    cuts = sorted({c for s, e in own for c in (s, e)} | {c for s, e, _ in reads for c in (s, e)})
    steps: list[tuple[int, int, int]] = []
    for start, stop in itertools.pairwise(cuts):
        if not any(s <= start and stop <= e for s, e in own):
            continue
        last = max((step for s, e, step in reads if s <= start and stop <= e), default=first)
        if steps and steps[-1][1] == start and steps[-1][2] == last:
            steps[-1] = (steps[-1][0], stop, last)
        else:
            steps.append((start, stop, last))
    return steps
