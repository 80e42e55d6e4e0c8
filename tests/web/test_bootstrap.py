"""The first administrator by the operator's token: once, and only while there is none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from certctl.services import bootstrap
from certctl.services.access import secret_hash
from tests import kit
from tests.conftest import World
from tests.web.kit import Json, Site, json_of, open_site

TOKEN = "a token of the operator, long enough"
PATH = "/auth/bootstrap"


@pytest.fixture
async def fresh(world: World) -> Any:
    """A site that nobody administers yet."""
    opened = open_site(with_token(world, TOKEN), environment_keys=())
    async with opened.client:
        yield opened


def with_token(world: World, token: str) -> World:
    platform = replace(world.platform, bootstrap_token_hash=secret_hash(token))
    return replace(world, platform=platform)


async def used(site: Site, token: str = TOKEN, name: str = "first-admin") -> Any:
    body = {"token": token, "actor_name": name}
    return await site.call("POST", PATH, key=None, json=body)


async def test_the_token_makes_an_administrator_without_another_key(fresh: Site) -> None:
    assert (await fresh.get(PATH, key=None)) == {"available": True}
    made = json_of(await used(fresh), 201)
    assert made["actor_id"] == "first-admin"
    me = await fresh.get("/auth/me", key=made["key_value"])
    assert (me["actor_id"], me["admin"]) == ("first-admin", True)
    assert (await fresh.get(PATH, key=None)) == {"available": False}
    trail = (await fresh.get("/audit", key=made["key_value"]))["data"]
    (event,) = [row for row in trail if row["action"] == "bootstrap.consume"]
    assert (event["actor"], event["address"]) == ("first-admin", "192.0.2.9")


async def test_it_works_once(fresh: Site) -> None:
    await used(fresh)
    assert (await used(fresh, name="second")).status_code == 410


async def test_of_many_at_once_one_succeeds(fresh: Site) -> None:
    answers = await asyncio.gather(*(used(fresh, name=f"admin-{n}") for n in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 410, 410, 410, 410]


async def test_a_token_that_was_used_stays_used_when_the_administrator_is_gone(
    fresh: Site,
) -> None:
    await used(fresh)
    await kit.change(fresh.world, "UPDATE api_keys SET expires_at = now()")
    assert (await used(fresh)).status_code == 410
    another = open_site(with_token(fresh.world, TOKEN + "!"), environment_keys=())
    async with another.client:
        assert (await used(another, TOKEN + "!")).status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"token": "another", "actor_name": "first-admin"}, 401, None),
        ({"token": TOKEN, "actor_name": "No"}, 400, "actor_name"),
        ({"token": TOKEN}, 400, "actor_name"),
        ({"actor_name": "first-admin"}, 400, "token"),
        ({"token": TOKEN, "actor_name": "first-admin", "role": "x"}, 400, "role"),
        ({"token": "x" * 5000, "actor_name": "first-admin"}, 413, None),
        ([], 400, "body"),
    ],
)
async def test_a_wrong_request_makes_nobody(
    fresh: Site, body: Any, status: int, field: str | None
) -> None:
    problem: Json = await fresh.refused(status, "POST", PATH, key=None, json=body)
    assert problem.get("field") == field
    assert TOKEN not in problem["message"]
    assert (await fresh.get(PATH, key=None)) == {"available": True}


async def test_without_a_token_it_is_closed(site: Site) -> None:
    assert (await site.get(PATH, key=None)) == {"available": False}
    assert (await used(site)).status_code == 410


async def test_while_the_environment_names_an_administrator_it_is_closed(world: World) -> None:
    opened = open_site(with_token(world, TOKEN))
    async with opened.client:
        assert (await used(opened)).status_code == 410


async def test_the_first_administrators_key_is_made_once_and_works(world: World) -> None:
    made: list[str] = []
    for _ in range(2):
        await bootstrap.make_first_admin(world.platform, made.append)
    (text,) = made
    opened = open_site(world, environment_keys=())
    async with opened.client:
        assert (await opened.get("/auth/me", key=text))["admin"] is True


async def test_a_key_that_could_not_be_handed_over_does_not_count(world: World) -> None:
    def full_disk(text: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await bootstrap.make_first_admin(world.platform, full_disk)
    made: list[str] = []
    await bootstrap.make_first_admin(world.platform, made.append)
    assert len(made) == 1
