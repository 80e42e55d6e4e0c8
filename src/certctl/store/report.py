"""Aggregates over the whole inventory, each one statement."""

from __future__ import annotations

from certctl.store.db import Session


async def gauges(session: Session) -> dict[str, int]:
    row = await session.only(
        "the counts",
        """SELECT c.*, a.*, j.* FROM
           (SELECT count(*) AS certificate_total,
                   count(*) FILTER (WHERE status = 'Active') AS certificate_active,
                   count(*) FILTER (WHERE status = 'Expiring') AS certificate_expiring_soon,
                   count(*) FILTER (WHERE status = 'Expired') AS certificate_expired,
                   count(*) FILTER (WHERE status = 'Revoked') AS certificate_revoked
            FROM managed_certificates WHERE status <> 'Archived') c,
           (SELECT count(*) AS agent_total,
                   count(*) FILTER (WHERE last_heartbeat_at > now() - interval '2 minutes')
                   AS agent_online
            FROM agents WHERE retired_at IS NULL) a,
           (SELECT count(*) FILTER (WHERE status IN ('Pending', 'AwaitingCSR', 'Running'))
                   AS job_pending,
                   count(*) FILTER (WHERE status = 'Completed') AS job_completed_total,
                   count(*) FILTER (WHERE status = 'Failed') AS job_failed_total
            FROM jobs) j""",
    )
    return {name: int(value) for name, value in row.items()}


async def worker_age(session: Session) -> float | None:
    """Seconds since any worker process last reported itself alive."""
    value = await session.value(
        "SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM procrastinate_workers"
    )
    return None if value is None else float(value)
