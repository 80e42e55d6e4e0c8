"""An export proves itself line by line, and a kept checkpoint proves what the export cannot."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain import exported
from certctl.domain.audit import COLUMNS
from tests.audited import BEGAN, attested, export_of, rows, seals

EVENTS = rows(10)
CHAIN = seals(EVENTS, 4)
WHOLE = export_of(EVENTS, CHAIN)
KEPT = attested(CHAIN[1])


def problems(lines: list[bytes], *checkpoints: Any) -> list[str]:
    return exported.verify(lines, checkpoints).problems


def test_a_whole_export_is_clean_and_says_what_is_sealed() -> None:
    verdict = exported.verify(WHOLE, [KEPT])
    assert verdict.problems == []
    assert (verdict.events, verdict.seals, verdict.compared) == (10, 2, 1)
    assert verdict.sealed_through == EVENTS[7]["sequence"]


def test_an_export_is_read_line_by_line() -> None:
    """An iterator that is not kept: whoever reads ahead would run out of lines."""
    assert exported.verify(iter(WHOLE)).problems == []


@given(st.integers(1, len(WHOLE) - 2), st.data())
def test_any_changed_value_is_found(place: int, data: st.DataObject) -> None:
    line = json.loads(WHOLE[place])
    names = sorted(set(line) - {"type"})
    name = data.draw(st.sampled_from(names))
    others = ["x", 0, None, [1], {"a": 1}, -1, 2**80, "2030-01-01"]
    line[name] = data.draw(st.sampled_from([each for each in others if each != line[name]]))
    lines = [*WHOLE[:place], exported.line(line.pop("type"), **line), *WHOLE[place + 1 :]]
    # What no seal covers yet has its content hash alone: its number proves nothing.
    tail = json.loads(WHOLE[place]).get("sequence", 0) > CHAIN[-1].last_sequence
    assert problems(lines, KEPT) or (tail and name == "sequence")


@given(st.integers(0, len(WHOLE) - 2))
def test_any_removed_line_is_found(place: int) -> None:
    assert problems([*WHOLE[:place], *WHOLE[place + 1 :]], KEPT)


@given(st.integers(1, len(WHOLE) - 1))
def test_an_export_that_ends_early_is_found(length: int) -> None:
    assert any("transfer was cut" in text for text in problems(WHOLE[:length]))


@given(st.integers(1, len(WHOLE) - 3))
def test_two_lines_in_the_other_order_are_found(place: int) -> None:
    lines = [*WHOLE]
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    assert problems(lines)


@given(st.binary(max_size=60))
def test_whatever_a_line_holds_the_reader_ends_with_words(noise: bytes) -> None:
    assert any("line 3" in text for text in problems([*WHOLE[:2], noise, *WHOLE[3:]]))


def test_a_changed_event_is_named() -> None:
    changed = [{**row, "actor": "nobody"} if row["sequence"] == 5 else row for row in EVENTS]
    assert problems(export_of(changed, CHAIN)) == [
        "event 5 (audit-5) was changed after it was written"
    ]


def test_a_removed_event_is_counted_in_its_seal() -> None:
    lines = export_of([row for row in EVENTS if row["sequence"] != 5], CHAIN)
    assert problems(lines) == [
        "seal 1: events 1 to 5 are not those that were sealed: 1 of 4 are missing"
    ]


def test_removed_seals_are_counted() -> None:
    chain = seals(EVENTS, 2)
    told = problems(export_of(EVENTS, [chain[0], *chain[3:]]))
    assert "seal 4 does not follow seal 1: 2 seals between them were removed" in told


def test_a_cut_tail_without_a_kept_checkpoint_cannot_be_told_and_with_one_it_is() -> None:
    cut = export_of(EVENTS[:4], CHAIN[:1])
    assert problems(cut) == []
    (told,) = problems(cut, KEPT)
    assert "the trail ends at seal 1: its tail was cut" in told


def test_a_history_that_was_rewritten_is_found_by_a_kept_checkpoint_alone() -> None:
    events = rows(11)[1:]
    forged = export_of(events, seals(events, 4))
    assert problems(forged) == []
    (told,) = problems(forged, KEPT)
    assert "was rewritten" in told


def test_a_checkpoint_of_another_installation_is_refused() -> None:
    told = problems(WHOLE, attested(CHAIN[1], installation="ins-other"))
    assert any("another installation" in text for text in told)


def test_an_export_of_an_earlier_time_is_no_cut_tail_and_says_that_nothing_was_compared() -> None:
    until = BEGAN.isoformat()
    early = export_of(EVENTS[:4], CHAIN[:1], until=until)
    assert problems(early, KEPT) == ["no checkpoint falls within this export, so none was compared"]
    assert problems(early, KEPT, attested(CHAIN[0])) == []


def test_an_event_held_back_from_a_whole_export_is_told() -> None:
    lines = [exported.hash_line(EVENTS[1]) if n == 3 else line for n, line in enumerate(WHOLE)]
    lines[-1] = exported.line("end", complete=True, events=9)
    assert problems(lines) == [f"event {EVENTS[1]['sequence']} is held back"]


def test_an_export_that_was_asked_for_a_time_starts_after_a_seal() -> None:
    part = export_of(EVENTS[4:], CHAIN[1:], since=BEGAN.isoformat(), after_seal=1)
    assert problems(part, KEPT) == []
    assert problems(export_of(EVENTS[4:], CHAIN[1:], after_seal=1))  # not asked for: a cut head


def test_problems_beyond_a_thousand_are_counted() -> None:
    events = [{**row, "actor": "x"} for row in rows(1100)]
    told = problems(export_of(events, []))
    assert (len(told), told[-1]) == (1001, "and 100 more")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "'x"])
def test_a_spreadsheet_calculates_nothing_of_a_csv_export(text: str) -> None:
    row = {**EVENTS[0], "actor": text, "resource_id": f'{text},"\n'}
    (cells,) = csv.reader(io.StringIO(exported.csv_line(row).decode(), newline=""))
    found = dict(zip(COLUMNS, cells, strict=True))
    assert found["actor"] == f"'{text}"
    assert found["resource_id"].removeprefix("'") == row["resource_id"]


def test_csv_has_every_column_that_is_hashed() -> None:
    text = (exported.csv_header() + exported.csv_line(EVENTS[0]) + exported.csv_end("x")).decode()
    header, cells, end = csv.reader(io.StringIO(text, newline=""))
    found = dict(zip(header, cells, strict=True))
    assert json.loads(found["details"]) == EVENTS[0]["details"]
    assert found["content_hash"] == EVENTS[0]["content_hash"]
    assert end[0] == "# end: x"
