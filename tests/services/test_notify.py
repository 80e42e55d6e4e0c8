"""Notifications: who is told, once for each occasion, and how long that is kept."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from certctl.domain.errors import Conflict, NotAllowed, NotFound
from certctl.domain.listing import PageRequest
from certctl.domain.notification import Kind, Severity
from certctl.services import notify
from certctl.services.notify import News
from tests import kit
from tests.conftest import World
from tests.services.notified import event, events, expires_in, heard, put


async def test_each_channel_of_the_policy_is_told_by_severity(world: World) -> None:
    channels = {"warning": ["Webhook", "Email"], "critical": ["Slack"]}
    policy_id = await kit.a_policy(world, alert_channels=channels)
    row = await kit.order(world, renewal_policy_id=policy_id)
    await put(world, row["id"])
    await put(world, row["id"], severity=Severity.INFORMATIONAL, occasion="job-2")
    found = await events(world)
    assert sorted(each["channel"] for each in found) == ["Email", "Webhook"]
    assert {each["status"] for each in found} == {"pending"}


async def test_the_same_occasion_is_told_once(world: World) -> None:
    row = await kit.order(world)
    await asyncio.gather(*(put(world, row["id"]) for _ in range(4)))
    await put(world, row["id"], severity=Severity.CRITICAL, message="in other words")
    assert len(await events(world)) == 1
    await put(world, row["id"], occasion="job-2")
    await put(world, row["id"], kind=Kind.RENEWAL_SUCCESS)
    assert len(await events(world)) == 3


async def test_what_is_told_is_gone_with_the_transaction_that_failed(world: World) -> None:
    row = await kit.order(world)
    news = News(Kind.REVOCATION, row["id"], "serial 1", Severity.CRITICAL, "revoked")
    put: list[int] = []

    async def fail_after_it() -> None:
        async with world.platform.db.transaction() as tx:
            put.append(await notify.tell_many(tx, [news, replace(news, occasion="serial 2")]))
            raise Conflict("something else")

    with pytest.raises(Conflict):
        await fail_after_it()
    assert (put, await events(world)) == ([2], [])


@pytest.mark.parametrize(
    ("days", "threshold", "severity"),
    [
        (29.5, 30, "informational"),
        (13, 14, "warning"),
        (5, 7, "warning"),
        (-1, 0, "critical"),
    ],
)
async def test_only_the_most_urgent_threshold_is_told(
    world: World, days: float, threshold: int, severity: str
) -> None:
    every = {"informational": ["Webhook"], "warning": ["Webhook"], "critical": ["Webhook"]}
    await kit.change(world, "UPDATE renewal_policies SET alert_channels = %(every)s", every=every)
    certificate_id = await expires_in(world, days)
    assert await notify.expiring(world.platform) == 1
    row = await event(world)
    assert row["occasion"].startswith(f"threshold {threshold} of 20")
    assert (row["certificate_id"], row["severity"]) == (certificate_id, severity)
    verb = "expired at" if days < 0 else "expires at"
    assert row["message"].startswith(f"certificate site (a.example.test) {verb} 20")
    assert (await kit.actions(world))[-1] == "expiration_alert_raised"


async def test_an_alert_is_raised_once_for_each_expiry_and_threshold(world: World) -> None:
    certificate_id = await expires_in(world, 13)
    made = await asyncio.gather(*(notify.expiring(world.platform) for _ in range(3)))
    assert sum(made) == 1
    assert await notify.expiring(world.platform) == 0
    later = "UPDATE managed_certificates SET expires_at = expires_at + %(by)s WHERE id = %(id)s"
    await kit.change(world, later, id=certificate_id, by=timedelta(days=-10))
    assert await notify.expiring(world.platform) == 1
    await kit.change(world, later, id=certificate_id, by=timedelta(hours=1))
    assert await notify.expiring(world.platform) == 1


@pytest.mark.parametrize("status", ["Revoked", "Archived"])
async def test_nobody_is_told_of_what_has_ended(world: World, status: str) -> None:
    await expires_in(world, 5)
    await kit.change(world, "UPDATE managed_certificates SET status = %(to)s", to=status)
    assert await notify.expiring(world.platform) == 0


async def test_neither_what_was_never_issued_nor_what_ended_long_ago_is_told(world: World) -> None:
    await kit.order(world)
    await expires_in(world, -40, name="forgotten")
    await expires_in(world, 31, name="fresh")
    assert await notify.expiring(world.platform) == 0


async def test_a_watched_certificate_is_told_of(world: World) -> None:
    await expires_in(world, 5)
    await kit.change(world, "UPDATE managed_certificates SET watched = true")
    assert await notify.expiring(world.platform) == 1


async def test_a_threshold_that_the_policy_gives_no_severity_is_informational(
    world: World,
) -> None:
    channels = {"informational": ["Email"], "warning": ["Webhook"]}
    policy_id = await kit.a_policy(world, alert_thresholds_days=[60], alert_channels=channels)
    await expires_in(world, 50, renewal_policy_id=policy_id)
    await notify.expiring(world.platform)
    row = await event(world)
    assert (row["severity"], row["channel"]) == ("informational", "Email")


async def test_thresholds_of_other_policies_are_not_told(world: World) -> None:
    await kit.a_policy(world, alert_thresholds_days=[365])
    quiet = await kit.a_policy(world, name="quiet", alert_thresholds_days=[])
    await expires_in(world, 50)
    await expires_in(world, 5, name="quiet", renewal_policy_id=quiet)
    assert await notify.expiring(world.platform) == 0


async def test_what_is_yet_to_be_sent_cannot_be_read(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    event_id = (await event(world))["id"]
    with pytest.raises(Conflict, match="yet to be sent"):
        await notify.mark_read(world.platform, kit.ADMIN, event_id)
    async with heard(world) as (on, _):
        await notify.send_due(on)
    await notify.mark_read(world.platform, kit.VIEWER, event_id)
    await notify.mark_read(world.platform, kit.VIEWER, event_id)
    assert (await event(world))["status"] == "read"
    assert (await kit.actions(world)).count("notification_read") == 1


async def test_a_viewer_may_not_requeue_and_an_agent_sees_nothing(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    event_id = (await event(world))["id"]
    with pytest.raises(NotAllowed):
        await notify.requeue(world.platform, kit.VIEWER, event_id)
    agent = await kit.an_agent(world)
    with pytest.raises(NotAllowed):
        await notify.page(world.platform, agent, PageRequest(), filters={})
    with pytest.raises(NotFound):
        await notify.get(world.platform, kit.VIEWER, "ne-none")


async def test_what_ended_long_ago_is_forgotten_unless_it_could_come_up_again(
    world: World,
) -> None:
    row = await expires_in(world, 5)
    await notify.expiring(world.platform)
    for number in range(3):
        await put(world, row, occasion=f"job-{number}")
    await kit.change(
        world,
        """UPDATE notification_events SET created_at = now() - interval '100 days',
               status = CASE occasion WHEN 'job-2' THEN 'pending' ELSE 'dead' END""",
    )
    async with world.platform.db.transaction() as tx:
        assert await notify.prune(tx, tx.now - timedelta(days=90)) == 2
    assert await notify.expiring(world.platform) == 0
    kept = {each["occasion"][:9] for each in await events(world)}
    assert kept == {"job-2", "threshold"}


async def test_a_notification_goes_with_its_certificate(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    await kit.change(world, "DELETE FROM jobs")
    await kit.change(world, "DELETE FROM managed_certificates")
    assert await events(world) == []


async def test_ids_are_uuids_of_version_7_of_this_time(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    made = uuid.UUID((await event(world))["id"].removeprefix("ne-"))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) / 1000 - time.time()) < 60
