"""Bearer secrets become actors; what is unknown, revoked, expired or retired becomes nobody."""

from __future__ import annotations

import pytest

from certctl.domain.access import ROLES, ActorType
from certctl.services import access
from certctl.services.access import Authenticator, EnvironmentKey, make_secret
from tests import kit
from tests.conftest import World


def named(name: str, text: str, *, admin: bool = False) -> EnvironmentKey:
    return EnvironmentKey(name, access.secret_hash(text), admin)


async def a_database_key(world: World, **columns: object) -> str:
    secret = make_secret(access.API_KEY)
    values = {
        "id": "ak-1",
        "name": "ci",
        "key_hash": secret.hash,
        "roles": ["r-operator"],
        "created_by": "admin",
        **columns,
    }
    marks = ", ".join(f"%({name})s" for name in values)
    await kit.change(
        world, f"INSERT INTO api_keys ({', '.join(values)}) VALUES ({marks})", **values
    )
    return secret.text


async def test_a_key_of_the_environment_is_an_administrator_or_a_viewer(world: World) -> None:
    keys = [named("boss", "one", admin=True), named("monitor", "two")]
    who = Authenticator(world.platform, keys)
    boss, monitor = await who("one"), await who("two")
    assert boss is not None
    assert monitor is not None
    assert (boss.id, boss.roles, boss.type) == ("boss", ("r-admin",), ActorType.API_KEY)
    assert (monitor.id, monitor.permissions) == ("monitor", ROLES["r-viewer"])


async def test_a_key_of_the_database_has_its_roles(world: World) -> None:
    actor = await Authenticator(world.platform, ())(await a_database_key(world))
    assert actor is not None
    assert (actor.id, actor.permissions) == ("ci", ROLES["r-operator"])


async def test_a_role_that_does_not_exist_grants_nothing(world: World) -> None:
    text = await a_database_key(world, roles=["r-root", "r-auditor"])
    actor = await Authenticator(world.platform, ())(text)
    assert actor is not None
    assert actor.permissions == ROLES["r-auditor"]


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_key_that_is_over_is_nobodys(world: World, column: str) -> None:
    text = await a_database_key(world, **{column: "2020-01-01T00:00:00Z"})
    assert await Authenticator(world.platform, ())(text) is None


async def test_an_agents_credential_is_that_agent_and_no_more(world: World) -> None:
    token = await kit.fleet.make_token(world.platform, kit.ADMIN)
    enrolled = await kit.fleet.enrol(
        world.platform,
        kit.wire.Enrolment(token=token["token"], name="web1"),
        address=None,
        request_id="r",
    )
    actor = await Authenticator(world.platform, ())(enrolled.credential)
    assert actor == kit.agent_actor(enrolled.agent_id)


@pytest.mark.parametrize(
    "text", ["", "x", "certctl_key_x", "certctl_agent_x", "certctl_enrol_x", "one "]
)
async def test_an_unknown_secret_is_nobody(world: World, text: str) -> None:
    await kit.an_agent(world)
    assert await Authenticator(world.platform, [named("boss", "one", admin=True)])(text) is None


async def test_an_enrolment_token_is_no_credential(world: World) -> None:
    token = (await kit.fleet.make_token(world.platform, kit.ADMIN))["token"]
    who = Authenticator(world.platform, ())
    assert await who(token) is None
    assert await who(token.rpartition(".")[0]) is None


async def test_the_first_administrators_key_is_made_once_and_works(world: World) -> None:
    made: list[str] = []
    for _ in range(2):
        await access.make_first_admin(world.platform, made.append)
    (text,) = made
    actor = await Authenticator(world.platform, ())(text)
    assert actor is not None
    assert actor.is_admin


async def test_a_key_that_could_not_be_handed_over_does_not_count(world: World) -> None:
    def full_disk(text: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await access.make_first_admin(world.platform, full_disk)
    made: list[str] = []
    await access.make_first_admin(world.platform, made.append)
    assert len(made) == 1


def test_a_secret_shows_itself_in_no_representation() -> None:
    secret = make_secret(access.API_KEY)
    assert secret.text not in repr(secret)
    assert len(secret.text) > 40
