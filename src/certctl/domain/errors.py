"""Every failure certctl can name.

Raise the narrowest class with a sentence an operator can act on; `web/problems.py` maps each
class to a status, the agent and the CLI map it to an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping


class CertctlError(Exception):
    """Root of the tree; never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(CertctlError):
    """The input is not acceptable; `field` names the part to mend."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Unauthenticated(CertctlError):
    """The caller has not proved who they are; `cause` tells programs why a session is over."""

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class NotAllowed(CertctlError):
    """The caller is known and may not do this."""


class NotFound(CertctlError):
    """There is no such thing, or it is out of the caller's scope."""


class Conflict(CertctlError):
    """The request does not fit the present state; `counts` says what stands in its way."""

    def __init__(
        self, message: str, *, field: str | None = None, counts: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.counts = counts


class Gone(CertctlError):
    """It existed and has been retired; the caller should stop asking."""


class TooLarge(CertctlError):
    """The request is larger than the limit that applies to it."""


class TooMany(CertctlError):
    """The caller's budget is used up; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(CertctlError):
    """A system we depend on did not answer. Worth another try."""


class Refused(CertctlError):
    """A system we depend on answered no. Another try will not help."""


class Unsafe(CertctlError):
    """A configuration or a stored secret that must stop the start."""


class Stale(CertctlError):
    """The caller's copy of a resource is not the present one (RFC 9110 §13.1.1)."""
