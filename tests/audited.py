"""Audit trails for tests: made of rows and seals, or of a database, its export and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from certctl.domain import audit as hashes
from certctl.domain import exported
from certctl.domain.trail import Checkpoint, Seal
from certctl.pki import checkpoint as signed
from certctl.services import audit, audit_export, checkpoints
from certctl.services.audit import Sealer
from certctl.services.audit_export import Wish
from certctl.store.db import Row
from tests import kit
from tests.conftest import World

BEGAN = datetime(2030, 1, 1, 12, tzinfo=UTC)
INSTALLATION = "ins-test"


def rows(count: int) -> list[Row]:
    """Events one minute apart; every third number was never committed."""
    return [_row(number) for number in range(1, count * 2) if number % 3][:count]


def _row(number: int) -> Row:
    row: Row = {
        "id": f"audit-{number}",
        "actor": "admin",
        "actor_type": "APIKey",
        "action": "team_created",
        "resource_type": "team",
        "resource_id": f"t-{number}",
        "details": {"after": {"name": f"Ä {number}"}},
        "event_category": "config" if number % 2 else "auth",
        "address": None,
        "request_id": "r-1",
        "timestamp": BEGAN + timedelta(minutes=number),
    }
    return {**row, "sequence": number, "content_hash": hashes.content_hash(row)}


def seals(events: Sequence[Row], size: int) -> list[Seal]:
    """Seals over these events, `size` of them in each; what is left over is not sealed."""
    found: list[Seal] = []
    for begin in range(0, len(events) - size + 1, size):
        part = events[begin : begin + size]
        previous = found[-1].seal if found else ""
        made = hashes.seal(previous, [(row["sequence"], row["content_hash"]) for row in part])
        first, last = part[0]["sequence"], part[-1]["sequence"]
        found.append(Seal(len(found) + 1, first, last, size, previous, made))
    return found


def attested(seal: Seal, **changes: Any) -> Checkpoint:
    """What a checkpoint over this seal says."""
    values = {
        "installation": INSTALLATION,
        "number": 1,
        "seal_number": seal.number,
        "seal": seal.seal,
        "last_sequence": seal.last_sequence,
        "row_count": seal.row_count * seal.number,
        "time": "2030-01-02T00:00:00.000000+00:00",
    }
    return Checkpoint(**{**values, **changes})


def export_of(events: Sequence[Row], chain: Sequence[Seal], **head: Any) -> list[bytes]:
    """The lines of a whole export of these."""
    asked = {"since": None, "until": None, "category": None, "limit": None, "after_seal": 0}
    values = {"version": 1, "installation": INSTALLATION, **asked, **head}
    lines = [exported.line("export", **values)]
    waiting = list(chain)
    for row in events:
        while waiting and row["sequence"] >= waiting[0].first_sequence:
            lines.append(exported.seal_line(waiting.pop(0)))
        lines.append(exported.event_line(row))
    return [*lines, exported.line("end", complete=True, events=len(events))]


async def write(world: World, *actions: str, **details: Any) -> None:
    """Events, each in a transaction of its own."""
    for action in actions:
        async with world.platform.db.transaction() as tx:
            await audit.record(tx, kit.ADMIN, action, on=("team", "t-1"), **details)


async def seal_all(world: World) -> None:
    """Two ticks: what the first has seen, the second seals."""
    sealer = Sealer(world.platform)
    await sealer.tick()
    await sealer.tick()


async def export(world: World, **wish: Any) -> list[bytes]:
    """The lines of an export, as its reader gets them."""
    stream = await audit_export.export(world.platform, kit.ADMIN, Wish(**wish))
    return b"".join([piece async for piece in stream]).splitlines(keepends=True)


async def kept(world: World) -> Checkpoint:
    """A checkpoint made now, and kept where no database reaches."""
    row = await checkpoints.make(world.platform)
    assert row is not None
    key = await checkpoints.public_key(world.platform, kit.ADMIN)
    return signed.verified(
        row["payload"].encode(),
        signed.decoded(row["signature"]),
        key=signed.load_public(key.encode()),
    )


TABLES = ("audit_events", "audit_seals", "audit_checkpoints")


async def tamper(world: World, *statements: str) -> None:
    """As somebody with all rights over the database would."""
    for table in TABLES:
        await kit.change(world, f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for statement in statements:
        assert await kit.change(world, statement), statement


async def reseal(world: World) -> None:
    """Recompute every hash and every seal, as whoever rewrites history does."""
    async with world.platform.db.transaction() as tx:
        previous = ""
        for seal in await tx.all("SELECT * FROM audit_seals ORDER BY number"):
            events = await tx.all(
                """SELECT * FROM audit_events WHERE sequence BETWEEN %(first)s AND %(last)s
                   ORDER BY sequence""",
                first=seal["first_sequence"],
                last=seal["last_sequence"],
            )
            for row in events:
                row["content_hash"] = hashes.content_hash(
                    {name: row[name] for name in hashes.HASHED}
                )
                await tx.run(
                    "UPDATE audit_events SET content_hash = %(hash)s WHERE id = %(id)s",
                    hash=row["content_hash"],
                    id=row["id"],
                )
            made = hashes.seal(previous, [(row["sequence"], row["content_hash"]) for row in events])
            await tx.run(
                """UPDATE audit_seals SET previous = %(previous)s, seal = %(seal)s,
                       row_count = %(count)s, first_sequence = %(first)s, last_sequence = %(last)s
                   WHERE number = %(number)s""",
                previous=previous,
                seal=made,
                count=len(events),
                first=events[0]["sequence"],
                last=events[-1]["sequence"],
                number=seal["number"],
            )
            previous = made
