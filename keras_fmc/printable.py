"""Text of unknown origin, such as names in a model, made fit for terminals and pages."""

from __future__ import annotations

import re

LONGEST_WORD = 200
"""Characters that are left of what has no spaces, such as a name; an address is to stay whole."""

_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def printable(text: str) -> str:
    r"""Returns the text with each character that does not print as its escape, such as ``\x1b``.

    Escape sequences that steer terminals, NUL, line ends and marks that turn the direction of
    writing are such characters; letters of all scripts are not.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, longest: int = LONGEST_WORD) -> str:
    """Returns a name of at most ``longest`` characters: its ends, "..." between them."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f"{text[: longest - tail - 3]}...{text[-tail:]}"


def one_line(text: str) -> str:
    """Returns the text on one line: line ends are spaces, words printable and not overlong."""
    words = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return _WORD.sub(lambda match: shortened(match[0]), printable(words))


def printable_lines(text: str) -> str:
    """Returns the text with its lines, each printable."""
    return "\n".join(printable(line) for line in text.split("\n"))
