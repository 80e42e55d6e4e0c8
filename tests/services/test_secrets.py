"""Secrets at rest: one passphrase, one data key, and rows that open nowhere but in their place."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from certctl.domain.errors import Unsafe
from certctl.pki.keys import load_der
from certctl.pki.sealing import DataKey, Place
from certctl.services import firststart, plain, sealing
from certctl.store import secrets as store
from certctl.store.db import Database
from tests import kit
from tests.conftest import PASSPHRASE, World, open_world
from tests.sealed import sealed


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
    first = await sealing.open_keyring(empty, PASSPHRASE)
    assert (await sealing.open_keyring(empty, PASSPHRASE)).current == first.current


async def test_the_data_key_is_stored_only_under_the_passphrase_in_format_3(
    empty: Database,
) -> None:
    key = (await sealing.open_keyring(empty, PASSPHRASE)).current
    (blob,) = await stored(empty)
    assert blob[0] == 0x03
    assert key._key not in blob


async def test_replicas_that_start_together_make_one_data_key(empty: Database) -> None:
    rings = await asyncio.gather(*(sealing.open_keyring(empty, PASSPHRASE) for _ in range(3)))
    assert rings[0].current == rings[1].current == rings[2].current
    assert len(await stored(empty)) == 1


async def test_another_passphrase_stops_the_start_with_words(empty: Database) -> None:
    await sealing.open_keyring(empty, PASSPHRASE)
    before = await stored(empty)
    with pytest.raises(Unsafe, match="CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database"):
        await sealing.open_keyring(empty, b"another passphrase")
    assert await stored(empty) == before


async def put_sealed(world: World, blob: bytes) -> None:
    async with world.platform.db.transaction() as tx:
        await store.put_config(tx, "issuers", "iss-local", sealed=blob)


async def started(world: World, database: str) -> AsyncIterator[World]:
    """The platform as a start opens it."""
    ring = await sealing.open_keyring(world.platform.db, PASSPHRASE)
    async for opened in open_world(database, ring):
        yield opened


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_configuration_that_an_earlier_certctl_sealed_is_read(
    world: World, database: str, version: int
) -> None:
    await put_sealed(world, sealed(version, PASSPHRASE, b'{"validity_days": 30}'))
    async for restarted in started(world, database):
        on = restarted.platform
        async with on.db.read() as session:
            config = await plain.whole_config(on, session, plain.ISSUERS, "iss-local")
        assert config == {"validity_days": 30}


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_what_an_earlier_certctl_sealed_under_another_passphrase_stops_the_start(
    world: World, version: int
) -> None:
    await put_sealed(world, sealed(version, b"a passphrase of another time, long ago", b"{}"))
    with pytest.raises(Unsafe, match=r"does not open issuers\.sealed_config of iss-local"):
        await sealing.open_keyring(world.platform.db, PASSPHRASE)


async def test_a_database_with_sealed_rows_of_an_earlier_certctl_alone_is_taken_over(
    empty: Database,
) -> None:
    async with empty.transaction() as tx:
        await tx.run("INSERT INTO issuers (id, name, type) VALUES ('iss-x', 'x', 'GenericCA')")
        blob = sealed(3, PASSPHRASE, b"{}")
        await store.put_config(tx, "issuers", "iss-x", sealed=blob)
    async with empty.read() as session:
        assert not await store.is_empty(session)
    with pytest.raises(Unsafe, match="earlier certctl"):
        await sealing.open_keyring(empty, b"a passphrase of another time, long ago")
    assert await stored(empty) == []
    ring = await sealing.open_keyring(empty, PASSPHRASE)
    assert ring.unseal(blob, Place("issuers", "sealed_config", "iss-x")) == b"{}"


async def test_one_start_derives_one_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    derive = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *a: derived.append(a[3]) or derive(*a))
    ring = await sealing.open_keyring(world.platform.db, PASSPHRASE)
    for row in await kit.rows(world, "SELECT id, sealed_key FROM authorities"):
        ring.unseal(bytes(row["sealed_key"]), Place("authorities", "sealed_key", row["id"]))
    assert derived == [600_000]


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
