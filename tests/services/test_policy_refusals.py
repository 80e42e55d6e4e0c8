"""What a refused issuance leaves: one violation, told once, until an issuance keeps the rule."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from certctl.domain.access import EVERYTHING
from certctl.domain.errors import Invalid
from certctl.services import certificates, issue, policy, revoke
from certctl.store import certificates as certificate_rows
from certctl.store import policies
from tests import kit
from tests.conftest import World
from tests.services.test_policy import a_rule, change_rule, violations
from tests.services.test_policy_evaluation import wait_for_a_lock

TOLD = "SELECT count(*) FROM notification_events WHERE type = 'PolicyViolation'"
EVERY = "SELECT count(*) FROM policy_violations"
CSR = kit.a_csr("a.example.test")


async def a_refusal(world: World) -> tuple[str, str]:
    """A rule that has refused an issuance, and the certificate."""
    rule_id = await a_rule(world, "CertificateLifetime", blocking=True)
    row = await kit.order(world, csr_pem=CSR)
    assert not await issue.run(world.platform, await kit.job_of(world, row["id"]))
    return rule_id, row["id"]


async def tried_again(world: World, certificate_id: str) -> bool:
    (job_id,) = await kit.renew_now(world, certificate_id, csr_pem=CSR, force=True)
    return await issue.run(world.platform, job_id)


async def lives_for(world: World, days: int) -> None:
    """Let what is issued from now on live so long."""
    seconds = days * 86_400
    await kit.change(world, "UPDATE certificate_profiles SET max_ttl_seconds = %(it)s", it=seconds)


async def test_a_refusal_stands_and_is_told_once_however_often_it_is_tried(world: World) -> None:
    _, certificate_id = await a_refusal(world)
    (first,) = await violations(world)
    for _ in range(2):
        assert await policy.evaluate_all(world.platform) == 0
        assert not await tried_again(world, certificate_id)
    assert await violations(world) == [first]
    assert (await kit.value(world, EVERY), await kit.value(world, TOLD)) == (1, 1)


async def test_an_issuance_that_keeps_the_rule_resolves_it(world: World) -> None:
    _, certificate_id = await a_refusal(world)
    await lives_for(world, 20)
    assert await tried_again(world, certificate_id)
    assert await violations(world) == []
    assert await policy.evaluate_all(world.platform) == 0
    assert await kit.value(world, EVERY) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"max_days": 10}}, "a lifetime of more than 10 days"),
        ({"severity": "Critical"}, "a lifetime of more than 30 days"),
        ({"blocking": False}, "a lifetime of more than 30 days"),
        ({"config": {"max_days": 400}}, None),
        ({"enabled": False}, None),
    ],
)
async def test_a_rule_that_changes_judges_anew_what_it_refused(
    world: World, change: dict[str, Any], message: str | None
) -> None:
    rule_id, _ = await a_refusal(world)
    await change_rule(world, rule_id, **change)
    assert [row["message"] for row in await violations(world)] == ([message] if message else [])
    assert (await kit.value(world, EVERY), await kit.value(world, TOLD)) == (1, 1)


async def test_a_refusal_is_over_with_its_certificate(world: World) -> None:
    _, certificate_id = await a_refusal(world)
    await certificates.archive(world.platform, kit.ADMIN, certificate_id)
    await policy.evaluate_all(world.platform)
    assert await violations(world) == []


async def test_a_revoked_certificate_waits_for_no_issuance(world: World) -> None:
    await lives_for(world, 20)
    row = await kit.an_issued_certificate(world)
    await lives_for(world, 90)
    await a_rule(world, "CertificateLifetime", blocking=True)
    assert not await tried_again(world, row["id"])
    assert len(await violations(world)) == 1
    reason = revoke.parse_reason("superseded")
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=reason)
    await policy.evaluate_all(world.platform)
    assert await violations(world) == []


async def test_a_live_version_that_is_too_long_refuses_no_shorter_one(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await a_rule(world, "CertificateLifetime", blocking=True)
    await world.run_tasks()
    (found,) = await violations(world)
    assert found["lifetime"] is None
    assert not await tried_again(world, row["id"])
    (found,) = await violations(world)
    assert found["lifetime"] is not None
    await lives_for(world, 20)
    assert await tried_again(world, row["id"])
    await policy.evaluate_all(world.platform)
    assert await violations(world) == []
    assert (await kit.value(world, EVERY), await kit.value(world, TOLD)) == (1, 1)


async def test_a_lifetime_that_is_too_long_but_not_refused_is_told_once(world: World) -> None:
    await a_rule(world, "CertificateLifetime")
    row = await kit.an_issued_certificate(world)
    assert len(await violations(world)) == 1
    assert await policy.evaluate_all(world.platform) == 0
    await lives_for(world, 20)
    assert await tried_again(world, row["id"])
    await policy.evaluate_all(world.platform)
    assert await violations(world) == []
    assert (await kit.value(world, EVERY), await kit.value(world, TOLD)) == (1, 1)


async def test_a_timetable_that_saw_what_was_before_does_not_resolve_a_refusal(
    world: World,
) -> None:
    row = await kit.an_issued_certificate(world)
    await a_rule(world, "CertificateLifetime", blocking=True)
    await world.run_tasks()
    await kit.change(world, "UPDATE certificate_versions SET live = false")
    async with world.platform.db.transaction() as tx:
        await certificate_rows.lock(tx, row["id"], within=EVERYTHING)
        timetable = asyncio.create_task(policy.evaluate_all(world.platform))
        await wait_for_a_lock(world)
        await policies.evaluate(tx, certificate_ids=[row["id"]], lifetime=timedelta(days=90))
    assert await timetable == 0
    (found,) = await violations(world)
    assert found["lifetime"] == timedelta(days=90)


async def test_two_issuances_at_once_are_both_refused_and_told_once(world: World) -> None:
    await a_rule(world, "CertificateLifetime", blocking=True)
    row = await kit.order(world)
    lifetime = timedelta(days=90)
    outcomes = await asyncio.gather(
        *(policy.before_issuance(world.platform, [row["id"]], lifetime) for _ in range(2))
    )
    assert [type(each[row["id"]]) for each in outcomes] == [Invalid, Invalid]
    assert (await kit.value(world, EVERY), await kit.value(world, TOLD)) == (1, 1)


async def test_an_issuance_beside_the_timetable_is_refused_all_the_same(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    await a_rule(world, "CertificateLifetime", blocking=True)
    async with world.platform.db.transaction() as tx:
        assert len(await policies.evaluate(tx, certificate_ids=[row["id"]])) == 1
        judged = policy.before_issuance(world.platform, [row["id"]], timedelta(days=90))
        issuance = asyncio.create_task(judged)
        await wait_for_a_lock(world)
    assert "policy CertificateLifetime" in (await issuance)[row["id"]].message
    (found,) = await violations(world)
    assert found["lifetime"] == timedelta(days=90)
