"""When a certificate should be renewed, and why. The caller brings facts and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

LATEST_SHARE = 2 / 3  # of the lifetime; a window wider than the certificate must not renew at once


@dataclass(frozen=True)
class Facts:
    """What the decision rests on; times are aware UTC."""

    now: datetime
    not_before: datetime
    not_after: datetime
    window: timedelta
    names: frozenset[str]
    wanted_names: frozenset[str]


def names_changed(facts: Facts) -> str | None:
    missing = facts.wanted_names - facts.names
    return f"names not covered: {', '.join(sorted(missing))}" if missing else None


def due_at(facts: Facts) -> datetime:
    """The policy's window before expiry, and never before two thirds of the lifetime are over
    when the window is longer than a third of it."""
    lifetime = facts.not_after - facts.not_before
    return facts.not_after - min(facts.window, lifetime * (1 - LATEST_SHARE))


def near_expiry(facts: Facts) -> str | None:
    due = due_at(facts)
    return f"due since {due:%Y-%m-%d %H:%M} UTC" if due <= facts.now else None


# First answer wins; most urgent first.
REASONS: tuple[Callable[[Facts], str | None], ...] = (names_changed, near_expiry)


def reason_to_renew(facts: Facts) -> str | None:
    """The first reason that applies, in words for the operator, or None."""
    return next((why for reason in REASONS if (why := reason(facts))), None)
