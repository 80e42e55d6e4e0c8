"""Exit statuses: success, refusal, usage, not found and unreachable can be told apart."""

from __future__ import annotations

import sys
from typing import Any, Final

from typer import Context, Exit
from typer.core import TyperGroup

from certctl.domain.errors import CertctlError, NotFound, Unavailable, Unsafe

REFUSED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
MEANINGS: Final = (
    "Exit status: 0 success; 1 refused, or a job failed; 2 wrong usage or settings; "
    "3 not found; 4 the server cannot be reached, is not ready, or a wait ran out."
)


def status_of(error: CertctlError) -> int:
    """The exit status of a command that ends with `error`."""
    match error:
        case NotFound():
            return NOT_FOUND
        case Unavailable():
            return UNREACHABLE
        case Unsafe():
            return USAGE
    return REFUSED


def sentence(error: CertctlError) -> str:
    """The message, with the field to mend where the message does not name it."""
    field = getattr(error, "field", None)
    named = not field or str(field) in error.message
    text = error.message if named else f"{field}: {error.message}"
    return "".join(char if char.isprintable() else " " for char in text)


class OneSentence(TyperGroup):
    """The outermost group: an error of ours becomes one line on stderr and an exit status."""

    def invoke(self, ctx: Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except CertctlError as error:
            sys.stderr.write(f"certctl: {sentence(error)}\n")
            raise Exit(status_of(error)) from error
