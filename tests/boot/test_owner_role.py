"""The server as a role that owns nothing: it works, and the audit trail is out of its reach."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from certctl.boot.platform import bring_up_to_date
from certctl.domain.errors import Unavailable, Unsafe
from certctl.services import checkpoints, firststart, issue, renew, sealing, sweep, trail
from certctl.store.backup import backup, restore
from certctl.store.db import Database
from certctl.store.grants import APPEND_ONLY
from tests import kit
from tests.audited import export, kept, seal_all
from tests.conftest import PASSPHRASE, World, open_world
from tests.store.running import run


@dataclass(frozen=True)
class Roles:
    """One database as its owner and as the server see it; `other` is another database."""

    admin: str
    owner: str
    server: str
    other: str
    names: tuple[str, str]


@pytest.fixture
def roles(postgres: str) -> Iterator[Roles]:
    tag = secrets.token_hex(4)
    owner, server, database = f"owner_{tag}", f"server_{tag}", f"roles_{tag}"
    run(
        postgres,
        f"CREATE ROLE {owner} LOGIN PASSWORD 'owner'",
        f"CREATE ROLE {server} LOGIN PASSWORD 'server'",
        f"CREATE DATABASE {database} OWNER {owner} TEMPLATE template0",
        f"CREATE DATABASE {database}_other OWNER {owner} TEMPLATE template0",
    )
    try:
        yield Roles(
            make_conninfo(postgres, dbname=database),
            make_conninfo(postgres, dbname=database, user=owner, password="owner"),
            make_conninfo(postgres, dbname=database, user=server, password="server"),
            make_conninfo(postgres, dbname=f"{database}_other", user=owner, password="owner"),
            (owner, server),
        )
    finally:
        run(
            postgres,
            f"DROP DATABASE {database} WITH (FORCE)",
            f"DROP DATABASE {database}_other WITH (FORCE)",
            f"DROP ROLE {server}",
            f"DROP ROLE {owner}",
        )


@asynccontextmanager
async def as_server(roles: Roles) -> AsyncIterator[World]:
    """The platform after its first start, as the server's role."""
    await bring_up_to_date(roles.server, roles.owner)
    db = Database(roles.server, max_size=2)
    await db.open()
    data_key = await sealing.open_keyring(db, PASSPHRASE)
    await db.close()
    async for world in open_world(roles.server, data_key):
        await firststart.defaults(world.platform)
        await firststart.authorities(world.platform)
        yield world


async def test_the_server_works_as_a_role_that_owns_nothing(roles: Roles) -> None:
    async with as_server(roles) as world:
        row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
        assert await issue.run(world.platform, await kit.job_of(world, row["id"]))
        assert (await kit.certificate(world, row["id"]))["status"] == "Active"
        await world.run_tasks()
        await sweep.sweep(world.platform)
        await renew.find_due(world.platform)
        await sweep.prune(world.platform)
        await seal_all(world)
        assert (await kept(world)).seal_number == 1
        assert await checkpoints.tick(world.platform) == 0
        assert await trail.verify(world.platform) == []
        assert await export(world)


async def test_what_the_servers_role_has_saved_comes_back_by_the_owner(
    roles: Roles, tmp_path: Path
) -> None:
    async with as_server(roles) as world:
        await seal_all(world)
        await kept(world)
    file, data_dir = tmp_path / "backup.tar", tmp_path / "data"
    await backup(roles.server, file, key_files=[])
    await restore(roles.owner, file, data_dir=data_dir, force=True)
    async with as_server(roles) as world:
        assert await trail.verify(world.platform) == []


A_COLUMN = {
    "audit_events": "actor",
    "audit_seals": "seal",
    "audit_checkpoints": "payload",
    "audit_checkpoint_keys": "public_key",
}
REFUSED = [
    *(
        statement.format(table=table, column=A_COLUMN[table])
        for table in APPEND_ONLY
        for statement in (
            "UPDATE {table} SET {column} = ''",
            "DELETE FROM {table}",
            "TRUNCATE {table} CASCADE",
            "ALTER TABLE {table} DISABLE TRIGGER USER",
            "ALTER TABLE {table} OWNER TO current_user",
            "DROP TABLE {table} CASCADE",
            "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION refuse_change()",
            "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
        )
    ),
    "SET session_replication_role = replica",
    "DROP FUNCTION refuse_change() CASCADE",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN RETURN NULL; END'",
    "SELECT setval('audit_sequence', 1)",
    "UPDATE schema_migrations SET name = ''",
    "CREATE TABLE public.mine (a int)",
]


async def test_postgresql_refuses_the_servers_role_every_way_to_change_the_trail(
    roles: Roles,
) -> None:
    async with as_server(roles):
        pass
    for table in APPEND_ONLY:
        run(roles.server, f"GRANT ALL ON {table} TO current_user")  # PostgreSQL warns, no more
    for statement in REFUSED:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(roles.server, statement)


async def test_a_second_start_grants_what_later_migrations_bring(roles: Roles) -> None:
    await bring_up_to_date(roles.server, roles.owner)
    run(roles.owner, "CREATE TABLE later (a int)")
    assert await bring_up_to_date(roles.server, roles.owner) == []
    run(roles.server, "INSERT INTO later VALUES (1)")


async def test_a_start_without_the_owner_needs_a_schema_that_is_up_to_date(roles: Roles) -> None:
    await bring_up_to_date(roles.server, roles.owner)
    assert await bring_up_to_date(roles.server) == []
    run(roles.owner, "DELETE FROM schema_migrations WHERE version > 6")
    with pytest.raises(Unsafe, match="`certctl migrate` with CERTCTL_DATABASE_OWNER_URL"):
        await bring_up_to_date(roles.server)


@pytest.mark.parametrize(
    "statement",
    ["ALTER ROLE {1} SUPERUSER", "GRANT {0} TO {1}", "ALTER TABLE audit_seals OWNER TO {1}"],
)
async def test_a_role_that_could_still_change_the_trail_stops_the_start(
    roles: Roles, statement: str
) -> None:
    await bring_up_to_date(roles.server, roles.owner)
    run(roles.admin, statement.format(*roles.names))
    with pytest.raises(Unsafe, match=f"the role {roles.names[1]} can still change audit_"):
        await bring_up_to_date(roles.server, roles.owner)


async def test_two_databases_are_refused(roles: Roles) -> None:
    with pytest.raises(Unsafe, match="two different databases"):
        await bring_up_to_date(roles.server, roles.other)


async def test_an_owner_that_cannot_be_reached_is_told_by_its_setting(roles: Roles) -> None:
    wrong = make_conninfo(roles.owner, password="wrong")
    with pytest.raises(Unavailable, match="CERTCTL_DATABASE_OWNER_URL"):
        await bring_up_to_date(roles.server, wrong)
