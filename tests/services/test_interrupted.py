"""Issuance that is interrupted, run twice or overtaken: one version, and no unknown certificate."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from cryptography import x509 as cx509

from certctl.domain.errors import Unavailable
from certctl.domain.revocation import Reason
from certctl.pki.keys import Signer
from certctl.services import certificates, issue, revoke, sweep
from tests import kit
from tests.conftest import World


async def killed_before_signing(world: World, job_id: str) -> None:
    run, gate = await kit.at_the_gate(world, job_id)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    gate.leave.set()


async def lease_ends(world: World) -> None:
    await kit.change(world, "UPDATE jobs SET leased_until = now() - interval '1 second'")
    await sweep.sweep(world.platform)


async def a_due_issuance(world: World) -> tuple[str, str]:
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    return row["id"], await kit.job_of(world, row["id"])


async def intents(world: World, job_id: str) -> list[tuple[str, str]]:
    found = await kit.rows(
        world,
        "SELECT serial_number, state FROM issuances WHERE job_id = %(id)s ORDER BY created_at",
        id=job_id,
    )
    return [(row["serial_number"], row["state"]) for row in found]


async def test_what_is_to_be_signed_is_recorded_before_the_signature(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    run, gate = await kit.at_the_gate(world, job_id)
    tbs = await kit.value(world, "SELECT tbs_der FROM issuances WHERE job_id = %(id)s", id=job_id)
    assert [state for _, state in await intents(world, job_id)] == ["intended"]
    gate.leave.set()
    assert await run
    assert gate.signed == [tbs]
    assert [state for _, state in await intents(world, job_id)] == ["issued"]


async def test_an_interrupted_run_goes_on_with_the_same_serial_and_the_same_bytes(
    world: World,
) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await killed_before_signing(world, job_id)
    ((serial, _),) = await intents(world, job_id)
    drafted = await kit.value(
        world, "SELECT tbs_der FROM issuances WHERE job_id = %(id)s", id=job_id
    )
    await lease_ends(world)
    assert await issue.run(world.platform, job_id)
    (version,) = await kit.versions_of(world, certificate_id)
    leaf = cx509.load_pem_x509_certificates(version["pem_chain"].encode())[0]
    assert version["serial_number"] == serial
    assert leaf.tbs_certificate_bytes == drafted
    assert await intents(world, job_id) == [(serial, "issued")]


async def test_a_signature_made_twice_is_the_same_certificate(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    made: list[bytes] = []

    def lost(signer: Signer, data: bytes) -> bytes:
        made.append(signer.sign(data))
        raise Unavailable("the answer of the key's home was lost")

    assert not await issue.run(kit.with_signer(world, lost), job_id)
    await kit.change(world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(world.platform, job_id)
    (version,) = await kit.versions_of(world, certificate_id)
    leaf = cx509.load_pem_x509_certificates(version["pem_chain"].encode())[0]
    assert leaf.signature == made[0]


async def test_a_key_that_does_not_answer_is_asked_again_with_backoff_and_then_not(
    world: World,
) -> None:
    certificate_id, job_id = await a_due_issuance(world)

    def away(signer: Signer, data: bytes) -> bytes:
        raise Unavailable("the key's home does not answer")

    platform, seen = kit.with_signer(world, away), []
    for _ in range((await kit.job(world, job_id))["max_attempts"]):
        await kit.change(world, "UPDATE jobs SET scheduled_at = now()")
        assert not await issue.run(platform, job_id)
        job = await kit.job(world, job_id)
        seen.append(job["status"])
        if job["status"] == "Pending":
            wait = await kit.value(world, "SELECT scheduled_at - now() FROM jobs")
            assert wait > timedelta(seconds=3)
            assert not await issue.run(platform, job_id)
    assert seen == ["Pending"] * (len(seen) - 1) + ["Failed"]
    assert [state for _, state in await intents(world, job_id)] == ["closed"]
    row = await kit.certificate(world, certificate_id)
    assert (row["status"], row["last_error"]) == ("Failed", "the key's home does not answer")


async def test_a_run_that_was_overtaken_records_nothing(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    slow, gate = await kit.at_the_gate(world, job_id)
    await lease_ends(world)
    assert await issue.run(world.platform, job_id)
    before = await kit.everything(world)
    gate.leave.set()
    assert not await slow
    assert await kit.everything(world) == before
    assert len(await kit.versions_of(world, certificate_id)) == 1


async def test_an_overtaken_run_that_ends_first_leaves_the_job_to_the_other(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    slow, slow_gate = await kit.at_the_gate(world, job_id)
    await lease_ends(world)
    other, other_gate = await kit.at_the_gate(world, job_id)
    slow_gate.leave.set()
    assert not await slow
    assert (await kit.job(world, job_id))["status"] == "Running"
    other_gate.leave.set()
    assert await other
    assert len(await kit.versions_of(world, certificate_id)) == 1


async def test_a_run_whose_lease_lapsed_does_not_record_for_the_next(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    slow, gate = await kit.at_the_gate(world, job_id)
    await lease_ends(world)
    gate.leave.set()
    assert not await slow
    assert (await kit.job(world, job_id))["status"] == "Pending"
    assert await issue.run(world.platform, job_id)
    assert len(await kit.versions_of(world, certificate_id)) == 1


async def test_of_many_runs_of_a_job_one_issues(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    ended = await asyncio.gather(*(issue.run(world.platform, job_id) for _ in range(6)))
    assert sorted(ended) == [False] * 5 + [True]
    assert len(await kit.versions_of(world, certificate_id)) == 1
    assert [state for _, state in await intents(world, job_id)] == ["issued"]


async def test_a_certificate_revoked_while_it_is_being_signed_does_not_come_alive(
    world: World,
) -> None:
    row = await kit.an_issued_certificate(world)
    (job_id,) = await kit.renew_now(world, row["id"], csr_pem=kit.a_csr("a.example.test"))
    run, gate = await kit.at_the_gate(world, job_id)
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.KEY_COMPROMISE)
    gate.leave.set()
    assert not await run
    assert [each["live"] for each in await kit.versions_of(world, row["id"])] == [False]
    assert (await kit.certificate(world, row["id"]))["status"] == "Revoked"


async def test_an_intent_that_nobody_comes_back_to_is_closed_in_time(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await killed_before_signing(world, job_id)
    await certificates.archive(world.platform, kit.ADMIN, certificate_id)
    await kit.change(world, "UPDATE issuances SET created_at = now() - interval '1 day'")
    await sweep.prune(world.platform)
    assert [state for _, state in await intents(world, job_id)] == ["closed"]


async def test_an_intent_that_its_job_will_come_back_to_stays_open(world: World) -> None:
    _, job_id = await a_due_issuance(world)
    await killed_before_signing(world, job_id)
    await kit.change(world, "UPDATE issuances SET created_at = now() - interval '1 day'")
    await sweep.prune(world.platform)
    assert [state for _, state in await intents(world, job_id)] == ["intended"]


async def test_a_certificate_changed_after_its_draft_is_drafted_anew(world: World) -> None:
    certificate_id, job_id = await a_due_issuance(world)
    await killed_before_signing(world, job_id)
    await lease_ends(world)
    await certificates.update(
        world.platform, kit.ADMIN, certificate_id, changes={"sans": ["new.example.test"]}
    )
    assert await issue.run(world.platform, job_id)
    (version,) = await kit.versions_of(world, certificate_id)
    assert version["sans"] == ["a.example.test", "new.example.test"]
    assert [state for _, state in await intents(world, job_id)] == ["closed", "issued"]


async def test_a_certificate_changed_while_it_is_being_signed_is_issued_and_found_due(
    world: World,
) -> None:
    served = await kit.a_served_certificate(world)
    (job_id,) = await kit.renew_now(world, served.id)
    (item,) = await kit.offered(world, served.agent)
    await kit.send_csr(world, served.agent, item)
    run, gate = await kit.at_the_gate(world, job_id)
    await certificates.update(
        world.platform, kit.ADMIN, served.id, changes={"sans": ["new.example.test"]}
    )
    gate.leave.set()
    assert await run
    assert await kit.renew.find_due(world.platform) == 1
