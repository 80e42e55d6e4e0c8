"""Identifiers sort by time, repeat where they must, and hold nothing that harms a path."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.domain.ids import checked_id, new_id, repeatable_id, uuid7

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(3000, 1, 1), timezones=st.just(UTC))


@given(
    MOMENTS,
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=9000)),
    st.binary(min_size=10, max_size=10),
)
def test_a_later_identifier_sorts_after_an_earlier_one(
    at: datetime, wait: timedelta, random: bytes
) -> None:
    assert str(uuid7(at, b"\xff" * 10)) < str(uuid7(at + wait + timedelta(milliseconds=1), random))


def test_an_identifier_is_a_uuid_of_version_7_and_the_right_variant() -> None:
    made = uuid7(NOON, b"\xff" * 10)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_identifiers_of_the_same_moment_differ() -> None:
    assert len({new_id("mc", NOON) for _ in range(1000)}) == 1000


def test_a_new_identifier_has_its_prefix() -> None:
    assert re.fullmatch(r"mc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", new_id("mc", NOON))


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_repeatable_identifier_is_the_same_for_the_same_parts(parts: list[str]) -> None:
    assert repeatable_id("mc", *parts) == repeatable_id("mc", *parts)


def test_a_repeatable_identifier_tells_its_parts_apart() -> None:
    assert repeatable_id("mc", "ab", "c") != repeatable_id("mc", "a", "bc")


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a b", "a%2Fb", "ä", "a\n", "x" * 129])
def test_an_identifier_that_could_harm_a_path_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="id may hold"):
        checked_id(text)


@pytest.mark.parametrize("text", ["a", "mc-1.2_3", "...", "x" * 128])
def test_an_identifier_of_plain_characters_is_kept(text: str) -> None:
    assert checked_id(text) == text
