"""What bounds and guards a change: sizes, copies, repeated keys, and two at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.conftest import World
from tests.web.kit import ORDER, UNLIMITED, Site, everything, open_site


@pytest.mark.parametrize("size", [1024, 1025])
async def test_a_body_may_have_as_many_bytes_as_the_setting_says(world: World, size: int) -> None:
    small = open_site(world, budgets=replace(UNLIMITED, max_body=1024))
    frame = json.dumps({"name": "red", "description": ""})
    body = json.dumps({"name": "red", "description": "x" * (size - len(frame))}).encode()
    headers = {"Content-Type": "application/json"}
    async with small.client:
        answer = await small.call("POST", "/teams", content=body, headers=headers)
    assert answer.status_code == (201 if size == 1024 else 413)
    if size > 1024:
        assert "CERTCTL_MAX_BODY_SIZE" in answer.json()["message"]


async def test_a_body_in_pieces_is_counted_as_it_comes(world: World) -> None:
    small = open_site(world, budgets=replace(UNLIMITED, max_body=1024))

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"name": "'
        for _ in range(100):
            yield b"x" * 100
        raise AssertionError("the body was read to its end")

    headers = {"Content-Type": "application/json"}
    async with small.client:
        problem = await small.refused(413, "POST", "/teams", content=pieces(), headers=headers)
    assert problem["error"] == "too_large"


async def test_a_false_length_does_not_let_more_in(world: World) -> None:
    small = open_site(world, budgets=replace(UNLIMITED, max_body=1024))
    headers = {"Content-Type": "application/json", "Content-Length": "10"}
    content = json.dumps({"name": "x" * 5000}).encode()
    async with small.client:
        await small.refused(413, "POST", "/teams", content=content, headers=headers)


async def test_a_stale_copy_changes_nothing(site: Site) -> None:
    old = (await site.call("GET", "/teams/t-default")).headers["ETag"]
    changed = await site.call("PUT", "/teams/t-default", json={"description": "new"})
    before = await everything(site.world)
    headers = {"If-Match": old}
    await site.refused(412, "PUT", "/teams/t-default", json={"name": "x"}, headers=headers)
    assert await everything(site.world) == before
    again = {"If-Match": changed.headers["ETag"]}
    assert (await site.call("PUT", "/teams/t-default", json={}, headers=again)).status_code == 200


async def test_any_copy_will_do_for_a_star(site: Site) -> None:
    headers = {"If-Match": "*"}
    answer = await site.call("PUT", "/teams/t-default", json={"name": "y"}, headers=headers)
    assert answer.json()["name"] == "y"


async def test_the_same_idempotency_key_makes_one_row(site: Site) -> None:
    for path, body in (("/teams", {"name": "red"}), ("/certificates", ORDER)):
        headers = {"Idempotency-Key": "once"}
        first = await site.post(path, body, headers=headers)
        assert await site.post(path, body, headers=headers) == first


async def test_the_same_idempotency_key_at_the_same_time_makes_one_row(site: Site) -> None:
    headers = {"Idempotency-Key": "once"}
    both = await asyncio.gather(
        *(site.post("/certificates", ORDER, headers=headers) for _ in range(4))
    )
    assert len({row["id"] for row in both}) == 1


async def test_the_idempotency_key_of_another_caller_is_another(site: Site) -> None:
    operator = await site.key("r-operator")
    headers = {"Idempotency-Key": "once"}
    mine = await site.post("/teams", {"name": "red"}, headers=headers)
    other = await site.post("/teams", {"name": "blue"}, headers=headers, key=operator)
    assert mine["id"] != other["id"]


async def test_two_of_a_name_at_the_same_time_make_one_and_a_conflict(site: Site) -> None:
    answers = await asyncio.gather(
        *(site.call("POST", "/certificates", json=ORDER) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409]
