"""What becomes of a delivery: sent, tried again, dead, or taken over by another sender."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certctl.domain.errors import Conflict
from certctl.domain.notification import LONGEST_WAIT, MOST_TRIES, wait_after
from certctl.services import notify
from tests import kit
from tests.conftest import World
from tests.connectors.receiver import OK, says
from tests.services.notified import event, events, heard, make_due, put


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
        others: list[asyncio.Task[int]] = []

        async def another_sender() -> None:
            if not others:
                others.append(asyncio.create_task(notify.send_due(on)))
            await asyncio.wait(others)

        receiver.on_call = another_sender
        done = await asyncio.gather(notify.send_due(on), notify.send_due(on))
        assert await others[0] == 0
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
