"""``arena_plan.h`` and ``arena_plan.c``: the plan as constants, and its proof for a C compiler.

The header holds the numbers a firmware uses. The source states, as static assertions over those
numbers, everything that makes the plan right: a number changed by hand stops the compiler with
the names of the tensors that would collide. Both need no TFLM and compile as C99, C11 and C++.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from deploy.memory.plan import AliasReason, MemoryPlan, PlannedTensor
from deploy.proof.names import c_comment, c_prefix, c_string, short_name, tensor_identifiers
from deploy.proof.statements import ARENA_ALIGNMENT, Proof, prove
from keras_fmc.errors import DoesNotFitError, VerificationError

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class ArenaSizes:
    """The sizes that belong to a plan on a named target, in bytes.

    Attributes:
        arena_bytes: the N of ``uint8_t tensor_arena[N]``.
        head_bytes: the reused part, kernel scratch included.
        tail_bytes: the persistent part.
        target: runtime version, kernel library and core that the sizes hold for.
        limit_bytes: what the arena may use, None if nothing limits it.
        limit_source: where the limit comes from.
        apart: where head and tail stand in two memories.
    """

    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    target: str
    limit_bytes: int | None = None
    limit_source: str = ""
    apart: TwoMemories | None = None


@dataclass(frozen=True, slots=True)
class TwoMemories:
    """The arrays of a head and a tail that stand in two memories, in bytes.

    Attributes:
        head_arena_bytes: the array of the head.
        tail_arena_bytes: the array of the tail.
        head_memory: name of the memory that the head's array stands in.
        tail_memory: the same of the tail's.
        head_limit_bytes: what the head's array may use of its memory.
        tail_limit_bytes: the same of the tail's.
    """

    head_arena_bytes: int
    tail_arena_bytes: int
    head_memory: str
    tail_memory: str
    head_limit_bytes: int
    tail_limit_bytes: int


def arena_plan_files(
    plan: MemoryPlan,
    sizes: ArenaSizes,
    *,
    model_name: str,
    operators: Sequence[str] = (),
    written: Sequence[int] | None = None,
) -> dict[str, str]:
    """Returns ``arena_plan.h`` and ``arena_plan.c``.

    Args:
        operators: labels of the operators in execution order, for the comments.
        written: the tensors that the file holds, in its order; None: all. What is not in it are
            constants of views that have no operator there.

    Raises:
        VerificationError: a statement of the proof is false; names the tensors.
        DoesNotFitError: the arena is larger than its limit.
    """
    proof = check_plan(plan, sizes)
    writer = _Writer(plan, sizes, proof, model_name, operators, written)
    return {"arena_plan.h": writer.header(), "arena_plan.c": writer.source()}


def check_plan(plan: MemoryPlan, sizes: ArenaSizes) -> Proof:
    """Returns what the files would state, whether they are written or not.

    Raises:
        VerificationError, DoesNotFitError: as ``arena_plan_files``.
    """
    proof = prove(plan)
    _check_sizes(plan, sizes)
    return proof


def _check_sizes(plan: MemoryPlan, sizes: ArenaSizes) -> None:
    if sizes.head_bytes < plan.head_bytes:
        raise VerificationError(
            "the head is smaller than the plan", plan.head_bytes, sizes.head_bytes
        )
    if sizes.arena_bytes < sizes.head_bytes + sizes.tail_bytes:
        raise VerificationError(
            "the arena is smaller than its parts",
            expected=f"at least {sizes.head_bytes} + {sizes.tail_bytes}",
            received=sizes.arena_bytes,
        )
    if sizes.apart is not None:
        _check_apart(sizes, sizes.apart)
    if sizes.limit_bytes is not None and sizes.arena_bytes > sizes.limit_bytes:
        raise DoesNotFitError(
            f"the arena does not fit {sizes.limit_source or 'its memory'}",
            expected=f"at most {sizes.limit_bytes} bytes",
            received=sizes.arena_bytes,
        )


def _check_apart(sizes: ArenaSizes, apart: TwoMemories) -> None:
    head = (sizes.head_bytes, apart.head_arena_bytes, apart.head_limit_bytes)
    tail = (sizes.tail_bytes, apart.tail_arena_bytes, apart.tail_limit_bytes)
    for part, (needed, array, limit) in {"head": head, "tail": tail}.items():
        if needed > array:
            raise VerificationError(
                f"the array of the {part} is smaller than the {part}",
                expected=f"at least {needed}",
                received=array,
            )
        if array > limit:
            raise DoesNotFitError(
                f"the {part} does not fit its memory",
                expected=f"at most {limit} bytes",
                received=array,
            )


class _Writer:
    def __init__(
        self,
        plan: MemoryPlan,
        sizes: ArenaSizes,
        proof: Proof,
        model_name: str,
        operators: Sequence[str],
        written: Sequence[int] | None,
    ) -> None:
        self.plan = plan
        self.sizes = sizes
        self.proof = proof
        self.model_name = model_name
        self.operators = operators
        self.prefix = c_prefix(model_name)
        self.symbol = self.prefix.lower()
        self.names = tensor_identifiers(self.prefix, proof.tensors)
        self.aliases = {alias.tensor: alias for alias in proof.aliases}
        self.written = range(len(plan.offsets)) if written is None else written
        self.number = {tensor: number for number, tensor in enumerate(self.written)}

    def header(self) -> str:
        return _template("arena_plan.h").substitute(
            self._common(),
            limit=self._limit(),
            tensors="\n".join(self._tensor_defines(t) for t in self.proof.tensors),
            same_block="".join(self._same_block_defines()),
        )

    def source(self) -> str:
        return _template("arena_plan.c").substitute(
            self._common(),
            alias_defaults="".join(self._alias_defaults()),
            totals=self._totals(),
            tensors="".join(self._tensor_assertions()),
            aliases="".join(self._alias_assertions()) or "/* No tensor shares bytes. */\n",
            apart="".join(self._apart_assertions()),
            pieces=self._pieces(),
            table="".join(self._table_rows()),
            offsets=_wrapped([str(self.plan.offsets[tensor]) for tensor in self.written]),
            sizes=_wrapped([str(size) for size in self._sizes_by_index()]),
        )

    def _common(self) -> dict[str, object]:
        gap = self.plan.head_bytes - self.plan.lower_bound_bytes
        bound = "proven optimal" if self.plan.proven_optimal else f"at most {gap} bytes above it"
        return {
            "prefix": self.prefix,
            "symbol": self.symbol,
            "model": c_comment(self.model_name),
            "target": c_comment(self.sizes.target),
            "arena": self.sizes.arena_bytes,
            "head": self.sizes.head_bytes,
            "tail": self.sizes.tail_bytes,
            "planned": self.plan.head_bytes,
            "bound": self.plan.lower_bound_bytes,
            "certificate": bound,
            "alignment": ARENA_ALIGNMENT,
            "count": len(self.written),
            "in_arena": len(self.proof.tensors),
        }

    def _limit(self) -> str:
        if self.sizes.apart is not None:
            return self._apart_defines(self.sizes.apart)
        if self.sizes.limit_bytes is None:
            return ""
        source = c_comment(self.sizes.limit_source or "the memory it was planned for")
        return (
            f"\n/* What the arena may use: {source}. */\n"
            f"#define {self.prefix}_REGION_BYTES {self.sizes.limit_bytes}\n"
        )

    def _apart_defines(self, apart: TwoMemories) -> str:
        p = self.prefix
        head, tail = c_comment(apart.head_memory), c_comment(apart.tail_memory)
        return (
            f"\n/* Head and tail stand apart: the head in {head}, the tail in {tail}.\n"
            f" * {p}_ARENA_BYTES is the sum of their arrays. */\n"
            f"#define {p}_HEAD_ARENA_BYTES {apart.head_arena_bytes}\n"
            f"#define {p}_TAIL_ARENA_BYTES {apart.tail_arena_bytes}\n"
            f"/* What they may use of these memories. */\n"
            f"#define {p}_HEAD_REGION_BYTES {apart.head_limit_bytes}\n"
            f"#define {p}_TAIL_REGION_BYTES {apart.tail_limit_bytes}\n"
        )

    def _tensor_defines(self, tensor: PlannedTensor) -> str:
        name = self.names[tensor.index]
        shape = "x".join(str(n) for n in tensor.shape) or "scalar"
        span = _steps(tensor.first, tensor.last)
        lines = [
            f"/* {c_comment(short_name(tensor.name))}: {tensor.dtype} {shape}, {span} */",
            f"#define {name}_OFFSET {tensor.offset}",
            f"#define {name}_BYTES {tensor.size_bytes}",
        ]
        alias = self.aliases.get(tensor.index)
        if alias is not None:
            of = self.names[alias.of]
            lines.append(f"/* Shares bytes with {of}, {alias.reason.value}. */")
            lines.append(f"#define {name}_ALIAS_OF {alias.of}")
        return "\n".join(lines) + "\n"

    def _same_block_defines(self) -> list[str]:
        lines = [
            f"#define {self._pair(s.left, s.right)}_SHARE 1\n"
            for s in self.proof.shared
            if not s.aliases
        ]
        if lines:
            lines.insert(0, "\n/* Pairs that see the same bytes through a third tensor. */\n")
        return lines

    def _alias_defaults(self) -> list[str]:
        names = [f"{self.names[a.tensor]}_ALIAS_OF" for a in self.proof.aliases]
        names += [
            f"{self._pair(s.left, s.right)}_SHARE" for s in self.proof.shared if not s.aliases
        ]
        return [
            f"#ifndef {name}\n#define {name} {0 if name.endswith('_SHARE') else -1}\n#endif\n"
            for name in names
        ]

    def _pair(self, left: int, right: int) -> str:
        return f"{self.names[left]}_T{right}"

    def _totals(self) -> str:
        p, peak = self.prefix, self._peak_names()
        lines = [
            f"FMC_PROVE({p}_HEAD_BYTES >= {self.sizes.head_bytes}, {p}_head_holds_the_plan,",
            f'          "the head is smaller than the plan; its peak: {peak}")',
            f"FMC_PROVE({p}_ARENA_BYTES >= {self.sizes.arena_bytes}, {p}_arena_holds_the_plan,",
            f'          "the arena is smaller than planned; its peak: {peak}")',
            f"FMC_PROVE({p}_HEAD_BYTES + {p}_TAIL_BYTES <= {p}_ARENA_BYTES,",
            f"          {p}_head_and_tail_fit_the_arena,",
            '          "head and tail together are larger than the arena")',
            f"FMC_PROVE({p}_ARENA_ALIGNMENT % {ARENA_ALIGNMENT} == 0, {p}_arena_is_aligned,",
            f'          "the arena must be aligned to {ARENA_ALIGNMENT} bytes")',
        ]
        if self.sizes.apart is not None:
            for part, array in (
                ("HEAD", self.sizes.apart.head_arena_bytes),
                ("TAIL", self.sizes.apart.tail_arena_bytes),
            ):
                name = part.lower()
                lines += [
                    f"FMC_PROVE({p}_{part}_ARENA_BYTES >= {array} && "
                    f"{p}_{part}_BYTES <= {p}_{part}_ARENA_BYTES,",
                    f"          {p}_{name}_arena_holds_the_{name},",
                    f'          "the array of the {name} is smaller than planned")',
                    f"FMC_PROVE({p}_{part}_ARENA_BYTES <= {p}_{part}_REGION_BYTES,",
                    f"          {p}_{name}_arena_fits_its_memory,",
                    f'          "the array of the {name} is larger than its memory")',
                ]
            lines += [
                f"FMC_PROVE({p}_HEAD_ARENA_BYTES + {p}_TAIL_ARENA_BYTES == {p}_ARENA_BYTES,",
                f'          {p}_arenas_add_up, "the arrays do not add up to the arena")',
            ]
        elif self.sizes.limit_bytes is not None:
            lines += [
                f"FMC_PROVE({p}_ARENA_BYTES <= {p}_REGION_BYTES, {p}_arena_fits_the_region,",
                f'          "the arena is larger than its memory; its peak: {peak}")',
            ]
        return "\n".join(lines) + "\n"

    def _peak_names(self) -> str:
        """The tensors alive where the plan ends highest, a few of them."""
        highest = max(
            self.proof.tensors, key=lambda t: (t.offset + t.size_bytes, -t.index), default=None
        )
        if highest is None:
            return "none"
        together = [
            t
            for t in self.proof.tensors
            if t.first <= highest.last and highest.first <= t.last and t.index not in self.aliases
        ]
        together.sort(key=lambda t: (t.index != highest.index, -t.size_bytes, t.index))
        return ", ".join(self.names[t.index] for t in together[:4])

    def _tensor_assertions(self) -> list[str]:
        return [
            f"FMC_TENSOR({self.names[t.index]}, {t.offset}, {t.size_bytes}, "
            f"{self.proof.alignment[t.index]})\n"
            for t in self.proof.tensors
        ]

    def _alias_assertions(self) -> list[str]:
        lines = []
        for alias in self.proof.aliases:
            name, of = self.names[alias.tensor], self.names[alias.of]
            macro = "FMC_OVERLAPS" if alias.reason is AliasReason.OVERLAP else "FMC_VIEW"
            lines.append(f"{macro}({name}, {of}, {alias.distance})\n")
        for pair in self.proof.shared:
            left, right = self.names[pair.left], self.names[pair.right]
            declared = (
                " && ".join(f"{self.names[a]}_ALIAS_OF == {b}" for a, b in pair.aliases)
                or f"{self._pair(pair.left, pair.right)}_SHARE == 1"
            )
            lines.append(f"FMC_DECLARED({left}, {right}, {declared})\n")
        return lines

    def _apart_assertions(self) -> list[str]:
        lines, step = [], -1
        for pair in sorted(self.proof.apart, key=lambda a: (a.first, a.left, a.right)):
            if pair.first != step:
                step = pair.first
                lines.append(f"/* Operator {self._label(step)} */\n")
            lines.append(f"FMC_APART({self.names[pair.left]}, {self.names[pair.right]})\n")
        return lines

    def _label(self, step: int) -> str:
        known = step < len(self.operators)
        return c_comment(f"{step}: {self.operators[step]}" if known else str(step))

    def _pieces(self) -> str:
        if not self.proof.pieces:
            return ""
        p = self.prefix
        lines = [_template("arena_pieces.c").substitute(self._common())]
        for piece in self.proof.pieces:
            name = self.names[piece.tensor]
            span = _steps(piece.start, piece.stop - 1)
            lines += [
                f"/* {p}_P{piece.number}: bytes {piece.begin} to {piece.end} of {name}, {span} */\n"
                f"#define {p}_P{piece.number}_BEGIN ({name}_OFFSET + {piece.begin})\n"
                f"#define {p}_P{piece.number}_END ({name}_OFFSET + {piece.end})\n"
            ]
        tensor_of = {piece.number: self.names[piece.tensor] for piece in self.proof.pieces}
        for pair in self.proof.pieces_apart:
            lines.append(
                f"FMC_PIECES({p}_P{pair.left}, {tensor_of[pair.left]}, "
                f"{p}_P{pair.right}, {tensor_of[pair.right]})\n"
            )
        return "".join(lines)

    def _table_rows(self) -> list[str]:
        rows = []
        for t in self.proof.tensors:
            name = self.names[t.index]
            alias = f"{name}_ALIAS_OF" if t.index in self.aliases else "-1"
            rows.append(
                f"    {{{c_string(short_name(t.name))}, {self.number[t.index]}, "
                f"{name}_OFFSET, {name}_BYTES, "
                f"{t.first}, {t.last}, {alias}}},\n"
            )
        return rows

    def _sizes_by_index(self) -> list[int]:
        sizes = [0] * len(self.written)
        for tensor in self.proof.tensors:
            sizes[self.number[tensor.index]] = tensor.size_bytes
        return sizes


def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def _steps(first: int, last: int) -> str:
    return f"operator {first}" if first == last else f"operators {first} to {last}"


def _wrapped(items: Sequence[str]) -> str:
    rows = [", ".join(items[start : start + 12]) for start in range(0, len(items), 12)]
    return "    " + ",\n    ".join(rows)
