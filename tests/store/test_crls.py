"""CRL numbers only grow, and a revocation during a build is never lost."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509

from certctl.domain.revocation import Reason
from certctl.services import crls, revoke
from certctl.store import crls as stored
from tests import kit
from tests.conftest import World


@pytest.fixture
async def ca_id(world: World) -> str:
    return str(await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NOT NULL"))


async def test_refreshes_at_the_same_time_never_use_a_number_twice(
    world: World, ca_id: str
) -> None:
    made = await asyncio.gather(*(crls.refresh(world.platform, ca_id) for _ in range(6)))
    numbers = [each.number for each in made]
    kept = await kit.value(world, "SELECT number FROM crls WHERE authority_id = %(id)s", id=ca_id)
    assert len(set(numbers)) == len(numbers)
    assert kept == max(numbers)


async def test_an_older_crl_does_not_replace_a_newer_one(world: World, ca_id: str) -> None:
    newest = await crls.refresh(world.platform, ca_id)
    async with world.platform.db.transaction() as tx:
        older = {**vars(newest), "number": newest.number - 1, "der": b"older"}
        await stored.put(tx, ca_id, 0, covers=99, entries=0, build_seconds=0, **older)
    kept = await kit.rows(world, "SELECT * FROM crls WHERE authority_id = %(id)s", id=ca_id)
    assert (kept[0]["number"], kept[0]["der"]) == (newest.number, newest.der)


async def test_a_revocation_that_commits_during_a_build_leaves_the_crl_stale(
    world: World, ca_id: str
) -> None:
    row = await kit.an_issued_certificate(world)
    built = await crls.refresh(world.platform, ca_id)
    async with world.platform.db.transaction() as tx:
        reserved = await stored.reserve(tx, ca_id, 0, only_if_due=False)
    assert reserved is not None
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.UNSPECIFIED)
    async with world.platform.db.transaction() as tx:
        late = {**vars(built), "number": reserved["number"], "covers": reserved["changes"]}
        await stored.put(tx, ca_id, 0, entries=0, build_seconds=0, **late)
    async with world.platform.db.read() as session:
        kept = await stored.newest(session, ca_id, 0)
    assert kept is not None
    assert kept["is_due"]


async def test_a_build_waits_for_a_revocation_that_has_not_committed(
    world: World, ca_id: str
) -> None:
    row = await kit.an_issued_certificate(world)
    version = (await kit.versions_of(world, row["id"]))[0]
    async with world.platform.db.transaction() as tx:
        await stored.mark_stale(tx, [(ca_id, 0)])
        building = asyncio.create_task(crls.refresh(world.platform, ca_id))
        await waiting_for_a_lock(world)
        await tx.run(
            """INSERT INTO certificate_revocations
                   (id, issuer_id, authority_id, serial_number, reason, revoked_by, not_after)
               VALUES ('rev-1', 'iss-local', %(ca)s, %(serial)s, 'superseded', 'test',
                   now() + interval '1 day')""",
            ca=ca_id,
            serial=version["serial_number"],
        )
    crl = x509.load_der_x509_crl((await building).der)
    assert [format(each.serial_number, "x") for each in crl] == [version["serial_number"]]


async def waiting_for_a_lock(world: World) -> None:
    async with asyncio.timeout(10):
        while not await kit.value(
            world,
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()",
        ):
            await asyncio.sleep(0.01)


async def test_an_expired_certificate_stays_on_one_crl_beyond_its_end(
    world: World, ca_id: str
) -> None:
    row = await kit.an_issued_certificate(world)
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.UNSPECIFIED)
    await crls.refresh(world.platform, ca_id)
    await kit.change(
        world,
        "UPDATE crls SET this_update = now() - interval '1 hour' WHERE authority_id = %(id)s",
        id=ca_id,
    )
    await kit.change(
        world, "UPDATE certificate_revocations SET not_after = now() - interval '1 minute'"
    )
    counts = []
    for _ in range(2):
        made = await crls.refresh(world.platform, ca_id)
        counts.append(len(x509.load_der_x509_crl(made.der)))
    assert counts == [1, 0]
