"""The progress bar: drawn where it is wanted, and not for every step of a search."""

from __future__ import annotations

import sys

import pytest

from deploy.progress import Progress


def test_a_bar_names_steps_and_redraws_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=True) as progress:
        for step in range(2000):
            progress.say("looking for strips", step / 2000)
        progress.say("running it in TFLM")
    drawn = capsys.readouterr().err
    assert "running it in TFLM" in drawn
    # Two thousand steps take far less than the ten seconds that a hundred frames are for.
    assert 1 <= drawn.count("looking for strips") < 100


def test_it_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=False) as progress:
        progress.say("planning", 0.5)
    assert capsys.readouterr() == ("", "")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
