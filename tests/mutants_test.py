"""A thousand damaged models: exit 0, 1 or 2, with one or two lines. `make mutants` tries more."""

from __future__ import annotations

import sys

import pytest

from tests.mutants import bases, mutant, outcome

COUNT = 1000
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_a_damaged_model_never_ends_in_a_traceback(part: int) -> None:
    statuses = set()
    for seed in range(part, COUNT, PARTS):
        content = mutant(seed)
        for command, options in (("profile", ()), ("plan", ("--strips=false",))):
            status, errors = outcome(content, command, *options)
            assert status in (0, 1, 2), (seed, command, errors)
            assert (status == 0) == (not errors), (seed, command, errors)
            assert len(errors.strip().splitlines()) <= 2, (seed, command, errors)
            assert "\x1b" not in errors
            assert len(errors) < 2500, (seed, command, errors)
            statuses.add((command, status))
    # Some damage does no harm, some does.
    assert {("plan", 0), ("plan", 2), ("profile", 0), ("profile", 2)} <= statuses


def test_the_models_are_sound_before_they_are_damaged() -> None:
    unsound = [i for i, content in enumerate(bases()) if outcome(content, "profile")[0] != 0]
    assert unsound == []


def test_a_seed_gives_the_same_bytes() -> None:
    assert [mutant(seed) for seed in range(30)] == [mutant(seed) for seed in range(30)]
    assert len({mutant(seed) for seed in range(30)}) == 30


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
