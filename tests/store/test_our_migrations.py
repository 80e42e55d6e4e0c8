"""Our own migrations: stopped after any statement, and undone and done again with data."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from certctl.domain.errors import Invalid, Unsafe
from certctl.services import approve, authority, hierarchy, rollover, sweep
from certctl.store import migrate
from certctl.store.migrate import Migration
from tests import kit
from tests.conftest import World, a_clone
from tests.services.test_approvals import SECOND, guarded, the_approval
from tests.services.test_lint_waivers import CODE, MIXED, approved, blocks
from tests.store.running import create_database, run, schema


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


CAS = "SELECT id, parent_id FROM authorities"
LATER = migrate.known()[1:]
VERSIONS = [each.version for each in migrate.known()]


@pytest.mark.parametrize("migration", LATER, ids=lambda each: each.label)
async def test_a_migration_that_stopped_after_any_statement_is_finished_by_the_next_run(
    postgres: str, tmp_path: Path, migration: Migration
) -> None:
    """As a person leaves it who ran the file by hand, statement by statement."""
    before = create_database(postgres)
    await migrate.migrate(before, to=max(n for n in VERSIONS if n < migration.version))
    whole = create_database(postgres)
    await migrate.migrate(whole, to=migration.version)
    expected = schema(whole)
    steps = migrate.statements(migration.up.read_text())
    name = name_of(before)
    for done in range(1, len(steps) + 1):
        with a_clone(postgres, name) as half:
            run(half, *steps[:done])
            assert await migrate.migrate(half, to=migration.version) == [migration.version]
            assert schema(half) == expected


@pytest.mark.parametrize("migration", LATER, ids=lambda each: each.label)
async def test_an_undoing_that_stopped_after_any_statement_is_finished_by_the_next(
    postgres: str, migration: Migration
) -> None:
    before = max(n for n in VERSIONS if n < migration.version)
    whole = create_database(postgres)
    await migrate.migrate(whole, to=migration.version)
    expected = schema(whole)
    steps = migrate.statements(migration.down.read_text())
    for done in range(1, len(steps) + 1):
        with a_clone(postgres, name_of(whole)) as half:
            run(half, *steps[:done])
            assert await migrate.rollback(half, before) == [migration.version]
            assert await migrate.migrate(half, to=migration.version) == [migration.version]
            assert schema(half) == expected


async def test_what_is_there_survives_the_way_down_and_up_again(world: World) -> None:
    served = await kit.a_served_certificate(world)
    row = await guarded(world, name="guarded", csr_pem=kit.a_csr("a.example.test"))
    await approve.approve(world.platform, SECOND, await the_approval(world), note=None)
    await world.run_tasks()
    await guarded_and_waiting(world)
    await sweep.sweep(world.platform)
    whole = schema(world.conninfo)
    inventory = await kit.rows(world, "SELECT id, name, sans, tags FROM managed_certificates")
    await migrate.rollback(world.conninfo, 1)
    assert await migrate.migrate(world.conninfo) == [each.version for each in LATER]
    assert schema(world.conninfo) == whole
    assert inventory == await kit.rows(
        world, "SELECT id, name, sans, tags FROM managed_certificates"
    )
    assert (await kit.certificate(world, served.id))["status"] == "Active"
    assert len(await kit.versions_of(world, row["id"])) == 1
    assert (
        await kit.value(world, "SELECT count(*) FROM jobs WHERE status = 'AwaitingApproval'") == 0
    )


async def guarded_and_waiting(world: World) -> None:
    profile = await kit.value(world, "SELECT id FROM certificate_profiles WHERE requires_approval")
    await kit.order(
        world,
        name="waiting",
        certificate_profile_id=profile,
        csr_pem=kit.a_csr("a.example.test"),
    )


async def test_a_ca_whose_key_is_elsewhere_forbids_the_way_back(world: World) -> None:
    ca_id = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NOT NULL")
    moved = """UPDATE authorities SET sealed_key = NULL, key_home = 'pkcs11', key_reference = id,
                   public_key = %(key)s WHERE id = %(id)s"""
    with pytest.raises(Invalid, match="authorities_key_check"):
        await kit.change(world, moved, key=None, id=ca_id)
    await kit.change(world, moved, key=b"a public key", id=ca_id)
    with pytest.raises(Unsafe, match="000016_key_homes"):
        await migrate.rollback(world.conninfo, 15)
    assert await kit.value(world, "SELECT key_home FROM authorities WHERE id = %(id)s", id=ca_id)


async def test_waivers_go_with_their_table_and_what_was_issued_under_them_stays(
    world: World,
) -> None:
    profile = await kit.a_profile(world, certificate_policies=["1.2.3.4"], **MIXED)
    await approved(world, profile)
    assert not await blocks(world, profile, "waived")
    await migrate.rollback(world.conninfo, 19)
    await migrate.migrate(world.conninfo)
    assert await kit.value(world, "SELECT count(*) FROM lint_waivers") == 0
    rules = "SELECT certificate_policies FROM certificate_profiles WHERE id = %(id)s"
    assert await kit.value(world, rules, id=profile) == []
    assert await kit.value(world, "SELECT count(*) FROM certificate_versions WHERE live") == 1
    assert await blocks(world, profile, "not any more")
    # The record of what was waived is gone with its column.
    await kit.change(world, "UPDATE certificate_versions SET lint_waived = %(c)s", c=[CODE])


async def test_the_way_back_leaves_a_ca_the_certificate_that_it_serves(world: World) -> None:
    at = {row["parent_id"]: row["id"] for row in await kit.rows(world, CAS)}
    wish = authority.NewAuthority("iss-local", None, "New root", path_length=1, replaces=at[None])
    new = (await hierarchy.create(world.platform, kit.ADMIN, wish))["id"]
    issuing = at[at[None]]
    await rollover.recertify(world.platform, kit.ADMIN, issuing, new, lifetime=None)
    served = await rollover.cutover(world.platform, kit.ADMIN, issuing, new)
    await migrate.rollback(world.conninfo, 17)
    await migrate.migrate(world.conninfo)
    kept = await hierarchy.get(world.platform, kit.ADMIN, issuing)
    assert kept == {**served, "other_certificates": []}


def test_every_migration_can_be_undone() -> None:
    assert [each.label for each in migrate.known() if not each.down.exists()] == []
