"""What has to be shown of a memory plan, as a list of statements that a C compiler can check.

Tensors that are alive together stand apart, or share bytes because one is declared an alias of
the other. Where tensors of different blocks overlap all the same, because one grows into bytes
that the other has given up, the pieces (which bytes hold a value when) are shown to be apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.graph import ITEM_BYTES
from deploy.memory.plan import AliasReason, MemoryPlan, PlannedPiece, PlannedTensor
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from keras_fmc.errors import VerificationError

ARENA_ALIGNMENT = HEIGHT_ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True)
class Apart:
    """Tensors ``left`` and ``right`` share no byte; both live at operators first to last."""

    left: int
    right: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Shared:
    """Tensors that share bytes while both live, by declaration.

    ``aliases`` are the declarations (tensor, alias of) that lead from one to the other; empty
    where only their common block says so (both are views of a third tensor).
    """

    left: int
    right: int
    first: int
    last: int
    aliases: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class AliasAt:
    """Tensor ``tensor`` begins ``distance`` bytes after the tensor whose bytes it shares."""

    tensor: int
    of: int
    distance: int
    reason: AliasReason


@dataclass(frozen=True, slots=True)
class ProofPiece:
    """Bytes [begin, end) of a tensor, holding a value during operators [start, stop)."""

    number: int
    tensor: int
    begin: int
    end: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class PiecesApart:
    """Pieces (by number) of different blocks that live together and share no byte."""

    left: int
    right: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Proof:
    """All statements about a plan. ``alignment`` holds what each tensor's offset must divide."""

    tensors: tuple[PlannedTensor, ...]
    alignment: dict[int, int]
    apart: tuple[Apart, ...]
    shared: tuple[Shared, ...]
    aliases: tuple[AliasAt, ...]
    pieces: tuple[ProofPiece, ...]
    pieces_apart: tuple[PiecesApart, ...]


def prove(plan: MemoryPlan) -> Proof:
    """Returns the statements that make up the proof of a plan.

    Raises:
        VerificationError: a statement would be false; names the tensors. Such a plan must
            never be emitted.
    """
    return _Prover(plan).run()


class _Prover:
    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self.tensors = tuple(
            sorted((t for t in plan.tensors if t.size_bytes > 0), key=lambda t: t.index)
        )
        self.by_index = {t.index: t for t in self.tensors}
        self.group = {t.index: t.index for t in self.tensors}
        self.parent: dict[int, int] = {}
        self.pieces: list[ProofPiece] = []

    def run(self) -> Proof:
        for tensor in self.tensors:
            self._check_bounds(tensor)
        aliases = self._aliases()
        self._own_pieces()
        self._adopt_views()
        self._check_coverage()
        apart, shared, entangled = self._pairs()
        pieces_apart = self._pieces_apart(entangled, {(a.left, a.right) for a in apart})
        used = {number for pair in pieces_apart for number in (pair.left, pair.right)}
        return Proof(
            tensors=self.tensors,
            alignment={t.index: self._alignment(t) for t in self.tensors},
            apart=tuple(apart),
            shared=tuple(shared),
            aliases=tuple(aliases),
            pieces=tuple(p for p in self.pieces if p.number in used),
            pieces_apart=tuple(pieces_apart),
        )

    def _alignment(self, tensor: PlannedTensor) -> int:
        """Views stand where their rows do; everything else begins at a multiple of 16."""
        return ITEM_BYTES[tensor.dtype] if tensor.offset % ARENA_ALIGNMENT else ARENA_ALIGNMENT

    def _check_bounds(self, tensor: PlannedTensor) -> None:
        end = tensor.offset + tensor.size_bytes
        if tensor.offset < 0 or end > self.plan.head_bytes:
            raise VerificationError(
                f"tensor {tensor.name} stands outside the head",
                expected=f"within [0, {self.plan.head_bytes})",
                received=f"[{tensor.offset}, {end})",
            )
        if tensor.offset % ITEM_BYTES[tensor.dtype]:
            raise VerificationError(
                f"tensor {tensor.name} is misaligned",
                expected=f"a multiple of {ITEM_BYTES[tensor.dtype]} for {tensor.dtype}",
                received=f"offset {tensor.offset}",
            )
        if self.plan.offsets[tensor.index] != tensor.offset:
            raise VerificationError(
                f"the plan has two offsets for tensor {tensor.name}",
                expected=self.plan.offsets[tensor.index],
                received=tensor.offset,
            )

    def _aliases(self) -> list[AliasAt]:
        named: dict[str, list[PlannedTensor]] = defaultdict(list)
        for tensor in self.tensors:
            named[tensor.name].append(tensor)
        found = []
        for tensor in self.tensors:
            if tensor.alias_of is None or tensor.alias_reason is None:
                continue
            # Names need not be unique in a model; the one that is meant shares bytes and time.
            of = next(
                (
                    t
                    for t in named[tensor.alias_of]
                    if t.index != tensor.index and _overlap(t, tensor) and _together(t, tensor)
                ),
                None,
            )
            if of is None:
                raise VerificationError(
                    f"tensor {tensor.name} is declared an alias of {tensor.alias_of}, "
                    "with which it shares no byte while both live"
                )
            self.parent[tensor.index] = of.index
            self._union(tensor.index, of.index)
            distance = tensor.offset - of.offset
            found.append(AliasAt(tensor.index, of.index, distance, tensor.alias_reason))
        return found

    def _own_pieces(self) -> None:
        """Finds the tensor of every piece; pieces of one block tie their tensors together."""
        named: dict[str, list[PlannedTensor]] = defaultdict(list)
        for tensor in self.tensors:
            named[tensor.name].append(tensor)
        block_owner: dict[str, int] = {}
        ordered = sorted(
            self.plan.pieces, key=lambda p: (p.start, p.offset, p.stop, p.size_bytes, p.block)
        )
        for number, piece in enumerate(ordered):
            owner = next((t for t in named[piece.tensor] if _inside(piece, t)), None)
            if owner is None:
                raise VerificationError(
                    f"a piece of {piece.tensor} stands outside that tensor",
                    received=f"bytes [{piece.offset}, {piece.offset + piece.size_bytes})",
                )
            begin = piece.offset - owner.offset
            self.pieces.append(
                ProofPiece(
                    number, owner.index, begin, begin + piece.size_bytes, piece.start, piece.stop
                )
            )
            self._union(owner.index, block_owner.setdefault(piece.block, owner.index))

    def _adopt_views(self) -> None:
        """A tensor that only views others' values joins the block that holds all its bytes."""
        if not self.pieces:
            return
        members = self._members()
        for tensor in self.tensors:
            if self._root(tensor.index) in members:
                continue
            holders = [
                (self._common_bytes(tensor, pieces), -root)
                for root, pieces in members.items()
                if self._uncovered(tensor, pieces) is None
            ]
            if not holders:
                raise VerificationError(f"no piece of the plan holds tensor {tensor.name}")
            self._union(tensor.index, -max(holders)[1])

    def _check_coverage(self) -> None:
        """Every byte of a tensor was some value's of its block by the time it is written."""
        members = self._members()
        for tensor in self.tensors:
            gap = self._uncovered(tensor, members.get(self._root(tensor.index), []))
            if gap is not None and self.pieces:
                raise VerificationError(
                    f"the pieces of tensor {tensor.name} leave bytes of it out",
                    expected=f"{tensor.size_bytes} bytes",
                    received=f"a gap at byte {gap}",
                )

    def _members(self) -> dict[int, list[ProofPiece]]:
        members: dict[int, list[ProofPiece]] = defaultdict(list)
        for piece in self.pieces:
            members[self._root(piece.tensor)].append(piece)
        return members

    def _uncovered(self, tensor: PlannedTensor, pieces: list[ProofPiece]) -> int | None:
        """Returns the first byte of a tensor that was no piece's so far, or None."""
        covered = tensor.offset
        for low, high in sorted(self._bytes_of(p) for p in pieces if p.start <= tensor.first):
            if low > covered:
                break
            covered = max(covered, high)
        inside = covered - tensor.offset
        return inside if inside < tensor.size_bytes else None

    def _common_bytes(self, tensor: PlannedTensor, pieces: list[ProofPiece]) -> int:
        """Returns how many bytes of a tensor are alive in a block when it is written."""
        end = tensor.offset + tensor.size_bytes
        total = 0
        for piece in pieces:
            if piece.start <= tensor.first < piece.stop:
                low, high = self._bytes_of(piece)
                total += max(0, min(high, end) - max(low, tensor.offset))
        return total

    def _pairs(self) -> tuple[list[Apart], list[Shared], set[tuple[int, int]]]:
        apart: list[Apart] = []
        shared: list[Shared] = []
        entangled: set[tuple[int, int]] = set()
        for left, right in _alive_together(self.tensors):
            first, last = max(left.first, right.first), min(left.last, right.last)
            if not _overlap(left, right):
                apart.append(Apart(left.index, right.index, first, last))
                continue
            a, b = self._root(left.index), self._root(right.index)
            if a == b:
                path = self._path(left.index, right.index)
                shared.append(Shared(left.index, right.index, first, last, path))
            elif not self.plan.pieces:
                raise VerificationError(
                    f"tensors {left.name} and {right.name} overlap at {_operators(first, last)}",
                    expected="ranges that do not overlap, or a declared alias",
                    received=f"{_range(left)} and {_range(right)}",
                )
            else:
                entangled.add((min(a, b), max(a, b)))
        return apart, shared, entangled

    def _pieces_apart(
        self, entangled: set[tuple[int, int]], apart: set[tuple[int, int]]
    ) -> list[PiecesApart]:
        members = self._members()
        pairs = []
        for a, b in sorted(entangled):
            for p in members[a]:
                for q in members[b]:
                    first, stop = max(p.start, q.start), min(p.stop, q.stop)
                    owners = (min(p.tensor, q.tensor), max(p.tensor, q.tensor))
                    if first >= stop or owners in apart:
                        continue
                    self._check_pieces(p, q, first, stop - 1)
                    left, right = sorted((p.number, q.number))
                    pairs.append(PiecesApart(left, right, first, stop - 1))
        return sorted(pairs, key=lambda pair: (pair.left, pair.right))

    def _check_pieces(self, p: ProofPiece, q: ProofPiece, first: int, last: int) -> None:
        (p_low, p_high), (q_low, q_high) = self._bytes_of(p), self._bytes_of(q)
        if p_low < q_high and q_low < p_high:
            raise VerificationError(
                f"tensors {self.by_index[p.tensor].name} and {self.by_index[q.tensor].name} "
                f"overlap at {_operators(first, last)}",
                expected="values of different blocks in different bytes",
                received=f"[{p_low}, {p_high}) and [{q_low}, {q_high})",
            )

    def _bytes_of(self, piece: ProofPiece) -> tuple[int, int]:
        offset = self.by_index[piece.tensor].offset
        return offset + piece.begin, offset + piece.end

    def _path(self, left: int, right: int) -> tuple[tuple[int, int], ...]:
        """Returns the alias declarations that lead from one tensor to the other, or none."""
        ups = self._ancestors(left)
        downs = self._ancestors(right)
        common = next((t for t in ups if t in downs), None)
        if common is None:
            return ()
        chain = [*ups[: ups.index(common)], *downs[: downs.index(common)]]
        return tuple((tensor, self.parent[tensor]) for tensor in chain)

    def _ancestors(self, tensor: int) -> list[int]:
        chain = [tensor]
        while chain[-1] in self.parent and self.parent[chain[-1]] not in chain:
            chain.append(self.parent[chain[-1]])
        return chain

    def _root(self, tensor: int) -> int:
        while self.group[tensor] != tensor:
            self.group[tensor] = self.group[self.group[tensor]]
            tensor = self.group[tensor]
        return tensor

    def _union(self, a: int, b: int) -> None:
        low, high = sorted((self._root(a), self._root(b)))
        self.group[high] = low


def _alive_together(
    tensors: tuple[PlannedTensor, ...],
) -> Iterator[tuple[PlannedTensor, PlannedTensor]]:
    for position, left in enumerate(tensors):
        for right in tensors[position + 1 :]:
            if left.first <= right.last and right.first <= left.last:
                yield left, right


def _together(a: PlannedTensor, b: PlannedTensor) -> bool:
    return a.first <= b.last and b.first <= a.last


def _overlap(a: PlannedTensor, b: PlannedTensor) -> bool:
    return a.offset < b.offset + b.size_bytes and b.offset < a.offset + a.size_bytes


def _inside(piece: PlannedPiece, tensor: PlannedTensor) -> bool:
    return (
        tensor.offset <= piece.offset
        and piece.offset + piece.size_bytes <= tensor.offset + tensor.size_bytes
        and tensor.first <= piece.start
    )


def _range(tensor: PlannedTensor) -> str:
    return f"[{tensor.offset}, {tensor.offset + tensor.size_bytes})"


def _operators(first: int, last: int) -> str:
    return f"operator {first}" if first == last else f"operators {first} to {last}"
