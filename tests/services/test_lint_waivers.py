"""Lint findings that two people let pass: for one profile, for a time, and on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certctl.domain.access import Actor, ActorType, Permission, Scope, actor_with_roles
from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound
from certctl.services import issue, lint_waivers, plain
from certctl.services.lint_waivers import Wish
from tests import kit
from tests.conftest import World
from tests.services.test_interrupted import intents, killed_before_signing, lease_ends

# RFC 3161 §2.3 has time-stamping alone and critical: beside another usage it is found wanting.
CODE = "pkix.extended_key_usage_extension_with_timestamping_not_critical"
MIXED = {"allowed_ekus": ["serverAuth", "timeStamping"]}
SECOND = actor_with_roles("second", ("r-operator",))
FEW_RIGHTS = actor_with_roles("viewer", ("r-viewer",))


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def asked(world: World, profile: str, **changes: Any) -> str:
    values = {"code": CODE, "reason": "an old time-stamping client", "ends_at": in_days(30)}
    wish = Wish(profile_id=profile, **{**values, **changes})
    return str((await lint_waivers.ask(world.platform, kit.ADMIN, wish))["id"])


async def approved(world: World, profile: str) -> str:
    waiver = await asked(world, profile)
    await lint_waivers.approve(world.platform, SECOND, waiver, note="ticket 12")
    return waiver


async def tried(world: World, profile: str, name: str) -> dict[str, Any]:
    """A certificate of the profile whose issuance was carried out."""
    row = await kit.order(
        world, name=name, certificate_profile_id=profile, csr_pem=kit.a_csr("a.example.test")
    )
    await issue.run(world.platform, await kit.job_of(world, row["id"]))
    return await kit.certificate(world, row["id"])


async def blocks(world: World, profile: str, name: str) -> bool:
    row = await tried(world, profile, name)
    refused = f"lint refuses the certificate: {CODE}" in (row["last_error"] or "")
    assert refused == (await kit.versions_of(world, row["id"]) == [])
    return refused


async def test_what_lint_blocks_is_issued_under_a_waiver_and_the_record_says_so(
    world: World,
) -> None:
    profile = await kit.a_profile(world, **MIXED)
    assert await blocks(world, profile, "before")
    waiver = await asked(world, profile)
    assert await blocks(world, profile, "asked")
    await lint_waivers.approve(world.platform, SECOND, waiver, note=None)
    row = await tried(world, profile, "waived")
    (version,) = await kit.versions_of(world, row["id"])
    assert version["lint_waived"] == [CODE]
    (told,) = await kit.rows(
        world, "SELECT details FROM audit_events WHERE action = 'certificate_issued'"
    )
    assert told["details"]["lint_waived"] == {CODE: waiver}


async def test_a_waiver_is_for_one_profile(world: World) -> None:
    await approved(world, await kit.a_profile(world, **MIXED))
    other = await kit.a_profile(world, name="other", **MIXED)
    assert await blocks(world, other, "other")


async def test_a_waiver_has_no_effect_on_what_is_clean(world: World) -> None:
    profile = await kit.a_profile(world)
    await approved(world, profile)
    row = await tried(world, profile, "clean")
    (version,) = await kit.versions_of(world, row["id"])
    assert version["lint_waived"] == []
    (told,) = await kit.rows(
        world, "SELECT details FROM audit_events WHERE action = 'certificate_issued'"
    )
    assert "lint_waived" not in told["details"]


@pytest.mark.parametrize("how", ["over", "withdrawn"])
async def test_from_its_end_on_the_same_shape_is_blocked_again(world: World, how: str) -> None:
    profile = await kit.a_profile(world, **MIXED)
    waiver = await approved(world, profile)
    for name in ("first", "second"):
        assert not await blocks(world, profile, name)
    if how == "over":
        await kit.change(world, "UPDATE lint_waivers SET ends_at = now() - interval '1 second'")
    else:
        await lint_waivers.withdraw(world.platform, kit.ADMIN, waiver, note="no longer")
    assert await blocks(world, profile, "third")
    found = await lint_waivers.get(world.platform, kit.ADMIN, waiver)
    assert not found["in_force"]


@pytest.mark.parametrize("how", ["in force", "withdrawn"])
async def test_a_draft_that_a_kill_left_behind_needs_the_waiver_when_it_is_signed(
    world: World, how: str
) -> None:
    profile = await kit.a_profile(world, **MIXED)
    waiver = await approved(world, profile)
    row = await kit.order(
        world, certificate_profile_id=profile, csr_pem=kit.a_csr("a.example.test")
    )
    job_id = await kit.job_of(world, row["id"])
    await killed_before_signing(world, job_id)
    await lease_ends(world)
    if how == "withdrawn":
        await lint_waivers.withdraw(world.platform, kit.ADMIN, waiver, note=None)
    assert await issue.run(world.platform, job_id) is (how == "in force")
    codes = [version["lint_waived"] for version in await kit.versions_of(world, row["id"])]
    assert codes == {"in force": [[CODE]], "withdrawn": []}[how]
    assert [state for _, state in await intents(world, job_id)] == [
        {"in force": "issued", "withdrawn": "closed"}[how]
    ]


async def test_whoever_asked_does_not_approve_and_the_database_refuses_it_too(
    world: World,
) -> None:
    profile = await kit.a_profile(world, **MIXED)
    waiver = await asked(world, profile)
    before = await kit.everything(world)
    with pytest.raises(NotAllowed, match="second person"):
        await lint_waivers.approve(world.platform, kit.ADMIN, waiver, note=None)
    with pytest.raises(NotAllowed):
        await lint_waivers.approve(world.platform, FEW_RIGHTS, waiver, note=None)
    with pytest.raises(Exception, match="two_persons"):
        await kit.change(
            world,
            """UPDATE lint_waivers SET state = 'approved', decided_by = requested_by,
                   decided_at = now()""",
        )
    assert await kit.everything(world) == before


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"ends_at": in_days(-1)}, "ends_at", "in the future"),
        ({"ends_at": in_days(366)}, "ends_at", "within a year"),
        ({"profile_id": "prof-none"}, "profile_id", "does not exist"),
        ({"code": "pkix.no_such_code"}, "code", "always block"),
        ({"code": "undecodable"}, "code", "always block"),
        ({"code": "pkix.ee_certificate_keycertsign_keyusage_set"}, "code", "rights of CAs"),
        ({"code": "pkix.certificate_serial_number_out_of_range"}, "code", "serial numbers"),
        ({"code": "pkix.san_extension_not_critical_empty_subject"}, "code", "names"),
    ],
)
async def test_what_cannot_be_waived_is_refused_with_the_reason(
    world: World, changes: dict[str, Any], field: str, why: str
) -> None:
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=why) as refused:
        await asked(world, **{"profile": "prof-default", **_renamed(changes)})
    assert refused.value.field == field
    assert await kit.everything(world) == before


def _renamed(changes: dict[str, Any]) -> dict[str, Any]:
    return {"profile" if key == "profile_id" else key: each for key, each in changes.items()}


async def test_the_same_is_asked_once_at_a_time_and_decided_once(world: World) -> None:
    waiver = await asked(world, "prof-default")
    with pytest.raises(Conflict, match="asked for already"):
        await asked(world, "prof-default")
    await lint_waivers.reject(world.platform, SECOND, waiver, note="mend the client")
    for decide in (lint_waivers.approve, lint_waivers.reject, lint_waivers.withdraw):
        with pytest.raises(Conflict, match="rejected already"):
            await decide(world.platform, kit.ADMIN, waiver, note=None)
    again = await asked(world, "prof-default")
    await kit.change(world, "UPDATE lint_waivers SET ends_at = now() WHERE id = %(id)s", id=again)
    with pytest.raises(Conflict, match="is over already"):
        await lint_waivers.approve(world.platform, SECOND, again, note=None)


async def test_each_step_is_in_the_audit_trail(world: World) -> None:
    waiver = await approved(world, "prof-default")
    await lint_waivers.withdraw(world.platform, kit.ADMIN, waiver, note="done")
    refused = await asked(world, "prof-default")
    await lint_waivers.reject(world.platform, SECOND, refused, note="no")
    told = await kit.rows(
        world,
        """SELECT actor, action, details->>'code' AS code, details->>'requested_by' AS asked
           FROM audit_events WHERE resource_type = 'lint_waiver' ORDER BY sequence""",
    )
    assert [(row["actor"], row["action"]) for row in told] == [
        ("admin", "lint_waiver_asked"),
        ("second", "lint_waiver_approved"),
        ("admin", "lint_waiver_withdrawn"),
        ("admin", "lint_waiver_asked"),
        ("second", "lint_waiver_rejected"),
    ]
    assert {(row["code"], row["asked"]) for row in told} == {(CODE, "admin")}


async def test_whoever_serves_one_profile_asks_and_decides_for_no_other(
    world: World,
) -> None:
    mine = await kit.a_profile(world)
    narrow = of_one_profile(mine)
    other, own = await asked(world, "prof-default"), await asked(world, mine)
    with pytest.raises(NotFound):
        await lint_waivers.approve(world.platform, narrow, other, note=None)
    wish = Wish("prof-default", CODE, "why", in_days(1))
    with pytest.raises(Invalid, match="does not exist"):
        await lint_waivers.ask(world.platform, narrow, wish)
    done = await lint_waivers.approve(world.platform, narrow, own, note=None)
    assert (done["state"], done["decided_by"], done["in_force"]) == ("approved", "narrow", True)


def of_one_profile(profile: str) -> Actor:
    scope = Scope(profiles=frozenset({profile}))
    needed = (Permission.APPROVAL_APPROVE, Permission.PROFILE_EDIT, Permission.PROFILE_READ)
    return Actor("narrow", ActorType.API_KEY, permissions=dict.fromkeys(needed, scope))


async def test_a_profile_with_a_waiver_is_in_use(world: World) -> None:
    profile = await kit.a_profile(world)
    await asked(world, profile)
    with pytest.raises(Conflict) as refused:
        await plain.delete(world.platform, kit.ADMIN, plain.PROFILES, profile)
    assert refused.value.counts == {"lint_waivers": 1}
