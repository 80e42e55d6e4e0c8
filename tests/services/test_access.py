"""Bearer secrets become actors; what is unknown, revoked, expired or retired becomes nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from certctl import wire
from certctl.domain.access import EVERYTHING, ROLES, Actor, ActorType, Permission, Scope
from certctl.services import access, enrolment, keys, plain
from certctl.services.access import Authenticator, make_secret
from certctl.services.platform import EnvironmentKey
from tests import kit
from tests.conftest import World


def named(name: str, text: str, *, admin: bool = False) -> EnvironmentKey:
    return EnvironmentKey(name, access.secret_hash(text), admin)


def with_keys(world: World, *keys: EnvironmentKey) -> World:
    return replace(world, platform=replace(world.platform, environment_keys=keys))


async def who(world: World, text: str) -> Actor:
    actor = await Authenticator(world.platform)(text)
    assert actor is not None
    return actor


async def test_a_key_of_the_environment_is_an_administrator_or_a_viewer(world: World) -> None:
    world = with_keys(world, named("boss", "one", admin=True), named("monitor", "two"))
    boss, monitor = await who(world, "one"), await who(world, "two")
    assert (boss.id, boss.roles, boss.type) == ("boss", ("r-admin",), ActorType.API_KEY)
    assert (monitor.id, set(monitor.permissions)) == ("monitor", ROLES["r-viewer"])


async def test_a_key_of_the_environment_may_be_given_more(world: World) -> None:
    world = with_keys(world, named("ci", "one"))
    await keys.assign(world.platform, kit.ADMIN, "ci", role_id="r-operator")
    ci = await who(world, "one")
    assert ci.roles == ("r-viewer", "r-operator")
    assert set(ci.permissions) == ROLES["r-viewer"] | ROLES["r-operator"]


async def test_a_key_of_the_database_has_its_roles(world: World) -> None:
    actor = await who(world, await kit.an_api_key(world, "ci", "r-operator"))
    assert (actor.id, set(actor.permissions)) == ("ci", ROLES["r-operator"])
    assert actor.permissions[Permission.CERT_ISSUE] == EVERYTHING


async def test_a_role_may_be_for_one_issuer_only(world: World) -> None:
    text = await kit.an_api_key(world, "ci")
    await keys.assign(world.platform, kit.ADMIN, "ci", role_id="r-viewer", issuer_id="iss-local")
    actor = await who(world, text)
    assert actor.scope(Permission.CERT_READ) == Scope(issuers=frozenset({"iss-local"}))
    assert not actor.is_admin


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_key_that_is_over_is_nobodys(world: World, column: str) -> None:
    text = await kit.an_api_key(world, "ci", "r-operator")
    await kit.change(world, f"UPDATE api_keys SET {column} = '2020-01-01' WHERE name = 'ci'")
    assert await Authenticator(world.platform)(text) is None


async def test_a_role_that_has_ended_grants_nothing(world: World) -> None:
    text = await kit.an_api_key(world, "ci", "r-operator", "r-auditor")
    await kit.change(
        world, "UPDATE actor_roles SET expires_at = '2020-01-01' WHERE role_id = 'r-operator'"
    )
    assert set((await who(world, text)).permissions) == ROLES["r-auditor"]


async def test_a_permission_that_nobody_knows_grants_nothing(world: World) -> None:
    """A newer release may have known it."""
    text = await kit.an_api_key(world, "ci")
    await kit.change(world, "INSERT INTO roles (id, name) VALUES ('r-1', 'new')")
    for permission in ("moon.read", "cert.read"):
        await kit.change(
            world,
            "INSERT INTO role_permissions (role_id, permission) VALUES ('r-1', %(name)s)",
            name=permission,
        )
    await keys.assign(world.platform, kit.ADMIN, "ci", role_id="r-1")
    assert set((await who(world, text)).permissions) == {Permission.CERT_READ}


async def enrolled_agent(world: World) -> wire.Enrolled:
    token = await enrolment.make_token(world.platform, kit.ADMIN)
    wish = wire.Enrolment(token=token["token"], name="web1")
    return await enrolment.enrol(world.platform, wish, address=None, request_id="r")


async def test_an_agents_credential_is_that_agent_and_no_more(world: World) -> None:
    enrolled = await enrolled_agent(world)
    assert await who(world, enrolled.credential) == kit.agent_actor(enrolled.agent_id)


async def test_the_next_credential_ends_the_one_before_when_it_is_first_used(world: World) -> None:
    enrolled = await enrolled_agent(world)
    agent = kit.agent_actor(enrolled.agent_id)
    lost = await enrolment.next_credential(world.platform, agent, enrolled.agent_id)
    following = await enrolment.next_credential(world.platform, agent, enrolled.agent_id)
    ask = Authenticator(world.platform)
    assert await ask(enrolled.credential) == agent
    assert await ask(lost.credential) is None
    assert await ask(following.credential) == agent
    assert await ask(enrolled.credential) is None
    assert await ask(following.credential) == agent


async def test_a_revoked_credential_is_nobodys_until_the_agent_enrols_again(world: World) -> None:
    enrolled = await enrolled_agent(world)
    agent = kit.agent_actor(enrolled.agent_id)
    offered = await enrolment.next_credential(world.platform, agent, enrolled.agent_id)
    await enrolment.revoke_credential(world.platform, kit.ADMIN, enrolled.agent_id)
    ask = Authenticator(world.platform)
    for credential in (enrolled.credential, offered.credential):
        assert await ask(credential) is None
    token = await enrolment.make_token(world.platform, kit.ADMIN, agent_id=enrolled.agent_id)
    wish = wire.Enrolment(token=token["token"], name="web1")
    again = await enrolment.enrol(world.platform, wish, address=None, request_id="r")
    assert again.agent_id == enrolled.agent_id
    assert await ask(again.credential) == agent


@pytest.mark.parametrize(
    "text", ["", "x", "certctl_key_x", "certctl_agent_x", "certctl_enrol_x", "one "]
)
async def test_an_unknown_secret_is_nobody(world: World, text: str) -> None:
    await kit.an_agent(world)
    world = with_keys(world, named("boss", "one", admin=True))
    assert await Authenticator(world.platform)(text) is None


async def test_an_enrolment_token_is_no_credential(world: World) -> None:
    token = (await enrolment.make_token(world.platform, kit.ADMIN))["token"]
    ask = Authenticator(world.platform)
    assert await ask(token) is None
    assert await ask(token.rpartition(".")[0]) is None


@asynccontextmanager
async def hearing(world: World) -> AsyncIterator[None]:
    """The world's wake-ups arrive."""
    listening = asyncio.create_task(world.platform.signals.listen())
    try:
        async with asyncio.timeout(10):
            while not world.platform.signals.hears:
                await asyncio.sleep(0.01)
        yield
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def gone(ask: Authenticator, text: str) -> None:
    """Wait until a secret is nobody's, which takes one message from the database."""
    async with asyncio.timeout(5):
        while await ask(text) is not None:
            await asyncio.sleep(0.01)


async def test_a_remembered_key_is_forgotten_when_it_is_revoked(world: World) -> None:
    text = await kit.an_api_key(world, "ci", "r-operator")
    ask = Authenticator(world.platform)
    async with hearing(world):
        first = await ask(text)
        # Nobody said so: only what is remembered can still answer.
        await kit.change(world, "UPDATE api_keys SET revoked_at = now() WHERE name = 'ci'")
        assert await ask(text) is first
        await kit.change(world, "UPDATE api_keys SET revoked_at = NULL WHERE name = 'ci'")
        await keys.revoke(world.platform, kit.ADMIN, "ci")
        await gone(ask, text)


async def test_a_key_that_ends_is_not_remembered_beyond_its_end(world: World) -> None:
    now = world.platform.clock()
    platform = replace(world.platform, clock=lambda: now + timedelta(seconds=skipped))
    skipped = 0
    text = await kit.an_api_key(world, "ci", "r-operator")
    await kit.change(
        world, "UPDATE api_keys SET expires_at = now() + interval '3 seconds' WHERE name = 'ci'"
    )
    ask = Authenticator(platform)
    async with hearing(world):
        first = await ask(text)
        await kit.change(world, "UPDATE api_keys SET revoked_at = now() WHERE name = 'ci'")
        assert await ask(text) is first
        skipped = 4
        assert await ask(text) is None


async def test_without_wake_ups_nothing_is_remembered(world: World) -> None:
    text = await kit.an_api_key(world, "ci", "r-operator")
    ask = Authenticator(world.platform)
    assert await ask(text) is not None
    await kit.change(world, "UPDATE api_keys SET revoked_at = now() WHERE name = 'ci'")
    assert await ask(text) is None


async def test_the_last_use_is_noted_for_all_keys_at_once_and_never_back_in_time(
    world: World,
) -> None:
    texts = [await kit.an_api_key(world, name) for name in ("one", "two")]
    ask = Authenticator(world.platform)
    for text in texts:
        await ask(text)
    await kit.change(
        world, "UPDATE api_keys SET last_used_at = now() + interval '1 hour' WHERE name = 'two'"
    )
    await ask.note_uses()
    told = {
        each["actor_id"]: each["keys"][0]["last_used_at"] - each["keys"][0]["created_at"]
        for each in await keys.every(world.platform, kit.ADMIN)
    }
    assert told["one"] < timedelta(minutes=1)
    assert told["two"] > timedelta(minutes=59)


async def test_a_deleted_issuer_takes_the_grants_for_it_along(world: World) -> None:
    """An id can be chosen again: what was granted for the one is not for the other."""
    text = await kit.an_api_key(world, "ci")
    await plain.create(
        world.platform, kit.ADMIN, plain.ISSUERS,
        values={"id": "iss-2", "name": "two", "type": "GenericCA", "config": {}},
    )  # fmt: skip
    await keys.assign(world.platform, kit.ADMIN, "ci", role_id="r-viewer", issuer_id="iss-2")
    assert (await who(world, text)).permissions
    await plain.delete(world.platform, kit.ADMIN, plain.ISSUERS, "iss-2")
    assert not (await who(world, text)).permissions


def test_a_secret_shows_itself_in_no_representation() -> None:
    secret = make_secret(access.API_KEY)
    assert secret.text not in repr(secret)
    assert len(secret.text) > 40
