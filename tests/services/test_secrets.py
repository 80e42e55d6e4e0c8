"""Secrets at rest: one passphrase, one data key, and rows that open nowhere but in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from certctl.domain.errors import Unsafe
from certctl.pki.keys import load_der
from certctl.pki.sealing import DataKey, Place
from certctl.services import firststart
from certctl.store.db import Database
from tests import kit
from tests.conftest import PASSPHRASE, World, open_world


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Database]:
    db = Database(empty_database, max_size=4)
    await db.open()
    yield db
    await db.close()


async def stored(db: Database) -> list[bytes]:
    async with db.read() as session:
        return [bytes(row["sealed"]) for row in await session.all("SELECT * FROM sealing_keys")]


async def test_the_data_key_is_made_once_and_opens_again(empty: Database) -> None:
    first = await firststart.open_data_key(empty, PASSPHRASE)
    assert await firststart.open_data_key(empty, PASSPHRASE) == first


async def test_the_data_key_is_stored_only_under_the_passphrase_in_format_3(
    empty: Database,
) -> None:
    key = await firststart.open_data_key(empty, PASSPHRASE)
    (blob,) = await stored(empty)
    assert blob[0] == 0x03
    assert key._key not in blob


async def test_replicas_that_start_together_make_one_data_key(empty: Database) -> None:
    keys = await asyncio.gather(*(firststart.open_data_key(empty, PASSPHRASE) for _ in range(3)))
    assert keys[0] == keys[1] == keys[2]
    assert len(await stored(empty)) == 1


async def test_another_passphrase_stops_the_start_with_words(empty: Database) -> None:
    await firststart.open_data_key(empty, PASSPHRASE)
    before = await stored(empty)
    with pytest.raises(Unsafe, match="CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database"):
        await firststart.open_data_key(empty, b"another passphrase")
    assert await stored(empty) == before


async def test_sealed_rows_without_their_data_key_stop_the_start(world: World) -> None:
    await kit.change(world, "DELETE FROM sealing_keys")
    with pytest.raises(Unsafe, match="no data key"):
        await firststart.open_data_key(world.platform.db, PASSPHRASE)


async def test_a_key_moved_to_another_row_does_not_open(world: World) -> None:
    cas = await kit.rows(world, "SELECT id, sealed_key FROM authorities ORDER BY id")
    for here, there in (cas, reversed(cas)):
        with pytest.raises(Unsafe, match=f"sealed_key of {there['id']} does not open"):
            world.platform.data_key.unseal(
                here["sealed_key"], Place("authorities", "sealed_key", there["id"])
            )


async def test_a_ca_key_swapped_for_another_signs_nothing(
    world: World, database: str, ready_template: tuple[str, DataKey]
) -> None:
    await kit.change(
        world,
        """UPDATE authorities a SET sealed_key = b.sealed_key FROM authorities b
           WHERE a.parent_id IS NOT NULL AND b.parent_id IS NULL""",
    )
    async for restarted in open_world(database, ready_template[1]):
        row = await kit.order(restarted, csr_pem=kit.a_csr("a.example.test"))
        job_id = await kit.job_of(restarted, row["id"])
        assert not await kit.issue.run(restarted.platform, job_id)
        job = await kit.job(restarted, job_id)
        assert job["status"] == "Failed"
        assert "does not open" in job["last_error"]
        assert await kit.versions_of(restarted, row["id"]) == []


async def test_no_private_key_stands_in_the_database_unsealed(world: World) -> None:
    cas = await kit.rows(world, "SELECT id, sealed_key, t::text AS everything FROM authorities t")
    for ca in cas:
        place = Place("authorities", "sealed_key", ca["id"])
        key = load_der(world.platform.data_key.unseal(bytes(ca["sealed_key"]), place))
        assert isinstance(key, EllipticCurvePrivateKey)
        assert bytes(ca["sealed_key"]).hex() in ca["everything"]
        assert f"{key.private_numbers().private_value:064x}" not in ca["everything"]


async def test_the_first_start_can_be_interrupted_and_repeated(world: World) -> None:
    before = await kit.rows(world, "SELECT id, cert_der FROM authorities ORDER BY id")
    await firststart.defaults(world.platform)
    await firststart.authorities(world.platform)
    assert await kit.rows(world, "SELECT id, cert_der FROM authorities ORDER BY id") == before


async def test_a_default_that_was_deleted_stays_deleted(world: World) -> None:
    await kit.a_policy(world)
    await kit.change(world, "DELETE FROM renewal_policies WHERE id = 'rp-default'")
    await firststart.defaults(world.platform)
    found = await kit.rows(world, "SELECT name FROM renewal_policies")
    assert [row["name"] for row in found] == ["other policy"]
