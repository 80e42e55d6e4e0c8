"""The platform's own certificates: OCSP responders and the server's, renewed in good time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from certctl.pki.sealing import DataKey
from certctl.services import authority, status
from certctl.services.platform import Platform
from tests import kit
from tests.conftest import World, open_world


@asynccontextmanager
async def later(
    database: str, data_key: DataKey, wait: timedelta, **terms: object
) -> AsyncIterator[World]:
    """The platform on the same database, its clock ahead."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC) + wait  # noqa: E731
    async for world in open_world(database, data_key, clock=clock, **terms):
        yield world


async def issuing_ca(world: World) -> str:
    return str(await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NOT NULL"))


async def responder_serial(platform: Platform, ca_id: str) -> str:
    return (await status.responder(platform, ca_id)).facts.serial


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (22, False), (24, True), (31, True)])
async def test_a_responder_certificate_is_replaced_in_its_grace_period(
    database: str, ready_template: tuple[str, DataKey], world: World, days: int, renewed: bool
) -> None:
    ca_id = await issuing_ca(world)
    before = await responder_serial(world.platform, ca_id)
    async with later(database, ready_template[1], timedelta(days=days)) as ahead:
        after = await responder_serial(ahead.platform, ca_id)
    assert (before != after) == renewed


async def test_a_responder_certificate_may_sign_ocsp_and_is_not_asked_about_itself(
    world: World,
) -> None:
    held = await status.responder(world.platform, await issuing_ca(world))
    assert held.facts.ekus == ("OCSPSigning",)
    assert held.facts.ocsp_urls == held.facts.crl_urls == ()


async def test_upkeep_makes_crls_and_responders_for_every_ca_once(world: World) -> None:
    await kit.change(world, "DELETE FROM crls")
    assert await status.keep_fresh(world.platform) == 2
    assert await status.keep_fresh(world.platform) == 0
    count = "SELECT count(*) FROM service_certificates WHERE purpose = 'ocsp_responder'"
    assert await kit.value(world, count) == 2


async def test_a_ca_whose_key_does_not_open_does_not_stop_the_upkeep_of_the_others(
    world: World,
) -> None:
    await kit.change(world, "DELETE FROM crls")
    await kit.change(world, "UPDATE authorities SET sealed_key = '\\x00' WHERE parent_id IS NULL")
    assert await status.keep_fresh(world.platform) == 1


async def server_names(world: World, ca_id: str) -> set[str]:
    held = await authority.service_certificate(
        world.platform, ca_id, "server", grace=timedelta(days=10)
    )
    return {name.value for name in held.facts.names}


async def test_the_server_certificate_follows_its_names(
    database: str, ready_template: tuple[str, DataKey], world: World
) -> None:
    ca_id = await issuing_ca(world)
    assert await server_names(world, ca_id) == {"localhost", "127.0.0.1"}
    names = ("certctl.example.test", "192.0.2.1", "::1")
    async with later(database, ready_template[1], timedelta(0), server_names=names) as other:
        assert await server_names(other, ca_id) == set(names)
        first = await authority.service_certificate(
            other.platform, ca_id, "server", grace=timedelta(days=10)
        )
        second = await authority.service_certificate(
            other.platform, ca_id, "server", grace=timedelta(days=10)
        )
    assert first.cert_der == second.cert_der


async def test_every_certificate_of_the_platforms_own_is_on_record(world: World) -> None:
    ca_id = await issuing_ca(world)
    await server_names(world, ca_id)
    recorded = await kit.rows(
        world,
        """SELECT s.id FROM service_certificates s JOIN issuances i
               ON (i.authority_id, i.serial_number) = (s.authority_id, s.serial_number)
           WHERE i.state = 'issued'""",
    )
    audited = await kit.rows(
        world, "SELECT resource_id FROM audit_events WHERE action = 'service_certificate_issued'"
    )
    assert {row["id"] for row in recorded} == {row["resource_id"] for row in audited}
    assert recorded
