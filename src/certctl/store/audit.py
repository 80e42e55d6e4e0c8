"""Audit events and the seals over them. Both tables only ever grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN = (
    "sequence, id, actor, actor_type, action, resource_type, resource_id, details, "
    "event_category, address, request_id, timestamp, content_hash"
)


async def insert_many(tx: Tx, events: Sequence[Mapping[str, Any]]) -> None:
    if len(events) > 1:
        await tx.copy("audit_events", events)
    else:
        await tx.insert("audit_events", events)


async def page(
    session: Session, request: PageRequest, *, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """Newest first; `filters` are equalities on columns, and `since`, `until`."""
    conditions = {"since": "timestamp >= %(since)s", "until": "timestamp < %(until)s"}
    where = tuple(conditions.get(name, f"{name} = %({name})s") for name in filters)
    order = Order("sequence", "bigint", descending=True)
    listing = Listing(SHOWN, "audit_events", where, dict(filters), order)
    return await fetch(session, listing, request)


async def get(session: Session, event_id: str) -> Row:
    return await session.only(
        f"audit event {event_id}",
        f"SELECT {SHOWN} FROM audit_events WHERE id = %(id)s",
        id=event_id,
    )


async def horizon(tx: Tx) -> tuple[int, int, int]:
    """The newest visible sequence number, a transaction id above that of everybody who could
    still commit a smaller number, and the oldest running transaction's id.

    The id is this transaction's own, drawn after the number was read: a snapshot's `xmax` is not
    enough, since it only lies above the transactions that have completed.
    """
    seen = await tx.only(
        "the audit horizon",
        """SELECT coalesce(max(sequence), 0) AS newest,
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest
           FROM audit_events""",
    )
    own = await tx.value("SELECT pg_current_xact_id()::text::bigint")
    return seen["newest"], own, seen["oldest"]


async def last_seal(session: Session) -> Row | None:
    return await session.one("SELECT * FROM audit_seals ORDER BY number DESC LIMIT 1")


async def unsealed(session: Session, after: int, *, up_to: int, limit: int) -> list[Row]:
    return await session.all(
        """SELECT sequence, content_hash FROM audit_events
           WHERE sequence > %(after)s AND sequence <= %(up_to)s
           ORDER BY sequence LIMIT %(limit)s""",
        after=after,
        up_to=up_to,
        limit=limit,
    )


async def lock_seals(tx: Tx) -> bool:
    """Whether this transaction alone may add seals."""
    return bool(await tx.value("SELECT pg_try_advisory_xact_lock(hashtext('audit_seals'))"))


async def insert_seal(tx: Tx, seal: Mapping[str, Any]) -> None:
    await tx.run(
        """INSERT INTO audit_seals
               (number, first_sequence, last_sequence, row_count, previous, seal)
           VALUES (%(number)s, %(first_sequence)s, %(last_sequence)s, %(row_count)s,
                   %(previous)s, %(seal)s)""",
        **seal,
    )


async def seal(session: Session, number: int) -> Row | None:
    return await session.one("SELECT * FROM audit_seals WHERE number = %(number)s", number=number)


async def seals(session: Session, after: int, *, up_to: int, limit: int) -> list[Row]:
    """The seals above number `after`, in order."""
    return await session.all(
        """SELECT * FROM audit_seals WHERE number > %(after)s AND number <= %(up_to)s
           ORDER BY number LIMIT %(limit)s""",
        after=after,
        up_to=up_to,
        limit=limit,
    )


async def events(session: Session, after: int, *, up_to: int, limit: int) -> list[Row]:
    """The events above sequence number `after`, in order, readable whatever was done to them:
    `details` as text, and a time that Python does not know as the nearest that it does."""
    return await session.all(
        """SELECT sequence, id, actor, actor_type, action, resource_type, resource_id,
               details::text AS details, event_category, address, request_id, content_hash,
               least(greatest(timestamp, '0001-01-03'), '9999-12-29') AS timestamp
           FROM audit_events
            WHERE sequence > %(after)s AND sequence <= %(up_to)s
            ORDER BY sequence LIMIT %(limit)s""",
        after=after,
        up_to=up_to,
        limit=limit,
    )


async def ends(session: Session) -> Row:
    """The number of the newest seal, read before the newest sequence number, and its tail's end."""
    newest = await session.value("SELECT coalesce(max(number), 0) FROM audit_seals")
    last = await session.value("SELECT coalesce(max(sequence), 0) FROM audit_events")
    return {"seal": newest, "sequence": last}


async def span(session: Session, since: datetime | None, until: datetime | None) -> Row:
    """Where the events of a time lie: the `last` sequence number (null for none), and the seals
    that cover them, `first_seal` to `last_seal`.

    The seals made within that time and the next one count too, so that a time whose events were
    removed is still covered by their seals.
    """
    return await session.only(
        "the span",
        """WITH covered AS (
               SELECT min(sequence) AS first, max(sequence) AS last FROM audit_events
               WHERE timestamp >= coalesce(%(since)s::timestamptz, '-infinity')
                 AND timestamp < coalesce(%(until)s::timestamptz, 'infinity'))
           SELECT last,
               least((SELECT min(number) FROM audit_seals WHERE sealed_at >= %(since)s),
                     (SELECT min(number) FROM audit_seals WHERE last_sequence >= first))
                   AS first_seal,
               greatest((SELECT coalesce(min(number) FILTER (WHERE sealed_at >= %(until)s),
                                         max(number)) FROM audit_seals),
                        (SELECT max(number) FROM audit_seals WHERE first_sequence <= last))
                   AS last_seal
           FROM covered""",
        since=since,
        until=until,
    )
