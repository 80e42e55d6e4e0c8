"""When a certificate should be renewed, and why. The caller brings facts and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LATEST_SHARE: Final = 2 / 3  # of the lifetime; a window wider than the certificate is cut to it
SPREAD: Final = 1 / 5  # of the window, over which certificates of the same age are spread
FLOOR: Final = timedelta(days=7)  # before expiry; shorter for short lives and narrow windows


@dataclass(frozen=True)
class Suggestion:
    """What the CA says about the moment (RFC 9773 §4.2); `at` was drawn within its window."""

    start: datetime
    end: datetime
    at: datetime
    explanation_url: str | None = None

    def __str__(self) -> str:
        why = f" ({self.explanation_url})" if self.explanation_url else ""
        return (
            f"the CA suggests renewal between {self.start:%Y-%m-%d %H:%M} "
            f"and {self.end:%Y-%m-%d %H:%M} UTC{why}"
        )


@dataclass(frozen=True)
class Facts:
    """What the decision rests on; times are aware UTC, `jitter` a number from 0 to 1 that stays
    the same for the same certificate."""

    now: datetime
    not_before: datetime
    not_after: datetime
    window: timedelta
    names: frozenset[str]
    wanted_names: frozenset[str]
    jitter: float = 0.0
    suggestion: Suggestion | None = None

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before


def bounded_window(window: timedelta, lifetime: timedelta) -> timedelta:
    """The policy's window, at most a third of the lifetime."""
    return min(window, lifetime * (1 - LATEST_SHARE))


def window_of(facts: Facts) -> timedelta:
    return bounded_window(facts.window, facts.lifetime)


def due_at(facts: Facts) -> datetime:
    """The moment within the first fifth of the window that falls to this certificate."""
    window = window_of(facts)
    return facts.not_after - window + window * SPREAD * facts.jitter


def floor_at(facts: Facts) -> datetime:
    """From here on nothing puts a renewal off: 7 days before the end, a tenth of the lifetime, or
    half of the window, whichever is the shortest."""
    return facts.not_after - min(FLOOR, facts.lifetime / 10, window_of(facts) / 2)


def names_changed(facts: Facts) -> str | None:
    missing = facts.wanted_names - facts.names
    surplus = facts.names - facts.wanted_names
    if missing:
        return f"names not covered: {', '.join(sorted(missing))}"
    return f"names no longer wanted: {', '.join(sorted(surplus))}" if surplus else None


def suggested(facts: Facts) -> str | None:
    if facts.suggestion is None or facts.suggestion.at > facts.now:
        return None
    return str(facts.suggestion)


def near_expiry(facts: Facts) -> str | None:
    """A CA that suggests a later moment is heeded up to the hard floor."""
    if facts.suggestion is None:
        due = due_at(facts)
        return f"due since {due:%Y-%m-%d %H:%M} UTC" if due <= facts.now else None
    floor = floor_at(facts)
    if floor > facts.now:
        return None
    return f"too near its end since {floor:%Y-%m-%d %H:%M} UTC, although {facts.suggestion}"


# First answer wins; most urgent first.
REASONS: tuple[Callable[[Facts], str | None], ...] = (names_changed, suggested, near_expiry)


def reason_to_renew(facts: Facts) -> str | None:
    """The first reason that applies, in words for the operator, or None."""
    return next((why for reason in REASONS if (why := reason(facts))), None)
