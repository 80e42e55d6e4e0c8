"""What the digest counts, each one statement over the inventory within a scope."""

from __future__ import annotations

from typing import Final

from certctl.domain.access import Scope
from certctl.store.certificates import WITHIN
from certctl.store.db import Row, Session

SOONEST: Final = 20


async def by_status(session: Session, *, within: Scope) -> dict[str, int]:
    """How many certificates there are of each status, archived ones left out."""
    rows = await session.all(
        f"""SELECT c.status, count(*) AS number FROM managed_certificates c
            WHERE c.status <> 'Archived' AND {WITHIN} GROUP BY c.status ORDER BY c.status""",
        **within.sql,
    )
    return {row["status"]: row["number"] for row in rows}


async def expiring(session: Session, *, within: Scope) -> Row:
    """How many expire within 7, 14 and 30 days, as `days_7`, `days_14` and `days_30`."""
    return await session.only(
        "the counts",
        f"""SELECT count(*) FILTER (WHERE c.expires_at <= now() + interval '7 days') AS days_7,
                   count(*) FILTER (WHERE c.expires_at <= now() + interval '14 days') AS days_14,
                   count(*) AS days_30
            FROM managed_certificates c
            WHERE c.expires_at > now() AND c.expires_at <= now() + interval '30 days'
              AND c.status NOT IN ('Revoked', 'Archived') AND {WITHIN}""",
        **within.sql,
    )


async def soonest(session: Session, *, within: Scope) -> list[Row]:
    """The certificates that expire next, within 30 days."""
    return await session.all(
        f"""SELECT c.name, c.common_name, c.status, c.expires_at FROM managed_certificates c
            WHERE c.expires_at > now() AND c.expires_at <= now() + interval '30 days'
              AND c.status NOT IN ('Revoked', 'Archived') AND {WITHIN}
            ORDER BY c.expires_at, c.id COLLATE "C" LIMIT {SOONEST}""",
        **within.sql,
    )


async def last_day(session: Session, *, within: Scope) -> Row:
    """What ended in the last 24 hours, as `failed` and `renewed`."""
    return await session.only(
        "the counts",
        f"""SELECT count(*) FILTER (WHERE j.status = 'Failed') AS failed,
                   count(*) FILTER (WHERE j.status = 'Completed' AND j.type = 'Renewal') AS renewed
            FROM jobs j JOIN managed_certificates c ON c.id = j.certificate_id
            WHERE j.completed_at > now() - interval '24 hours' AND {WITHIN}""",
        **within.sql,
    )
