"""`certctl work`: background work without the listeners; never starts a database."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from certctl.boot.platform import Built, build, database
from certctl.domain.errors import Unavailable
from certctl.settings import Settings
from certctl.store import migrate

CONCURRENCY = 16


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Work until the stop.

    Raises:
        Unavailable: when the database is away or not migrated yet.
    """
    async with database(settings, may_start=False) as conninfo:
        if await migrate.pending(conninfo):
            raise Unavailable("the database is not migrated: start `certctl serve` first")
        async with build(settings, conninfo) as built:
            await run_worker(built, stop)


async def run_worker(built: Built, stop: asyncio.Event) -> None:
    """Run tasks until the stop, then finish those under way within the grace period."""
    worker = asyncio.create_task(
        built.queue_app.run_worker_async(
            name=f"certctl@{socket.gethostname()}",
            concurrency=CONCURRENCY,
            install_signal_handlers=False,
            delete_jobs="always",
            fetch_job_polling_interval=5.0,
            shutdown_graceful_timeout=built.settings.shutdown_grace.total_seconds(),
        )
    )
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([worker, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if worker.done():
        worker.result()
        return
    worker.cancel()
    with suppress(asyncio.CancelledError):
        await worker
