"""Issuances that are due together are carried out together, and each ends for itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from certctl.connectors.issuer import Order
from certctl.connectors.issuers.local import Authority, LocalCA
from certctl.domain.errors import Unavailable
from certctl.domain.names import parse_names
from certctl.pki import x509
from certctl.pki.keys import KeySigner, Signer
from certctl.services import blocked, issue, plain, sweep
from tests import kit
from tests.conftest import World

LIVE = "SELECT count(*) FROM certificate_versions WHERE live"


async def due(world: World, count: int, **changes: object) -> list[str]:
    """The jobs of so many certificates whose CSRs are there."""
    jobs = []
    for n in range(count):
        name = f"n{n}.example.test"
        row = await kit.order(
            world, name=name, common_name=name, csr_pem=kit.a_csr(name, key=kit.a_key(n)), **changes
        )
        jobs.append(await kit.job_of(world, row["id"]))
    return jobs


async def statuses(world: World) -> list[str]:
    return [row["status"] for row in await kit.rows(world, "SELECT status FROM jobs ORDER BY id")]


async def test_what_is_due_beside_a_job_is_carried_out_with_it(world: World) -> None:
    first, *_ = await due(world, 5)
    assert await issue.run(world.platform, first)
    assert await statuses(world) == ["Completed"] * 5
    found = await kit.rows(
        world,
        """SELECT c.status, c.expires_at = v.not_after AS ends,
                  c.common_name = ANY(v.sans) AS named, c.last_renewal_at IS NOT NULL AS new,
                  i.state, e.details ->> 'serial_number' = v.serial_number AS told
           FROM managed_certificates c JOIN certificate_versions v ON v.certificate_id = c.id
           JOIN issuances i ON i.serial_number = v.serial_number
           JOIN audit_events e ON e.resource_id = c.id AND e.action = 'certificate_issued'""",
    )
    assert [tuple(row.values()) for row in found] == [("Active", *[True] * 3, "issued", True)] * 5


async def test_those_that_are_refused_keep_nobody_from_it(world: World) -> None:
    jobs = await due(world, 5)
    lost = x509.read_csr((await kit.job(world, jobs[1]))["csr_pem"]).spki_sha256
    await blocked.block(world.platform, kit.ADMIN, spki_sha256=lost, reason="lost")
    other = kit.a_csr("other.example.test")
    await kit.change(world, "UPDATE jobs SET csr_pem = %(csr)s WHERE id = %(id)s",
                     csr=other, id=jobs[2])  # fmt: skip
    rule = {
        "name": "owner",
        "type": "RequiredMetadata",
        "config": {"required_keys": ["owner"]},
        "severity": "Error",
        "blocking": True,
    }
    await kit.change(world, """UPDATE managed_certificates SET tags = '{"owner": "web"}'
                     WHERE id <> (SELECT certificate_id FROM jobs WHERE id = %(id)s)""",
                     id=jobs[3])  # fmt: skip
    await plain.create(world.platform, kit.ADMIN, plain.POLICY_RULES, values=rule)
    assert await issue.run(world.platform, jobs[0])
    ended = {each: await kit.job(world, each) for each in jobs}
    assert [ended[each]["status"] for each in jobs] == [
        "Completed", "Failed", "Failed", "Failed", "Completed",
    ]  # fmt: skip
    assert "blocked" in ended[jobs[1]]["last_error"]
    assert "other.example.test" in ended[jobs[2]]["last_error"]
    assert ended[jobs[3]]["last_error"] == "policy owner: tags are missing: owner"
    assert await kit.value(world, LIVE) == 2


async def test_after_a_kill_all_go_on_with_the_serials_that_were_written_down(
    world: World,
) -> None:
    first, *others = await due(world, 4)
    with suppress(kit.Killed):
        await issue.run(kit.with_signer(world, kit.killed), first)
    drafted = "SELECT serial_number FROM issuances WHERE purpose = 'leaf' ORDER BY 1"
    before = await kit.rows(world, drafted)
    assert len(before) == 4
    await kit.change(world, "UPDATE jobs SET leased_until = now() - interval '1 second'")
    await sweep.sweep(world.platform)
    assert await issue.run(world.platform, others[-1])
    assert await statuses(world) == ["Completed"] * 4
    assert await kit.rows(world, drafted) == before
    issued = "SELECT serial_number FROM certificate_versions ORDER BY 1"
    assert await kit.rows(world, issued) == before


async def test_of_many_runs_at_once_each_job_is_one_s(world: World) -> None:
    jobs = await due(world, 12)
    await asyncio.gather(*(issue.run(world.platform, each) for each in jobs))
    while "Pending" in await statuses(world):
        await asyncio.gather(*(issue.run(world.platform, each) for each in jobs))
    assert await statuses(world) == ["Completed"] * 12
    assert await kit.value(world, "SELECT count(*) FROM certificate_versions") == 12
    intents = "SELECT count(*) FROM issuances WHERE purpose = 'leaf'"
    assert await kit.value(world, intents) == 12


async def test_nobody_waits_for_a_certificate_that_somebody_else_is_changing(
    world: World,
) -> None:
    first, held, last = await due(world, 3)
    certificate_id = (await kit.job(world, held))["certificate_id"]
    async with world.platform.db.transaction() as tx:
        await tx.run(
            "SELECT FROM managed_certificates WHERE id = %(id)s FOR UPDATE", id=certificate_id
        )
        assert await asyncio.wait_for(issue.run(world.platform, first), 10)
        assert (await kit.job(world, last))["status"] == "Completed"
        assert (await kit.job(world, held))["status"] == "Pending"
    assert await issue.run(world.platform, held)


async def test_each_holder_of_a_certificate_gets_its_version_and_its_deployment(
    world: World,
) -> None:
    certificate_id, *agents = await kit.held_by_two(world)
    for agent in agents:
        for item in await kit.offered(world, agent):
            await kit.send_csr(world, agent, item)
    assert await issue.run(world.platform, await kit.job_of(world, certificate_id))
    versions = await kit.versions_of(world, certificate_id)
    assert {row["agent_id"] for row in versions if row["live"]} == {a.agent_id for a in agents}
    for agent in agents:
        (item,) = await kit.offered(world, agent)
        (own,) = [row for row in versions if row["agent_id"] == agent.agent_id]
        assert item.fingerprint_sha256 == own["fingerprint_sha256"]


async def test_what_waits_for_another_ca_or_for_an_approval_is_left_alone(world: World) -> None:
    other = {"id": "iss-two", "name": "two", "type": "GenericCA", "config": {}}
    await plain.create(world.platform, kit.ADMIN, plain.ISSUERS, values=other)
    (elsewhere,) = await due(world, 1, issuer_id="iss-two")
    name = "guarded.example.test"
    guarded = await kit.order(world, name=name, common_name=name, csr_pem=kit.a_csr(name))
    own = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    profile = await kit.a_profile(world, requires_approval=True)
    await kit.change(
        world,
        "UPDATE managed_certificates SET certificate_profile_id = %(profile)s WHERE id = %(id)s",
        profile=profile,
        id=guarded["id"],
    )
    assert await issue.run(world.platform, await kit.job_of(world, own["id"]))
    assert (await kit.job(world, elsewhere))["status"] == "Pending"
    waiting = await kit.job(world, await kit.job_of(world, guarded["id"]))
    assert waiting["status"] == "AwaitingApproval"


async def test_a_key_that_does_not_answer_is_not_asked_for_the_rest() -> None:
    signer, asked = KeySigner(ec.generate_private_key(ec.SECP256R1())), []

    def away(_: Signer, data: bytes) -> bytes:
        asked.append(data)
        raise Unavailable("the key's home does not answer")

    def ca(by: Signer, cert_der: bytes | None) -> LocalCA:
        base = "http://ca.example.test"
        clock = lambda: datetime.now(UTC)  # noqa: E731
        return LocalCA(Authority("ica-1", cert_der, by, asyncio.to_thread, (), base, clock))

    names = parse_names(["a.example.test"])
    root = Order((), "root", signer.public_key, timedelta(days=9), purpose="ca", path_length=0)
    own = await ca(signer, None).issue(root)
    watched = ca(kit.Watched(signer, away), own.cert_der)
    leaf = Order(names, "a.example.test", kit.a_key().public_key(), timedelta(days=1))
    drafts = [await watched.prepare(leaf) for _ in range(3)]
    outcomes = await watched.complete_many(drafts)
    assert [type(each) for each in outcomes] == [Unavailable] * 3
    assert len(asked) == 1
