"""Answers for people (tables) and for programs (JSON, YAML).

What comes from the server is shown, never interpreted: control characters are spelled out, so
that a name cannot steer the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
RAW_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
NOTHING: Final = "–"
STYLES: Final = {
    "Active": "green",
    "Completed": "green",
    "Online": "green",
    "ok": "green",
    "Pending": "yellow",
    "AwaitingCSR": "yellow",
    "Running": "cyan",
    "RenewalInProgress": "cyan",
    "Expiring": "yellow",
    "Expired": "red",
    "Failed": "red",
    "Revoked": "red",
    "Cancelled": "dim",
    "Archived": "dim",
}


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def show(answer: Any, output: Output, columns: Sequence[str]) -> None:
    """Print a list answer, a single row, or nothing for an answer without a body."""
    if answer is None:
        return
    if output is Output.JSON:
        sys.stdout.write(as_json(answer))
    elif output is Output.YAML:
        sys.stdout.write(as_yaml(answer))
    elif isinstance(answer.get("data"), list):
        table(answer["data"], columns)
        _tell_of_more(answer)
    else:
        sys.stdout.write(card(answer))


def as_json(answer: Any) -> str:
    """The document of the API, indented."""
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    return RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def as_yaml(answer: Any) -> str:
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """On a terminal fitted to its width; into a pipe whole, aligned, one line a row."""
    if sys.stdout.isatty():
        _on_terminal(rows, columns)
    else:
        sys.stdout.write(plain_table(rows, columns))


def plain_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Aligned columns two spaces apart, nothing cut off."""
    lines = [[title(column) for column in columns]]
    lines += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)


def card(row: Mapping[str, Any]) -> str:
    """One resource, a line for each field."""
    width = max((len(name) for name in row), default=0)
    return "".join(f"{name.ljust(width)}  {cell(value)}\n" for name, value in row.items())


def title(column: str) -> str:
    return column.removesuffix("_sha256").replace("_", " ").upper()


def cell(value: Any) -> str:
    """A value as one line of text: times in UTC to the second, lists by commas, – for nothing."""
    if value is None or value == "" or value == [] or value == {}:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{cell(name)}={cell(item)}" for name, item in value.items())
    text = str(value)
    if MOMENT.fullmatch(text):
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return f"{moment:%Y-%m-%d %H:%M:%SZ}"
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _on_terminal(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(title(column), overflow="fold")
    for row in rows:
        texts = [cell(row.get(column)) for column in columns]
        grid.add_row(*(Text(text, style=STYLES.get(text, "")) for text in texts))
    Console().print(grid)


def _tell_of_more(answer: Mapping[str, Any]) -> None:
    total, shown = answer.get("total"), len(answer["data"])
    if isinstance(total, int) and total > shown:
        sys.stderr.write(f"{shown} of {total}; --page shows others, --all every one\n")
