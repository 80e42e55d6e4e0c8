"""The two-person rule: on every path to a certificate, and never around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certctl.domain.access import Actor, actor_with_roles
from certctl.domain.errors import Conflict, NotAllowed
from certctl.services import approve, bulk, certificates, issue, jobs, renew, retry, sweep
from tests import kit
from tests.conftest import World
from tests.services.test_due import near_its_end

SECOND = actor_with_roles("second", ("r-operator",))


async def guarded(world: World, **changes: Any) -> dict[str, Any]:
    """An order under a profile that asks for a second person, by an agent's key."""
    profile = await kit.a_profile(world, name="guarded", requires_approval=True)
    return await kit.order(world, certificate_profile_id=profile, **changes)


async def on_an_agent(world: World) -> tuple[dict[str, Any], Actor]:
    agent = await kit.an_agent(world)
    return await guarded(world, target_ids=[await kit.a_target(world, agent)]), agent


async def the_approval(world: World) -> str:
    return str(await kit.value(world, "SELECT id FROM approvals WHERE state = 'pending'"))


async def decide(world: World, actor: Actor = SECOND) -> None:
    await approve.approve(world.platform, actor, await the_approval(world), note="fine")


async def issued_under_approval(world: World) -> tuple[dict[str, Any], Actor]:
    row, agent = await on_an_agent(world)
    await decide(world)
    await kit.issue_to(world, agent)
    return row, agent


async def test_nothing_is_offered_to_an_agent_before_the_decision(world: World) -> None:
    row, agent = await on_an_agent(world)
    assert (await kit.jobs_of(world, row["id"]))[0]["status"] == "AwaitingApproval"
    assert await kit.offered(world, agent) == []
    await decide(world)
    await kit.issue_to(world, agent)
    assert (await kit.certificate(world, row["id"]))["status"] == "Active"


async def test_a_csr_of_an_operator_waits_too(world: World) -> None:
    row = await guarded(world, csr_pem=kit.a_csr("a.example.test"))
    job_id = await kit.job_of(world, row["id"])
    assert not await issue.run(world.platform, job_id)
    await decide(world)
    assert await issue.run(world.platform, job_id)


async def test_whoever_asked_does_not_approve(world: World) -> None:
    row, _ = await on_an_agent(world)
    before = await kit.everything(world)
    with pytest.raises(NotAllowed, match="second person"):
        await decide(world, kit.ADMIN)
    assert await kit.everything(world) == before
    assert (await kit.jobs_of(world, row["id"]))[0]["status"] == "AwaitingApproval"


async def test_the_database_itself_refuses_an_approval_by_whoever_asked(world: World) -> None:
    await on_an_agent(world)
    with pytest.raises(Exception, match="two_persons"):
        await kit.change(
            world,
            "UPDATE approvals SET state = 'approved', decided_by = requested_by, "
            "decided_at = now()",
        )


async def test_a_decision_is_made_once(world: World) -> None:
    await on_an_agent(world)
    approval_id = await the_approval(world)
    await decide(world)
    for again in (approve.approve, approve.reject):
        with pytest.raises(Conflict, match="approved already"):
            await again(world.platform, SECOND, approval_id, note=None)


async def test_a_rejection_cancels_with_its_reason(world: World) -> None:
    row, agent = await on_an_agent(world)
    await approve.reject(world.platform, SECOND, await the_approval(world), note="wrong team")
    (job,) = await kit.jobs_of(world, row["id"])
    assert (job["status"], job["last_error"]) == ("Cancelled", "rejected by second: wrong team")
    assert await kit.offered(world, agent) == []
    assert await renew.find_due(world.platform) == 0
    assert "approval_rejected" in await kit.actions(world)


async def test_time_cancels_and_never_executes(world: World) -> None:
    row, agent = await on_an_agent(world)
    await kit.change(world, "UPDATE approvals SET created_at = now() - interval '169 hours'")
    assert await sweep.sweep(world.platform) == 1
    for _ in range(3):
        await sweep.sweep(world.platform)
        await world.run_tasks()
    (job,) = await kit.jobs_of(world, row["id"])
    assert job["status"] == "Cancelled"
    assert job["last_error"].startswith("approval_timeout")
    assert await kit.value(world, "SELECT state FROM approvals") == "expired"
    assert await kit.offered(world, agent) == []
    assert await kit.versions_of(world, row["id"]) == []


async def test_an_approved_job_has_its_whole_time_for_a_csr(world: World) -> None:
    await on_an_agent(world)
    await kit.change(world, "UPDATE jobs SET created_at = now() - interval '100 hours'")
    await decide(world)
    assert await sweep.sweep(world.platform) == 0
    await kit.change(
        world,
        "UPDATE approvals SET created_at = now() - interval '50 hours', "
        "decided_at = now() - interval '25 hours'",
    )
    assert await sweep.sweep(world.platform) == 1


async def test_a_scheduled_renewal_asks(world: World) -> None:
    row, agent = await issued_under_approval(world)
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 1
    assert all(item.status != "AwaitingCSR" for item in await kit.offered(world, agent))
    assert (await kit.jobs_of(world, row["id"]))[-1]["status"] == "AwaitingApproval"


async def test_a_bulk_renewal_asks(world: World) -> None:
    row, _ = await issued_under_approval(world)
    told = await bulk.start(
        world.platform,
        kit.ADMIN,
        "renew",
        filters={"certificate_ids": [row["id"]]},
        parameters={},
        dry_run=False,
    )
    assert told["total_enqueued"] == 1
    assert (await kit.jobs_of(world, row["id"]))[-1]["status"] == "AwaitingApproval"


async def test_a_retry_asks_anew(world: World) -> None:
    row, _ = await on_an_agent(world)
    await approve.reject(world.platform, SECOND, await the_approval(world), note=None)
    job_id = await kit.job_of(world, row["id"])
    (again,) = await retry.retry(world.platform, kit.ADMIN, job_id)
    assert (await kit.job(world, again))["status"] == "AwaitingApproval"


async def test_what_was_approved_is_what_is_issued(world: World) -> None:
    """Other names than were approved are asked for again."""
    row, agent = await on_an_agent(world)
    await decide(world)
    (item,) = await kit.offered(world, agent)
    await kit.send_csr(world, agent, item)
    await certificates.update(
        world.platform, kit.ADMIN, row["id"], changes={"sans": ["bank.example.test"]}
    )
    assert not await issue.run(world.platform, item.id)
    assert await kit.versions_of(world, row["id"]) == []
    assert (await kit.job(world, item.id))["status"] == "AwaitingApproval"
    assert await kit.value(world, "SELECT sans FROM approvals WHERE state = 'pending'") == [
        "a.example.test",
        "bank.example.test",
    ]
    await decide(world)
    assert await issue.run(world.platform, item.id)
    assert "bank.example.test" in (await kit.versions_of(world, row["id"]))[0]["sans"]


async def test_a_change_ends_what_was_asked_before_it(world: World) -> None:
    row, _ = await on_an_agent(world)
    first = await the_approval(world)
    await certificates.update(
        world.platform, kit.ADMIN, row["id"], changes={"sans": ["bank.example.test"]}
    )
    assert await the_approval(world) != first
    with pytest.raises(Conflict, match="expired already"):
        await approve.approve(world.platform, SECOND, first, note=None)
    statuses = [job["status"] for job in await kit.jobs_of(world, row["id"])]
    assert statuses == ["Cancelled", "AwaitingApproval"]


async def test_a_profile_that_comes_to_ask_stops_what_was_under_way(world: World) -> None:
    profile = await kit.a_profile(world, name="later")
    row = await kit.order(
        world, certificate_profile_id=profile, csr_pem=kit.a_csr("a.example.test")
    )
    await kit.plain.update(
        world.platform,
        kit.ADMIN,
        kit.plain.PROFILES,
        profile,
        changes={"requires_approval": True},
    )
    job_id = await kit.job_of(world, row["id"])
    assert not await issue.run(world.platform, job_id)
    assert (await kit.job(world, job_id))["status"] == "AwaitingApproval"
    await decide(world)
    assert await issue.run(world.platform, job_id)


async def test_one_decision_covers_every_holder_of_a_key(world: World) -> None:
    agents = await kit.an_agent(world, "web1"), await kit.an_agent(world, "web2")
    targets = [await kit.a_target(world, agent) for agent in agents]
    row = await guarded(world, target_ids=targets)
    assert len(await kit.jobs_of(world, row["id"])) == 2
    await decide(world)
    await kit.issue_to(world, *agents)
    assert (await kit.certificate(world, row["id"]))["status"] == "Active"


async def test_deciding_and_carrying_out_are_separate_records(world: World) -> None:
    row, _ = await issued_under_approval(world)
    found = await kit.rows(
        world,
        """SELECT actor, action, details FROM audit_events
           WHERE action IN ('approval_requested', 'approval_approved', 'certificate_issued')
           ORDER BY sequence""",
    )
    assert [(each["actor"], each["action"]) for each in found] == [
        ("admin", "approval_requested"),
        ("second", "approval_approved"),
        ("system:issuance", "certificate_issued"),
    ]
    assert found[2]["details"]["approval_id"] == found[0]["details"]["approval_id"]
    assert row["id"]


async def test_a_cancelled_job_leaves_nothing_to_approve(world: World) -> None:
    row, _ = await on_an_agent(world)
    await jobs.cancel(world.platform, kit.ADMIN, await kit.job_of(world, row["id"]))
    assert await kit.value(world, "SELECT state FROM approvals") == "expired"


async def test_who_may_not_approve_is_refused(world: World) -> None:
    await on_an_agent(world)
    approval_id = await the_approval(world)
    with pytest.raises(NotAllowed):
        await approve.approve(
            world.platform, replace(kit.VIEWER, id="third"), approval_id, note=None
        )
