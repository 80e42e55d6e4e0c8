"""Audited inserts a second by sixteen writers, beside plain inserts of the same rows in one run."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from certctl.domain.access import actor_with_roles
from certctl.services import audit, trail
from certctl.services.access import with_request
from certctl.services.audit import Event, Sealer
from certctl.services.platform import Platform
from certctl.store.db import Tx
from certctl.store.embedded import binaries
from tests.tools import need

ADMIN = with_request(
    actor_with_roles("bench", ("r-admin",)), address="192.0.2.7", request_id="request-of-a-bench"
)
WRITERS = 16
SECONDS = 5.0
A_CHANGE = {"before": {"name": "red", "enabled": True}, "after": {"name": "blue", "enabled": True}}
Report = Callable[[str, str, str, float], None]
Write = Callable[[Tx, int], Awaitable[None]]


async def audited(tx: Tx, rows: int) -> None:
    """As a change of one resource, or of many, records it."""
    if rows == 1:
        await audit.record(tx, ADMIN, "team_updated", on=("team", "t-1"), **A_CHANGE)
        return
    events = [Event("team_updated", ("team", f"t-{n}"), A_CHANGE) for n in range(rows)]
    await audit.record_many(tx, ADMIN, events)


async def plain(tx: Tx, rows: int) -> None:
    """The same columns into a table without hash, sequence and triggers."""
    row: dict[str, Any] = {
        "id": "audit-00000000-0000-7000-8000-000000000000",
        "actor": "bench",
        "actor_type": "APIKey",
        "action": "team_updated",
        "resource_type": "team",
        "resource_id": "t-1",
        "details": A_CHANGE,
        "event_category": "cert_lifecycle",
        "address": ADMIN.address,
        "request_id": ADMIN.request_id,
        "timestamp": tx.now,
        "content_hash": "0" * 64,
    }
    await tx.insert("audit_plain", [row] * rows)


async def rate(on: Platform, write: Write, rows: int) -> float:
    """Rows a second that all writers commit together, `rows` in each transaction."""
    until = time.perf_counter() + SECONDS
    count = 0

    async def writer() -> None:
        nonlocal count
        while time.perf_counter() < until:
            async with on.db.transaction() as tx:
                await write(tx, rows)
            count += rows

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    return count / (time.perf_counter() - began)


async def sealing(on: Platform, work: Coroutine[Any, Any, float]) -> float:
    """The rate of `work` while a sealer ticks each second."""

    async def seal() -> None:
        sealer = Sealer(on)
        while True:
            await sealer.tick()
            await asyncio.sleep(1)

    ticking = asyncio.create_task(seal())
    try:
        return await work
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


INSERT = """INSERT INTO {table} (id, actor, actor_type, action, resource_type, resource_id, details,
    event_category, address, request_id, timestamp, content_hash)
VALUES (gen_random_uuid()::text, 'bench', 'APIKey', 'team_updated', 'team', 't-1',
    '{{"before": {{"name": "red"}}, "after": {{"name": "blue"}}}}', 'config', '192.0.2.7',
    'request-of-a-bench', now(), repeat('0', 64));
"""


async def by_pgbench(on: Platform, table: str) -> float:
    """Transactions a second of one INSERT each, by sixteen clients that cost nothing themselves."""
    program = shutil.which("pgbench", path=str(next(binaries.installed()).bin)) or need("pgbench")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "insert.sql"
        script.write_text(" ".join(INSERT.format(table=table).splitlines()))
        process = await asyncio.create_subprocess_exec(
            program, "-n", "-c", str(WRITERS), "-j", "2", "-T", f"{SECONDS:.0f}", "-M", "prepared",
            "-f", str(script), on.db.conninfo,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, wrong = await process.communicate()
    found = re.search(rb"tps = ([0-9.]+)", said)
    assert found, wrong.decode()
    return float(found[1])


async def audit_rates(on: Platform, report: Report, sizes: Sequence[int] = (1, 10, 100)) -> None:
    """One event a transaction, as single changes make, and many, as bulk operations do."""
    async with on.db.transaction() as tx:
        await tx.run(
            """CREATE TABLE IF NOT EXISTS audit_plain AS
               SELECT id, actor, actor_type, action, resource_type, resource_id, details,
                   event_category, address, request_id, timestamp, content_hash
               FROM audit_events WITH NO DATA"""
        )
    for rows in sizes:
        bare = await rate(on, plain, rows)
        ours = await sealing(on, rate(on, audited, rows))
        what = f"audited events, {WRITERS} writers, {rows} a transaction"
        report(what, f"{ours:,.0f}/s", f"plain inserts {bare:,.0f}/s", ours / bare)
    await verified(on, report)
    # Their hashes are made up, so that they come after the verification.
    bare = await by_pgbench(on, "audit_plain")
    ours = await sealing(on, by_pgbench(on, "audit_events"))
    what = f"audited, one a transaction, by pgbench -c{WRITERS}"
    report(what, f"{ours:,.0f}/s", f"plain inserts {bare:,.0f}/s", ours / bare)
    async with on.db.transaction() as tx:
        await tx.run("DROP TABLE audit_plain")


async def verified(on: Platform, report: Report) -> None:
    """All of them sealed and verified, a second."""
    sealer = Sealer(on)
    await sealer.tick()
    await sealer.tick()
    async with on.db.read() as session:
        count = await session.value("SELECT count(*) FROM audit_events")
    began = time.perf_counter()
    problems = await trail.verify(on)
    took = time.perf_counter() - began
    assert problems == [], problems[:3]
    report("audit trail verified", f"{count / took:,.0f}/s", f"{count:,} events", 1.0)
