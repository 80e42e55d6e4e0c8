"""The audit trail as a file: NDJSON that proves itself, and CSV for a spreadsheet.

NDJSON holds one object a line, its kind in `type`: `export` (what was asked), then in order of
sequence each `seal` before what it covers, `event` with every column, and `hash` for an event that
was not asked for but whose hash the seal needs; at last `end`. docs/operator/audit.md shows one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from certctl.domain.audit import COLUMNS, HASHED
from certctl.domain.trail import Checkpoint, Seal, Trail

FORM: Final = 1
# What a spreadsheet would take for a formula; the apostrophe itself, so that it can be undone.
GUARDED: Final = ("=", "+", "-", "@", "\t", "\r", "'")
LIMITS: Final = ("since", "until", "category", "limit")


def line(kind: str, **values: Any) -> bytes:
    """One line of an NDJSON export."""
    text = json.dumps(
        {"type": kind, **values}, default=_moment, separators=(",", ":"), ensure_ascii=False
    )
    return text.encode() + b"\n"


def event_line(row: Mapping[str, Any]) -> bytes:
    return line("event", **{name: row[name] for name in COLUMNS})


def hash_line(row: Mapping[str, Any]) -> bytes:
    return line("hash", sequence=row["sequence"], content_hash=row["content_hash"])


def seal_line(seal: Seal) -> bytes:
    return line("seal", **asdict(seal))


def csv_line(row: Mapping[str, Any]) -> bytes:
    """One event as CSV (RFC 4180), its details as JSON; text that a spreadsheet would calculate
    has an apostrophe before it."""
    return _csv([_cell(row[name]) for name in COLUMNS])


def csv_header() -> bytes:
    return _csv(COLUMNS)


def csv_end(words: str) -> bytes:
    """The last line, whose first cell says whether something is missing."""
    return _csv([f"# end: {words}", *[""] * (len(COLUMNS) - 1)])


def _csv(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, dict | list):
        value = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    text = _moment(value) if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(GUARDED) else text


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)


@dataclass(frozen=True)
class Verdict:
    """What an export proves: no problem means that nothing in it was changed since it was sealed.

    Events after `sealed_through` are not sealed yet; `compared` counts the checkpoints that fell
    within the export.
    """

    problems: list[str]
    events: int
    seals: int
    sealed_through: int | None
    compared: int


def verify(lines: Iterable[bytes], checkpoints: Sequence[Checkpoint] = ()) -> Verdict:
    """Check an NDJSON export line by line, against checkpoints that were kept elsewhere."""
    reader = _Reader(checkpoints)
    for number, text in enumerate(lines, 1):
        reader.take(number, text)
    return reader.verdict()


class _Reader:
    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self.attested: dict[int, list[Checkpoint]] = {}
        for each in checkpoints:
            self.attested.setdefault(each.seal_number, []).append(each)
        self.trail = Trail()
        self.head: Mapping[str, Any] | None = None
        self.ended: Mapping[str, Any] | None = None
        self.given = list(checkpoints)
        self.compared = 0
        self.shown = 0
        self.first = 0

    def take(self, number: int, text: bytes) -> None:
        """One line; what cannot be read is a problem and not the end."""
        try:
            found = json.loads(text)
            kind = found.pop("type")
            if (kind == "export") != (number == 1) or self.ended is not None:
                raise ValueError(kind)
            self._take(kind, found)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            self.trail.wrong(f"line {number} is damaged or does not belong there")

    def _take(self, kind: str, found: dict[str, Any]) -> None:
        match kind:
            case "export":
                if found["version"] != FORM:
                    raise ValueError(kind)
                self.head = found
                self.first = _number(found["after_seal"]) if found["since"] is not None else 0
                self.trail = Trail(start=self.first)
            case "seal":
                self._seal(_typed_seal(found))
            case "event":
                self.shown += 1
                self.trail.event(_typed_event(found))
            case "hash":
                if self.head is not None and not _partial(self.head):
                    self.trail.wrong(f"event {found['sequence']} is held back")
                self.trail.row(_number(found["sequence"]), str(found["content_hash"]))
            case "end":
                self.ended = found
            case _:
                raise ValueError(kind)

    def _seal(self, seal: Seal) -> None:
        self.trail.seal(seal)
        for each in self.attested.pop(seal.number, ()):
            self.compared += 1
            if contradiction := each.contradicts(seal):
                self.trail.wrong(contradiction)

    def verdict(self) -> Verdict:
        trail = self.trail
        complete = self._check_end()
        if not complete:
            trail.abandon()
        trail.close()
        self._check_origin()
        self._check_reach(complete)
        return Verdict(trail.told, self.shown, trail.seals, trail.sealed_through, self.compared)

    def _check_end(self) -> bool:
        """Whether the export goes as far as it was asked to."""
        if self.head is None:
            self.trail.wrong("this is no export of the audit trail in NDJSON")
            return False
        if self.ended is None:
            self.trail.wrong("the export has no last line: its transfer was cut")
            return False
        if self.ended.get("events") != self.shown:
            self.trail.wrong(f"the export should hold {self.ended.get('events')} events")
        return self.ended.get("complete") is True

    def _check_origin(self) -> None:
        named = self.head["installation"] if self.head and "installation" in self.head else None
        for each in self.given:
            if each.installation != named:
                self.trail.wrong(f"{each} is of another installation, {each.installation}")

    def _check_reach(self, complete: bool) -> None:
        """An attested seal that should be in the export and is not was removed with its events."""
        first = self.first
        last = self.trail.last.number if self.trail.last else first
        for each in sorted(self.attested):
            for checkpoint in self.attested[each]:
                within = first < each < last
                if within or (each > last and complete and self._covers(checkpoint)):
                    self.trail.wrong(checkpoint.missing(last))
                    self.compared += 1
        if self.given and not self.compared:
            self.trail.wrong("no checkpoint falls within this export, so none was compared")

    def _covers(self, checkpoint: Checkpoint) -> bool:
        head = self.head or {}
        since, until = head.get("since"), head.get("until")
        try:
            at = datetime.fromisoformat(checkpoint.time)
            early = since is not None and at < datetime.fromisoformat(since)
            return not early and (until is None or at <= datetime.fromisoformat(until))
        except (ValueError, TypeError):
            return True


def _partial(head: Mapping[str, Any]) -> bool:
    """Whether the export leaves events out as it was asked to."""
    return any(head.get(name) is not None for name in LIMITS)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("not a number")
    return value


def _typed_seal(found: Mapping[str, Any]) -> Seal:
    seal = Seal.of(found)
    for value in (seal.number, seal.first_sequence, seal.last_sequence, seal.row_count):
        _number(value)
    return seal


def _typed_event(found: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: found[name] for name in HASHED}
    row["timestamp"] = datetime.fromisoformat(row["timestamp"])
    return {
        **row,
        "sequence": _number(found["sequence"]),
        "content_hash": str(found["content_hash"]),
    }
