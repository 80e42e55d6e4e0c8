"""Many certificates with one call: bounded, counted, and never half forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certctl.domain.access import actor_with_roles
from certctl.domain.errors import Invalid, NotAllowed
from certctl.services import bulk, certificates, sweep
from certctl.services.plain import OWNERS, create
from tests import kit
from tests.conftest import World


async def start(world: World, kind: str, dry_run: bool = False, **how: Any) -> dict[str, Any]:
    filters = {key: value for key, value in how.items() if not key.startswith("to_")}
    parameters = {key.removeprefix("to_"): value for key, value in how.items() if key[:3] == "to_"}
    return await bulk.start(
        world.platform, kit.ADMIN, kind, filters=filters, parameters=parameters, dry_run=dry_run
    )


async def several(world: World, count: int = 3) -> list[str]:
    return [(await kit.an_issued_certificate(world, name=f"site-{n}"))["id"] for n in range(count)]


async def sown(world: World, count: int) -> None:
    """Certificates that were never issued, by the hundreds."""
    await kit.change(
        world,
        """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
               issuer_id, renewal_policy_id, certificate_profile_id)
           SELECT 'mc-' || n, 'site-' || n, 'a.example.test', '{a.example.test}', 'o-default',
               't-default', 'iss-local', 'rp-default', 'prof-default'
           FROM generate_series(1, %(count)s) n""",
        count=count,
    )


def total(told: dict[str, Any]) -> int:
    return sum(
        told.get(name, 0)
        for name in ("total_revoked", "total_enqueued", "total_reassigned", "total_skipped",
                     "total_failed")
    )  # fmt: skip


async def test_partial_failure_is_counted_and_told(world: World) -> None:
    ids = await several(world)
    never = (await kit.order(world, name="never issued"))["id"]
    await kit.change(
        world, "UPDATE managed_certificates SET status = 'Revoked' WHERE id = %(id)s", id=ids[0]
    )
    asked = [*ids, never, "mc-unknown"]
    told = await start(world, "revoke", certificate_ids=asked, to_reason="superseded")
    assert told["state"] == "completed"
    assert (told["total_matched"], told["total_revoked"]) == (5, 2)
    assert (told["total_skipped"], told["total_failed"]) == (1, 2)
    assert total(told) == told["total_matched"]
    assert {each["certificate_id"]: each["error"] for each in told["errors"]} == {
        never: f"certificate {never} has no version to revoke",
        "mc-unknown": "certificate mc-unknown does not exist",
    }
    for one in ids[1:]:
        assert (await kit.certificate(world, one))["revocation_reason"] == "superseded"


async def test_each_certificate_has_its_own_audit_record(world: World) -> None:
    await start(world, "revoke", certificate_ids=await several(world), to_reason="unspecified")
    actions = await kit.actions(world)
    assert actions.count("certificate_revoked") == 3
    assert actions.count("bulk_revoke_initiated") == 1


async def test_a_renewal_of_many_names_its_jobs_and_skips_what_is_under_way(world: World) -> None:
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    ids = [(await kit.order(world, name=f"s{n}", target_ids=[target]))["id"] for n in range(3)]
    await kit.issue_to(world, agent)
    (under_way,) = await kit.renew_now(world, ids[0])
    keyless = (await kit.an_issued_certificate(world, name="by hand"))["id"]
    told = await start(world, "renew", certificate_ids=[*ids, keyless])
    assert (told["total_enqueued"], told["total_skipped"], told["total_failed"]) == (2, 1, 1)
    assert {each["certificate_id"] for each in told["enqueued_jobs"]} == set(ids[1:])
    assert told["errors"][0]["error"] == "bind a target or send csr_pem"
    assert under_way


async def test_a_filter_selects_what_it_says(world: World) -> None:
    await several(world)
    other = (await kit.an_issued_certificate(world, name="other", environment="staging"))["id"]
    told = await start(world, "revoke", environment="staging", to_reason="unspecified")
    assert told["total_revoked"] == 1
    assert (await kit.certificate(world, other))["status"] == "Revoked"


async def test_reassignment_changes_the_owner_and_skips_who_has_it(world: World) -> None:
    ids = await several(world)
    owner = await create(world.platform, kit.ADMIN, OWNERS, values={"name": "new owner"})
    told = await start(world, "reassign", certificate_ids=ids[:2], to_owner_id=owner["id"])
    assert (told["total_reassigned"], told["total_skipped"]) == (2, 0)
    told = await start(world, "reassign", certificate_ids=ids, to_owner_id=owner["id"])
    assert (told["total_reassigned"], told["total_skipped"]) == (1, 2)
    assert {(await kit.certificate(world, one))["owner_id"] for one in ids} == {owner["id"]}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({}, "all certificates are never meant"),
        ({"certificate_ids": []}, "all certificates are never meant"),
        ({"environment": "nowhere"}, "no certificate matches"),
        ({"environment": "", "to_owner_id": "o-none"}, "o-none does not exist"),
    ],
)
async def test_a_selection_without_bounds_or_content_changes_nothing(
    world: World, how: dict[str, Any], why: str
) -> None:
    await several(world, 1)
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=why):
        await start(world, "reassign", **{"to_owner_id": "o-default", **how})
    assert await kit.everything(world) == before


@pytest.mark.parametrize("kind", ["revoke", "renew", "reassign"])
async def test_a_dry_run_tells_what_would_happen_and_does_not_do_it(
    world: World, kind: str
) -> None:
    ids = await several(world)
    before = await kit.everything(world)
    parameters = {"to_reason": "superseded", "to_owner_id": "o-default"}
    told = await start(world, kind, dry_run=True, certificate_ids=ids, **parameters)
    assert (told["state"], told["total_matched"], total(told)) == ("dry_run", 3, 3)
    assert await kit.everything(world) == before
    assert await kit.value(world, "SELECT count(*) FROM bulk_operations") == 0


async def test_a_thousand_are_done_at_once_and_one_more_goes_on_in_batches(world: World) -> None:
    owner = await create(world.platform, kit.ADMIN, OWNERS, values={"name": "new owner"})
    await sown(world, 1000)
    told = await start(world, "reassign", issuer_id="iss-local", to_owner_id=owner["id"])
    assert (told["state"], told["total_reassigned"]) == ("completed", 1000)
    await kit.change(world, "UPDATE managed_certificates SET id = 'mc-last' WHERE id = 'mc-1'")
    await kit.order(world, name="one more")
    told = await start(world, "reassign", issuer_id="iss-local", to_owner_id="o-default")
    assert (told["state"], told["total_matched"]) == ("running", 1001)
    await world.run_tasks()
    told = await bulk.result(world.platform, kit.ADMIN, told["id"])
    assert (told["state"], told["total_reassigned"]) == ("completed", 1000)
    assert told["total_skipped"] == 1


async def test_what_a_dead_server_left_is_taken_up(world: World) -> None:
    await sown(world, 1200)
    owner = await create(world.platform, kit.ADMIN, OWNERS, values={"name": "new owner"})
    told = await start(world, "reassign", issuer_id="iss-local", to_owner_id=owner["id"])
    await kit.change(world, "DELETE FROM procrastinate.procrastinate_jobs")
    async with world.platform.db.transaction() as tx:
        assert await bulk._batch(world.platform, tx, told["id"]) == bulk.BATCH
    await sweep.sweep(world.platform)
    await world.run_tasks()
    told = await bulk.result(world.platform, kit.ADMIN, told["id"])
    assert (told["state"], told["total_reassigned"]) == ("completed", 1200)


async def test_a_client_that_goes_away_stops_nothing(world: World) -> None:
    ids = await several(world)
    asked = asyncio.create_task(start(world, "revoke", certificate_ids=ids, to_reason="superseded"))
    while not await kit.value(world, "SELECT count(*) FROM bulk_operations"):
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    async with asyncio.timeout(20):
        while await kit.value(
            world, "SELECT count(*) FROM bulk_operations WHERE state = 'running'"
        ):
            await asyncio.sleep(0.01)
    for one in ids:
        assert (await kit.certificate(world, one))["status"] == "Revoked"


async def test_two_who_carry_out_one_operation_do_each_certificate_once(world: World) -> None:
    await sown(world, 1500)
    owner = await create(world.platform, kit.ADMIN, OWNERS, values={"name": "new owner"})
    told = await start(world, "reassign", issuer_id="iss-local", to_owner_id=owner["id"])
    counts = await asyncio.gather(*(bulk.run(world.platform, told["id"]) for _ in range(3)))
    assert sum(counts) == 1500
    assert (await kit.actions(world)).count("certificate_updated") == 1500


async def test_revoking_many_needs_a_permission_of_its_own(world: World) -> None:
    operator = actor_with_roles("operator", ("r-operator",))
    with pytest.raises(NotAllowed, match=r"cert\.bulk_revoke"):
        await bulk.start(
            world.platform,
            operator,
            "revoke",
            filters={"environment": "x"},
            parameters={"reason": "superseded"},
            dry_run=False,
        )


async def test_an_archived_certificate_is_revoked_by_name_only(world: World) -> None:
    (one,) = await several(world, 1)
    await certificates.archive(world.platform, kit.ADMIN, one)
    with pytest.raises(Invalid, match="no certificate matches"):
        await start(world, "revoke", issuer_id="iss-local", to_reason="keyCompromise")
    told = await start(world, "revoke", certificate_ids=[one], to_reason="keyCompromise")
    assert told["total_revoked"] == 1
    row = await kit.certificate(world, one)
    assert (row["status"], row["revocation_reason"]) == ("Archived", "keyCompromise")
