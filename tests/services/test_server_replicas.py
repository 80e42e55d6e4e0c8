"""Servers on one database count each other, so that each grants its part of every budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from certctl.services import replicas
from certctl.store.db import Database
from tests.conftest import World
from tests.kit import change, rows


async def test_each_server_counts_those_that_were_seen_of_late(world: World) -> None:
    beat = replicas.beat
    assert await beat(world.platform, "a") == 1
    assert await beat(world.platform, "b") == 2
    assert await beat(world.platform, "a") == 2
    await change(world, "UPDATE replicas SET seen_at = now() - interval '31 s' WHERE id = 'b'")
    assert await beat(world.platform, "a") == 1
    assert await beat(world.platform, "b") == 2


async def test_processes_of_another_kind_take_no_part(world: World) -> None:
    await change(world, "INSERT INTO replicas (id, kind) VALUES ('w', 'work')")
    assert await replicas.beat(world.platform, "a") == 1


async def test_the_dead_are_forgotten_after_an_hour(world: World) -> None:
    await change(
        world,
        """INSERT INTO replicas (id, kind, seen_at)
           VALUES ('dead', 'serve', now() - interval '61 minutes'),
                  ('ill', 'serve', now() - interval '59 minutes')""",
    )
    await replicas.beat(world.platform, "a")
    found = await rows(world, "SELECT id FROM replicas ORDER BY id")
    assert [row["id"] for row in found] == ["a", "ill"]


async def test_a_server_that_stops_signs_off_at_once(world: World) -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    tasks = [
        asyncio.create_task(replicas.share(world.platform, told.put_nowait, every=0.05))
        for _ in range(2)
    ]
    async with asyncio.timeout(10):
        while await told.get() != 2:
            pass
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        while await told.get() != 1:
            pass
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert await rows(world, "SELECT * FROM replicas") == []


async def test_the_last_number_stands_while_the_database_is_away(world: World) -> None:
    away = Database(world.conninfo, max_size=1)
    await away.open()
    told: list[int] = []
    on = replace(world.platform, db=away)
    sharing = asyncio.create_task(replicas.share(on, told.append, every=0.01))
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
        await away.close()
        count = len(told)
        await asyncio.sleep(0.1)
    assert len(told) <= count + 1
    assert not sharing.done()
    sharing.cancel()
    await asyncio.wait([sharing])
