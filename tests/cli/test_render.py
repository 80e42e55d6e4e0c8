"""Answers as text, letter by letter."""

from __future__ import annotations

import json

import pytest
import yaml

from certctl.cli.render import as_json, as_yaml, card, cell, plain_table

ROWS = [
    {
        "id": "mc-1",
        "name": "www",
        "sans": ["a.test", "b.test"],
        "live": True,
        "expires_at": "2027-02-22T06:04:10.123456Z",
    },
    {"id": "mc-22", "name": "bäcker", "sans": [], "live": False, "expires_at": None},
]


def test_a_table_is_aligned_whole_and_one_line_a_row():
    assert plain_table(ROWS, ("id", "name", "sans", "live", "expires_at")) == (
        "ID     NAME    SANS            LIVE  EXPIRES AT\n"
        "mc-1   www     a.test, b.test  yes   2027-02-22 06:04:10Z\n"
        "mc-22  bäcker  –               no    –\n"
    )


def test_a_table_without_rows_is_its_head():
    assert plain_table([], ("id", "name")) == "ID  NAME\n"


def test_a_card_has_a_line_for_each_field():
    assert card(ROWS[0]) == (
        "id          mc-1\n"
        "name        www\n"
        "sans        a.test, b.test\n"
        "live        yes\n"
        "expires_at  2027-02-22 06:04:10Z\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (0, "0"),
        ({"a": 1, "b": None}, "a=1, b=–"),
        ("2026-11-24T07:00:00+02:00", "2026-11-24 05:00:00Z"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines", r"two\nlines"),
        ("\x9b31m", r"\x9b31m"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ({"\x1b": "\x07"}, r"\x1b=\x07"),
    ],
)
def test_a_value_is_one_line_that_cannot_steer_the_terminal(value, text):
    assert cell(value) == text


def test_json_is_the_document_of_the_api_in_its_order():
    document = {"data": ROWS, "total": 2, "page": 1, "per_page": 50}
    assert json.loads(as_json(document)) == document
    assert list(json.loads(as_json(document))) == list(document)
    assert "bäcker" in as_json(document)


def test_json_spells_out_control_characters_and_stays_the_same_document():
    document = {"name": "\x1b[2J\x9b\u202e"}
    assert as_json(document) == '{\n  "name": "\\u001b[2J\\u009b\\u202e"\n}\n'
    assert json.loads(as_json(document)) == document


def test_yaml_is_the_same_document():
    assert yaml.safe_load(as_yaml({"data": ROWS})) == {"data": ROWS}
