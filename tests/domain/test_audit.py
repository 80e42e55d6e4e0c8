"""The hash of an event and the chain over many: any change is seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.audit import content_hash, seal

HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
ROWS = st.lists(st.tuples(st.integers(1, 2**40), HASHES), min_size=1, max_size=20, unique=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
EVENTS = st.dictionaries(st.text(min_size=1, max_size=8), JSON, min_size=1, max_size=6)


@given(EVENTS)
def test_the_order_of_fields_does_not_change_the_hash(event: dict[str, object]) -> None:
    assert content_hash(event) == content_hash(dict(reversed(event.items())))


@given(EVENTS, st.data())
def test_any_changed_field_changes_the_hash(event: dict[str, object], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(event)))
    other = data.draw(
        JSON.filter(lambda value: value != event[field] or type(value) is not type(event[field]))
    )
    assert content_hash({**event, field: other}) != content_hash(event)


def test_a_moment_has_one_hash_in_every_time_zone() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    elsewhere = noon.astimezone(timezone(timedelta(hours=5)))
    assert content_hash({"timestamp": noon}) == content_hash({"timestamp": elsewhere})


@given(ROWS, st.data())
def test_a_removed_row_breaks_the_seal(rows: list[tuple[int, str]], data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, len(rows) - 1))
    assert seal("", rows[:gone] + rows[gone + 1 :]) != seal("", rows)


@given(ROWS, st.data(), HASHES)
def test_a_changed_row_breaks_the_seal(
    rows: list[tuple[int, str]], data: st.DataObject, forged: str
) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    other = [*rows[:place], (rows[place][0], forged), *rows[place + 1 :]]
    assert (seal("", other) == seal("", rows)) == (other == rows)


@given(ROWS, ROWS)
def test_another_past_breaks_every_seal_after_it(
    past: list[tuple[int, str]], rows: list[tuple[int, str]]
) -> None:
    assert seal(seal("", past), rows) != seal("", rows)
