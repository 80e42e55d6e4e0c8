"""Jobs that fail, wait too long, lose their lease, or are reported on by the wrong party."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound
from certctl.services import issue, jobs, sweep
from tests import kit
from tests.conftest import World


async def a_due_issuance(world: World) -> tuple[str, str]:
    """A certificate of the operator's and its job, ready to be signed."""
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    return row["id"], await kit.job_of(world, row["id"])


async def disable_issuer(world: World, *, enabled: bool = False) -> None:
    await kit.change(world, "UPDATE issuers SET enabled = %(enabled)s", enabled=enabled)


async def test_a_refusal_that_will_not_change_fails_the_job_with_its_words(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await disable_issuer(world)
    assert not await issue.run(world.platform, job_id)
    job, row = await kit.job(world, job_id), await kit.certificate(world, certificate_id)
    assert (job["status"], job["last_error"]) == ("Failed", "issuer iss-local is disabled")
    assert job["completed_at"] is not None
    assert (row["status"], row["last_error"]) == ("Failed", "issuer iss-local is disabled")
    assert "issuance_job_failed" in await kit.actions(world)


async def test_a_failed_certificate_can_be_renewed_once_the_cause_is_mended(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await disable_issuer(world)
    await issue.run(world.platform, job_id)
    await disable_issuer(world, enabled=True)
    (again,) = await kit.renew_now(world, certificate_id, csr_pem=kit.a_csr("a.example.test"))
    assert await issue.run(world.platform, again)
    row = await kit.certificate(world, certificate_id)
    assert (row["status"], row["last_error"]) == ("Active", None)


async def test_a_configuration_that_does_not_parse_is_told_by_its_place(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    place = kit.plain.Place("issuers", "sealed_config", "iss-local")
    await kit.change(
        world,
        "UPDATE issuers SET sealed_config = %(sealed)s",
        sealed=world.platform.data_key.seal(b'{"validity_days": 100000}', place),
    )
    await issue.run(world.platform, job_id)
    assert "configured wrongly: validity_days" in (await kit.job(world, job_id))["last_error"]


async def test_an_issuance_without_a_certificate_of_its_ca_fails_in_words(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    await kit.change(world, "UPDATE authorities SET state = 'retired'")
    await issue.run(world.platform, job_id)
    assert (await kit.job(world, job_id))["last_error"] == "issuer iss-local has no active CA"


async def test_a_job_that_is_not_due_is_left_alone(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    await kit.change(world, "UPDATE jobs SET scheduled_at = now() + interval '1 hour'")
    assert not await issue.run(world.platform, job_id)
    assert (await kit.job(world, job_id))["attempts"] == 0


async def test_a_job_that_does_not_exist_is_left_alone(world: World) -> None:
    assert not await issue.run(world.platform, "job-nothing")


async def test_an_agent_that_cannot_make_a_key_is_asked_again_and_then_not(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    most = (await kit.jobs_of(world, row["id"]))[0]["max_attempts"]
    for attempt in range(1, most + 1):
        await kit.change(world, "UPDATE jobs SET scheduled_at = now()")
        (item,) = await kit.offered(world, agent)
        await kit.report(world, agent, item.id, status="Failed", error=f"no entropy {attempt}")
        job = await kit.job(world, item.id)
        wanted = "AwaitingCSR" if attempt < most else "Failed"
        assert (job["status"], job["attempts"]) == (wanted, attempt)
    row = await kit.certificate(world, row["id"])
    assert (row["status"], row["last_error"]) == ("Failed", f"no entropy {most}")


async def test_a_failed_deployment_waits_longer_each_time_and_ends_as_failed(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    waits = []
    while True:
        await kit.change(world, "UPDATE jobs SET scheduled_at = now() WHERE status = 'Pending'")
        items = await kit.offered(world, agent)
        if not items:
            break
        await kit.report(
            world, agent, items[0].id, status="Failed", error="nginx -t", rolled_back=True
        )
        job = await kit.job(world, items[0].id)
        waits.append(job["scheduled_at"] - job["started_at"])
    assert (job["status"], job["attempts"]) == ("Failed", job["max_attempts"])
    assert waits[:-1] == sorted(waits[:-1])
    assert waits[-2] > timedelta(seconds=5)
    row = await kit.certificate(world, row["id"])
    assert (row["status"], row["last_error"]) == ("Active", "nginx -t")
    outcomes = await kit.rows(world, "SELECT outcome, error FROM deployments")
    assert {(each["outcome"], each["error"]) for each in outcomes} == {("rolled_back", "nginx -t")}


async def test_a_deployed_certificate_forgets_the_error_before(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    await kit.report(world, agent, item.id, status="Failed", error="nginx -t")
    await kit.change(world, "UPDATE jobs SET scheduled_at = now() WHERE status = 'Pending'")
    (item,) = await kit.offered(world, agent)
    await kit.deployed(world, agent, item)
    assert (await kit.certificate(world, row["id"]))["last_error"] is None
    assert (await kit.job(world, item.id))["last_error"] is None


async def a_deployment(world: World) -> tuple[kit.Actor, kit.wire.WorkItem]:
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    return agent, item


async def test_a_report_that_comes_twice_does_no_harm(world: World) -> None:
    agent, item = await a_deployment(world)
    await kit.deployed(world, agent, item)
    before = await kit.everything(world)
    await kit.deployed(world, agent, item)
    assert await kit.everything(world) == before
    assert await kit.value(world, "SELECT count(*) FROM deployments") == 1


async def test_a_report_of_failure_that_comes_twice_counts_once(world: World) -> None:
    agent, item = await a_deployment(world)
    await kit.report(world, agent, item.id, status="Failed", error="nginx -t")
    before = await kit.everything(world)
    await kit.report(world, agent, item.id, status="Failed", error="nginx -t")
    assert await kit.everything(world) == before


async def test_a_job_is_reported_on_by_its_own_agent_only(world: World) -> None:
    _, item = await a_deployment(world)
    other = await kit.an_agent(world, "web2")
    before = await kit.everything(world)
    with pytest.raises(NotAllowed, match="does not belong to this agent"):
        await kit.deployed(world, other, item)
    assert await kit.everything(world) == before


async def test_a_person_does_not_report_for_an_agent(world: World) -> None:
    _, item = await a_deployment(world)
    with pytest.raises(NotAllowed):
        await kit.report(world, kit.ADMIN, item.id, status="Completed")


async def test_a_success_with_another_fingerprint_is_refused(world: World) -> None:
    agent, item = await a_deployment(world)
    before = await kit.everything(world)
    with pytest.raises(Invalid) as caught:
        await kit.report(world, agent, item.id, status="Completed", fingerprint_sha256="0" * 64)
    assert caught.value.field == "fingerprint_sha256"
    assert await kit.everything(world) == before


async def test_a_report_on_a_job_that_was_cancelled_is_a_conflict(world: World) -> None:
    agent, item = await a_deployment(world)
    await jobs.cancel(world.platform, kit.ADMIN, item.id)
    for status in ("Running", "Completed", "Failed"):
        with pytest.raises(Conflict, match="is Cancelled"):
            await kit.report(
                world, agent, item.id, status=status, fingerprint_sha256=item.fingerprint_sha256
            )


async def test_a_report_of_progress_extends_the_lease(world: World) -> None:
    agent, item = await a_deployment(world)
    await kit.change(world, "UPDATE jobs SET leased_until = now() + interval '1 second'")
    await kit.report(world, agent, item.id, status="Running")
    left = await kit.value(
        world, "SELECT leased_until - now() FROM jobs WHERE id = %(id)s", id=item.id
    )
    assert left > timedelta(minutes=4)


async def test_a_job_that_was_never_handed_out_is_not_reported_on(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    for status in ("Running", "Completed", "Failed"):
        with pytest.raises(Conflict):
            await kit.report(world, agent, await kit.job_of(world, row["id"]), status=status)


async def test_a_report_after_the_lease_moved_on_does_not_count_as_another_attempt(
    world: World,
) -> None:
    agent, item = await a_deployment(world)
    await lapse(world)
    await sweep.sweep(world.platform)
    with pytest.raises(Conflict, match="is Pending"):
        await kit.report(world, agent, item.id, status="Failed", error="too late")
    assert (await kit.job(world, item.id))["attempts"] == 1


async def lapse(world: World) -> None:
    await kit.change(
        world,
        "UPDATE jobs SET leased_until = now() - interval '1 second' WHERE status = 'Running'",
    )


async def test_a_lapsed_deployment_is_tried_again_and_at_last_fails_with_the_reason(
    world: World,
) -> None:
    agent, item = await a_deployment(world)
    most = (await kit.job(world, item.id))["max_attempts"]
    seen = []
    for attempt in range(most):
        await lapse(world)
        assert await sweep.sweep(world.platform) == 1
        seen.append((await kit.job(world, item.id))["status"])
        if attempt < most - 1:
            assert len(await kit.offered(world, agent)) == 1
    assert seen == ["Pending"] * (most - 1) + ["Failed"]
    job = await kit.job(world, item.id)
    assert job["last_error"].startswith("lease_expired: ")
    row = await kit.certificate(world, job["certificate_id"])
    assert row["last_error"] == job["last_error"]
    assert (await kit.actions(world)).count("job_timeout") == most


async def test_a_lapsed_issuance_is_due_again_at_once(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await kit.change(
        world,
        "UPDATE jobs SET status = 'Running', attempts = 1, leased_until = now() - interval '1 s'",
    )
    await sweep.sweep(world.platform)
    assert await issue.run(world.platform, job_id)
    assert len(await kit.versions_of(world, certificate_id)) == 1


async def test_a_job_waits_for_a_csr_only_so_long(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    assert await sweep.sweep(world.platform) == 0
    await kit.change(world, "UPDATE jobs SET created_at = now() - interval '25 hours'")
    assert await sweep.sweep(world.platform) == 1
    (job,) = await kit.jobs_of(world, row["id"])
    assert job["status"] == "Failed"
    assert job["last_error"].startswith("csr_timeout: ")
    assert (await kit.certificate(world, row["id"]))["status"] == "Failed"


async def test_a_due_job_whose_task_was_lost_is_taken_up_once(world: World) -> None:
    certificate_id, _ = await a_due_issuance(world)
    await kit.change(world, "DELETE FROM procrastinate.procrastinate_jobs")
    for _ in range(3):
        await sweep.sweep(world.platform)
    assert await kit.value(world, "SELECT count(*) FROM procrastinate.procrastinate_jobs") == 1
    await world.run_tasks()
    assert (await kit.certificate(world, certificate_id))["status"] == "Active"


async def test_sweeps_at_the_same_time_reap_a_job_once(world: World) -> None:
    _, item = await a_deployment(world)
    await lapse(world)
    touched = await asyncio.gather(*(sweep.sweep(world.platform) for _ in range(4)))
    assert sum(touched) == 1
    assert (await kit.job(world, item.id))["status"] == "Pending"


async def test_a_deployment_is_left_to_its_agent_however_often_the_server_looks(
    world: World,
) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    deployment = await kit.job_of(world, row["id"])
    before = await kit.job(world, deployment)
    assert before["status"] == "Pending"
    for _ in range(3):
        assert await sweep.sweep(world.platform) == 0
        await world.run_tasks()
        assert not await issue.run(world.platform, deployment)
    assert await kit.job(world, deployment) == before
    (item,) = await kit.offered(world, agent)
    assert item.id == deployment
    await kit.deployed(world, agent, item)
    after = await kit.job(world, deployment)
    assert before["created_at"] < after["started_at"] < after["completed_at"]
    assert await kit.value(world, "SELECT outcome FROM deployments") == "deployed"


async def test_a_cancelled_issuance_gives_the_certificate_its_status_back(world: World) -> None:
    served = await kit.a_served_certificate(world)
    (job_id,) = await kit.renew_now(world, served.id)
    await jobs.cancel(world.platform, kit.ADMIN, job_id)
    assert (await kit.job(world, job_id))["last_error"] == "cancelled by admin"
    assert (await kit.certificate(world, served.id))["status"] == "Active"


async def test_a_job_that_has_ended_is_not_cancelled(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    await issue.run(world.platform, job_id)
    before = await kit.everything(world)
    with pytest.raises(Conflict, match="is Completed and cannot become Cancelled"):
        await jobs.cancel(world.platform, kit.ADMIN, job_id)
    assert await kit.everything(world) == before


async def test_an_agent_does_not_cancel_jobs(world: World) -> None:
    agent, item = await a_deployment(world)
    with pytest.raises(NotAllowed):
        await jobs.cancel(world.platform, agent, item.id)


async def test_a_csr_for_the_job_of_another_agent_finds_no_job(world: World) -> None:
    agent, other = await kit.an_agent(world), await kit.an_agent(world, "web2")
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    (item,) = await kit.offered(world, agent)
    before = await kit.everything(world)
    with pytest.raises(NotFound):
        await kit.send_csr(world, other, item)
    assert await kit.everything(world) == before


async def submit(world: World, agent: kit.Actor, csr: kit.wire.CsrSubmission) -> str:
    return await kit.fleet.submit_csr(world.platform, agent, agent.agent_id or "", csr)


async def test_the_same_csr_again_is_accepted_and_another_is_not(world: World) -> None:
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    (item,) = await kit.offered(world, agent)
    csr = kit.wire.CsrSubmission(csr_pem=kit.a_csr("a.example.test"), job_id=item.id)
    other = csr.model_copy(update={"csr_pem": kit.a_csr("a.example.test", key=kit.a_key(5))})
    await submit(world, agent, csr)
    before = await kit.everything(world)
    assert await submit(world, agent, csr) == "csr_accepted"
    with pytest.raises(Conflict, match="takes no other CSR"):
        await submit(world, agent, other)
    assert await kit.everything(world) == before


async def test_old_jobs_are_forgotten_and_their_versions_stay(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await kit.change(world, "UPDATE jobs SET completed_at = now() - interval '91 days'")
    assert await sweep.prune(world.platform) == 1
    assert await kit.jobs_of(world, row["id"]) == []
    assert len(await kit.versions_of(world, row["id"])) == 1
