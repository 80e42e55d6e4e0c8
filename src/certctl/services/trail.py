"""The stored audit trail in order, read in batches, and what its verification finds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import Invalid, NotFound
from certctl.domain.trail import Seal, Trail
from certctl.pki import checkpoint as signed
from certctl.services.platform import Platform
from certctl.store import audit as events
from certctl.store import checkpoints
from certctl.store.db import Database, Row, Session

BATCH: Final = 500
A_PART: Final = 20_000  # events that one request verifies at least, where there are so many
LAST: Final = 2**62  # beyond every sequence number, and below every one when negative


@dataclass(frozen=True)
class Place:
    """Where a part of the trail begins: after this seal and this event."""

    seal: int = 0
    sequence: int = -LAST

    def __str__(self) -> str:
        return f"{self.seal}.{self.sequence}"

    @classmethod
    def of(cls, text: str) -> Place:
        """Raises Invalid for what `str` of a place does not make."""
        seal, _, sequence = text.partition(".")
        if not (seal.isdigit() and sequence.removeprefix("-").isdigit() and len(text) < 40):
            raise Invalid("after: the `next` of an answer before", field="after")
        return cls(min(int(seal), LAST), max(-LAST, min(int(sequence), LAST)))


@dataclass(frozen=True)
class Span:
    """A stretch of the trail, its last seal and its last event included."""

    after: Place
    last_seal: int
    last_sequence: int


async def in_order(db: Database, span: Span) -> AsyncIterator[Seal | Row]:
    """Each seal before the events it covers, then those that are not sealed. No connection is
    held between two batches, so that a slow reader holds up nobody."""
    waiting = _batches(db, events.seals, span.after.seal, up_to=span.last_seal, key="number")
    seal = await _next(waiting)
    covered = span.after.sequence
    rows = _batches(
        db, events.events, span.after.sequence, up_to=span.last_sequence, key="sequence"
    )
    async for row in rows:
        while seal is not None and row["sequence"] > covered:
            yield Seal.of(seal)
            covered = max(covered, seal["last_sequence"])
            seal = await _next(waiting)
        yield {**row, "details": _details(row["details"])}
    while seal is not None:
        yield Seal.of(seal)
        seal = await _next(waiting)


def _details(text: str) -> Any:
    """What was stored; what no program of ours can have stored stays text, and fits no hash."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


async def _batches(
    db: Database,
    fetch: Callable[..., Awaitable[list[Row]]],
    after: int,
    *,
    up_to: int,
    key: str,
) -> AsyncIterator[Row]:
    while True:
        async with db.read() as session:
            batch = await fetch(session, after, up_to=up_to, limit=BATCH)
        for row in batch:
            yield row
        if len(batch) < BATCH:
            return
        after = batch[-1][key]


async def _next(rows: AsyncIterator[Row]) -> Row | None:
    return await anext(rows, None)


@dataclass(frozen=True)
class Part:
    """What one stretch of the trail showed, and where the next begins; None at the end."""

    problems: list[str]
    events: int
    seals: int
    next: Place | None


async def verify(on: Platform) -> list[str]:
    """Recompute every hash, seal and checkpoint; what does not fit, in words. Empty: the trail
    is whole."""
    problems: list[str] = []
    place: Place | None = Place()
    while place is not None and len(problems) < 1000:
        part = await verify_part(on, place)
        problems += part.problems
        place = part.next
    return problems


async def verified_for(on: Platform, actor: Actor, after: str | None) -> Part:
    """One part, for a caller who goes on with its `next`."""
    actor.everywhere(Permission.AUDIT_READ)
    return await verify_part(on, Place.of(after) if after else Place())


async def verify_part(on: Platform, place: Place) -> Part:
    """Some twenty thousand events from a place on, and the checkpoints of their seals.

    Raises:
        NotFound: when the seal of the place is gone.
    """
    async with on.db.read() as session:
        before = await events.seal(session, place.seal) if place.seal else None
        ends = await events.ends(session)
    if place.seal and before is None:
        raise NotFound(f"seal {place.seal} does not exist")
    trail = Trail(Seal.of(before) if before else None)
    following: Place | None = None
    sequence = place.sequence
    # A part that begins in the tail does not look at seals made over it meanwhile.
    in_tail = sequence > (before["last_sequence"] if before else -LAST)
    last_seal = place.seal if in_tail else ends["seal"]
    async for each in in_order(on.db, Span(place, last_seal, ends["sequence"])):
        between = isinstance(each, Seal) or trail.in_tail
        if between and trail.events >= A_PART:
            trail.close()
            last = trail.last
            following = Place(last.number if last else 0, sequence)
            break
        if isinstance(each, Seal):
            trail.seal(each)
        else:
            trail.event(each)
            sequence = each["sequence"]
    trail.close()
    await _checkpoints(on, trail, place.seal, whole=following is None)
    return Part(trail.told, trail.events, trail.seals, following)


async def _checkpoints(on: Platform, trail: Trail, after: int, *, whole: bool) -> None:
    """Compare the stored checkpoints of the part's seals, and at the end those beyond the last."""
    last = trail.last.number if trail.last else 0
    while True:
        async with on.db.read() as session:
            rows = await checkpoints.beside_seals(
                session, after, up_to=None if whole else last, limit=BATCH
            )
        for row in rows:
            _compare(trail, row, last)
        if len(rows) < BATCH:
            return
        after = rows[-1]["attested"]


def _compare(trail: Trail, row: Row, last: int) -> None:
    try:
        key = signed.load_public((row["public_key"] or "").encode())
        found = signed.verified(row["payload"].encode(), signed.decoded(row["signature"]), key=key)
    except Invalid as error:
        trail.wrong(f"the checkpoint of seal {row['attested']}: {error.message}")
        return
    if row["seal"] is None:
        trail.wrong(found.missing(last))
    elif contradiction := found.contradicts(Seal.of(row)):
        trail.wrong(contradiction)


async def span_of(session: Session, since: datetime | None, until: datetime | None) -> Span:
    """The stretch that covers the events of a time, whole seals."""
    ends = await events.ends(session)
    if since is None and until is None:
        return Span(Place(), ends["seal"], ends["sequence"])
    found = await events.span(session, since, until)
    last_seal = min(found["last_seal"] or 0, ends["seal"])
    place = Place()
    if since is not None:
        first_seal = min(found["first_seal"] or last_seal + 1, last_seal + 1)
        before = await events.seal(session, first_seal - 1)
        place = Place(first_seal - 1, before["last_sequence"] if before else -LAST)
    newest = await events.seal(session, last_seal)
    covered = newest["last_sequence"] if newest else -LAST
    return Span(place, last_seal, max(covered, found["last"] or -LAST))
