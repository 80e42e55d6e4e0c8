"""What was asked for under the two-person rule, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.certificates import WITHIN
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

JOB_IDS: Final = (
    "ARRAY(SELECT j.id FROM jobs j WHERE j.approval_id = a.id ORDER BY j.id) AS job_ids"
)
SHOWN: Final = (
    "a.id, a.certificate_id, a.profile_id, a.requested_by, a.reason, a.common_name, a.sans, "
    "a.issuer_id, a.state, a.decided_by, a.decided_at, a.decision_note, a.created_at, "
    f"a.updated_at, {JOB_IDS}"
)
FROM: Final = "approvals a JOIN managed_certificates c ON c.id = a.certificate_id"
FILTERS: Final = {
    "state": "a.state = %(state)s",
    "certificate_id": "a.certificate_id = %(certificate_id)s",
    "requested_by": "a.requested_by = %(requested_by)s",
}


async def page(
    session: Session, request: PageRequest, *, within: Scope, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """Newest first."""
    where = (WITHIN, *(FILTERS[name] for name in filters))
    order = Order("a.created_at", descending=True)
    listing = Listing(SHOWN, FROM, where, {**within.sql, **filters}, order, key="a.id")
    return await fetch(session, listing, request)


async def get(session: Session, approval_id: str, *, within: Scope) -> Row:
    return await session.only(
        f"approval {approval_id}",
        f"SELECT {SHOWN} FROM {FROM} WHERE a.id = %(id)s AND {WITHIN}",
        id=approval_id,
        **within.sql,
    )


async def lock(tx: Tx, approval_id: str, *, within: Scope) -> Row:
    """As `get`, locked, its certificate first."""
    await tx.run(
        """SELECT FROM managed_certificates
           WHERE id = (SELECT certificate_id FROM approvals WHERE id = %(id)s) FOR UPDATE""",
        id=approval_id,
    )
    return await tx.only(
        f"approval {approval_id}",
        f"SELECT {SHOWN} FROM {FROM} WHERE a.id = %(id)s AND {WITHIN} FOR UPDATE OF a",
        id=approval_id,
        **within.sql,
    )


async def decide(
    tx: Tx, approval_ids: Sequence[str], *, state: str, decided_by: str, note: str | None
) -> None:
    await tx.run(
        """UPDATE approvals SET state = %(state)s, decided_by = %(by)s, decided_at = now(),
               decision_note = %(note)s, updated_at = now()
           WHERE id = ANY(%(ids)s) AND state = 'pending'""",
        ids=list(approval_ids),
        state=state,
        by=decided_by,
        note=note,
    )


async def release(tx: Tx, approval_id: str) -> list[Row]:
    """The waiting jobs go on to where they would have begun; those that moved."""
    return await tx.all(
        """UPDATE jobs SET status = CASE WHEN csr_pem IS NULL AND sealed_key IS NULL
                   THEN 'AwaitingCSR' ELSE 'Pending' END,
               scheduled_at = now()
           WHERE approval_id = %(id)s AND status = 'AwaitingApproval'
           RETURNING id, status, agent_id""",
        id=approval_id,
    )


async def cancel_waiting(tx: Tx, approval_id: str, why: str) -> list[str]:
    rows = await tx.all(
        """UPDATE jobs SET status = 'Cancelled', completed_at = now(), last_error = %(why)s
           WHERE approval_id = %(id)s AND status = 'AwaitingApproval' RETURNING id""",
        id=approval_id,
        why=why,
    )
    return [row["id"] for row in rows]


async def drop_unneeded(tx: Tx, approval_id: str, *, why: str) -> None:
    """End a pending approval for which no job waits any more."""
    await tx.run(
        """UPDATE approvals a SET state = 'expired', decided_by = 'system', decided_at = now(),
               decision_note = %(why)s, updated_at = now()
           WHERE id = %(id)s AND state = 'pending' AND NOT EXISTS (SELECT FROM jobs j
               WHERE j.approval_id = a.id AND j.status = 'AwaitingApproval')""",
        id=approval_id,
        why=why,
    )


async def open_of(tx: Tx, certificate_id: str) -> list[Row]:
    """Pending approvals of a certificate, and those whose jobs have not ended."""
    return await tx.all(
        f"""SELECT {SHOWN} FROM approvals a WHERE a.certificate_id = %(id)s
              AND (a.state = 'pending' OR EXISTS (SELECT FROM jobs j WHERE j.approval_id = a.id
                  AND j.status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')))
            FOR UPDATE""",
        id=certificate_id,
    )


async def pending_of(tx: Tx, certificate_id: str) -> str | None:
    found = await tx.value(
        "SELECT id FROM approvals WHERE certificate_id = %(id)s AND state = 'pending'",
        id=certificate_id,
    )
    return None if found is None else str(found)


async def overdue(session: Session, before: datetime) -> list[str]:
    rows = await session.all(
        """SELECT id FROM approvals WHERE state = 'pending' AND created_at < %(before)s
           ORDER BY created_at LIMIT 500""",
        before=before,
    )
    return [row["id"] for row in rows]


async def settles(session: Session, job_id: str) -> Row | None:
    """The approval that a job runs under, if it has one."""
    return await session.one(
        f"""SELECT {SHOWN} FROM approvals a
            WHERE a.id = (SELECT approval_id FROM jobs WHERE id = %(id)s)""",
        id=job_id,
    )
