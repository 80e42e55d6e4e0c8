"""A certificate's life through the services: ordered, issued, deployed, renewed, archived."""

from __future__ import annotations

import asyncio

import pytest

from certctl.domain.errors import Conflict, Invalid
from certctl.pki import x509
from certctl.services import certificates, deploy, issue, renew
from tests import kit
from tests.conftest import World


async def test_an_order_with_a_target_ends_in_a_served_certificate(world: World) -> None:
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    row = await kit.order(world, sans=["b.example.test", "192.0.2.1"], target_ids=[target])
    assert (row["status"], row["target_ids"]) == ("Pending", [target])

    (wanted,) = await kit.offered(world, agent)
    assert (wanted.type, wanted.status) == ("Issuance", "AwaitingCSR")
    assert wanted.sans == ["a.example.test", "b.example.test", "192.0.2.1"]
    key = kit.a_key(1)
    await kit.send_csr(world, agent, wanted.model_copy(update={"sans": wanted.sans[:2]}), key=key)
    await world.run_tasks()

    (deployment,) = await kit.offered(world, agent)
    assert (deployment.type, deployment.status) == ("Deployment", "Running")
    assert deployment.target_config == kit.NGINX
    chain = x509.ders_of_pem(deployment.certificate_pem or "")
    facts = x509.facts(chain[0])
    assert [name.value for name in facts.names] == wanted.sans
    assert facts.fingerprint_sha256 == deployment.fingerprint_sha256
    assert len(chain) == 2
    await kit.deployed(world, agent, deployment)

    row = await kit.certificate(world, row["id"])
    assert (row["status"], row["last_error"]) == ("Active", None)
    assert row["expires_at"] == facts.not_after
    assert row["last_deployment_at"] is not None
    (outcome,) = await certificates.deployments(world.platform, kit.ADMIN, row["id"])
    assert (outcome["outcome"], outcome["version_id"]) == (
        "deployed",
        (await kit.versions_of(world, row["id"]))[0]["id"],
    )
    done = [each for each in await kit.actions(world) if not each.startswith("service_")]
    assert done[-5:] == [
        "certificate_created",
        "issuance_triggered",
        "csr_submitted",
        "certificate_issued",
        "deployment_completed",
    ]


async def test_every_kind_of_name_is_issued_as_written_and_not_found_due_at_once(
    world: World,
) -> None:
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    names = ["*.b.example.test", "2001:db8::1", "192.0.2.1", "localhost", "xn--bcher-kva.example"]
    row = await kit.order(world, sans=names, target_ids=[target])
    (item,) = await kit.offered(world, agent)
    await kit.send_csr(world, agent, item.model_copy(update={"sans": []}))
    assert await issue.run(world.platform, item.id)
    (version,) = await kit.versions_of(world, row["id"])
    assert set(version["sans"]) == {"a.example.test", *names}
    assert await renew.find_due(world.platform) == 0


async def test_an_order_with_a_csr_is_issued_for_that_key(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    (version,) = await kit.versions_of(world, row["id"])
    assert (row["status"], version["agent_id"]) == ("Active", None)
    wanted = x509.read_csr(kit.a_csr("a.example.test")).spki_sha256
    assert version["spki_sha256"] == wanted


async def test_an_order_without_a_key_holder_waits_without_a_job(world: World) -> None:
    row = await kit.order(world)
    assert row["status"] == "Pending"
    assert await kit.jobs_of(world, row["id"]) == []
    with pytest.raises(Conflict, match="bind a target or send csr_pem"):
        await kit.renew_now(world, row["id"])


REFUSED_CSRS = {
    "a name that nobody approved": (
        lambda: kit.a_csr("a.example.test", "evil.test"),
        "not approved: evil.test",
    ),
    "a common name that nobody approved": (
        lambda: kit.a_csr("a.example.test", common_name="evil.test"),
        "not approved: evil.test",
    ),
    "a weak key": (lambda: kit.a_csr("a.example.test", key=kit.a_weak_key()), "key of the request"),
    "no request": (lambda: "hello", "exactly one PEM"),
    "two requests": (lambda: kit.a_csr() * 2, "found 2"),
    "a signature by another key": (
        lambda: kit.a_forged_csr("a.example.test"),
        "not signed by the key",
    ),
}


@pytest.mark.parametrize("case", REFUSED_CSRS)
async def test_a_csr_that_is_refused_changes_nothing(world: World, case: str) -> None:
    make, words = REFUSED_CSRS[case]
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    await kit.order(world, target_ids=[target])
    (item,) = await kit.offered(world, agent)
    before = await kit.everything(world)
    csr = make()
    with pytest.raises(Invalid, match=words) as caught:
        await submit(world, agent, item.id, csr)
    assert caught.value.field == "csr_pem"
    assert await kit.everything(world) == before


async def submit(world: World, agent: kit.Actor, job_id: str, csr: str) -> None:
    submission = kit.wire.CsrSubmission(csr_pem=csr, job_id=job_id)
    await kit.fleet.submit_csr(world.platform, agent, agent.agent_id or "", submission)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 2048}]}, "allowed_key_algo"),
        ({"enabled": False}, "the profile is disabled"),
    ],
)
async def test_a_key_that_the_profile_does_not_allow_changes_nothing(
    world: World, rules: dict[str, object], words: str
) -> None:
    profile = await kit.a_profile(world, **rules)
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=words) as caught:
        await kit.order(world, certificate_profile_id=profile, csr_pem=kit.a_csr())
    assert caught.value.field == "csr_pem"
    assert await kit.everything(world) == before


async def test_names_that_the_profile_does_not_allow_are_refused_with_the_order(
    world: World,
) -> None:
    profile = await kit.a_profile(world, required_san_patterns=[r"[a-z]+\.allowed\.test"])
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=r"required_san_patterns: a\.example\.test") as caught:
        await kit.order(world, certificate_profile_id=profile)
    assert caught.value.field == "sans"
    assert await kit.everything(world) == before


async def test_a_renewal_asked_while_one_is_under_way_is_that_one(world: World) -> None:
    served = await kit.a_served_certificate(world)
    first = await kit.renew_now(world, served.id)
    assert await kit.renew_now(world, served.id) == first
    assert (await kit.certificate(world, served.id))["status"] == "RenewalInProgress"


async def test_renewals_asked_at_once_begin_one(world: World) -> None:
    served = await kit.a_served_certificate(world)
    asked = await asyncio.gather(*(kit.renew_now(world, served.id) for _ in range(4)))
    assert len({tuple(job_ids) for job_ids in asked}) == 1
    assert len(await kit.jobs_of(world, served.id)) == 3


async def test_a_renewal_makes_a_new_key_and_replaces_the_live_version(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    await kit.issue_to(world, served.agent)
    first, second = await kit.versions_of(world, served.id)
    assert (first["live"], second["live"]) == (False, True)
    assert first["serial_number"] != second["serial_number"]
    assert first["spki_sha256"] != second["spki_sha256"]
    assert (await kit.certificate(world, served.id))["status"] == "Active"


async def test_a_renewal_with_a_csr_is_for_that_key(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    csr = kit.a_csr("a.example.test", key=kit.a_key(7))
    (job_id,) = await kit.renew_now(world, row["id"], csr_pem=csr)
    assert await issue.run(world.platform, job_id)
    live = [each for each in await kit.versions_of(world, row["id"]) if each["live"]]
    assert [each["spki_sha256"] for each in live] == [x509.read_csr(csr).spki_sha256]


async def test_each_agent_has_its_own_key_and_live_version(world: World) -> None:
    certificate_id, first, second = await kit.held_by_two(world)
    await kit.issue_to(world, first, second)
    live = [each for each in await kit.versions_of(world, certificate_id) if each["live"]]
    assert {each["agent_id"] for each in live} == {first.agent_id, second.agent_id}
    assert len({each["spki_sha256"] for each in live}) == 2
    assert [item.type for item in await kit.offered(world, second)] == ["Deployment"]


async def test_a_certificate_waits_for_all_its_holders(world: World) -> None:
    certificate_id, first, second = await kit.held_by_two(world)
    await kit.issue_to(world, first)
    assert (await kit.certificate(world, certificate_id))["status"] == "Pending"
    await kit.issue_to(world, second)
    assert (await kit.certificate(world, certificate_id))["status"] == "Active"


@pytest.mark.parametrize("failing_first", [True, False])
async def test_the_error_of_one_holder_stays_visible_when_the_other_succeeds(
    world: World, failing_first: bool
) -> None:
    certificate_id, first, second = await kit.held_by_two(world)
    (item,) = await kit.offered(world, first)
    await kit.change(world, "UPDATE jobs SET max_attempts = 1")
    if not failing_first:
        await kit.issue_to(world, second)
    await kit.report(world, first, item.id, status="Failed", error="no entropy")
    if failing_first:
        await kit.issue_to(world, second)
    row = await kit.certificate(world, certificate_id)
    assert (row["status"], row["last_error"]) == ("Active", "no entropy")


async def test_an_archived_certificate_is_not_renewed_and_leaves_its_name(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    await certificates.archive(world.platform, kit.ADMIN, served.id)
    assert [each["status"] for each in await kit.jobs_of(world, served.id)][-1] == "Cancelled"
    with pytest.raises(Conflict, match="is Archived and cannot be renewed"):
        await kit.renew_now(world, served.id)
    successor = await kit.order(world)
    assert successor["name"] == "site"


async def test_a_name_in_use_is_refused_by_field(world: World) -> None:
    await kit.order(world)
    with pytest.raises(Conflict) as caught:
        await kit.order(world)
    assert caught.value.field == "name"


async def test_archiving_twice_is_archiving_once(world: World) -> None:
    row = await kit.order(world)
    for _ in range(2):
        await certificates.archive(world.platform, kit.ADMIN, row["id"])
    assert (await kit.actions(world)).count("certificate_archived") == 1


async def test_new_names_are_issued_by_the_renewal_that_they_cause(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await certificates.update(
        world.platform, kit.ADMIN, served.id, changes={"sans": ["new.example.test"]}
    )
    assert (await kit.jobs_of(world, served.id))[-1]["reason"] == "changed by admin"
    await kit.issue_to(world, served.agent)
    assert (await kit.versions_of(world, served.id))[-1]["sans"] == [
        "a.example.test",
        "new.example.test",
    ]
    assert await renew.find_due(world.platform) == 0


async def test_the_same_target_twice_is_one_target(world: World) -> None:
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    row = await kit.order(world, target_ids=[target, target])
    assert row["target_ids"] == [target]


async def test_a_live_version_is_deployed_again_on_demand(world: World) -> None:
    served = await kit.a_served_certificate(world)
    (job_id,) = await deploy.begin(world.platform, kit.ADMIN, served.id, target_id=served.target_id)
    (item,) = await kit.offered(world, served.agent)
    assert item.id == job_id


async def test_a_certificate_that_nobody_holds_cannot_be_deployed(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    with pytest.raises(Conflict, match="nothing to deploy"):
        await deploy.begin(world.platform, kit.ADMIN, row["id"], target_id=None)


async def test_only_a_bound_target_is_deployed_to(world: World) -> None:
    served = await kit.a_served_certificate(world)
    other = await kit.a_target(world, served.agent, name="other")
    with pytest.raises(Invalid) as caught:
        await deploy.begin(world.platform, kit.ADMIN, served.id, target_id=other)
    assert caught.value.field == "target_id"


async def test_a_newer_version_supersedes_deployments_that_nobody_has_begun(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    await kit.renew_now(world, row["id"])
    (renewal,) = [item for item in await kit.offered(world, agent) if item.type == "Renewal"]
    await kit.change(world, "UPDATE jobs SET status = 'Pending' WHERE type = 'Deployment'")
    await kit.send_csr(world, agent, renewal)
    assert await issue.run(world.platform, renewal.id)
    deployments = [j for j in await kit.jobs_of(world, row["id"]) if j["type"] == "Deployment"]
    assert [each["status"] for each in deployments] == ["Cancelled", "Pending"]
