"""What the database itself holds on to: uniqueness, references, append-only tables, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from certctl.domain.errors import CertctlError, Conflict, Invalid, Unavailable
from certctl.pki import x509
from certctl.store.db import Database
from tests import kit
from tests.conftest import World


@pytest.mark.parametrize("table", ["audit_events", "audit_seals"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"],
)
async def test_the_audit_trail_can_only_grow(world: World, table: str, statement: str) -> None:
    column = "action" if table == "audit_events" else "seal"
    await kit.change(
        world,
        """INSERT INTO audit_seals
               (number, first_sequence, last_sequence, row_count, previous, seal)
           VALUES (1, 1, 1, 1, '', '')""",
    )
    before = await kit.rows(world, f"SELECT * FROM {table}")
    assert before
    with pytest.raises(CertctlError):
        await kit.change(world, statement.format(table, column, column))
    assert await kit.rows(world, f"SELECT * FROM {table}") == before


@pytest.mark.parametrize(
    ("statement", "kind", "field"),
    [
        ("INSERT INTO teams (id, name) VALUES ('t-2', 'Platform')", Conflict, "name"),
        ("INSERT INTO owners (id, name, team_id) VALUES ('o', 'o', 't-9')", Invalid, "team_id"),
        ("DELETE FROM teams WHERE id = 't-default'", Conflict, None),
        (
            "UPDATE renewal_policies SET renewal_window_days = 0",
            Invalid,
            "renewal_policies_renewal_window_days_check",
        ),
        ("SELECT 'x'::timestamptz", Invalid, None),
        ("SELECT 10::bigint ^ 400", Invalid, None),
    ],
)
async def test_an_error_of_the_database_is_told_as_ours(
    world: World, statement: str, kind: type[CertctlError], field: str | None
) -> None:
    with pytest.raises(kind) as caught:
        await kit.change(world, statement)
    assert getattr(caught.value, "field", None) == field


async def test_a_statement_that_takes_too_long_is_worth_another_try(world: World) -> None:
    async def slow() -> None:
        async with world.platform.db.transaction() as tx:
            await tx.run("SET LOCAL statement_timeout = '20ms'")
            await tx.run("SELECT pg_sleep(10)")

    with pytest.raises(Unavailable, match="busy"):
        await slow()


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
async def test_a_text_that_no_column_can_hold_is_invalid(world: World, text: str) -> None:
    with pytest.raises(Invalid, match="cannot be stored"):
        await kit.change(world, "UPDATE teams SET name = %(text)s", text=text)


async def test_two_transactions_that_wait_for_each_other_are_worth_another_try(
    world: World,
) -> None:
    db = world.platform.db
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with db.transaction() as tx:
            await tx.run("SELECT pg_advisory_xact_lock(%(key)s)", key=first)
            await both_hold_one.wait()
            await tx.run("SELECT pg_advisory_xact_lock(%(key)s)", key=second)

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    (failed,) = [each for each in outcomes if each is not None]
    assert isinstance(failed, Unavailable)
    assert "collided" in failed.message


async def test_a_programming_error_is_not_hidden(world: World) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await kit.change(world, "SELECT * FROM no_such_table")


async def test_a_failure_inside_a_transaction_leaves_nothing_behind(world: World) -> None:
    async def half_done() -> None:
        async with world.platform.db.transaction() as tx:
            await tx.run("INSERT INTO teams (id, name) VALUES ('t-2', 'second')")
            await tx.run("INSERT INTO teams (id, name) VALUES ('t-2', 'second')")

    with pytest.raises(Conflict):
        await half_done()
    assert not await kit.rows(world, "SELECT * FROM teams WHERE id = 't-2'")


async def test_a_database_that_is_away_is_unavailable() -> None:
    db = Database("postgresql://nobody@127.0.0.1:1/nothing", max_size=1)
    with pytest.raises(Unavailable, match="CERTCTL_DATABASE_URL"):
        async with db.read():
            raise AssertionError("there is no database")


async def a_version(world: World, certificate_id: str, serial: str, agent: str | None) -> None:
    some = await kit.value(world, "SELECT cert_der FROM authorities WHERE parent_id IS NOT NULL")
    await kit.change(
        world,
        """INSERT INTO certificate_versions (id, certificate_id, agent_id, issuer_id,
               serial_number, not_before, not_after, fingerprint_sha256, spki_sha256, sans,
               pem_chain, key_algorithm, key_size)
           VALUES ('cv-' || %(serial)s, %(certificate)s, %(agent)s, 'iss-local', %(serial)s,
               now(), now() + interval '1 day', %(serial)s, '', '{}', %(chain)s, 'ECDSA', 256)""",
        chain=x509.pem(bytes(some)),
        serial=serial,
        certificate=certificate_id,
        agent=agent,
    )


async def test_a_holder_has_one_live_version_of_a_certificate(world: World) -> None:
    row, agent = await kit.order(world), await kit.an_agent(world)
    await a_version(world, row["id"], "a1", None)
    await a_version(world, row["id"], "a2", agent.agent_id)
    with pytest.raises(Conflict):
        await a_version(world, row["id"], "a3", None)
    with pytest.raises(Conflict):
        await a_version(world, row["id"], "a4", agent.agent_id)


@pytest.mark.parametrize("serial", ["", "0", "0a", "AB", "a" * 41, "xyz"])
async def test_a_serial_that_is_not_canonical_is_refused(world: World, serial: str) -> None:
    row = await kit.order(world)
    with pytest.raises(Invalid):
        await a_version(world, row["id"], serial, None)


async def a_job(world: World, certificate_id: str, **values: Any) -> None:
    columns = {
        "id": f"job-{len(await kit.jobs_of(world, certificate_id))}",
        "type": "Renewal",
        "certificate_id": certificate_id,
        "status": "AwaitingCSR",
        "requested_by": "test",
        **values,
    }
    marks = ", ".join(f"%({name})s" for name in columns)
    await kit.change(world, f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", **columns)


async def test_a_holder_has_one_open_issuance_of_a_certificate(world: World) -> None:
    row, agent = await kit.order(world), await kit.an_agent(world)
    await a_job(world, row["id"], agent_id=agent.agent_id)
    await a_job(world, row["id"])
    await a_job(world, row["id"], status="Failed")
    with pytest.raises(Conflict):
        await a_job(world, row["id"], agent_id=agent.agent_id, type="Issuance", status="Running")


async def test_a_job_has_one_open_intent(world: World) -> None:
    ca = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NOT NULL")
    statement = """INSERT INTO issuances (authority_id, serial_number, purpose, job_id, tbs_der,
        not_after) VALUES (%(ca)s, %(serial)s, 'leaf', 'job-1', '', now())"""
    await kit.change(world, statement, ca=ca, serial="a1")
    with pytest.raises(Conflict):
        await kit.change(world, statement, ca=ca, serial="a2")


PEOPLES = (
    "teams", "owners", "renewal_policies", "certificate_profiles", "issuers", "deployment_targets",
    "agents", "agent_groups", "policy_rules",
)  # fmt: skip


async def test_no_deletion_of_what_people_keep_takes_certificates_along(world: World) -> None:
    """Only what is a part of the row itself goes with it."""
    taken_along = """SELECT conrelid::regclass::text AS child FROM pg_constraint
        WHERE contype = 'f' AND confdeltype = 'c'
          AND confrelid::regclass::text = ANY(%(peoples)s)"""
    found = {row["child"] for row in await kit.rows(world, taken_along, peoples=list(PEOPLES))}
    permissions_there = {"actor_roles", "role_permissions"}
    assert found == {"agent_group_members", "policy_violations", "enrolment_tokens"} | (
        permissions_there
    )
    for table in PEOPLES:
        assert await kit.value(world, "SELECT to_regclass(%(t)s)::text", t=table) == table
