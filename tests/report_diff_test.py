"""Two reports compared: figures, tensors that moved, as text and Markdown."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from report_samples import full_report

from deploy.report.diff import diff
from deploy.report.report import Report, ReportTensor


def changed() -> Report:
    report = full_report()
    moved = dataclasses.replace(report.tensors[1], offset=128)
    return dataclasses.replace(
        report,
        model="new.tflite",
        kernels="reference",
        arena_bytes=1100,
        head_bytes=292,
        macs=4000,
        fits=False,
        verified_arena_bytes=None,
        tensors=(report.tensors[0], moved, ReportTensor("c*[0:2]|x", 0, 32, 0, 1)),
    )


def test_a_report_does_not_differ_from_itself() -> None:
    same = diff(full_report(), full_report())
    assert same.is_same
    assert same.to_text() == "dir/model.tflite -> dir/model.tflite\n  no difference"
    assert "No difference." in same.to_markdown()


@pytest.mark.parametrize(
    "change",
    [
        {"arena_bytes": 1001},
        {"tail_bytes": 1},
        {"macs": 1},
        {"fits": False},
        {"board": None},
        {"runtime": "other"},
        {"tensors": ()},
        {"verified_arena_bytes": None},
    ],
)
def test_every_difference_counts(change: dict[str, object]) -> None:
    assert not diff(full_report(), full_report(**change)).is_same


def test_text() -> None:
    lines = diff(full_report(), changed()).to_text().splitlines()
    assert lines == [
        "dir/model.tflite -> new.tflite",
        "  kernels: cmsis-nn -> reference",
        "  DOES NOT FIT any more",
        "  arena               1,000  1,100  +100 (+10.0%)",
        "  head                  192    292  +100 (+52.1%)",
        "  tail                  800    800              0",
        "  scratch                16     16              0",
        "  lower bound           176    176              0",
        "  arena in the wheel  1,200      -",
        "  limit               1,024  1,024              0",
        "  flash               3,000  3,000              0",
        "  MACs                4,608  4,000  -608 (-13.2%)",
        "  operators               2      2              0",
        "  tensors                 3      3              0",
        "  stored as codes     4,800  4,800              0",
        "",
        "1 tensor moved:",
        "  conv/Relu: [64, 192) -> [128, 256)",
        "",
        "1 tensor appeared:",
        "  c*[0:2]|x: [0, 32)",
        "",
        "1 tensor vanished:",
        "  out: [64, 192)",
    ]


def test_markdown() -> None:
    text = diff(full_report(), changed()).to_markdown()
    assert text.startswith("### Memory plan: `dir/model.tflite` → `new.tflite`\n")
    assert "**Does not fit any more.**" in text
    assert "| arena | 1,000 | 1,100 | +100 (+10.0%) |" in text
    assert "- kernels: `cmsis-nn` → `reference`" in text
    assert "- c\\*\\[0:2\\]|x: \\[0, 32)" in text
    # Every row of the table has the same number of cells.
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}


def test_the_other_way_round_it_fits_again() -> None:
    back = diff(changed(), full_report())
    assert "  fits now" in back.to_text().splitlines()
    assert [t.name for t in back.vanished] == ["c*[0:2]|x"]


def test_stored_codes_are_compared_where_there_are_any() -> None:
    coded = diff(full_report(codes=()), full_report())
    assert not coded.is_same
    (line,) = [row for row in coded.to_text().splitlines() if "stored as codes" in row]
    assert line.split()[3:] == ["0", "4,800", "+4,800"]
    bare = diff(full_report(codes=()), full_report(codes=()))
    assert all(change.name != "stored as codes" for change in bare.figures)


def test_tensors_of_one_name_are_kept_apart() -> None:
    twice = full_report(tensors=(*full_report().tensors, ReportTensor("out", 512, 4, 0, 1)))
    difference = diff(full_report(), twice)
    assert [(t.offset, t.size_bytes) for t in difference.appeared] == [(512, 4)]
    assert difference.moved == ()


def test_long_lists_are_cut_and_say_so() -> None:
    many = tuple(ReportTensor(f"t{i}", 16 * i, 16, 0, 1) for i in range(100))
    shifted = tuple(dataclasses.replace(t, offset=t.offset + 16) for t in many)
    difference = diff(full_report(tensors=many), full_report(tensors=shifted))
    assert len(difference.moved) == 100
    text = difference.to_text()
    assert "100 tensors moved:" in text
    assert text.endswith("  and 60 more")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
