"""When a certificate is due, in words, and never un-due as time goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.renewal import Facts, due_at, reason_to_renew

JAN_1 = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def facts(**changes: Any) -> Facts:
    """90 days from the first of January, to be renewed 30 days before the end."""
    plain: dict[str, Any] = {
        "now": JAN_1,
        "not_before": JAN_1,
        "not_after": JAN_1 + 90 * DAY,
        "window": 30 * DAY,
        "names": frozenset({"a.test"}),
        "wanted_names": frozenset({"a.test"}),
    }
    return Facts(**{**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"now": JAN_1 + 60 * DAY - timedelta(seconds=1)}, None),
        ({"now": JAN_1 + 60 * DAY}, "due since 2030-03-02 00:00 UTC"),
        ({"now": JAN_1 + 91 * DAY}, "due since 2030-03-02 00:00 UTC"),
        ({"wanted_names": frozenset({"a.test", "b.test"})}, "names not covered: b.test"),
        ({"names": frozenset({"a.test", "b.test"})}, "names no longer wanted: b.test"),
        (
            {"now": JAN_1 + 80 * DAY, "wanted_names": frozenset({"c.test", "b.test"})},
            "names not covered: b.test, c.test",
        ),
    ],
)
def test_the_operator_is_told_why_a_certificate_is_renewed(
    changes: dict[str, Any], why: str | None
) -> None:
    assert reason_to_renew(facts(**changes)) == why


def test_a_window_wider_than_the_certificate_waits_for_two_thirds_of_its_life() -> None:
    short = facts(not_after=JAN_1 + 3 * DAY)
    assert due_at(short) == JAN_1 + 2 * DAY


@given(st.integers(1, 400), st.integers(1, 365), st.integers(0, 500), st.integers(0, 500))
def test_what_is_due_stays_due(lifetime: int, window: int, day: int, later: int) -> None:
    made = {"not_after": JAN_1 + lifetime * DAY, "window": window * DAY}
    if reason_to_renew(facts(now=JAN_1 + day * DAY, **made)):
        assert reason_to_renew(facts(now=JAN_1 + (day + later) * DAY, **made))


@given(st.integers(1, 400), st.integers(1, 365))
def test_a_certificate_is_due_before_its_end_and_not_at_its_beginning(
    lifetime: int, window: int
) -> None:
    due = due_at(facts(not_after=JAN_1 + lifetime * DAY, window=window * DAY))
    assert JAN_1 < due < JAN_1 + lifetime * DAY
