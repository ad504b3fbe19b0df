"""The one exception tree of the project.

Every error says what is wrong, what was expected, what was received and what to do about it, in
one or two lines. The command line maps each class to its exit status.
"""

from __future__ import annotations

from keras_fmc.printable import one_line

_LONGEST_LINE = 1000


class FmcError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: what is wrong, one clause, no full stop.
        expected: what would have been accepted.
        received: what came instead.
        remedy: what the user can do.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        expected: object = None,
        received: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.expected = expected
        self.received = received
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        """One line, or two with a remedy; names in it are printable and short."""
        first = self.what
        if self.expected is not None:
            first += f"; expected {self.expected}"
        if self.received is not None:
            first += f"; received {self.received}"
        first = _sentence(first)
        return first if self.remedy is None else f"{first}\n{_sentence(self.remedy)}"

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.what, self.expected, self.received, self.remedy))


def _sentence(text: str) -> str:
    line = one_line(text)
    if len(line) > _LONGEST_LINE:
        return line[: _LONGEST_LINE - 3].rstrip(".") + "..."
    return line.rstrip(".") + "."


class BadInputError(FmcError):
    """A file, an argument or data that cannot be used."""


class UnsupportedModelError(FmcError):
    """A model outside what is supported; names the operator or layer and the tensor."""


class DoesNotFitError(FmcError):
    """The smallest arena found is larger than what the board or the budget gives."""

    exit_code = 1


class VerificationError(FmcError):
    """A plan or a converted model failed its independent check."""

    exit_code = 3
