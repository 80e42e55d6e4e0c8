"""Notifications for tests: told, due, and heard by a receiver on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from certctl.connectors import catalog
from certctl.connectors.reach import Reach
from certctl.domain.notification import Kind, Severity
from certctl.services import notify
from certctl.services.platform import Platform
from certctl.store.db import Row
from tests import kit
from tests.conftest import World
from tests.connectors.kit import LOOPBACK
from tests.connectors.receiver import OK, Receiver, receiving

SECRET = "a secret of the webhook"


def told_by(world: World, url: str, *, reach: Reach = LOOPBACK) -> Platform:
    """The platform with a webhook that posts to `url`."""
    webhook = catalog.open_notifier("Webhook", {"url": url, "secret": SECRET}, reach=reach)
    return replace(world.platform, notifiers={"Webhook": webhook})


@asynccontextmanager
async def heard(world: World, answer: bytes = OK) -> AsyncIterator[tuple[Platform, Receiver]]:
    async with receiving(answer) as receiver:
        yield told_by(world, receiver.url), receiver


async def put(world: World, certificate_id: str, **changes: Any) -> None:
    told = {
        "kind": Kind.RENEWAL_FAILURE,
        "certificate_id": certificate_id,
        "occasion": "job-1",
        "severity": Severity.WARNING,
        "message": "the renewal failed",
    }
    async with world.platform.db.transaction() as tx:
        await notify.tell(tx, **{**told, **changes})


async def events(world: World) -> list[Row]:
    return await kit.rows(world, "SELECT * FROM notification_events ORDER BY created_at, id")


async def event(world: World) -> Row:
    (row,) = await events(world)
    return row


async def make_due(world: World) -> None:
    await kit.change(world, "UPDATE notification_events SET next_retry_at = now()")


async def expires_in(world: World, days: float, **changes: Any) -> str:
    """The id of a certificate that ends in so many days."""
    row = await kit.order(world, **changes)
    await kit.change(
        world,
        "UPDATE managed_certificates SET expires_at = %(at)s WHERE id = %(id)s",
        at=datetime.now(UTC) + timedelta(days=days),
        id=row["id"],
    )
    return str(row["id"])
