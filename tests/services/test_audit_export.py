"""Exports and checkpoints from the database: nothing left out in silence, everything provable."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certctl.domain import exported
from certctl.domain.errors import Invalid, NotAllowed, NotFound
from certctl.pki import checkpoint as signed
from certctl.services import audit_export, checkpoints, trail
from certctl.services.audit import Event, record_many
from certctl.services.audit_export import Wish
from tests import kit
from tests.audited import export, kept, seal_all, tamper, write
from tests.conftest import World, open_world


def of_kind(lines: list[bytes], kind: str) -> list[dict[str, Any]]:
    return [found for line in lines if (found := json.loads(line))["type"] == kind]


async def test_a_whole_export_holds_every_event_and_verifies(world: World) -> None:
    await write(world, "one", "two", amount=1.5, words=["ä", None], nested={"a": [1, {"b": True}]})
    await seal_all(world)
    await write(world, "not sealed yet")
    count = await kit.value(world, "SELECT count(*) FROM audit_events")
    lines = await export(world)
    verdict = exported.verify(lines)
    assert (verdict.problems, verdict.events) == ([], count)
    assert of_kind(lines, "end") == [{"type": "end", "complete": True, "events": count}]
    numbers = [row["sequence"] for row in of_kind(lines, "event")]
    assert numbers == sorted(numbers)


async def test_an_export_is_audited_with_who_and_what(world: World) -> None:
    await export(world, category="auth", limit=7, form="csv")
    (row,) = await kit.rows(world, "SELECT * FROM audit_events WHERE action = 'audit_exported'")
    assert (row["actor"], row["address"]) == (kit.ADMIN.id, kit.ADMIN.address)
    assert row["details"] == {
        "since": None, "until": None, "event_category": "auth", "limit": 7, "format": "csv",
    }  # fmt: skip


async def test_only_who_may_export_does(world: World) -> None:
    with pytest.raises(NotAllowed):
        await audit_export.export(world.platform, kit.VIEWER, Wish())
    assert not await kit.value(
        world, "SELECT count(*) FROM audit_events WHERE action = 'audit_exported'"
    )


async def three_times(world: World) -> list[Any]:
    """Events at three times, each with its seal; the moments between them."""
    moments = []
    for part in range(3):
        await write(world, f"at {part}", f"also at {part}")
        await seal_all(world)
        moments.append(await kit.value(world, "SELECT clock_timestamp()"))
    return moments


async def test_a_range_of_time_has_its_events_and_verifies_against_a_checkpoint(
    world: World,
) -> None:
    first, second, third = await three_times(world)
    checkpoint = await kept(world)
    lines = await export(world, since=first, until=second)
    actions = [row["action"] for row in of_kind(lines, "event")]
    assert actions == ["at 1", "also at 1"]
    assert exported.verify(lines).problems == []
    lines = await export(world, since=second)
    assert exported.verify(lines, [checkpoint]).problems == []
    assert await export(world, since=third, until=third + timedelta(microseconds=1))


async def test_a_range_whose_events_were_all_removed_is_found_by_their_seals(world: World) -> None:
    first, second, _ = await three_times(world)
    await tamper(world, "DELETE FROM audit_events WHERE action IN ('at 1', 'also at 1')")
    told = exported.verify(await export(world, since=first, until=second)).problems
    assert any("2 of 2 are missing" in problem for problem in told), told


async def test_an_event_that_was_moved_out_of_the_range_is_shown(world: World) -> None:
    first, second, _ = await three_times(world)
    await tamper(world, "UPDATE audit_events SET timestamp = 'epoch' WHERE action = 'at 1'")
    told = exported.verify(await export(world, since=first, until=second)).problems
    assert any("was changed" in problem for problem in told), told


async def test_a_category_has_its_events_alone_and_still_verifies(world: World) -> None:
    await write(world, "of a certificate")
    await seal_all(world)
    lines = await export(world, category="config")
    assert {row["event_category"] for row in of_kind(lines, "event")} == {"config"}
    assert of_kind(lines, "hash")
    assert exported.verify(lines).problems == []


@pytest.mark.parametrize(("more", "complete"), [(-1, False), (0, True), (1, True)])
async def test_a_limit_that_cuts_says_so_in_the_last_line(
    world: World, more: int, complete: bool
) -> None:
    await write(world, "one", "two")
    await seal_all(world)
    limit = await kit.value(world, "SELECT count(*) FROM audit_events") + more
    lines = await export(world, limit=limit)
    (end,) = of_kind(lines, "end")
    assert end["complete"] is complete
    assert len(of_kind(lines, "event")) == min(limit, limit - more)
    assert exported.verify(lines).problems == []
    text = b"".join(await export(world, limit=limit, form="csv")).decode()
    *_, last = csv.reader(io.StringIO(text, newline=""))
    # The export before has added one more event.
    assert ("cut at the limit" in last[0]) is (more < 1)


async def test_csv_has_the_same_events(world: World) -> None:
    await write(world, "one", formula="=1+1")
    rows = await kit.rows(world, "SELECT * FROM audit_events ORDER BY sequence")
    text = b"".join(await export(world, form="csv")).decode()
    header, *cells, end = csv.reader(io.StringIO(text, newline=""))
    assert end[0] == f"# end: complete, {len(rows)} events"
    for row, cell in zip(rows, cells, strict=True):
        found = dict(zip(header, cell, strict=True))
        assert (found["id"], found["content_hash"]) == (row["id"], row["content_hash"])


async def test_a_range_that_ends_before_it_begins_is_refused(world: World) -> None:
    moment = world.platform.clock()
    with pytest.raises(Invalid, match="to must be later than from"):
        Wish(since=moment, until=moment)


async def test_export_and_verification_hold_a_batch_and_not_the_trail(world: World) -> None:
    many = [Event("bulk", ("team", "t-1"), {"text": f"{n}" * 1500}) for n in range(4000)]
    async with world.platform.db.transaction() as tx:
        await record_many(tx, kit.ADMIN, many)
    size = await kit.value(world, "SELECT sum(length(details::text)) FROM audit_events")
    assert size > 15_000_000
    await seal_all(world)
    stream = await audit_export.export(world.platform, kit.ADMIN, Wish())
    tracemalloc.start()
    async for _ in stream:
        pass
    assert await trail.verify(world.platform) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size // 2


async def test_verification_in_parts_finds_the_same_as_in_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "A_PART", 5)
    monkeypatch.setattr(trail, "BATCH", 3)
    for part in range(4):
        await write(world, *(f"action {part}.{n}" for n in range(4)))
        await seal_all(world)
    await write(world, *(f"tail {n}" for n in range(12)))
    count = await kit.value(world, "SELECT count(*) FROM audit_events")
    place: trail.Place | None = trail.Place()
    parts = []
    while place is not None:
        parts.append(await trail.verify_part(world.platform, trail.Place.of(str(place))))
        place = parts[-1].next
    assert len(parts) > 4
    assert sum(part.events for part in parts) == count
    assert [part.problems for part in parts] == [[] for _ in parts]
    assert exported.verify(await export(world)).problems == []


async def test_seals_made_over_the_tail_between_two_parts_disturb_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "A_PART", 5)
    await seal_all(world)
    await write(world, *(f"tail {n}" for n in range(12)))
    part = await trail.verify_part(world.platform, trail.Place())
    while part.next is not None:
        await seal_all(world)
        part = await trail.verify_part(world.platform, part.next)
        assert part.problems == []


@pytest.mark.parametrize("text", ["x", "1", "1.", ".1", "1.-", "1.2.3", "1." + "9" * 50, "-1.2"])
async def test_a_place_that_no_answer_named_is_refused(world: World, text: str) -> None:
    with pytest.raises(Invalid, match="after"):
        await trail.verified_for(world.platform, kit.ADMIN, text)
    with pytest.raises(NotFound):
        await trail.verified_for(world.platform, kit.ADMIN, "999.5")


async def test_checkpoints_go_on_numbering_and_count_what_is_sealed(world: World) -> None:
    await three_times(world)
    first = await kept(world)
    await write(world, "more")
    await seal_all(world)
    second = await kept(world)
    assert (first.number, second.number) == (1, 2)
    assert second.row_count == await kit.value(world, "SELECT count(*) FROM audit_events")
    assert second.installation == first.installation
    assert await trail.verify(world.platform) == []


async def test_of_replicas_that_attest_the_same_seal_one_does(world: World) -> None:
    await seal_all(world)
    made = await asyncio.gather(*(checkpoints.make(world.platform) for _ in range(4)))
    assert len([row for row in made if row is not None]) == 1
    keys = await kit.value(world, "SELECT count(*) FROM audit_checkpoint_keys")
    assert keys == 1


async def test_a_checkpoint_is_due_at_first_and_then_after_the_interval(world: World) -> None:
    assert await checkpoints.tick(world.platform) == 0  # nothing is sealed
    await seal_all(world)
    assert await checkpoints.tick(world.platform) == 1
    await write(world, "more")
    await seal_all(world)
    assert await checkpoints.tick(world.platform) == 0


async def test_no_private_key_of_checkpoints_stands_in_the_database_unsealed(world: World) -> None:
    row = await checkpoints.ensure_key(world.platform)
    assert row["sealed_key"][0] == 0x04


async def test_checkpoints_are_laid_down_as_files_that_verify(
    database: str, ready_template: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "kept"
    opened = open_world(database, ready_template[1], audit_checkpoint_dir=folder,
                        audit_checkpoint_interval=timedelta(0))  # fmt: skip
    async for world in opened:
        for _ in range(2):
            await write(world, "something")
            await seal_all(world)
            with caplog.at_level("INFO", logger="certctl.audit"):
                assert await checkpoints.tick(world.platform) == 1
        key = signed.load_public((folder / "checkpoint-key.pem").read_bytes())
        files = sorted(folder.glob("*.json"))
        numbers = ["checkpoint-000000000001", "checkpoint-000000000002"]
        assert [file.name.rpartition("-")[0] for file in files] == numbers
        for file in files:
            data = file.read_bytes()
            signed.verified(data, file.with_suffix(".sig").read_bytes(), key=key)
            assert data.decode() in caplog.text


async def test_a_folder_that_cannot_be_written_stops_nothing(
    database: str, ready_template: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    async for world in open_world(database, ready_template[1], audit_checkpoint_dir=blocked / "x"):
        await seal_all(world)
        assert await checkpoints.tick(world.platform) == 1
        assert "CERTCTL_AUDIT_CHECKPOINT_DIR" in caplog.text
