"""Work is handed to one party only, however many ask at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from certctl.domain.access import Actor
from certctl.store import jobs
from tests import kit
from tests.conftest import World

LEASE = timedelta(minutes=5)


async def waiting_work(world: World, count: int, agent: Actor) -> set[str]:
    """`count` certificates whose keys this agent is to make; the ids of their jobs."""
    target = await kit.a_target(world, agent)
    for number in range(count):
        await kit.order(world, name=f"site-{number}", target_ids=[target])
    found = await kit.rows(world, "SELECT id FROM jobs WHERE agent_id = %(id)s", id=agent.agent_id)
    return {row["id"] for row in found}


async def claim(world: World, agent: Actor, limit: int = 3) -> list[str]:
    assert agent.agent_id
    async with world.platform.db.transaction() as tx:
        return await jobs.claim_for_agent(
            tx, agent.agent_id, session=None, lease=LEASE, limit=limit
        )


async def test_polls_at_the_same_time_never_get_the_same_job(world: World) -> None:
    agent = await kit.an_agent(world)
    wanted = await waiting_work(world, 12, agent)
    claims = await asyncio.gather(*(claim(world, agent) for _ in range(8)))
    handed = [job_id for each in claims for job_id in each]
    while more := await claim(world, agent):
        handed += more
    assert len(handed) == len(set(handed))
    assert set(handed) == wanted


async def test_a_claim_passes_over_what_another_has_not_committed_yet(world: World) -> None:
    agent = await kit.an_agent(world)
    wanted = await waiting_work(world, 4, agent)
    how: dict[str, Any] = {"session": None, "lease": LEASE, "limit": 3}
    async with world.platform.db.transaction() as slow:
        first = await jobs.claim_for_agent(slow, agent.agent_id or "", **how)
        async with world.platform.db.transaction() as quick:
            await quick.run("SET LOCAL lock_timeout = '300ms'")
            second = await jobs.claim_for_agent(quick, agent.agent_id or "", **how)
    assert (len(first), len(second)) == (3, 1)
    assert {*first, *second} == wanted


async def test_an_agent_is_never_given_the_work_of_another(world: World) -> None:
    first, second = await kit.an_agent(world, "web1"), await kit.an_agent(world, "web2")
    wanted = await waiting_work(world, 4, first)
    claims = await asyncio.gather(
        *(claim(world, each, limit=10) for each in (first, second, first, second))
    )
    assert claims[1] == claims[3] == []
    assert set(claims[0] + claims[2]) == wanted


async def test_a_leased_job_is_not_offered_again_until_the_lease_ends(world: World) -> None:
    agent = await kit.an_agent(world)
    await waiting_work(world, 1, agent)
    assert len(await claim(world, agent)) == 1
    assert await claim(world, agent) == []
    await kit.change(world, "UPDATE jobs SET leased_until = now() - interval '1 second'")
    assert len(await claim(world, agent)) == 1


async def test_an_agent_that_starts_anew_gets_its_work_back_at_once(world: World) -> None:
    agent = await kit.an_agent(world)
    await waiting_work(world, 1, agent)
    assert len(await kit.offered(world, agent, session="first run")) == 1
    assert len(await kit.offered(world, agent, session="second run")) == 1
    assert await kit.offered(world, agent, session="second run") == []


async def test_of_two_runs_that_ask_at_once_the_later_ends_up_with_all_the_work(
    world: World,
) -> None:
    agent = await kit.an_agent(world)
    wanted = await waiting_work(world, 6, agent)
    await asyncio.gather(
        *(kit.offered(world, agent, session=f"run {number}") for number in range(2))
    )
    later = await kit.value(world, "SELECT session FROM agents")
    await kit.offered(world, agent, session=later)
    held = await kit.rows(world, "SELECT id FROM jobs WHERE lease_session = %(run)s", run=later)
    assert {row["id"] for row in held} == wanted


async def test_a_poll_that_a_dead_run_left_hanging_gets_nothing(world: World) -> None:
    agent = await kit.an_agent(world)
    await kit.offered(world, agent, session="second run")
    await waiting_work(world, 1, agent)
    assert await claim(world, agent) == []


async def test_a_deployment_that_used_up_its_attempts_is_not_handed_out_again(
    world: World,
) -> None:
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    await kit.order(world, target_ids=[target])
    await kit.issue_to(world, agent)
    most = await kit.value(world, "SELECT max_attempts FROM jobs WHERE type = 'Deployment'")
    handed = 0
    for number in range(most + 3):
        handed += len(await kit.offered(world, agent, session=f"start {number}"))
    assert handed == most


async def test_work_comes_in_the_order_in_which_it_is_due(world: World) -> None:
    agent = await kit.an_agent(world)
    await waiting_work(world, 5, agent)
    due = await kit.rows(world, "SELECT id FROM jobs ORDER BY scheduled_at, id")
    claimed = [await claim(world, agent, limit=1) for _ in range(5)]
    assert [each[0] for each in claimed] == [row["id"] for row in due]
