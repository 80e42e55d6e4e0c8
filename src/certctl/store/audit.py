"""Audit events and the seals over them. Both tables only ever grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN = (
    "sequence, id, actor, actor_type, action, resource_type, resource_id, details, "
    "event_category, address, request_id, timestamp, content_hash"
)


async def insert_many(tx: Tx, events: Sequence[Mapping[str, Any]]) -> None:
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


async def seals(session: Session) -> list[Row]:
    return await session.all("SELECT * FROM audit_seals ORDER BY number")


async def events(session: Session, first: int, last: int) -> list[Row]:
    return await session.all(
        f"SELECT {SHOWN} FROM audit_events "
        "WHERE sequence BETWEEN %(first)s AND %(last)s ORDER BY sequence",
        first=first,
        last=last,
    )
