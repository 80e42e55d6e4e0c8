"""Our own CAs: one that was cut off while it was made, one that has been replaced."""

from __future__ import annotations

import pytest

from certctl.services import authority, issue, sweep
from certctl.services.platform import Platform
from tests import kit
from tests.conftest import World


async def another_ca(world: World, on: Platform | None = None) -> str:
    root = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NULL")
    wish = authority.NewAuthority("iss-local", root, "successor", path_length=0)
    return await authority.create(on or world.platform, kit.ADMIN, wish)


async def test_a_ca_that_was_cut_off_before_its_signature_is_finished_with_the_same_serial(
    world: World,
) -> None:
    with pytest.raises(kit.Killed):
        await another_ca(world, on=kit.with_signer(world, kit.killed))
    intended = await kit.value(world, "SELECT serial_number FROM issuances WHERE state='intended'")
    finished = await another_ca(world)
    assert finished == await another_ca(world)
    found = await kit.rows(world, "SELECT * FROM issuances WHERE job_id = %(id)s", id=finished)
    assert [(row["state"], row["serial_number"]) for row in found] == [("issued", intended)]


async def test_a_draft_for_a_ca_that_was_replaced_since_is_closed_and_drawn_anew(
    world: World,
) -> None:
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    job_id = await kit.job_of(world, row["id"])
    with pytest.raises(kit.Killed):
        await issue.run(kit.with_signer(world, kit.killed), job_id)
    successor = await another_ca(world)
    await kit.change(world, "UPDATE jobs SET leased_until = now() - interval '1 second'")
    await sweep.sweep(world.platform)
    await kit.change(world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(world.platform, job_id)
    (version,) = await kit.versions_of(world, row["id"])
    states = await kit.rows(
        world, "SELECT state FROM issuances WHERE purpose = 'leaf' ORDER BY created_at"
    )
    assert version["authority_id"] == successor
    assert [each["state"] for each in states] == ["closed", "issued"]


async def test_a_replaced_ca_still_answers_for_its_own(world: World) -> None:
    row = await kit.an_issued_certificate(world)
    (version,) = await kit.versions_of(world, row["id"])
    await another_ca(world)
    assert await authority.certificate(world.platform, version["authority_id"])
    newest = await authority.signing_authority_id(world.platform, "iss-local")
    assert newest != version["authority_id"]
