"""Operations on many certificates: what is asked, what is still to be done, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from certctl.domain.access import Scope
from certctl.store.certificates import FILTERS, WITHIN
from certctl.store.db import Row, Session, Tx


async def open_operation(tx: Tx, values: Mapping[str, Any]) -> bool:
    """Whether there was none with this id."""
    return bool(
        await tx.run(
            """INSERT INTO bulk_operations (id, kind, parameters, requested_by, actor)
               VALUES (%(id)s, %(kind)s, %(parameters)s, %(requested_by)s, %(actor)s)
               ON CONFLICT (id) DO NOTHING""",
            **values,
        )
    )


async def select(tx: Tx, operation_id: str, *, within: Scope, filters: Mapping[str, Any]) -> int:
    """The certificates that fit every filter become items; how many there are. Archived ones are
    meant only where they are named."""
    named = "certificate_ids" in filters
    where = " AND ".join((WITHIN, *(FILTERS[name] for name in filters)))
    archived = "" if named else " AND c.status <> 'Archived'"
    return await tx.run(
        f"""INSERT INTO bulk_items (operation_id, certificate_id)
            SELECT %(operation)s, c.id FROM managed_certificates c WHERE {where}{archived}""",
        operation=operation_id,
        **within.sql,
        **filters,
    )


async def add_missing(tx: Tx, operation_id: str, certificate_ids: Sequence[str]) -> int:
    """Named certificates that were not found become failed items; how many there are."""
    return await tx.run(
        """INSERT INTO bulk_items (operation_id, certificate_id, outcome, error)
           SELECT %(operation)s, id, 'failed', 'certificate ' || id || ' does not exist'
           FROM unnest(%(ids)s::text[]) AS id ON CONFLICT DO NOTHING""",
        operation=operation_id,
        ids=list(certificate_ids),
    )


async def take(tx: Tx, operation_id: str, *, limit: int) -> list[str]:
    """Items that are still to be done, locked; others may have others."""
    rows = await tx.all(
        """SELECT certificate_id FROM bulk_items
           WHERE operation_id = %(id)s AND outcome IS NULL
           ORDER BY certificate_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED""",
        id=operation_id,
        limit=limit,
    )
    return [row["certificate_id"] for row in rows]


async def finish_items(tx: Tx, operation_id: str, outcomes: Sequence[Mapping[str, Any]]) -> None:
    await tx.run(
        """UPDATE bulk_items i SET outcome = o.outcome, error = o.error, job_id = o.job_id
           FROM jsonb_to_recordset(%(outcomes)s) AS o(certificate_id text, outcome text,
               error text, job_id text)
           WHERE i.operation_id = %(id)s AND i.certificate_id = o.certificate_id""",
        id=operation_id,
        outcomes=[dict(each) for each in outcomes],
    )


async def complete(session: Session, operation_id: str) -> bool:
    """Whether nothing was left to be done, and this call has noted it."""
    return bool(
        await session.run(
            """UPDATE bulk_operations SET state = 'completed', finished_at = now()
               WHERE id = %(id)s AND state = 'running' AND NOT EXISTS (SELECT FROM bulk_items
                   WHERE operation_id = %(id)s AND outcome IS NULL)""",
            id=operation_id,
        )
    )


async def get(session: Session, operation_id: str) -> Row:
    return await session.only(
        f"bulk operation {operation_id}",
        """SELECT b.id, b.kind, b.parameters, b.requested_by, b.actor, b.state, b.created_at,
                  b.finished_at, i.*
           FROM bulk_operations b, LATERAL (
               SELECT count(*) AS total_matched,
                      count(*) FILTER (WHERE outcome = 'done') AS total_done,
                      count(*) FILTER (WHERE outcome = 'skipped') AS total_skipped,
                      count(*) FILTER (WHERE outcome = 'failed') AS total_failed
               FROM bulk_items WHERE operation_id = b.id) i
           WHERE b.id = %(id)s""",
        id=operation_id,
    )


async def asked(session: Session, operation_id: str) -> Row:
    """What is to be done and for whom, without counting how far it is."""
    return await session.only(
        f"bulk operation {operation_id}",
        "SELECT kind, parameters, actor FROM bulk_operations WHERE id = %(id)s",
        id=operation_id,
    )


async def failures(session: Session, operation_id: str, *, limit: int) -> list[Row]:
    return await session.all(
        """SELECT certificate_id, error FROM bulk_items
           WHERE operation_id = %(id)s AND outcome = 'failed'
           ORDER BY certificate_id LIMIT %(limit)s""",
        id=operation_id,
        limit=limit,
    )


async def enqueued(session: Session, operation_id: str, *, limit: int) -> list[Row]:
    return await session.all(
        """SELECT certificate_id, job_id FROM bulk_items
           WHERE operation_id = %(id)s AND job_id IS NOT NULL
           ORDER BY certificate_id LIMIT %(limit)s""",
        id=operation_id,
        limit=limit,
    )


async def unfinished(session: Session) -> list[str]:
    rows = await session.all(
        "SELECT id FROM bulk_operations WHERE state = 'running' ORDER BY created_at LIMIT 100"
    )
    return [row["id"] for row in rows]


async def reassign(
    tx: Tx, certificate_ids: Sequence[str], *, owner_id: str, team_id: str | None
) -> list[Row]:
    """Give certificates to an owner, and to a team if one is named; those that changed, with who
    had them before."""
    return await tx.all(
        """UPDATE managed_certificates c SET owner_id = %(owner)s,
               team_id = coalesce(%(team)s, c.team_id), updated_at = now()
           FROM (SELECT id, owner_id, team_id FROM managed_certificates
                 WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE) b
           WHERE c.id = b.id AND (b.owner_id <> %(owner)s
               OR b.team_id <> coalesce(%(team)s, b.team_id))
           RETURNING c.id, b.owner_id, b.team_id""",
        ids=list(certificate_ids),
        owner=owner_id,
        team=team_id,
    )


async def prune(tx: Tx, before: datetime) -> int:
    return await tx.run("DELETE FROM bulk_operations WHERE finished_at < %(before)s", before=before)
