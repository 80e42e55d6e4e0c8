"""Violations in the audit trail, and how long those that are over are kept."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.domain.errors import Invalid
from certctl.services import certificates, plain, sweep
from tests import kit
from tests.conftest import World
from tests.services.test_policy import a_rule, violations


async def trail(world: World) -> list[dict[str, Any]]:
    return await kit.rows(
        world,
        """SELECT * FROM audit_events WHERE action LIKE 'policy_violation_%%'
           ORDER BY sequence""",
    )


async def test_the_trail_tells_when_a_violation_was_opened_and_resolved(world: World) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments", name="only-prod")
    row = await kit.order(world)
    (found,) = await violations(world)
    await certificates.update(world.platform, kit.ADMIN, row["id"], changes={"environment": "prod"})
    opened, resolved = await trail(world)
    assert (opened["action"], resolved["action"]) == (
        "policy_violation_opened",
        "policy_violation_resolved",
    )
    for event in (opened, resolved):
        assert event["actor"] == "system:policy"
        assert (event["resource_type"], event["resource_id"]) == ("certificate", row["id"])
        assert event["details"] == {
            "violation_id": found["id"],
            "rule_id": rule_id,
            "rule": "only-prod",
            "severity": "Warning",
            "message": found["message"],
        }


async def test_what_stands_as_it_stood_and_what_is_refused_leave_no_trace(world: World) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments", blocking=True)
    with pytest.raises(Invalid):
        await kit.order(world)
    assert await trail(world) == []
    changes: dict[str, Any] = {"blocking": False}
    await plain.update(world.platform, kit.ADMIN, plain.POLICY_RULES, rule_id, changes=changes)
    row = await kit.order(world)
    for name in ("one", "two"):
        await certificates.update(world.platform, kit.ADMIN, row["id"], changes={"name": name})
    assert len(await trail(world)) == 1


async def test_each_violation_of_a_rule_switched_off_is_resolved_in_the_trail(world: World) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments")
    for n in range(3):
        await kit.order(world, name=f"site-{n}")
    changes = {"enabled": False}
    await plain.update(world.platform, kit.ADMIN, plain.POLICY_RULES, rule_id, changes=changes)
    await world.run_tasks()
    actions = [row["action"] for row in await trail(world)]
    assert actions == ["policy_violation_opened"] * 3 + ["policy_violation_resolved"] * 3


async def test_a_violation_is_forgotten_long_after_it_was_resolved(world: World) -> None:
    await a_rule(world, "AllowedEnvironments")
    ids = [(await kit.order(world, name=f"site-{n}"))["id"] for n in range(3)]
    statement = """UPDATE policy_violations SET created_at = now() - interval '400 days',
                       resolved_at = {} WHERE certificate_id = %(id)s"""
    for id_, resolved_at in (
        (ids[0], "now() - interval '91 days'"),
        (ids[1], "now() - interval '89 days'"),
        (ids[2], "NULL"),
    ):
        await kit.change(world, statement.format(resolved_at), id=id_)
    await sweep.prune(world.platform)
    left = await kit.rows(world, "SELECT certificate_id FROM policy_violations")
    assert {row["certificate_id"] for row in left} == {ids[1], ids[2]}
