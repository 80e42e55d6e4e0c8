"""Revocation: every version that still counts, told once, and in one order with issuance."""

from __future__ import annotations

import asyncio

import pytest

from certctl.domain.access import EVERYTHING
from certctl.domain.errors import Conflict
from certctl.domain.revocation import Reason
from certctl.services import issue, revoke
from certctl.store import certificates as rows
from certctl.store import jobs
from tests import kit
from tests.conftest import World


async def test_a_revocation_covers_every_unexpired_version_and_ends_what_is_under_way(
    world: World,
) -> None:
    certificate_id, first, second = await kit.held_by_two(world)
    await kit.issue_to(world, first, second)
    await kit.renew_now(world, certificate_id)
    await kit.issue_to(world, first)
    count = await revoke.one(
        world.platform, kit.ADMIN, certificate_id, reason=Reason.KEY_COMPROMISE
    )
    versions = await kit.versions_of(world, certificate_id)
    assert count == len(versions) == 3
    assert all(each["revoked_at"] and not each["live"] for each in versions)
    told = await kit.rows(world, "SELECT serial_number, reason FROM certificate_revocations")
    assert {row["serial_number"] for row in told} == {row["serial_number"] for row in versions}
    assert {row["reason"] for row in told} == {"keyCompromise"}
    open_jobs = [
        each["status"]
        for each in await kit.jobs_of(world, certificate_id)
        if each["status"] not in {"Completed", "Cancelled"}
    ]
    assert open_jobs == []
    assert await kit.offered(world, first) == []


async def test_an_expired_version_is_not_revoked(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await kit.change(
        world, "UPDATE certificate_versions SET not_after = now() - interval '1 second'"
    )
    assert await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.SUPERSEDED) == 0


async def test_a_certificate_without_a_version_cannot_be_revoked(world: World) -> None:
    row = await kit.order(world)
    before = await kit.everything(world)
    with pytest.raises(Conflict, match="no version to revoke"):
        await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.UNSPECIFIED)
    assert await kit.everything(world) == before


async def test_a_revocation_is_told_once(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.UNSPECIFIED)
    before = await kit.everything(world)
    with pytest.raises(Conflict, match="revoked already"):
        await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.KEY_COMPROMISE)
    assert await kit.everything(world) == before


async def test_a_revoked_certificate_is_not_renewed(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.UNSPECIFIED)
    with pytest.raises(Conflict, match="is Revoked and cannot be renewed"):
        await kit.renew_now(world, row["id"], csr_pem=kit.a_csr())


async def test_a_revocation_while_a_version_is_recorded_does_not_wait_in_a_circle(
    world: World,
) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    (renewal,) = await kit.offered(world, served.agent)
    await kit.send_csr(world, served.agent, renewal)
    running, gate = await kit.at_the_gate(world, renewal.id)
    async with asyncio.timeout(20):
        async with world.platform.db.transaction() as tx:
            await rows.lock(tx, served.id, within=EVERYTHING)
            gate.leave.set()
            while not await kit.value(world, WAITING):
                await asyncio.sleep(0.01)
            # Shorter than the database takes to find a circle and to break it.
            await tx.run("SET LOCAL lock_timeout = '300ms'")
            await jobs.cancel_open(tx, [served.id], why="revoked")
        assert not await running
    assert (await kit.job(world, renewal.id))["status"] == "Cancelled"
    assert len(await kit.versions_of(world, served.id)) == 1


WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def test_a_revocation_and_the_recording_of_a_version_have_one_order(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    (renewal,) = await kit.offered(world, served.agent)
    await kit.send_csr(world, served.agent, renewal)
    recorded, revoked = await asyncio.gather(
        issue.run(world.platform, renewal.id),
        revoke.one(world.platform, kit.ADMIN, served.id, reason=Reason.UNSPECIFIED),
    )
    assert revoked == (2 if recorded else 1)
    versions = await kit.versions_of(world, served.id)
    assert len(versions) == revoked
    assert all(each["revoked_at"] for each in versions)
