"""The sealer leaves no row out, whatever the order of commits; verification finds what changed."""

from __future__ import annotations

import asyncio

import pytest

from certctl.services import audit, trail
from certctl.services.audit import Sealer
from certctl.store.db import Tx
from tests import kit
from tests.conftest import World


async def write(tx: Tx, action: str) -> None:
    await audit.record(tx, kit.ADMIN, action, on=("team", "t-1"))


async def seal_all(world: World) -> None:
    """Two ticks: what the first has seen, the second seals."""
    sealer = Sealer(world.platform)
    await sealer.tick()
    await sealer.tick()


async def unsealed(world: World) -> int:
    return int(
        await kit.value(
            world,
            """SELECT count(*) FROM audit_events WHERE sequence >
                   (SELECT coalesce(max(last_sequence), 0) FROM audit_seals)""",
        )
    )


async def test_everything_that_was_committed_is_sealed_in_order(world: World) -> None:
    await seal_all(world)
    counted = await kit.value(world, "SELECT sum(row_count) FROM audit_seals")
    assert counted == await kit.value(world, "SELECT count(*) FROM audit_events")
    assert await unsealed(world) == 0
    assert await trail.verify(world.platform) == []


async def test_a_row_is_not_sealed_before_a_smaller_number_can_still_come(world: World) -> None:
    sealer, db = Sealer(world.platform), world.platform.db
    await seal_all(world)
    async with db.transaction() as slow:
        await write(slow, "slow")
        async with db.transaction() as quick:
            await write(quick, "quick")
        for _ in range(3):
            await sealer.tick()
        assert await unsealed(world) == 1
    await sealer.tick()
    await sealer.tick()
    assert await unsealed(world) == 0
    assert await trail.verify(world.platform) == []


async def test_a_number_drawn_by_a_younger_transaction_before_an_older_ones_is_not_left_out(
    world: World,
) -> None:
    sealer, db = Sealer(world.platform), world.platform.db
    await seal_all(world)
    async with db.transaction() as younger:
        async with db.transaction() as older:
            await older.run("UPDATE teams SET description = 'a write before the event'")
            await younger.run("SELECT pg_current_xact_id()")
            await write(younger, "smaller number, larger transaction id")
            await write(older, "larger number, smaller transaction id")
        for _ in range(3):
            await sealer.tick()
        assert await unsealed(world) == 1
    await sealer.tick()
    await sealer.tick()
    assert await unsealed(world) == 0
    assert await trail.verify(world.platform) == []


async def test_no_row_is_left_out_by_two_sealers_under_many_writers(world: World) -> None:
    done = asyncio.Event()

    async def writer(number: int) -> None:
        for turn in range(10):
            async with world.platform.db.transaction() as tx:
                await write(tx, f"writer {number} turn {turn}")
                await asyncio.sleep(0.001 * ((number * 7 + turn) % 5))

    async def seal() -> None:
        sealer = Sealer(world.platform)
        while not done.is_set():
            await sealer.tick()
            await asyncio.sleep(0)

    sealing = [asyncio.create_task(seal()) for _ in range(2)]
    await asyncio.gather(*(writer(number) for number in range(5)))
    done.set()
    await asyncio.gather(*sealing)
    await seal_all(world)
    counted = await kit.value(world, "SELECT sum(row_count) FROM audit_seals")
    assert counted == await kit.value(world, "SELECT count(*) FROM audit_events")
    assert await trail.verify(world.platform) == []


async def test_a_number_that_was_never_committed_is_no_problem(world: World) -> None:
    async def rolled_back() -> None:
        async with world.platform.db.transaction() as tx:
            await write(tx, "rolled back")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rolled_back()
    async with world.platform.db.transaction() as tx:
        await write(tx, "committed")
    await seal_all(world)
    assert await trail.verify(world.platform) == []


async def tamper(world: World, statement: str) -> None:
    """As somebody with all rights over the database would."""
    for table in ("audit_events", "audit_seals"):
        await kit.change(world, f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert await kit.change(world, statement)


MIDDLE = "(SELECT sequence FROM audit_events ORDER BY sequence OFFSET 2 LIMIT 1)"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"UPDATE audit_events SET actor = 'somebody' WHERE sequence = {MIDDLE}", "was changed"),
        (f"DELETE FROM audit_events WHERE sequence = {MIDDLE}", "are not those that were sealed"),
        ("DELETE FROM audit_events WHERE sequence = 1", "are not those that were sealed"),
        ("UPDATE audit_seals SET seal = previous", "are not those that were sealed"),
        ("DELETE FROM audit_seals WHERE number = 1", "does not follow"),
        ("UPDATE audit_seals SET previous = 'x' WHERE number = 2", "does not follow"),
        (
            f"UPDATE audit_events SET details = '{{\"x\": 1}}' WHERE sequence = {MIDDLE}",
            "was changed",
        ),
        (
            "INSERT INTO audit_events SELECT 0, 'audit-x', actor, actor_type, action, "
            "resource_type, resource_id, details, event_category, address, request_id, timestamp, "
            "content_hash FROM audit_events LIMIT 1",
            "was changed",
        ),
    ],
)
async def test_tampering_is_found_and_told(world: World, statement: str, words: str) -> None:
    await seal_all(world)
    async with world.platform.db.transaction() as tx:
        await write(tx, "for a second seal")
    await seal_all(world)
    assert await trail.verify(world.platform) == []
    await tamper(world, statement)
    problems = await trail.verify(world.platform)
    assert any(words in problem for problem in problems), problems


async def test_a_changed_event_that_is_not_sealed_yet_is_found_by_its_hash(world: World) -> None:
    await tamper(world, "UPDATE audit_events SET action = 'nothing happened'")
    assert await trail.verify(world.platform)
