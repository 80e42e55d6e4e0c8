"""The managed certificate: its statuses and their legal moves."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from certctl.domain.errors import Conflict


class Status(StrEnum):
    PENDING = "Pending"
    ACTIVE = "Active"
    EXPIRING = "Expiring"
    EXPIRED = "Expired"
    RENEWAL_IN_PROGRESS = "RenewalInProgress"
    FAILED = "Failed"
    REVOKED = "Revoked"
    ARCHIVED = "Archived"


S = Status
_LIVE = {S.ACTIVE, S.EXPIRING, S.EXPIRED}

MOVES: Final[dict[Status, frozenset[Status]]] = {
    # A first version may be recorded late in its life, after an interruption.
    S.PENDING: frozenset(_LIVE | {S.RENEWAL_IN_PROGRESS, S.FAILED, S.ARCHIVED}),
    S.ACTIVE: frozenset({S.EXPIRING, S.EXPIRED, S.RENEWAL_IN_PROGRESS, S.REVOKED, S.ARCHIVED}),
    S.EXPIRING: frozenset({S.ACTIVE, S.EXPIRED, S.RENEWAL_IN_PROGRESS, S.REVOKED, S.ARCHIVED}),
    S.EXPIRED: frozenset({S.RENEWAL_IN_PROGRESS, S.REVOKED, S.ARCHIVED}),
    S.RENEWAL_IN_PROGRESS: frozenset(_LIVE | {S.PENDING, S.FAILED, S.REVOKED, S.ARCHIVED}),
    S.FAILED: frozenset({S.RENEWAL_IN_PROGRESS, S.REVOKED, S.ARCHIVED}),
    S.REVOKED: frozenset({S.ARCHIVED}),
    S.ARCHIVED: frozenset(),
}
RENEWABLE: Final = frozenset(s for s, onward in MOVES.items() if S.RENEWAL_IN_PROGRESS in onward)
REVOCABLE: Final = frozenset(s for s, onward in MOVES.items() if S.REVOKED in onward)


def move(certificate_id: str, now_in: Status, to: Status) -> Status:
    """The one transition function; staying put is always legal.

    Raises:
        Conflict: when a certificate in `now_in` may not become `to`.
    """
    if to != now_in and to not in MOVES[now_in]:
        raise Conflict(
            f"certificate {certificate_id} is {now_in} and cannot become {to}", field="status"
        )
    return to


def settled(not_after: datetime | None, *, now: datetime, window: timedelta) -> Status:
    """The status of a certificate with no work under way, by the expiry of its live version and
    the window before it in which it is to be renewed.

    Without a live version (`not_after` is None) the last attempt has failed.
    """
    if not_after is None:
        return Status.FAILED
    if not_after <= now:
        return Status.EXPIRED
    if not_after - now <= window:
        return Status.EXPIRING
    return Status.ACTIVE
