"""Notifications: who is told, once for each occasion, and what becomes of a delivery."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certctl.connectors import catalog
from certctl.domain.errors import Conflict, NotAllowed, NotFound
from certctl.domain.listing import PageRequest
from certctl.domain.notification import LONGEST_WAIT, MOST_TRIES, Kind, Severity, wait_after
from certctl.services import notify
from certctl.services.notify import News
from certctl.services.platform import Platform
from certctl.store.db import Row
from tests import kit
from tests.conftest import World
from tests.connectors.receiver import OK, Receiver, receiving, says

SECRET = "a secret of the webhook"


def told_by(world: World, url: str) -> Platform:
    """The platform with a webhook that posts to `url`."""
    webhook = catalog.open_notifier("Webhook", {"url": url, "secret": SECRET})
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


async def test_a_delivery_is_written_down(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    async with heard(world) as (on, receiver):
        assert await notify.send_due(on) == 1
        assert await notify.send_due(on) == 0
    (seen,) = receiver.seen
    found = await event(world)
    assert seen.event["id"] == found["id"]
    assert seen.event["message"] == "the renewal failed"
    assert (found["status"], found["retry_count"], found["last_error"]) == ("sent", 0, None)
    assert receiver.url.startswith(f"{found['recipient']}/")
    assert found["sent_at"] is not None


async def test_the_first_failure_sets_the_next_try(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    async with heard(world, says(500)) as (on, receiver):
        assert await notify.send_due(on) == 0
        found = await event(world)
        assert (found["status"], found["retry_count"]) == ("failed", 1)
        wait = found["next_retry_at"] - datetime.now(UTC)
        assert timedelta(minutes=1) < wait <= timedelta(minutes=2)
        assert found["last_error"].endswith("answered 500")
        assert await notify.send_due(on) == 0
        assert len(receiver.seen) == 1
        await make_due(world)
        receiver.answer = OK
        assert await notify.send_due(on) == 1
    found = await event(world)
    assert (found["status"], found["retry_count"], found["next_retry_at"]) == ("sent", 1, None)
    assert [each.event["id"] for each in receiver.seen] == [found["id"]] * 2


@pytest.mark.parametrize("status", [503, 400])
async def test_a_notification_is_dead_after_the_last_try(world: World, status: int) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    async with heard(world, says(status)) as (on, receiver):
        for _ in range(MOST_TRIES + 1):
            await notify.send_due(on)
            await make_due(world)
    assert len(receiver.seen) == MOST_TRIES
    found = await event(world)
    assert (found["status"], found["retry_count"]) == ("dead", MOST_TRIES)
    assert (await kit.actions(world))[-1] == "notification_dead"


def test_waits_double_up_to_an_hour_and_are_spread() -> None:
    waits = [wait_after(n, random=0.5) for n in range(1, MOST_TRIES)]
    assert waits == [timedelta(minutes=2**n) for n in range(1, MOST_TRIES)]
    assert wait_after(MOST_TRIES, random=0.5) is None
    assert wait_after(1, random=0) == timedelta(seconds=90)
    for failures in range(1, MOST_TRIES):
        wait = wait_after(failures, random=1)
        assert wait is not None
        assert wait <= LONGEST_WAIT


async def test_a_channel_that_is_not_set_up_says_that_nobody_was_told(world: World) -> None:
    policy_id = await kit.a_policy(world, alert_channels={"warning": ["Webhook", "Teams"]})
    row = await kit.order(world, renewal_policy_id=policy_id)
    await put(world, row["id"])
    on = replace(world.platform, notifiers={})
    assert await notify.send_due(on) == 2
    found = {each["channel"]: each for each in await events(world)}
    assert {each["status"] for each in found.values()} == {"dead"}
    assert "nobody was told: set CERTCTL_WEBHOOK_URL" in found["Webhook"]["last_error"]
    assert "there is no channel Teams" in found["Teams"]["last_error"]


async def test_what_is_dead_is_sent_once_it_is_requeued(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    await notify.send_due(replace(world.platform, notifiers={}))
    event_id = (await event(world))["id"]
    await notify.requeue(world.platform, kit.ADMIN, event_id)
    found = await event(world)
    assert (found["status"], found["retry_count"], found["last_error"]) == ("pending", 0, None)
    async with heard(world) as (on, receiver):
        await notify.send_due(on)
    assert len(receiver.seen) == 1
    with pytest.raises(Conflict, match="is sent"):
        await notify.requeue(world.platform, kit.ADMIN, event_id)
    assert (await kit.actions(world))[-1] == "notification_requeued"


async def test_two_senders_at_once_send_each_notification_once(world: World) -> None:
    row = await kit.order(world)
    for number in range(30):
        await put(world, row["id"], occasion=f"job-{number}")
    async with heard(world) as (on, receiver):
        done = await asyncio.gather(notify.send_due(on), notify.send_due(on))
    ids = [seen.event["id"] for seen in receiver.seen]
    assert sum(done) == len(ids) == len(set(ids)) == 30


async def test_no_more_than_ten_are_sent_at_once(world: World) -> None:
    row = await kit.order(world)
    for number in range(25):
        await put(world, row["id"], occasion=f"job-{number}")
    full = asyncio.Event()
    async with heard(world) as (on, receiver):

        async def wait() -> None:
            if receiver.busiest >= notify.AT_ONCE:
                full.set()
            await full.wait()

        receiver.on_call = wait
        assert await notify.send_due(on) == 25
    assert receiver.busiest == notify.AT_ONCE


async def test_a_receiver_that_hangs_holds_up_nobody_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.3)
    row = await kit.order(world)
    for number in range(10):
        await put(world, row["id"], occasion=f"job-{number}")
    began = time.monotonic()
    async with heard(world, b"") as (on, _):
        assert await notify.send_due(on) == 0
    assert time.monotonic() - began < 5
    found = await events(world)
    assert {each["status"] for each in found} == {"failed"}
    assert "did not take it within 0.3 s" in found[0]["last_error"]


async def test_no_connection_is_held_while_a_receiver_thinks(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    seen: list[Any] = []
    async with heard(world) as (on, receiver):

        async def look() -> None:
            seen.append(
                await kit.value(
                    world,
                    """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                         AND state IN ('idle in transaction',
                                       'idle in transaction (aborted)')""",
                )
            )

        receiver.on_call = look
        await notify.send_due(on)
    assert seen == [0]


async def test_a_sender_that_died_is_followed_by_another(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    async with heard(world) as (on, receiver):
        claimed = asyncio.Event()

        async def die() -> None:
            claimed.set()
            await asyncio.Event().wait()

        receiver.on_call = die
        sender = asyncio.create_task(notify.send_due(on))
        await claimed.wait()
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        receiver.on_call = None
        assert await notify.send_due(on) == 0
        await kit.change(world, "UPDATE notification_events SET leased_until = now()")
        assert await notify.send_due(on) == 1
    ids = {seen.event["id"] for seen in receiver.seen}
    assert (len(receiver.seen), len(ids)) == (2, 1)


async def test_the_outcome_of_a_claim_that_was_lost_is_not_written_down(world: World) -> None:
    row = await kit.order(world)
    await put(world, row["id"])
    async with heard(world, says(500)) as (on, receiver):

        async def another_takes_over() -> None:
            await kit.change(
                world,
                """UPDATE notification_events SET leased_until = now() + %(by)s,
                       retry_count = 3""",
                by=timedelta(minutes=9),
            )

        receiver.on_call = another_takes_over
        assert await notify.send_due(on) == 0
    found = await event(world)
    assert (found["status"], found["retry_count"]) == ("pending", 3)


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
