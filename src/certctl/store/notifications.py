"""Notifications: put once for each occasion and channel, claimed, settled, listed, forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.certificates import WITHIN
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = (
    "n.id, n.type, n.certificate_id, n.channel, n.recipient, n.severity, n.message, n.sent_at, "
    "n.status, n.last_error AS error, n.retry_count, n.next_retry_at, n.last_error, n.created_at"
)
FROM: Final = "notification_events n LEFT JOIN managed_certificates c ON c.id = n.certificate_id"
FILTERS: Final = {
    "status": "n.status = %(status)s",
    "certificate_id": "n.certificate_id = %(certificate_id)s",
}
STALE: Final = timedelta(days=30)  # after its end, nobody is told any more that one has expired


async def put(tx: Tx, news: Sequence[Mapping[str, Any]]) -> int:
    """A row for each channel that the policy of the certificate names for the severity, unless
    the occasion has been told there; how many rows. `news` have type, certificate_id, occasion,
    severity and message."""
    return await tx.run(
        """INSERT INTO notification_events
               (type, certificate_id, occasion, channel, severity, message)
           SELECT o.type, c.id, o.occasion, ch.name, o.severity, o.message
           FROM jsonb_to_recordset(%(news)s) AS o
               (type text, certificate_id text, occasion text, severity text, message text)
           JOIN managed_certificates c ON c.id = o.certificate_id
           JOIN renewal_policies p ON p.id = c.renewal_policy_id
           CROSS JOIN LATERAL jsonb_array_elements_text(
               coalesce(p.alert_channels -> o.severity, '[]')) AS ch(name)
           ON CONFLICT DO NOTHING""",
        news=[dict(each) for each in news],
    )


async def put_digest(tx: Tx, channels: Sequence[str], *, occasion: str, message: str) -> int:
    """One row for each channel that has not been told this occasion."""
    return await tx.run(
        """INSERT INTO notification_events (type, occasion, channel, severity, message)
           SELECT 'Digest', %(occasion)s, unnest(%(channels)s::text[]), 'informational',
                  %(message)s
           ON CONFLICT DO NOTHING""",
        channels=list(channels),
        occasion=occasion,
        message=message,
    )


async def put_expiring(tx: Tx, *, limit: int) -> list[Row]:
    """The new alerts, at most `limit`: for each certificate the most urgent threshold that it has
    crossed, once for each expiry and channel. The expiry bounds read an index."""
    return await tx.all(
        """INSERT INTO notification_events
               (type, certificate_id, occasion, channel, severity, message, keep_until)
           SELECT 'ExpirationWarning', c.id, o.occasion, ch.name, o.severity,
                  format('certificate %%s (%%s) %%s %%s UTC', c.name, c.common_name,
                      CASE WHEN c.expires_at <= now() THEN 'expired at' ELSE 'expires at' END,
                      to_char(c.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')),
                  c.expires_at + %(stale)s
           FROM managed_certificates c JOIN renewal_policies p ON p.id = c.renewal_policy_id
           CROSS JOIN LATERAL (SELECT min(each) AS days FROM unnest(p.alert_thresholds_days) each
               WHERE c.expires_at <= now() + make_interval(days => each)) crossed
           CROSS JOIN LATERAL (SELECT
               format('threshold %%s of %%s', crossed.days, to_char(
                   c.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS occasion,
               coalesce(p.alert_severity_map ->> crossed.days::text, 'informational')
                   AS severity) o
           CROSS JOIN LATERAL jsonb_array_elements_text(
               coalesce(p.alert_channels -> o.severity, '[]')) AS ch(name)
           WHERE c.status NOT IN ('Revoked', 'Archived') AND crossed.days IS NOT NULL
             AND c.expires_at > now() - %(stale)s::interval
             AND c.expires_at <= now() + (SELECT max(make_interval(days => each))
                 FROM renewal_policies, unnest(alert_thresholds_days) each)
             AND NOT EXISTS (SELECT FROM notification_events n WHERE n.type = 'ExpirationWarning'
                 AND n.certificate_id = c.id AND n.occasion = o.occasion AND n.channel = ch.name)
           ORDER BY c.expires_at LIMIT %(limit)s
           ON CONFLICT DO NOTHING RETURNING id, certificate_id, occasion, channel, severity""",
        stale=STALE,
        limit=limit,
    )


async def bury(tx: Tx, why: Mapping[str, str], *, open_channels: Sequence[str]) -> list[Row]:
    """Waiting rows of channels that are not open become dead; `why` says so for each channel."""
    return await tx.all(
        """WITH lost AS MATERIALIZED (SELECT id FROM notification_events
               WHERE status IN ('pending', 'failed') AND channel <> ALL(%(open)s::text[])
               LIMIT 1000 FOR UPDATE SKIP LOCKED)
           UPDATE notification_events n SET status = 'dead', next_retry_at = NULL,
               last_error = coalesce(%(why)s::jsonb ->> channel, 'there is no such channel')
           FROM lost WHERE n.id = lost.id
           RETURNING n.id, n.certificate_id, n.channel, n.last_error""",
        why=dict(why),
        open=list(open_channels),
    )


async def claim(tx: Tx, open_channels: Sequence[str], *, lease: timedelta, limit: int) -> list[Row]:
    """Due rows of these channels, which are this caller's alone until `leased_until`."""
    return await tx.all(
        """WITH due AS MATERIALIZED (SELECT id FROM notification_events
               WHERE status IN ('pending', 'failed') AND channel = ANY(%(open)s::text[])
                 AND (next_retry_at IS NULL OR next_retry_at <= now())
                 AND (leased_until IS NULL OR leased_until <= now())
               ORDER BY next_retry_at NULLS FIRST, created_at
               LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
           UPDATE notification_events n SET leased_until = now() + %(lease)s
           FROM due WHERE n.id = due.id
           RETURNING n.id, n.type, n.certificate_id, n.channel, n.severity, n.message,
                     n.retry_count, n.leased_until, n.created_at""",
        open=list(open_channels),
        lease=lease,
        limit=limit,
    )


async def settle(tx: Tx, claimed: Row, **columns: Any) -> bool:
    """Write down what came of a claimed row, unless the claim has passed to another."""
    sets = ", ".join(f"{name} = %({name})s" for name in columns)
    return bool(
        await tx.run(
            f"""UPDATE notification_events SET {sets}, leased_until = NULL
                WHERE id = %(id)s AND leased_until = %(claim)s
                  AND status IN ('pending', 'failed')""",
            id=claimed["id"],
            claim=claimed["leased_until"],
            **columns,
        )
    )


async def page(
    session: Session, request: PageRequest, *, within: Scope, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """Newest first."""
    where = (WITHIN, *(FILTERS[name] for name in filters))
    order = Order("n.created_at", descending=True)
    listing = Listing(SHOWN, FROM, where, {**within.sql, **filters}, order, key="n.id")
    return await fetch(session, listing, request)


async def get(session: Session, event_id: str, *, within: Scope) -> Row:
    """Raises NotFound for a row that is absent or out of scope."""
    return await session.only(
        f"notification {event_id}",
        f"SELECT {SHOWN} FROM {FROM} WHERE n.id = %(id)s AND {WITHIN}",
        id=event_id,
        **within.sql,
    )


async def lock(tx: Tx, event_id: str, *, within: Scope) -> Row:
    """As `get`, and nobody else changes the row until the transaction ends."""
    return await tx.only(
        f"notification {event_id}",
        f"SELECT {SHOWN} FROM {FROM} WHERE n.id = %(id)s AND {WITHIN} FOR UPDATE OF n",
        id=event_id,
        **within.sql,
    )


async def mark_read(tx: Tx, event_id: str) -> None:
    await tx.run(
        "UPDATE notification_events SET status = 'read' WHERE id = %(id)s",
        id=event_id,
    )


async def requeue(tx: Tx, event_id: str) -> None:
    """As if it had never been tried; whoever holds a claim on it loses it."""
    await tx.run(
        """UPDATE notification_events SET status = 'pending', retry_count = 0,
               next_retry_at = NULL, leased_until = NULL, last_error = NULL
           WHERE id = %(id)s""",
        id=event_id,
    )


async def dead(session: Session) -> int:
    """How many could not be told to anybody and have been neither read nor requeued."""
    return int(
        await session.value("SELECT count(*) FROM notification_events WHERE status = 'dead'")
    )


async def prune(tx: Tx, before: datetime) -> int:
    """Forget what ended before; how many rows. What could come up again is kept meanwhile."""
    return await tx.run(
        """DELETE FROM notification_events
           WHERE created_at < %(before)s AND status IN ('sent', 'dead', 'read')
             AND coalesce(sent_at, created_at) < %(before)s
             AND (keep_until IS NULL OR keep_until < now())""",
        before=before,
    )
