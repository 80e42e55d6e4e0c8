"""Statistics: every day has its row, issuances are versions, and indexes answer, not tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certctl.domain.access import Actor
from certctl.domain.errors import NotAllowed
from certctl.services import issue
from certctl.services import statistics as service
from certctl.services.platform import Platform
from certctl.store import statistics
from certctl.store.db import Row, Session
from tests import kit
from tests.conftest import World
from tests.store.running import run

Series = Callable[[Platform, Actor, int], Awaitable[list[Row]]]
MANY = """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
        issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at, tags)
    SELECT 'mc-' || n, 'site-' || n, 'a.test', '{a.test}', 'o-default', 't-default', 'iss-local',
        'rp-default', 'prof-default', 'Active', now() + n * interval '2 hours',
        jsonb_build_object('about', repeat('x', 600))
    FROM generate_series(1, 8000) n"""
THEIR_VERSIONS = """INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number,
        not_before, not_after, fingerprint_sha256, spki_sha256, sans, pem_chain, key_algorithm,
        key_size, created_at)
    SELECT 'cv-' || n, 'mc-' || n, 'iss-local', to_hex(n), now(), now() + interval '90 days',
        md5(n::text), 'x', '{a.test}', 'x', 'ECDSA', 256, now() - n * interval '2 hours'
    FROM generate_series(1, 8000) n"""
THEIR_JOBS = """INSERT INTO jobs (id, type, certificate_id, status, requested_by, completed_at)
    SELECT 'job-' || n, 'Renewal', 'mc-' || n, CASE WHEN n % 9 = 0 THEN 'Failed' ELSE 'Completed'
        END, 'test', now() - n * interval '2 hours' FROM generate_series(1, 8000) n"""
SERIES: dict[str, Series] = {
    "expirations": service.expirations,
    "job trends": service.job_trends,
    "issuances": service.issuances,
}


class Explained(Session):
    """A session that keeps how PostgreSQL would answer what is read through it."""

    plan = ""

    async def all(self, sql: str, **values: Any) -> list[Row]:
        rows = await super().all(f"EXPLAIN {sql}", **values)
        self.plan = "\n".join(str(row["QUERY PLAN"]) for row in rows)
        return rows

    async def one(self, sql: str, **values: Any) -> Row | None:
        return (await self.all(sql, **values))[0]


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (lambda s: statistics.by_status(s), "managed_certificates_status_idx"),
        (lambda s: statistics.summary(s), "managed_certificates_status_idx"),
        (lambda s: statistics.expirations(s, 30), "managed_certificates_timeline_idx"),
        (lambda s: statistics.job_trends(s, 30), "jobs_completed_idx"),
        (lambda s: statistics.issuances(s, 30), "certificate_versions_created_idx"),
    ],
    ids=["by status", "summary", "expirations", "job trends", "issuances"],
)
async def test_an_index_answers(
    world: World, asked: Callable[[Session], Awaitable[Any]], index: str
) -> None:
    run(world.conninfo, MANY, THEIR_VERSIONS, THEIR_JOBS)
    for table in ("managed_certificates", "certificate_versions", "jobs"):
        run(world.conninfo, f"VACUUM ANALYZE {table}")
    async with world.platform.db.read() as session:
        explained = Explained(session.connection)
        await asked(explained)
    run(world.conninfo, "DELETE FROM certificate_versions WHERE id LIKE 'cv-%'")
    assert index in explained.plan
    assert "Seq Scan on managed_certificates" not in explained.plan
    assert "Seq Scan on certificate_versions" not in explained.plan


@pytest.mark.parametrize("days", [1, 2, 365])
@pytest.mark.parametrize("name", SERIES)
async def test_every_day_of_a_range_has_its_row_once(world: World, name: str, days: int) -> None:
    found = await SERIES[name](world.platform, kit.VIEWER, days)
    today = datetime.now(UTC).date()
    first = today if name == "expirations" else today - timedelta(days=days - 1)
    assert [row["date"] for row in found] == [str(first + timedelta(days=n)) for n in range(days)]
    assert {value for row in found for key, value in row.items() if key != "date"} == {0}


async def test_issuances_are_versions_and_not_certificates(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await kit.order(world, name="never issued")
    again = kit.a_csr("a.example.test", key=kit.a_key(1))
    (job_id,) = await kit.renew_now(world, row["id"], csr_pem=again)
    assert await issue.run(world.platform, job_id)
    (today,) = await service.issuances(world.platform, kit.VIEWER, 1)
    assert today["count"] == 2


@pytest.mark.parametrize("hours_of_day", [0, 24])
async def test_a_certificate_that_ends_at_midnight_ends_on_the_day_that_begins(
    world: World, hours_of_day: int
) -> None:
    row = await kit.an_issued_certificate(world)
    await kit.change(
        world,
        """UPDATE managed_certificates SET expires_at = date_trunc('day', now())
               + make_interval(hours => %(hours)s) WHERE id = %(id)s""",
        hours=hours_of_day,
        id=row["id"],
    )
    found = await service.expirations(world.platform, kit.VIEWER, 2)
    assert [each["count"] for each in found] == ([1, 0] if hours_of_day == 0 else [0, 1])


@pytest.mark.parametrize("status", ["Archived", "Revoked"])
async def test_what_is_over_does_not_end_once_more(world: World, status: str) -> None:
    run(world.conninfo, MANY, f"UPDATE managed_certificates SET status = '{status}'")
    found = await service.expirations(world.platform, kit.VIEWER, 365)
    assert {each["count"] for each in found} == {0}


async def test_a_stranger_to_statistics_is_refused(world: World) -> None:
    agent = await kit.an_agent(world)
    for series in SERIES.values():
        with pytest.raises(NotAllowed):
            await series(world.platform, agent, 1)
    for asked in (service.summary, service.by_status):
        with pytest.raises(NotAllowed):
            await asked(world.platform, agent)
