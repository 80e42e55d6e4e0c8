"""Each way to tamper with the database by hand, as a superuser without triggers: what finds it
online, and what an export with a kept checkpoint finds."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from certctl.domain import exported
from certctl.domain.errors import Invalid, Unavailable
from certctl.domain.trail import Checkpoint
from certctl.services import checkpoints, trail
from tests import kit
from tests.audited import export, kept, reseal, seal_all, tamper, write
from tests.conftest import World

MIDDLE = "(SELECT sequence FROM audit_events ORDER BY sequence OFFSET 2 LIMIT 1)"
LAST_SEAL = "(SELECT max(number) FROM audit_seals)"
IN_LAST_SEAL = f"sequence >= (SELECT first_sequence FROM audit_seals WHERE number = {LAST_SEAL})"
NO_CHECKPOINTS = "DELETE FROM audit_checkpoints"


@pytest.fixture
async def checkpoint(world: World) -> Checkpoint:
    """Three seals, of which the last is attested by a checkpoint that was kept."""
    for part in range(3):
        await write(world, *(f"action {part}.{n}" for n in range(4)))
        await seal_all(world)
    assert await trail.verify(world.platform) == []
    return await kept(world)


async def offline(world: World, checkpoint: Checkpoint) -> list[str]:
    return exported.verify(await export(world), [checkpoint]).problems


async def test_nothing_is_found_where_nothing_was_done(
    world: World, checkpoint: Checkpoint
) -> None:
    await write(world, "not sealed yet")
    assert await trail.verify(world.platform) == []
    assert await offline(world, checkpoint) == []


@dataclass(frozen=True)
class Case:
    """`words` are told online and offline."""

    name: str
    statements: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        return self.name


CASES = [
    Case(
        "changed",
        (f"UPDATE audit_events SET actor = 'somebody' WHERE sequence = {MIDDLE}",),
        "was changed after it was written",
    ),
    Case(
        "changed with another hash",
        (
            f"UPDATE audit_events SET actor = 'x', content_hash = repeat('0', 64) "
            f"WHERE sequence = {MIDDLE}",
        ),
        "hashes or sequence numbers were rewritten",
    ),
    Case(
        "moved in time",
        (f"UPDATE audit_events SET timestamp = 'epoch' WHERE sequence = {MIDDLE}",),
        "was changed after it was written",
    ),
    Case(
        "moved beyond all time",
        (f"UPDATE audit_events SET timestamp = 'infinity' WHERE sequence = {MIDDLE}",),
        "was changed after it was written",
    ),
    Case(
        "numbers that no program reads",
        (f"UPDATE audit_events SET details = '{{\"n\": 1e400}}' WHERE sequence = {MIDDLE}",),
        "was changed after it was written",
    ),
    Case(
        "nesting without end",
        (
            f"UPDATE audit_events SET details = (repeat('[', 3000) || repeat(']', 3000))::jsonb "
            f"WHERE sequence = {MIDDLE}",
        ),
        "was changed after it was written",
    ),
    Case(
        "removed",
        (f"DELETE FROM audit_events WHERE sequence = {MIDDLE}",),
        "are missing",
    ),
    Case(
        "added",
        (
            "INSERT INTO audit_events SELECT -5, 'audit-x', actor, actor_type, action, "
            "resource_type, resource_id, details, event_category, address, request_id, timestamp, "
            "content_hash FROM audit_events LIMIT 1",
        ),
        "1 more than the",
    ),
    Case(
        "two exchanged",
        (
            "UPDATE audit_events SET sequence = -1 WHERE sequence = 5",
            "UPDATE audit_events SET sequence = 5 WHERE sequence = 6",
            "UPDATE audit_events SET sequence = 6 WHERE sequence = -1",
        ),
        "hashes or sequence numbers were rewritten",
    ),
    Case(
        "the tail cut and its seals left",
        (f"DELETE FROM audit_events WHERE {IN_LAST_SEAL}",),
        "are missing",
    ),
    Case(
        "the tail cut with its seal",
        (
            f"DELETE FROM audit_events WHERE {IN_LAST_SEAL}",
            f"DELETE FROM audit_seals WHERE number = {LAST_SEAL}",
        ),
        "its tail was cut",
    ),
    Case(
        "a seal removed",
        ("DELETE FROM audit_seals WHERE number = 2",),
        "does not follow seal 1",
    ),
    Case(
        "a seal rewritten",
        ("UPDATE audit_seals SET seal = repeat('0', 64) WHERE number = 2",),
        "seals were rewritten",
    ),
    Case(
        "everything removed",
        ("DELETE FROM audit_events", "DELETE FROM audit_seals"),
        "the trail ends at seal 0: its tail was cut",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_tampering_is_found_online_and_offline(
    world: World, checkpoint: Checkpoint, case: Case
) -> None:
    await tamper(world, *case.statements)
    for told in (await trail.verify(world.platform), await offline(world, checkpoint)):
        assert any(case.words in problem for problem in told), told


async def test_a_changed_event_is_named_by_its_number_and_id(
    world: World, checkpoint: Checkpoint
) -> None:
    (row,) = await kit.rows(world, f"SELECT * FROM audit_events WHERE sequence = {MIDDLE}")
    await tamper(world, f"UPDATE audit_events SET details = '{{}}' WHERE sequence = {MIDDLE}")
    assert await trail.verify(world.platform) == [
        f"event {row['sequence']} ({row['id']}) was changed after it was written"
    ]


REWRITTEN = (f"UPDATE audit_events SET actor = 'somebody' WHERE sequence = {MIDDLE}",)
SHORTENED = (f"DELETE FROM audit_events WHERE sequence = {MIDDLE}",)


@pytest.mark.parametrize("statements", [REWRITTEN, SHORTENED])
async def test_a_history_rewritten_with_hashes_and_seals_is_found_by_the_stored_checkpoints(
    world: World, checkpoint: Checkpoint, statements: tuple[str, ...]
) -> None:
    await tamper(world, *statements)
    await reseal(world)
    (told,) = await trail.verify(world.platform)
    assert "the history up to event" in told


@pytest.mark.parametrize("statements", [REWRITTEN, SHORTENED])
async def test_a_history_rewritten_with_its_checkpoints_is_found_by_a_kept_one_alone(
    world: World, checkpoint: Checkpoint, statements: tuple[str, ...]
) -> None:
    await tamper(world, *statements, NO_CHECKPOINTS)
    await reseal(world)
    assert await trail.verify(world.platform) == []
    (told,) = await offline(world, checkpoint)
    assert "the history up to event" in told


async def test_a_tail_cut_with_seals_and_checkpoints_is_found_by_a_kept_one_alone(
    world: World, checkpoint: Checkpoint
) -> None:
    await tamper(
        world,
        f"DELETE FROM audit_events WHERE {IN_LAST_SEAL}",
        f"DELETE FROM audit_seals WHERE number = {LAST_SEAL}",
        NO_CHECKPOINTS,
    )
    assert await trail.verify(world.platform) == []
    (told,) = await offline(world, checkpoint)
    assert "its tail was cut" in told
    await write(world, *(f"new {n}" for n in range(4)))
    await seal_all(world)
    (told,) = await offline(world, checkpoint)
    assert "the history up to event" in told


async def test_a_forged_checkpoint_is_found(world: World, checkpoint: Checkpoint) -> None:
    await tamper(
        world,
        "UPDATE audit_checkpoints SET payload = replace(payload, '\"number\":1', '\"number\":2')",
    )
    (told,) = await trail.verify(world.platform)
    assert "the signature of this checkpoint does not fit the key" in told


async def test_a_checkpoint_that_is_none_any_more_is_told_wherever_it_is_read(
    world: World, checkpoint: Checkpoint
) -> None:
    await tamper(world, "UPDATE audit_checkpoints SET payload = '{}'")
    for call in (
        checkpoints.make(world.platform),
        checkpoints.latest(world.platform, kit.ADMIN),
    ):
        with pytest.raises(Unavailable, match="was changed where it is stored"):
            await call
    assert await trail.verify(world.platform)


async def test_no_checkpoint_is_made_over_a_trail_that_does_not_continue_the_last(
    world: World, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    assert await checkpoints.make(world.platform) is None  # nothing new
    assert caplog.text == ""
    await tamper(world, f"DELETE FROM audit_seals WHERE number = {LAST_SEAL}")
    with caplog.at_level(logging.ERROR):
        assert await checkpoints.make(world.platform) is None
    assert "the audit trail was tampered with" in caplog.text


COLUMNS = {
    "audit_events": "actor",
    "audit_seals": "seal",
    "audit_checkpoints": "payload",
    "audit_checkpoint_keys": "public_key",
}


@pytest.mark.parametrize("table", COLUMNS)
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE"])
async def test_the_tables_refuse_changes_even_of_their_owner(
    world: World, checkpoint: Checkpoint, table: str, verb: str
) -> None:
    statements = {
        "UPDATE": f"UPDATE {table} SET {COLUMNS[table]} = ''",
        "DELETE": f"DELETE FROM {table}",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }
    before = await kit.rows(world, f"SELECT * FROM {table}")
    with pytest.raises(Invalid):
        await kit.change(world, statements[verb])
    assert before == await kit.rows(world, f"SELECT * FROM {table}") != []
