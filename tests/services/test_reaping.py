"""What agents that fall silent leave behind, what is tried again, and by whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from certctl.domain.access import Actor
from certctl.domain.errors import Conflict
from certctl.services import issue, jobs, plain, renew, retry, sweep
from tests import kit
from tests.conftest import World
from tests.services.test_due import near_its_end


async def a_running_deployment(world: World) -> tuple[Actor, str, str]:
    """An agent, the job that it has, and the certificate."""
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    return agent, item.id, row["id"]


async def silent(world: World, seconds: int = 301) -> None:
    await kit.change(
        world,
        "UPDATE agents SET last_heartbeat_at = now() - make_interval(secs => %(s)s)",
        s=seconds,
    )


async def test_the_job_of_a_silent_agent_goes_back_to_the_queue(world: World) -> None:
    agent, job_id, _ = await a_running_deployment(world)
    await silent(world)
    assert await sweep.sweep(world.platform) == 1
    job = await kit.job(world, job_id)
    assert (job["status"], job["leased_until"]) == ("Pending", None)
    assert job["last_error"] == f"agent_offline: agent {agent.agent_id} has sent no heartbeat"
    assert "job_offline_agent_reap" in await kit.actions(world)
    assert [item.id for item in await kit.offered(world, agent)] == [job_id]


async def test_an_agent_that_is_heard_keeps_its_job(world: World) -> None:
    _, job_id, _ = await a_running_deployment(world)
    await silent(world, seconds=290)
    assert await sweep.sweep(world.platform) == 0
    assert (await kit.job(world, job_id))["status"] == "Running"


async def test_another_agent_that_serves_the_target_takes_over(world: World) -> None:
    """It makes a key of its own, since a key never leaves its host."""
    _, job_id, certificate_id = await a_running_deployment(world)
    await silent(world)
    await sweep.sweep(world.platform)
    other = await kit.an_agent(world, "web2")
    target = await kit.value(world, "SELECT id FROM deployment_targets")
    await plain.update(
        world.platform, kit.ADMIN, plain.TARGETS, target, changes={"agent_id": other.agent_id}
    )
    await sweep.sweep(world.platform)
    assert (await kit.job(world, job_id))["status"] == "Cancelled"
    assert await renew.find_due(world.platform) == 1
    await kit.issue_to(world, other)
    (item,) = await kit.offered(world, other)
    await kit.deployed(world, other, item)
    assert (await kit.certificate(world, certificate_id))["status"] == "Active"


async def test_what_the_server_has_in_hand_is_left_alone(world: World) -> None:
    """An issuance whose CSR is in, and one whose key the server made, wait for no agent."""
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    (item,) = await kit.offered(world, agent)
    await kit.send_csr(world, agent, item)
    run, gate = await kit.at_the_gate(world, item.id)
    await silent(world)
    assert await sweep.sweep(world.platform) == 0
    assert (await kit.job(world, item.id))["status"] == "Running"
    gate.leave.set()
    assert await run


async def test_an_arm_that_fails_does_not_stop_the_others(world: World) -> None:
    agent, job_id, _ = await a_running_deployment(world)
    await silent(world)
    await kit.change(world, "ALTER TABLE approvals RENAME TO approvals_away")
    with pytest.raises(Exception, match="approvals"):
        await sweep.sweep(world.platform)
    assert (await kit.job(world, job_id))["status"] == "Pending"
    await kit.change(world, "ALTER TABLE approvals_away RENAME TO approvals")
    assert agent


async def test_sweeps_together_reap_once(world: World) -> None:
    await a_running_deployment(world)
    await silent(world)
    touched = await asyncio.gather(*(sweep.sweep(world.platform) for _ in range(4)))
    assert sum(touched) == 1
    assert (await kit.actions(world)).count("job_offline_agent_reap") == 1


async def test_a_deployment_that_failed_for_good_is_tried_anew_later(world: World) -> None:
    agent, job_id, certificate_id = await a_running_deployment(world)
    await kit.change(world, "UPDATE jobs SET attempts = max_attempts")
    await kit.report(world, agent, job_id, status="Failed", error="nginx -t failed")
    assert (await kit.job(world, job_id))["status"] == "Failed"
    assert await sweep.sweep(world.platform) == 0
    await kit.change(
        world, "UPDATE certificate_target_mappings SET retry_at = now() WHERE retry_at IS NOT NULL"
    )
    assert await sweep.sweep(world.platform) == 1
    (item,) = await kit.offered(world, agent)
    assert (item.type, item.id != job_id) == ("Deployment", True)
    await kit.deployed(world, agent, item)
    assert (await kit.certificate(world, certificate_id))["last_error"] is None


async def test_a_first_issuance_that_failed_is_begun_anew_after_the_interval(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.change(world, "UPDATE jobs SET created_at = now() - interval '25 hours'")
    await sweep.sweep(world.platform)
    assert (await kit.certificate(world, row["id"]))["status"] == "Failed"
    assert await renew.find_due(world.platform) == 0
    await kit.change(world, "UPDATE managed_certificates SET retry_at = now()")
    assert await renew.find_due(world.platform) == 1
    await kit.issue_to(world, agent)
    assert (await kit.certificate(world, row["id"]))["status"] == "Active"


async def test_a_job_that_waited_too_long_ends_once_and_its_successor_has_its_whole_time(
    world: World,
) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.change(world, "UPDATE jobs SET created_at = now() - interval '25 hours'")
    assert await sweep.sweep(world.platform) == 1
    before = await kit.everything(world)
    for _ in range(3):
        assert await sweep.sweep(world.platform) == 0
        assert await renew.find_due(world.platform) == 0
        await world.run_tasks()
    assert await kit.everything(world) == before
    await kit.change(world, "UPDATE managed_certificates SET retry_at = now()")
    assert await renew.find_due(world.platform) == 1
    for _ in range(3):
        assert await sweep.sweep(world.platform) == 0
    statuses = [job["status"] for job in await kit.jobs_of(world, row["id"])]
    assert statuses == ["Failed", "AwaitingCSR"]
    assert (await kit.actions(world)).count("job_timeout") == 1


async def test_the_policys_interval_bounds_the_wait_between_tries(world: World) -> None:
    policy = await kit.a_policy(world, retry_interval_seconds=60, max_retries=10)
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)], renewal_policy_id=policy)
    (item,) = await kit.offered(world, agent)
    await kit.change(world, "UPDATE jobs SET attempts = 9")
    await kit.report(world, agent, item.id, status="Failed", error="no key")
    waits = (await kit.job(world, item.id))["scheduled_at"] - datetime.now(UTC)
    assert 50 < waits.total_seconds() <= 60


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_job_is_tried_as_often_as_its_policy_says(world: World, retries: int) -> None:
    policy = await kit.a_policy(world, max_retries=retries)
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)], renewal_policy_id=policy)
    tries = 0
    while items := await kit.offered(world, agent):
        tries += 1
        await kit.report(world, agent, items[0].id, status="Failed", error="no key")
        await kit.change(world, "UPDATE jobs SET scheduled_at = now()")
    assert tries == retries + 1
    assert await kit.value(world, "SELECT status FROM jobs") == "Failed"


async def test_retrying_makes_a_new_job_and_keeps_the_record_of_the_old(world: World) -> None:
    agent, job_id, _ = await a_running_deployment(world)
    with pytest.raises(Conflict, match="is Running"):
        await retry.retry(world.platform, kit.ADMIN, job_id)
    await jobs.cancel(world.platform, kit.ADMIN, job_id)
    (again,) = await retry.retry(world.platform, kit.ADMIN, job_id)
    assert (await kit.job(world, job_id))["status"] == "Cancelled"
    assert [item.id for item in await kit.offered(world, agent)] == [again]


async def test_a_renewal_by_force_takes_the_place_of_the_one_under_way(world: World) -> None:
    served = await kit.a_served_certificate(world)
    (first,) = await kit.renew_now(world, served.id)
    assert await kit.renew_now(world, served.id) == [first]
    (second,) = await kit.renew_now(world, served.id, force=True)
    assert (await kit.job(world, first))["status"] == "Cancelled"
    assert [item.id for item in await kit.offered(world, served.agent)] == [second]


async def test_a_cancelled_renewal_rests_for_a_day(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 1
    await jobs.cancel(world.platform, kit.ADMIN, await kit.job_of(world, served.id))
    assert await renew.find_due(world.platform) == 0
    await kit.change(world, "UPDATE managed_certificates SET retry_at = now()")
    assert await renew.find_due(world.platform) == 1


async def test_an_operators_own_issuance_is_run_once_by_many_workers(world: World) -> None:
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    job_id = await kit.job_of(world, row["id"])
    done = await asyncio.gather(*(issue.run(world.platform, job_id) for _ in range(6)))
    assert done.count(True) == 1
    assert len(await kit.versions_of(world, row["id"])) == 1
