"""Every command and program that README and docs show runs, and prints what they show."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from deploy.cli import COMMANDS
from deploy.runtime import tflm
from deploy.targets import boards
from keras_fmc.samples import CACHE_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import blocks  # noqa: E402
import generate  # noqa: E402
import pictures  # noqa: E402

OPTIONAL = ("sklearn", "optuna", "mlflow", "wandb", "tensorboard")
"""Libraries that pages use and that not everyone has installed."""

PLANS: dict[tuple[str, str], blocks.Planned] = {}
"""Many pages begin with the same plan: it is made once."""


@pytest.fixture
def has_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """An empty folder to work in, and the shared models where loaded samples would lie."""
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return blocks.offer_models(tmp_path / "cache")


@pytest.mark.parametrize("page", blocks.pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_does_what_it_shows(page: Path, has_models: bool) -> None:
    if blocks.needs_models(page) and not has_models:
        pytest.skip("the MLPerf Tiny models are not here; set FMC_SHARED to the folder with them")
    if "$ fmc plan" in page.read_text() and tflm.unavailable_reason() is not None:
        pytest.skip(f"pages show plans that ran: {tflm.unavailable_reason()}")
    if "--runtime=c" in page.read_text() and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    try:
        for ran in blocks.Session(PLANS).run(page):
            if ran.shown is not None:
                assert blocks.agrees(ran.shown, ran.printed), (
                    f"{page.relative_to(ROOT)}, {ran.title} prints:\n{ran.printed}\n"
                    f"The page shows:\n{ran.shown}\n"
                    f"To write what is printed: make docs-outputs"
                )
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed; it comes with the extra [docs]")


def test_what_is_not_run_says_why() -> None:
    reasons: Counter[str] = Counter()
    for page in blocks.pages():
        for block in blocks.blocks(page):
            if block.not_run is not None:
                reasons[block.not_run] += 1
                print(f"not run, {block.not_run}: {page.relative_to(ROOT)}, line {block.line}")
    assert set(reasons) <= set(blocks.REASONS)
    assert 0 < sum(reasons.values()) < 40


def test_the_readme_is_a_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_every_fence_is_closed_and_known() -> None:
    for page in blocks.pages():
        text = page.read_text()
        fences = [line for line in text.splitlines() if line.startswith("```")]
        found = blocks.blocks(page)
        directives = sum(line.startswith("```{") for line in fences)
        assert len(fences) == 2 * (len(found) + directives), page
        known = {"console", "python", "text", "yaml", "cpp", "cmake", "ini", "json"}
        assert {block.language for block in found} <= known, page


def test_the_drawings_are_those_of_the_script() -> None:
    for name, text in pictures.drawings().items():
        assert (pictures.PICTURES / name).read_text() == text, f"{name}: make docs-pictures"


def test_tables_are_made_of_all_boards_and_operators() -> None:
    rows = generate.boards_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [board.name for board in boards()]
    rows = generate.operators_table().splitlines()[2:]
    named = {row.split("`")[1] for row in rows}
    assert len(rows) == len(named) >= 80
    strips = next(row for row in rows if row.startswith("| `CONV_2D`"))
    assert strips == "| `CONV_2D` | yes | yes | yes | yes | – | yes |"
    assert all(f"## fmc {name}\n" in generate.commands_text() for name in COMMANDS)


def test_every_term_is_defined_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text().split("```")[1]
    terms = [line for line in text.splitlines()[1:] if line and not line.startswith(" ")]
    assert len(terms) == len({term.lower() for term in terms}) >= 20
    assert terms == sorted(terms, key=str.lower)


def block(text: str, language: str = "console") -> blocks.Block:
    return blocks.Block(language, text, 1)


def test_blocks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```console\n$ fmc boards\na\nb\n$ echo $?\n0\n```\n\n"
        "*Not run by the tests: takes minutes.*\n\n```python\nx = 1\n```\n```text\n1\n```\n"
    )
    first, second, third = blocks.blocks(page)
    assert blocks.commands(first) == [
        blocks.Command("fmc boards", "a\nb\n", 5),
        blocks.Command("echo $?", "0\n", 8),
    ]
    assert (first.not_run, second.not_run, third.not_run) == (None, "takes minutes", None)
    assert (first.line, second.line, third.line) == (4, 14, 17)
    ran = [blocks.Ran("", "a\nb\n", "one\n", 5), blocks.Ran("", "0\n", "1\n2\n", 8)]
    assert blocks.write_outputs(page, ran)
    assert "$ fmc boards\none\n$ echo $?\n1\n2\n```\n" in page.read_text()


def test_figures_may_move_and_words_may_not() -> None:
    assert blocks.agrees("a  1,024 B\n", "a 2,048 B\n")
    assert not blocks.agrees("a 1,024 B\n", "b 1,024 B\n")
    assert not blocks.agrees("a\n", "a\nb\n")
    assert blocks.agrees("a\n...\n", "a\nb\nc\n")
    assert not blocks.agrees("b\n...\n", "a\nb\n")
    assert blocks.like("a\n...\n", "x\ny\nz\n") == "x\n...\n"
    assert blocks.like("a\n", "x\ny\n") == "x\ny\n"


@pytest.mark.usefixtures("has_models")
def test_a_session_keeps_status_and_names() -> None:
    session = blocks.Session({})
    assert "unknown command" in session.command("fmc nothing")
    assert session.command("echo $?") == "2\n"
    assert session.python(block("x = 2\n", "python"), Path("page.md")) == ""
    assert session.python(block("print(x)\n", "python"), Path("page.md")) == "2\n"
    page = Path("page.md")
    page.write_text("```python\nprint(x + 1)\n```\n```text\n4\n```\n\n```python\nx = 1\n```\n")
    assert list(session.run(page)) == [
        blocks.Ran("line 2: Python", "4\n", "3\n", 5),
        blocks.Ran("line 9: Python", None, "", 0),
    ]
    with pytest.raises(ValueError, match="no test runs 'make'"):
        session.command("make")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
