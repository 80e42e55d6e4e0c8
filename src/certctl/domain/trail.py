"""Verification of the audit trail: hashes and seals recomputed over rows that come in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from certctl.domain.audit import Chain, is_unchanged

TOLD: Final = 1000


@dataclass(frozen=True)
class Seal:
    """A link of the chain over the events `first_sequence` to `last_sequence`."""

    number: int
    first_sequence: int
    last_sequence: int
    row_count: int
    previous: str
    seal: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Seal:
        return cls(**{field.name: row[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Checkpoint:
    """What an installation attested at a time: its newest seal, and how many events are sealed."""

    installation: str
    number: int
    seal_number: int
    seal: str
    last_sequence: int
    row_count: int
    time: str

    def contradicts(self, seal: Seal) -> str | None:
        """What is wrong when the seal of that number is another than the one attested."""
        if (seal.seal, seal.last_sequence) == (self.seal, self.last_sequence):
            return None
        return (
            f"{self} attests another seal {self.seal_number}: the history up to event "
            f"{self.last_sequence} was rewritten"
        )

    def missing(self, last: int) -> str:
        """What is wrong when the seal is not there, and the trail ends at seal `last`."""
        if last > self.seal_number:
            return f"{self} attests seal {self.seal_number}, which was removed"
        return (
            f"{self} attests seal {self.seal_number} up to event {self.last_sequence}, and the "
            f"trail ends at seal {last}: its tail was cut"
        )

    def __str__(self) -> str:
        return f"checkpoint {self.number} of {self.time}"


class Trail:
    """Takes each seal before its events, all in order, and holds no more than one seal's state.

    The first seal must follow the seal `after`; without it, it must be the one after number
    `start`, and is believed about what came before.
    """

    def __init__(self, after: Seal | None = None, *, start: int = 0) -> None:
        self.problems: list[str] = []
        self.untold = 0
        self.events = 0
        self.seals = 0
        self.last = after
        self._number = after.number if after else start
        self._sequence = after.last_sequence if after else None
        self._open: Seal | None = None
        self._first: int | None = None
        self._newest: int | None = None
        self._count = 0
        self._chain = Chain("")

    def wrong(self, text: str) -> None:
        """Tell a problem; beyond a thousand they are only counted."""
        if len(self.problems) < TOLD:
            self.problems.append(text)
        else:
            self.untold += 1

    @property
    def told(self) -> list[str]:
        """Every problem, and how many more there are."""
        return [*self.problems, *([f"and {self.untold} more"] if self.untold else [])]

    @property
    def sealed_through(self) -> int | None:
        """The sequence number up to which seals have been checked."""
        return self.last.last_sequence if self.last else None

    @property
    def in_tail(self) -> bool:
        """Whether no seal covers the event that was taken last."""
        return self._open is None

    def seal(self, seal: Seal) -> None:
        """The next seal; its events follow."""
        self.close()
        self._check_follows(seal)
        self._number = seal.number
        self._start(seal)

    def event(self, row: Mapping[str, Any]) -> None:
        """An event with all its columns."""
        if not is_unchanged(row):
            self.wrong(f"event {row['sequence']} ({row['id']}) was changed after it was written")
        self.row(row["sequence"], row["content_hash"])

    def row(self, sequence: int, content_hash: str) -> None:
        """An event of which only the hash is known."""
        if self._sequence is not None and sequence <= self._sequence:
            self.wrong(f"event {sequence} stands after event {self._sequence}: out of order")
        self._sequence = sequence
        self.events += 1
        if self._open is not None and sequence > self._open.last_sequence:
            self.close()
        if self._open is not None:
            self._first = sequence if self._first is None else self._first
            self._newest = sequence
            self._count += 1
            self._chain.add(sequence, content_hash)

    def close(self) -> None:
        """No more events for the seal that is open."""
        seal = self._open
        if seal is None:
            return
        self._open, self.last = None, seal
        self.seals += 1
        found = (self._first, self._newest, self._count, self._chain.seal)
        if found != (seal.first_sequence, seal.last_sequence, seal.row_count, seal.seal):
            self.wrong(
                f"seal {seal.number}: events {seal.first_sequence} to {seal.last_sequence} are "
                f"not those that were sealed: {_difference(self._count, seal.row_count)}"
            )

    def abandon(self) -> None:
        """The events of the open seal are not all there, and known not to be."""
        self._open = None

    def _start(self, seal: Seal) -> None:
        self._open = seal
        self._chain = Chain(seal.previous)
        self._count = 0
        self._first = self._newest = None

    def _check_follows(self, seal: Seal) -> None:
        number = self._number
        link = self.last.seal if self.last else seal.previous if number else ""
        if seal.number > number + 1:
            self.wrong(
                f"seal {seal.number} does not follow seal {number}: "
                f"{seal.number - number - 1} seals between them were removed"
            )
        elif seal.number <= number or seal.previous != link:
            self.wrong(f"seal {seal.number} does not follow seal {number}: seals were rewritten")


def _difference(found: int, sealed: int) -> str:
    if found < sealed:
        return f"{sealed - found} of {sealed} are missing"
    if found > sealed:
        return f"there are {found - sealed} more than the {sealed} sealed"
    return "hashes or sequence numbers were rewritten"
