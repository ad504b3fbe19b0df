"""The emitted plan compiles where it is right, and stops the compiler where it was changed."""

from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from c_compilers import (
    ALL,
    ARM_C11,
    ARM_C99,
    ARM_CXX17,
    C11,
    C99,
    CXX17,
    CXX98,
    Compiler,
    each,
    require,
)
from graph_maker import GraphMaker
from planned import planned, striped_graph
from random_graphs import random_graph

from deploy.emit.files import write_all
from deploy.memory.plan import AliasReason, MemoryPlan
from deploy.proof.arena_plan import ArenaSizes, arena_plan_files
from deploy.proof.names import c_comment, c_prefix, c_string
from deploy.proof.statements import prove
from keras_fmc.errors import DoesNotFitError, VerificationError

# C99 and C++98 have no static assertion: there the name of an array has to tell.
REFUSING = (C99, C11, CXX17, CXX98, ARM_C11, ARM_CXX17)
TAIL = 1200
SLACK = 64


def sizes(plan: MemoryPlan, **changes: object) -> ArenaSizes:
    arena = plan.head_bytes + TAIL + SLACK
    plain = ArenaSizes(
        arena, plan.head_bytes, TAIL, "TFLM 2026-08, CMSIS-NN, cortex-m4", 4096, "SRAM of a board"
    )
    return dataclasses.replace(plain, **changes)


def emit(folder: Path, plan: MemoryPlan | None = None, **changes: object) -> tuple[Path, Path]:
    plan = planned(striped_graph()) if plan is None else plan
    files = arena_plan_files(plan, sizes(plan, **changes), model_name="strip-ed")
    header, source = write_all(folder, files)
    return header, source


def change(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text()
    changed, count = re.subn(pattern, replacement, text)
    assert count == 1, f"{pattern} occurs {count} times"
    path.write_text(changed)


def refusal(compiler: Compiler, source: Path) -> str:
    done = compiler.compile(source)
    assert done.returncode != 0, "the compiler accepted a plan that is wrong"
    return done.stderr


@each(*ALL, CXX98)
def test_a_plan_compiles(compiler: Compiler, tmp_path: Path) -> None:
    _, source = emit(tmp_path)
    compiler.must_compile(source)


def test_the_plan_under_test_has_every_kind_of_statement() -> None:
    plan = planned(striped_graph())
    proof = prove(plan)
    # Input and output of three strips of 2 rows of 32 bytes; the output grows into the input.
    assert plan.head_bytes == (3 + 1) * 2 * 32
    assert {a.reason for a in proof.aliases} == {
        AliasReason.SLICE_VIEW,
        AliasReason.CONCATENATION_VIEW,
        AliasReason.IN_PLACE,
    }
    assert proof.apart
    assert proof.shared
    assert proof.pieces_apart


def test_every_pair_that_lives_together_is_in_the_proof() -> None:
    plan = planned(striped_graph(strips=5))
    proof = prove(plan)
    stated = {(s.left, s.right) for s in (*proof.apart, *proof.shared)}
    owners = {p.number: p.tensor for p in proof.pieces}
    by_pieces = Counter(
        tuple(sorted((owners[p.left], owners[p.right]))) for p in proof.pieces_apart
    )
    left_to_pieces = 0
    for a, b in itertools.combinations(sorted(plan.tensors, key=lambda t: t.index), 2):
        if a.first <= b.last and b.first <= a.last and (a.index, b.index) not in stated:
            left_to_pieces += 1
            together = sum(
                p.start < q.stop and q.start < p.stop
                for p in plan.pieces
                for q in plan.pieces
                if (p.tensor, q.tensor) == (a.name, b.name)
            )
            assert by_pieces[a.index, b.index] == together
    # The input and the strips that are written before its last slice is taken, but the first.
    assert left_to_pieces == 5 - 2


@each(*REFUSING)
def test_a_changed_offset_names_both_tensors(compiler: Compiler, tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    change(header, r"(T4_TANH_5_OFFSET) \d+", r"\1 64")
    message = refusal(compiler, source)
    assert "STRIP_ED_T0_MODEL_INPUT_1" in message
    assert "STRIP_ED_T4_TANH_5" in message


@each(*REFUSING)
def test_an_offset_changed_to_a_free_place_is_refused_too(
    compiler: Compiler, tmp_path: Path
) -> None:
    header, source = emit(tmp_path)
    offset = int(re.search(r"T12_TANH_13_OFFSET (\d+)", header.read_text()).group(1))
    change(header, r"(T12_TANH_13_OFFSET) \d+", rf"\1 {offset - 16}")
    message = refusal(compiler, source)
    assert "T12_TANH_13" in message
    says = (
        "T12_TANH_13_is_as_in_the_model" if compiler in (C99, CXX98) else "where the model puts it"
    )
    assert says in message


@each(*REFUSING)
def test_rows_that_are_still_needed_may_not_be_overwritten(
    compiler: Compiler, tmp_path: Path
) -> None:
    header, source = emit(tmp_path)
    # The output strips move up by one strip, in the model's table too: only pieces collide.
    moved = [(r"(T(?:4|8|12)_TANH_\d+_OFFSET) (\d+)", 64), (r"(T13_CONCAT_14_OFFSET) (\d+)", 64)]
    text = header.read_text()
    for pattern, shift in moved:
        text = re.sub(pattern, lambda m, s=shift: f"{m[1]} {int(m[2]) + s}", text)
    header.write_text(text)
    message = refusal(compiler, source)
    assert re.search(r"P\d+_overlaps_\w*P\d+|values of STRIP_ED_T0_MODEL_INPUT_1", message)


@each(*REFUSING)
def test_a_shrunk_arena_names_the_tensors_of_the_peak(compiler: Compiler, tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    plan = planned(striped_graph())
    change(header, r"(STRIP_ED_ARENA_BYTES) \d+\n", rf"\1 {plan.head_bytes + TAIL - 16}\n")
    message = refusal(compiler, source)
    highest = max(plan.tensors, key=lambda t: (t.offset + t.size_bytes, -t.index))
    assert f"STRIP_ED_T{highest.index}_" in message
    assert "inside_the_head" in message or "ends outside the head" in message


@each(*REFUSING)
def test_the_slack_that_allocation_needs_may_not_be_taken(
    compiler: Compiler, tmp_path: Path
) -> None:
    header, source = emit(tmp_path)
    plan = planned(striped_graph())
    change(header, r"(STRIP_ED_ARENA_BYTES) \d+\n", rf"\1 {plan.head_bytes + TAIL}\n")
    message = refusal(compiler, source)
    assert "arena_holds_the_plan" in message or "arena is smaller than planned" in message


@each(*REFUSING)
def test_an_arena_beyond_its_memory_is_refused(compiler: Compiler, tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    change(header, r"(STRIP_ED_ARENA_BYTES) \d+\n", r"\1 4112\n")
    message = refusal(compiler, source)
    assert "arena_fits_the_region" in message or "larger than its memory" in message


@each(*REFUSING)
@pytest.mark.parametrize("alias", ["T8_TANH_9", "T5_SLICE_6", "T14_RELU_15"])
def test_a_removed_alias_names_both_tensors(compiler: Compiler, alias: str, tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    of = {"T8_TANH_9": "T13_CONCAT_14", "T5_SLICE_6": "T0_MODEL", "T14_RELU_15": "T13_CONCAT_14"}
    change(header, rf"#define STRIP_ED_{alias}_ALIAS_OF \d+\n", "")
    message = refusal(compiler, source)
    assert f"STRIP_ED_{alias}" in message
    assert f"STRIP_ED_{of[alias]}" in message
    assert "overlap" in message


@each(C11, C99)
def test_a_larger_tensor_collides_with_its_neighbour(compiler: Compiler, tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    change(header, r"(T4_TANH_5_BYTES) \d+", r"\1 80")
    assert "T4_TANH_5" in refusal(compiler, source)


def test_a_larger_arena_is_allowed(tmp_path: Path) -> None:
    header, source = emit(tmp_path)
    change(header, r"(STRIP_ED_ARENA_BYTES) \d+\n", r"\1 4096\n")
    C11.must_compile(source)


def test_the_tables_hold_the_plan(tmp_path: Path) -> None:
    require("gcc")
    plan = planned(striped_graph())
    emit(tmp_path, plan)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "arena_plan.h"\n'
        "int main(void) {\n"
        "  for (int i = 0; i < STRIP_ED_PLANNED_COUNT; ++i) {\n"
        "    const fmc_planned_tensor *t = &strip_ed_planned_tensors[i];\n"
        '    printf("%s %d %d %d %d %d %d\\n", t->name, (int)t->index, (int)t->offset,\n'
        "           (int)t->bytes, (int)t->first, (int)t->last, (int)t->alias_of);\n"
        "  }\n"
        "  for (int i = 0; i < STRIP_ED_TENSOR_COUNT; ++i)\n"
        '    printf("%d %d\\n", (int)strip_ed_tensor_offsets[i], (int)strip_ed_tensor_bytes[i]);\n'
        '  printf("%d %d\\n", STRIP_ED_USED_BYTES, STRIP_ED_REGION_BYTES);\n'
        "  return 0;\n}\n"
    )
    subprocess.run(
        ["gcc", "-std=c99", "main.c", "arena_plan.c", "-o", "main"], cwd=tmp_path, check=True
    )
    out = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    index = {t.name: t.index for t in plan.tensors}
    size = {t.index: t.size_bytes for t in plan.tensors}
    expected = [
        f"{t.name} {t.index} {t.offset} {t.size_bytes} {t.first} {t.last} "
        f"{index[t.alias_of] if t.alias_of else -1}"
        for t in sorted(plan.tensors, key=lambda t: t.index)
    ]
    expected += [f"{offset} {size.get(i, 0)}" for i, offset in enumerate(plan.offsets)]
    expected += [f"{plan.head_bytes + TAIL} 4096"]
    assert out.splitlines() == expected


@each(C99, C11, CXX17, ARM_C99, CXX98)
def test_three_hundred_tensors_compile(compiler: Compiler, tmp_path: Path) -> None:
    plan = planned(striped_graph(strips=140))
    assert len(plan.tensors) > 300
    _, source = emit(tmp_path, plan, limit_bytes=None)
    assert source.stat().st_size < 4_000_000
    compiler.must_compile(source)


def test_the_same_plan_gives_the_same_text() -> None:
    def text() -> dict[str, str]:
        plan = planned(striped_graph())
        return arena_plan_files(plan, sizes(plan), model_name="strip-ed")

    assert text() == text()


def test_names_cannot_break_out_of_comments_and_strings(tmp_path: Path) -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 2, hint='we*/ird"\\??/é\n;x')
    plan = planned(maker.build((source,), (maker.unary(source, "TANH"),)))
    files = arena_plan_files(plan, sizes(plan), model_name='9 "*/ models\\')
    _, path = write_all(tmp_path, files)
    for compiler in (C99, C11, CXX17):
        compiler.must_compile(path)
    assert files["arena_plan.h"].isascii()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("vww_96_int8", "VWW_96_INT8"),
        ("a-b c", "A_B_C"),
        ("9lives", "M_9LIVES"),
        ("---", "MODEL"),
        ("é", "MODEL"),
        ("x" * 80, "X" * 32),
    ],
)
def test_prefixes(name: str, prefix: str) -> None:
    assert c_prefix(name) == prefix


def test_comment_and_string_escapes() -> None:
    assert c_comment("a*/b/*c\\é") == "a* /b/ *c/?"
    assert c_string('a"b\\c??/') == '"a\\"b\\\\c\\?\\?/"'


@pytest.mark.parametrize("seed", range(0, 120, 12))
def test_plans_of_random_graphs_full_of_views_are_proved(seed: int, tmp_path: Path) -> None:
    kinds = ("slice", "strided_slice", "concatenation", "reshape", "unary", "binary", "pad")
    for number in range(seed, seed + 12):
        graph = random_graph(number, operators=(4, 20), kinds=kinds, head=False)
        plan = planned(graph)
        proof = prove(plan)
        stated = {(s.left, s.right) for s in (*proof.apart, *proof.shared)}
        for a, b in itertools.combinations(proof.tensors, 2):
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + a.size_bytes <= b.offset or b.offset + b.size_bytes <= a.offset
            if together and (a.index, b.index) not in stated:
                # Overlap without a declaration: one grows into what the other has given up.
                assert not apart, f"seed {number}: {a.name} and {b.name}"
                assert not values_collide(plan, a.name, b.name), f"seed {number}"
    _, source = emit(tmp_path, plan, limit_bytes=None)
    C99.must_compile(source)


def values_collide(plan: MemoryPlan, left: str, right: str) -> bool:
    return any(
        p.start < q.stop
        and q.start < p.stop
        and p.offset < q.offset + q.size_bytes
        and q.offset < p.offset + p.size_bytes
        for p in plan.pieces
        if p.tensor == left
        for q in plan.pieces
        if q.tensor == right
    )


def moved(plan: MemoryPlan, name: str, offset: int) -> MemoryPlan:
    """The plan with one tensor, and its pieces, at another offset."""
    tensor = next(t for t in plan.tensors if t.name == name)
    shift = offset - tensor.offset
    offsets = list(plan.offsets)
    offsets[tensor.index] = offset
    return dataclasses.replace(
        plan,
        tensors=tuple(
            dataclasses.replace(t, offset=offset) if t is tensor else t for t in plan.tensors
        ),
        pieces=tuple(
            dataclasses.replace(p, offset=p.offset + shift) if p.tensor == name else p
            for p in plan.pieces
        ),
        offsets=tuple(offsets),
    )


def two_maps() -> MemoryPlan:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 2)
    return planned(maker.build((source,), (maker.unary(source, "TANH"),)))


def test_overlapping_tensors_are_never_emitted() -> None:
    plan = two_maps()
    first, second = plan.tensors
    with pytest.raises(VerificationError, match=f"{first.name} and {second.name} overlap at oper"):
        prove(moved(plan, second.name, first.offset + 16 if first.offset else 16))


def test_overlap_without_pieces_is_refused_by_the_tensors_alone() -> None:
    plan = dataclasses.replace(two_maps(), pieces=())
    assert len(prove(plan).apart) == 1
    first, second = plan.tensors
    with pytest.raises(VerificationError, match="ranges that do not overlap, or a declared alias"):
        prove(moved(plan, second.name, first.offset))


def test_a_tensor_outside_the_head_is_never_emitted() -> None:
    plan = two_maps()
    with pytest.raises(VerificationError, match=r"outside the head; expected within \[0, 64\)"):
        prove(moved(plan, plan.tensors[1].name, 48))


def test_a_misaligned_tensor_is_never_emitted() -> None:
    plan = two_maps()
    first, second = plan.tensors
    wide = dataclasses.replace(second, dtype="int32", offset=34, size_bytes=28)
    offsets = (first.offset, 34)
    with pytest.raises(VerificationError, match="misaligned; expected a multiple of 4 for int32"):
        prove(dataclasses.replace(plan, tensors=(first, wide), pieces=(), offsets=offsets))


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    plan = two_maps()
    with pytest.raises(VerificationError, match=f"two offsets for tensor {plan.tensors[1].name}"):
        prove(dataclasses.replace(plan, offsets=(plan.offsets[0], 4096)))


@each(*REFUSING)
def test_a_view_in_the_wrong_place_is_refused_even_where_the_model_has_it(
    compiler: Compiler, tmp_path: Path
) -> None:
    header, source = emit(tmp_path)
    name = "STRIP_ED_T5_SLICE_6"
    change(header, rf"({name}_OFFSET) 128", r"\1 144")
    change(source, rf"FMC_TENSOR\({name}, 128, 64, 16\)", f"FMC_TENSOR({name}, 144, 64, 16)")
    message = refusal(compiler, source)
    assert f"{name}_moved_from" in message or "where it shares the bytes of" in message


def overlapping() -> MemoryPlan:
    """A convolution whose output begins 16 bytes before its input, which it reads in time."""
    plan = two_maps()
    source, target = plan.tensors
    tensors = (
        dataclasses.replace(source, offset=16),
        dataclasses.replace(
            target, offset=0, alias_of=source.name, alias_reason=AliasReason.OVERLAP
        ),
    )
    return dataclasses.replace(plan, tensors=tensors, pieces=(), offsets=(16, 0))


@each(*REFUSING)
def test_a_diagonal_overlap_may_not_come_closer(compiler: Compiler, tmp_path: Path) -> None:
    header, source = emit(tmp_path, overlapping())
    compiler.must_compile(source)
    change(header, r"(T0_T_1_OFFSET) 16", r"\1 0")
    change(source, r"FMC_TENSOR\(STRIP_ED_T0_T_1, 16,", "FMC_TENSOR(STRIP_ED_T0_T_1, 0,")
    message = refusal(compiler, source)
    assert "too_close_to" in message or "before it is read" in message
    assert "T0_T_1" in message


def test_a_plan_with_pieces_left_out_is_refused() -> None:
    plan = planned(striped_graph())
    cut = tuple(p for p in plan.pieces if not (p.tensor == "model/input_1" and p.start == 0))
    assert len(cut) == len(plan.pieces) - 3
    with pytest.raises(VerificationError, match="no piece of the plan holds tensor model/input_1"):
        prove(dataclasses.replace(plan, pieces=cut))
    with pytest.raises(VerificationError, match="model/input_1 leave bytes of it out"):
        prove(dataclasses.replace(plan, pieces=plan.pieces[1:]))


def test_an_alias_that_shares_nothing_is_refused() -> None:
    plan = two_maps()
    first, second = plan.tensors
    lying = dataclasses.replace(second, alias_of=first.name, alias_reason=AliasReason.IN_PLACE)
    with pytest.raises(VerificationError, match="shares no byte"):
        prove(dataclasses.replace(plan, tensors=(first, lying)))


def test_sizes_have_to_agree_with_the_plan() -> None:
    plan = two_maps()
    with pytest.raises(VerificationError, match="head is smaller than the plan"):
        arena_plan_files(plan, sizes(plan, head_bytes=48), model_name="m")
    with pytest.raises(VerificationError, match=f"at least 64 \\+ {TAIL}"):
        arena_plan_files(plan, sizes(plan, arena_bytes=64), model_name="m")
    with pytest.raises(DoesNotFitError, match="does not fit SRAM of a board; expected at most 128"):
        arena_plan_files(plan, sizes(plan, limit_bytes=128), model_name="m")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
