"""Who hears what, and that they do: notifications are rows first, and sent from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.connectors.notifier import Event, Notifier
from certctl.domain import notification
from certctl.domain.access import Actor, Permission, system
from certctl.domain.errors import Refused, Unavailable
from certctl.domain.listing import PageRequest
from certctl.domain.notification import CHANNELS, Kind, Severity, Status
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import notifications
from certctl.store.db import Row, Tx

log = logging.getLogger("certctl.notify")
ACTOR: Final = system("notify")
ALERTS: Final = 20_000  # in one transaction
BATCH: Final = 50
AT_ONCE: Final = 10
TIMEOUT: Final = 10.0  # seconds for one delivery
LEASE: Final = timedelta(minutes=2)  # longer than a batch whose every delivery times out


@dataclass(frozen=True)
class News:
    """Something to tell about a certificate; the same occasion is told once over each channel."""

    kind: Kind
    certificate_id: str
    occasion: str
    severity: Severity
    message: str


async def tell(
    tx: Tx, *, kind: Kind, certificate_id: str, occasion: str, severity: Severity, message: str
) -> None:
    """Have it sent, once this transaction commits, over each channel that the certificate's
    renewal policy names for the severity."""
    await tell_many(tx, [News(kind, certificate_id, occasion, severity, message)])


async def tell_many(tx: Tx, news: Sequence[News]) -> int:
    """As `tell`, in one statement; how many notifications there are of it."""
    if not news:
        return 0
    return await notifications.put(
        tx,
        [
            {
                "type": str(each.kind),
                "certificate_id": each.certificate_id,
                "occasion": each.occasion,
                "severity": str(each.severity),
                "message": each.message,
            }
            for each in news
        ],
    )


async def expiring(on: Platform) -> int:
    """Alert of certificates that have crossed a threshold of their policy; how many alerts."""
    alerts = 0
    while True:
        async with on.db.transaction() as tx:
            made = await notifications.put_expiring(tx, limit=ALERTS)
            await audit.record_many(tx, ACTOR, [_alert(row) for row in made])
        alerts += len(made)
        if len(made) < ALERTS:
            return alerts


def _alert(row: Row) -> audit.Event:
    details = {name: row[name] for name in ("occasion", "channel", "severity")}
    on = ("certificate", row["certificate_id"])
    return audit.Event("expiration_alert_raised", on, {**details, "notification_id": row["id"]})


async def send_due(on: Platform) -> int:
    """Send what waits; how many were sent or given up. Each row is leased while it is sent, so
    that no two replicas send the same one."""
    done = await _bury(on)
    while True:
        async with on.db.transaction() as tx:
            claimed = await notifications.claim(tx, [*on.notifiers], lease=LEASE, limit=BATCH)
        ended = await _deliver_all(on, claimed)
        done += ended
        if len(claimed) < BATCH or not ended:
            return done


async def _deliver_all(on: Platform, claimed: Sequence[Row]) -> int:
    """How many need no other try. An error is raised once every delivery has ended."""
    places = asyncio.Semaphore(AT_ONCE)
    deliveries = (_deliver(on, row, places) for row in claimed)
    ended = await asyncio.gather(*deliveries, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return sum(each for each in ended if isinstance(each, bool))


async def _bury(on: Platform) -> int:
    """Say of what nobody can send that nobody was told."""
    why = {channel: notification.unheard(channel) for channel in CHANNELS}
    buried = 0
    while True:
        async with on.db.transaction() as tx:
            rows = await notifications.bury(tx, why, open_channels=sorted(on.notifiers))
            for row in rows:
                await _record_death(tx, row, row["last_error"])
        if not rows:
            return buried
        buried += len(rows)


async def _deliver(on: Platform, row: Row, places: asyncio.Semaphore) -> bool:
    """Whether the row needs no other try."""
    notifier = on.notifiers[row["channel"]]
    async with places:
        error = await _send(notifier, row)
    if error is None:
        sent = {"status": "sent", "recipient": notifier.recipient, "last_error": None}
        async with on.db.transaction() as tx:
            return await notifications.settle(tx, row, **sent, sent_at=tx.now, next_retry_at=None)
    return await _failed(on, row, error, recipient=notifier.recipient)


async def _send(notifier: Notifier, row: Row) -> str | None:
    """Why it was not taken, or None."""
    fields = ("id", "type", "severity", "certificate_id", "message", "created_at")
    try:
        async with asyncio.timeout(TIMEOUT):
            await notifier.send(Event(**{name: row[name] for name in fields}))
    except (Unavailable, Refused) as error:
        return error.message
    except TimeoutError:
        return f"{notifier.recipient} did not take it within {TIMEOUT:g} s"
    return None


async def _failed(on: Platform, row: Row, error: str, *, recipient: str) -> bool:
    """A receiver that refuses is asked again like one that is silent: receivers get mended."""
    failures = row["retry_count"] + 1
    wait = notification.wait_after(failures, random=on.random())
    log.warning("notification %s was not sent (%d): %s", row["id"], failures, error)
    async with on.db.transaction() as tx:
        settled = await notifications.settle(
            tx,
            row,
            status=str(Status.DEAD if wait is None else Status.FAILED),
            recipient=recipient,
            retry_count=failures,
            next_retry_at=None if wait is None else tx.now + wait,
            last_error=error,
        )
        if settled and wait is None:
            await _record_death(tx, row, error)
    return settled and wait is None


async def _record_death(tx: Tx, row: Row, why: str) -> None:
    await audit.record(
        tx,
        ACTOR,
        "notification_dead",
        on=("notification", row["id"]),
        certificate_id=row["certificate_id"],
        channel=row["channel"],
        reason=why,
    )


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, filters: dict[str, Any]
) -> dict[str, Any]:
    within = actor.scope(Permission.NOTIFICATION_READ)
    async with on.db.read() as session:
        return await notifications.page(session, request, within=within, filters=filters)


async def get(on: Platform, actor: Actor, event_id: str) -> Row:
    within = actor.scope(Permission.NOTIFICATION_READ)
    async with on.db.read() as session:
        return await notifications.get(session, event_id, within=within)


async def mark_read(on: Platform, actor: Actor, event_id: str) -> None:
    """Somebody has seen it.

    Raises:
        Conflict: while it is yet to be sent.
    """
    async with on.db.transaction() as tx:
        within = actor.scope(Permission.NOTIFICATION_READ)
        found = await notifications.lock(tx, event_id, within=within)
        notification.read_from(found["status"])
        if found["status"] != Status.READ:
            await notifications.mark_read(tx, event_id)
            await _record(tx, actor, "notification_read", found)


async def requeue(on: Platform, actor: Actor, event_id: str) -> None:
    """Send what failed or is dead as if it had never been tried.

    Raises:
        Conflict: in any other status.
    """
    async with on.db.transaction() as tx:
        within = actor.scope(Permission.NOTIFICATION_EDIT)
        found = await notifications.lock(tx, event_id, within=within)
        notification.requeue_from(found["status"])
        await notifications.requeue(tx, event_id)
        await _record(tx, actor, "notification_requeued", found)


async def _record(tx: Tx, actor: Actor, action: str, found: Row) -> None:
    await audit.record(
        tx,
        actor,
        action,
        on=("notification", found["id"]),
        certificate_id=found["certificate_id"],
        status=found["status"],
    )


async def prune(tx: Tx, before: datetime) -> int:
    """Forget notifications that ended before; how many."""
    return await notifications.prune(tx, before)
