"""Aggregates over the whole inventory for dashboards, each one statement."""

from __future__ import annotations

from typing import Final

from certctl.store.db import Row, Session
from certctl.store.fleet import ONLINE_FOR

# The days of a range, so that one without data has a row as well.
DAYS: Final = """generate_series({first}, {last}, interval '1 day') AS d(day)"""
BACK: Final = DAYS.format(
    first="date_trunc('day', now()) - make_interval(days => %(days)s - 1)",
    last="date_trunc('day', now())",
)


async def summary(session: Session) -> Row:
    return await session.only(
        "the counts",
        f"""SELECT c.*, a.*, j.*, n.* FROM
           (SELECT coalesce(sum(n), 0)::bigint AS total_certificates,
                   coalesce(sum(n) FILTER (WHERE status = 'Expiring'), 0)::bigint
                       AS expiring_certificates,
                   coalesce(sum(n) FILTER (WHERE status = 'Expired'), 0)::bigint
                       AS expired_certificates,
                   coalesce(sum(n) FILTER (WHERE status = 'Revoked'), 0)::bigint
                       AS revoked_certificates
            FROM (SELECT status, count(*) AS n FROM managed_certificates
                  WHERE status <> 'Archived' GROUP BY status) s) c,
           (SELECT count(*) AS total_agents,
                   count(*) FILTER (WHERE last_heartbeat_at > now() - {ONLINE_FOR})
                       AS active_agents,
                   count(*) FILTER (WHERE last_heartbeat_at IS NULL
                       OR last_heartbeat_at <= now() - {ONLINE_FOR}) AS offline_agents
            FROM agents WHERE retired_at IS NULL) a,
           (SELECT coalesce(sum(n) FILTER (WHERE status IN ('Pending', 'AwaitingApproval',
                       'AwaitingCSR', 'Running')), 0)::bigint AS pending_jobs,
                   coalesce(sum(n) FILTER (WHERE status = 'Failed'), 0)::bigint AS failed_jobs,
                   coalesce(sum(n) FILTER (WHERE status = 'Completed'), 0)::bigint AS complete_jobs
            FROM (SELECT status, count(*) AS n FROM jobs GROUP BY status) s) j,
           (SELECT count(*) AS notifications_dead FROM notification_events
            WHERE status = 'dead') n""",
    )


async def by_status(session: Session) -> list[Row]:
    """Archived ones are a status like the others."""
    return await session.all(
        """SELECT status, count(*) AS count FROM managed_certificates
           GROUP BY status ORDER BY status"""
    )


async def expirations(session: Session, days: int) -> list[Row]:
    """How many certificates end on each of the coming days, today among them."""
    ahead = DAYS.format(
        first="date_trunc('day', now())",
        last="date_trunc('day', now()) + make_interval(days => %(days)s - 1)",
    )
    return await session.all(
        f"""SELECT to_char(d.day, 'YYYY-MM-DD') AS date, coalesce(e.count, 0) AS count
            FROM {ahead} LEFT JOIN (
                SELECT expires_at::date AS day, count(*) AS count
                FROM managed_certificates
                WHERE expires_at >= date_trunc('day', now())
                  AND expires_at < date_trunc('day', now()) + make_interval(days => %(days)s)
                  AND status NOT IN ('Archived', 'Revoked')
                GROUP BY 1) e ON e.day = d.day::date ORDER BY d.day""",
        days=days,
    )


async def job_trends(session: Session, days: int) -> list[Row]:
    """How many jobs ended well and badly on each of the past days."""
    return await session.all(
        f"""SELECT to_char(d.day, 'YYYY-MM-DD') AS date, coalesce(e.completed, 0) AS completed,
                   coalesce(e.failed, 0) AS failed
            FROM {BACK} LEFT JOIN (
                SELECT completed_at::date AS day,
                       count(*) FILTER (WHERE status = 'Completed') AS completed,
                       count(*) FILTER (WHERE status = 'Failed') AS failed
                FROM jobs
                WHERE completed_at >= date_trunc('day', now()) - make_interval(days => %(days)s - 1)
                GROUP BY 1) e ON e.day = d.day::date ORDER BY d.day""",
        days=days,
    )


async def issuances(session: Session, days: int) -> list[Row]:
    """How many certificates were issued on each of the past days."""
    return await session.all(
        f"""SELECT to_char(d.day, 'YYYY-MM-DD') AS date, coalesce(e.count, 0) AS count
            FROM {BACK} LEFT JOIN (
                SELECT created_at::date AS day, count(*) AS count
                FROM certificate_versions
                WHERE created_at >= date_trunc('day', now()) - make_interval(days => %(days)s - 1)
                GROUP BY 1) e ON e.day = d.day::date ORDER BY d.day""",
        days=days,
    )
