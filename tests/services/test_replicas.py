"""Two replicas carry out each periodic task at the same time: what is to be done is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from procrastinate.app import App
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.testing import InMemoryConnector

from certctl.jobs import tasks
from certctl.pki.sealing import DataKey
from certctl.services import trail
from certctl.services.platform import Platform
from certctl.store.db import Database
from tests import kit
from tests.audited import seal_all
from tests.conftest import World
from tests.connectors.receiver import Receiver, receiving
from tests.services.notified import expires_in, put, told_by
from tests.services.test_due import near_its_end
from tests.services.test_policy import a_rule


def app_of(platform: Platform) -> App:
    """The tasks of one replica, its queue in memory."""
    app = App(connector=InMemoryConnector())
    terms = replace(platform.terms, digest_enabled=True)
    tasks.register(app, replace(platform, terms=terms), renewal_interval=timedelta(hours=1))
    return app


@dataclass(frozen=True)
class Pair:
    """Two replicas on one database, and what hears their notifications."""

    world: World
    replicas: tuple[App, App]
    receiver: Receiver

    async def together(self, task: str) -> None:
        """Each replica carries the task out twice, all at once."""
        runs = [app.tasks[task] for app in self.replicas for _ in range(2)]
        await asyncio.gather(*(run(timestamp=0) for run in runs))

    async def acted(self, action: str) -> int:
        return (await kit.actions(self.world)).count(action)


@pytest.fixture
async def pair(world: World, ready_template: tuple[str, DataKey]) -> AsyncIterator[Pair]:
    other = Database(world.conninfo, max_size=4)
    await other.open()
    async with receiving() as receiver:
        first = told_by(world, receiver.url)
        replicas = app_of(first), app_of(replace(first, db=other))
        yield Pair(world, replicas, receiver)
    await other.close()


async def renewals(pair: Pair) -> Any:
    return await kit.value(pair.world, "SELECT count(*) FROM jobs WHERE type = 'Renewal'")


async def due(world: World) -> None:
    await kit.a_served_certificate(world)
    await near_its_end(world)


async def urgent(world: World) -> None:
    await kit.a_served_certificate(world)
    await kit.change(
        world,
        """UPDATE certificate_versions SET not_before = now() - interval '25 minutes',
               not_after = now() + interval '5 minutes'""",
    )


async def left_behind(world: World) -> None:
    """A job without an answer, and an approval without a decision."""
    target = await kit.a_target(world, await kit.an_agent(world))
    await kit.order(world, target_ids=[target])
    guarded = await kit.a_profile(world, requires_approval=True)
    await kit.order(world, name="guarded", target_ids=[target], certificate_profile_id=guarded)
    for table in ("jobs", "approvals"):
        await kit.change(world, f"UPDATE {table} SET created_at = now() - interval '170 hours'")


async def reaped(pair: Pair) -> Any:
    return await pair.acted("job_timeout"), await pair.acted("approval_expired")


async def to_be_told(world: World) -> None:
    row = await kit.order(world)
    for number in range(7):
        await put(world, row["id"], occasion=f"job-{number}")


async def heard(pair: Pair) -> Any:
    return len(pair.receiver.seen)


async def near(world: World) -> None:
    await expires_in(world, 5)


async def alerts(pair: Pair) -> Any:
    raised = await pair.acted("expiration_alert_raised")
    return raised, await kit.value(pair.world, "SELECT count(*) FROM notification_events")


async def ruled(world: World) -> None:
    await kit.order(world)
    await a_rule(world, "AllowedEnvironments")
    await kit.change(world, "DELETE FROM procrastinate.procrastinate_jobs")


async def violations(pair: Pair) -> Any:
    told = await kit.value(pair.world, "SELECT count(*) FROM notification_events")
    return await kit.value(pair.world, "SELECT count(*) FROM policy_violations"), told


async def nothing(world: World) -> None:
    pass


async def digests(pair: Pair) -> Any:
    return await pair.acted("digest_sent")


async def sealed(pair: Pair) -> Any:
    """Numbers seen at one tick are sealed at a later one."""
    await pair.together("seal_audit")
    seen = await kit.value(pair.world, "SELECT sum(row_count) FROM audit_seals")
    assert seen == await kit.value(pair.world, "SELECT count(*) FROM audit_events")
    return await trail.verify(pair.world.platform)


async def one_seal(world: World) -> None:
    await kit.a_served_certificate(world)
    await seal_all(world)


async def attested(pair: Pair) -> Any:
    """An interval has passed once, however many look."""
    return await kit.value(pair.world, "SELECT count(*) FROM audit_checkpoints")


async def stale(world: World) -> None:
    await kit.change(world, "DELETE FROM crls")
    await kit.change(world, "DELETE FROM service_certificates WHERE purpose = 'ocsp_responder'")


async def responders(pair: Pair) -> Any:
    crls = await kit.value(pair.world, "SELECT count(*) FROM crls WHERE der IS NOT NULL")
    count = "SELECT count(*) FROM service_certificates WHERE purpose = 'ocsp_responder'"
    return crls, await kit.value(pair.world, count)


async def ended_long_ago(world: World) -> None:
    await kit.an_issued_certificate(world)
    await kit.change(world, "UPDATE jobs SET completed_at = now() - interval '91 days'")


async def jobs(pair: Pair) -> Any:
    return await kit.value(pair.world, "SELECT count(*) FROM jobs")


Prepare = Callable[[World], Awaitable[Any]]
Probe = Callable[[Pair], Awaitable[Any]]
# What there is to do, and what must be found when it has been done once.
ONCE: dict[str, tuple[Prepare, Probe, Any]] = {
    "find_due": (due, renewals, 1),
    "find_urgent": (urgent, renewals, 1),
    "sweep": (left_behind, reaped, (1, 1)),
    "send_notifications": (to_be_told, heard, 7),
    "expiry_alerts": (near, alerts, (1, 1)),
    "evaluate_policies": (ruled, violations, (1, 1)),
    "send_digest": (nothing, digests, 1),
    "seal_audit": (due, sealed, []),
    "audit_checkpoint": (one_seal, attested, 1),
    "keep_fresh": (stale, responders, (2, 2)),
    "prune": (ended_long_ago, jobs, 0),
}
# Questions and upkeep that leave nothing behind which could be there twice.
HARMLESS = {"ask_when_to_renew", "drop_stalled"}


@pytest.mark.parametrize("task", ONCE)
async def test_a_periodic_task_at_the_same_time_does_its_work_once(pair: Pair, task: str) -> None:
    prepare, probe, expected = ONCE[task]
    await prepare(pair.world)
    await pair.together(task)
    assert await probe(pair) == expected
    await pair.together(task)
    assert await probe(pair) == expected


async def test_every_periodic_task_is_tried(world: World) -> None:
    periodic = {name for name, _ in app_of(world.platform).periodic_registry.periodic_tasks}
    assert periodic == set(ONCE) | HARMLESS


@pytest.mark.parametrize("task", sorted({*ONCE, *HARMLESS}))
async def test_a_periodic_task_waits_once_in_the_queue_of_all(world: World, task: str) -> None:
    app = app_of(world.platform).with_connector(world.queue_app.connector)
    await app.tasks[task].defer_async(timestamp=1)
    with pytest.raises(AlreadyEnqueued):
        await app.tasks[task].defer_async(timestamp=2)
