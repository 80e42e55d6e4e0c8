"""How rules are judged over the inventory: little is written, and nobody collides."""

from __future__ import annotations

import asyncio

import pytest

from certctl.domain.access import EVERYTHING
from certctl.services import policy
from certctl.store import certificates
from tests import kit
from tests.conftest import World
from tests.services.test_policy import a_rule, violations


async def wait_for_a_lock(world: World) -> None:
    """Until another session of this database waits for a lock."""
    waiting = """SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    async with asyncio.timeout(20):
        while not await kit.value(world, waiting):
            await asyncio.sleep(0.02)


async def test_what_stands_as_it_stood_is_not_written_again(world: World) -> None:
    await kit.order(world)
    for kind in ("AllowedEnvironments", "RequiredMetadata"):
        await a_rule(world, kind)
    await world.run_tasks()
    written = "SELECT id, xmin::text, xmax::text, ctid::text FROM policy_violations ORDER BY id"
    before = await kit.rows(world, written)
    assert len(before) == 2
    assert await policy.evaluate_all(world.platform) == 0
    assert await kit.rows(world, written) == before


async def test_a_change_and_the_timetable_that_find_the_same_do_not_collide(world: World) -> None:
    row = await kit.order(world)
    await a_rule(world, "AllowedEnvironments")
    async with world.platform.db.transaction() as tx:
        await certificates.lock(tx, row["id"], within=EVERYTHING)
        timetable = asyncio.create_task(policy.evaluate_all(world.platform))
        await wait_for_a_lock(world)
        await policy.enforce(world.platform, tx, [row["id"]])
    assert await timetable == 0
    assert len(await violations(world)) == 1


async def test_many_are_judged_in_batches_and_each_is_found_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "BATCH", 7)
    await kit.change(
        world,
        """INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id,
               team_id, issuer_id, renewal_policy_id, certificate_profile_id, status)
           SELECT 'mc-' || n, 'site-' || n, 'a.test', '{a.test}',
               CASE WHEN n %% 3 = 0 THEN 'lab' ELSE 'prod' END, 'o-default', 't-default',
               'iss-local', 'rp-default', 'prof-default', 'Active'
           FROM generate_series(1, 60) n""",
    )
    await a_rule(world, "AllowedEnvironments")
    assert await policy.evaluate_all(world.platform) == 20
    await kit.change(world, "UPDATE managed_certificates SET environment = 'lab' WHERE id = 'mc-1'")
    await kit.change(
        world, "UPDATE managed_certificates SET environment = 'prod' WHERE id = 'mc-3'"
    )
    assert await policy.evaluate_all(world.platform) == 1
    found = {row["certificate_id"] for row in await violations(world)}
    assert found == {"mc-1", *(f"mc-{n}" for n in range(6, 61, 3))}
