"""The front door: room and time of each part, and parts that cannot starve each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from certctl.services.platform import Platform
from certctl.store.db import Database
from certctl.web.front import FrontDoor, Room, Rules
from tests.conftest import World
from tests.web.kit import Site, client, open_site

OCSP = "/.well-known/pki/ocsp/iss-local/1"


@dataclass
class Slow:
    """An application that answers when it is told to."""

    leave: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    cancelled: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside += 1
        try:
            await self.leave.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def holds(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.inside != number:
                await asyncio.sleep(0.01)


async def test_more_than_there_is_room_for_are_told_to_come_again() -> None:
    slow, room = Slow(), Room(2)
    async with client(FrontDoor((), slow, tls=True, room=room)) as caller, asyncio.TaskGroup() as g:
        first = [g.create_task(caller.get("/x")) for _ in range(2)]
        await slow.holds(2)
        third = await caller.get("/x")
        assert (third.status_code, third.headers["Retry-After"]) == (503, "1")
        assert third.json()["error"] == "unavailable"
        slow.leave.set()
    assert [task.result().status_code for task in first] == [204, 204]
    assert room.taken == 0


async def test_a_request_that_takes_too_long_is_ended_and_leaves_its_place() -> None:
    slow, room = Slow(), Room(1)
    rules = Rules(timeout=0.05)
    async with client(FrontDoor((), slow, tls=True, rules=rules, room=room)) as caller:
        answer = await caller.get("/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["message"] == "the request took longer than 0.05 s"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert (slow.cancelled, room.taken) == (1, 0)


async def test_a_request_that_waits_by_design_is_neither_timed_nor_counted() -> None:
    slow, room = Slow(), Room(0)
    rules = Rules(timeout=0.01, waits=lambda scope: scope["path"] == "/wait")
    door = FrontDoor((), slow, tls=True, rules=rules, room=room)
    async with client(door) as caller, asyncio.TaskGroup() as group:
        waiting = group.create_task(caller.get("/wait"))
        await slow.holds(1)
        assert (await caller.get("/x")).status_code == 503
        assert not waiting.done()
        slow.leave.set()
    assert waiting.result().status_code == 204


async def test_a_body_that_comes_slowly_takes_nobodys_place() -> None:
    came, leave = asyncio.Event(), asyncio.Event()

    async def dripping() -> AsyncIterator[bytes]:
        yield b"x"
        came.set()
        await leave.wait()
        yield b"y"

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body + message["body"]})

    room = Room(1)
    async with (
        client(FrontDoor((), reads, tls=True, room=room)) as caller,
        asyncio.TaskGroup() as group,
    ):
        slow = group.create_task(caller.post("/x", content=dripping()))
        await came.wait()
        assert (await caller.get("/x")).status_code == 200
        leave.set()
    assert (slow.result().status_code, slow.result().content) == (200, b"xy")
    assert room.taken == 0


@pytest.fixture
async def relying(world: World) -> AsyncIterator[Platform]:
    """The platform with connections of its own, as `serve` gives it to relying parties."""
    db = Database(world.conninfo, max_size=2)
    await db.open()
    yield replace(world.platform, db=db)
    await db.close()


async def blocked(world: World, number: int) -> None:
    """Wait until so many connections wait for a lock."""
    sql = """SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    async with (
        asyncio.timeout(10),
        await psycopg.AsyncConnection.connect(world.conninfo, autocommit=True) as connection,
    ):
        while True:
            row = await (await connection.execute(sql)).fetchone()
            if row and row[0] >= number:
                return
            await asyncio.sleep(0.02)


async def test_relying_parties_are_answered_while_the_api_waits_for_the_database(
    world: World, relying: Platform
) -> None:
    site = open_site(world, relying=relying)
    body = {"name": "blue"}
    async with (
        site.client,
        await psycopg.AsyncConnection.connect(world.conninfo) as lock,
        asyncio.TaskGroup() as group,
    ):
        team = await site.post("/teams", {"name": "red"})
        await lock.execute("SELECT 1 FROM teams WHERE id = %s FOR UPDATE", (team["id"],))
        path = f"/teams/{team['id']}"
        waiting = [group.create_task(site.call("PUT", path, json=body)) for _ in range(20)]
        await blocked(world, 8)  # every connection that the API has
        async with asyncio.timeout(5):
            for path in (OCSP, "/.well-known/pki/crl/iss-local"):
                assert (await site.client.get(path)).status_code == 200
        assert not any(task.done() for task in waiting)
        await lock.rollback()
    assert {task.result().status_code for task in waiting} <= {200, 503}


async def test_the_api_answers_while_relying_parties_wait_for_the_database(
    world: World, relying: Platform
) -> None:
    site = open_site(world, relying=relying)
    async with site.client:
        assert (await site.client.get(OCSP)).status_code == 200
        async with (
            await psycopg.AsyncConnection.connect(world.conninfo) as lock,
            asyncio.TaskGroup() as group,
        ):
            await lock.execute("LOCK TABLE issuances IN ACCESS EXCLUSIVE MODE")
            waiting = [group.create_task(site.client.get(OCSP)) for _ in range(40)]
            await blocked(world, 2)  # every connection that they have
            async with asyncio.timeout(5):
                assert (await site.call("GET", "/teams")).status_code == 200
                await site.post("/teams", {"name": "green"})
            assert not any(task.done() for task in waiting)
            await lock.rollback()
        assert {task.result().status_code for task in waiting} == {200}


async def test_probes_are_answered_when_there_is_no_room(world: World) -> None:
    site: Site = open_site(world, rules=Rules(at_once=0))
    async with site.client:
        assert (await site.client.get("/health")).status_code == 200
        assert (await site.call("GET", "/teams")).status_code == 503
        told = await site.client.get(OCSP)
        assert (told.status_code, told.text, told.headers["Retry-After"]) == (503, "later\n", "1")
