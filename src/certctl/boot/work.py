"""`certctl work`: background work without the listeners; never starts a database."""

from __future__ import annotations

import asyncio
import logging
import socket

from procrastinate.exceptions import ConnectorException

from certctl.boot.platform import Built, build, database
from certctl.domain.errors import Unavailable
from certctl.settings import Settings
from certctl.store import migrate

log = logging.getLogger("certctl.work")
CONCURRENCY = 16
PAUSE = 1.0


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
    """Run tasks until the stop, also through times when the database is away."""
    waiting = asyncio.create_task(stop.wait())
    while not stop.is_set():
        worker = asyncio.create_task(_worker(built))
        await asyncio.wait([worker, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            worker.cancel()
        try:
            await worker
        except asyncio.CancelledError:
            break
        except ConnectorException:
            log.warning("the worker lost the database; trying again")
            await asyncio.wait([waiting], timeout=PAUSE)
    waiting.cancel()


async def _worker(built: Built) -> None:
    """A cancelled worker first finishes its tasks within the grace period."""
    await built.queue_app.run_worker_async(
        name=f"certctl@{socket.gethostname()}",
        concurrency=CONCURRENCY,
        install_signal_handlers=False,
        delete_jobs="always",
        fetch_job_polling_interval=1.0,
        shutdown_graceful_timeout=built.settings.shutdown_grace.total_seconds(),
    )
