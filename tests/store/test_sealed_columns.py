"""Every sealed column is known to the rotation and guarded by the database."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Conflict, Unavailable
from certctl.pki.sealing import DataKey
from certctl.services import sealing
from certctl.store import secrets
from tests import kit
from tests.conftest import World
from tests.store.running import run

SEALED = """SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = 'public' AND data_type = 'bytea' AND column_name LIKE 'sealed%'
              AND table_name <> 'sealing_keys'"""
GUARDED = """SELECT c.conrelid::regclass::text, a.attname
             FROM pg_constraint c JOIN pg_attribute a
               ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
             WHERE c.contype = 'f' AND c.confrelid = 'sealing_keys'::regclass
               AND a.attgenerated = 's'"""


def test_every_sealed_column_is_in_the_registry(empty_database: str) -> None:
    registry = {(column.table, column.name) for column in secrets.SEALED}
    assert set(run(empty_database, SEALED)) == registry


def test_every_sealed_column_names_its_key_by_a_foreign_key(empty_database: str) -> None:
    registry = {(column.table, column.under) for column in secrets.SEALED}
    assert set(run(empty_database, GUARDED)) == registry


async def test_a_key_that_a_value_is_under_cannot_be_removed(world: World) -> None:
    with pytest.raises(Conflict, match="still in use"):
        await kit.change(world, "DELETE FROM sealing_keys")


async def test_a_value_under_a_key_that_is_gone_is_refused_for_another_try(world: World) -> None:
    column = secrets.Column("issuers", "sealed_config")
    gone = DataKey.successor().seal(b"{}", sealing.place(column, "iss-local"))
    with pytest.raises(Unavailable, match="has been replaced"):
        async with world.platform.db.transaction() as tx:
            await secrets.put_config(tx, "issuers", "iss-local", sealed=gone)


async def test_the_census_tells_each_column_by_key_and_version(world: World) -> None:
    await kit.change(world, "UPDATE jobs SET sealed_key = NULL")
    await kit.change(
        world, "UPDATE issuers SET sealed_config = decode('03' || repeat('00', 60), 'hex')"
    )
    async with world.platform.db.read() as session:
        found = {
            (row["table"], row["column"], row["under"]): row["rows"]
            for row in await secrets.census(session)
        }
    assert found[("authorities", "sealed_key", "key data")] == 2
    assert found[("issuers", "sealed_config", "passphrase, v3")] == 1
    assert not any(table == "jobs" for table, _, _ in found)
