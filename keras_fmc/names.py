"""Names that nobody has yet."""

from __future__ import annotations


def free_name(wanted: str, taken: set[str], form: str = "{}_{}", *, first: int = 1) -> str:
    """Returns a name that is not taken, and takes it: the wanted one, or that with a number.

    Args:
        form: how the name and a number make another name.
        first: the first number that is tried.
    """
    name, number = wanted, first
    while name in taken:
        name, number = form.format(wanted, number), number + 1
    taken.add(name)
    return name
