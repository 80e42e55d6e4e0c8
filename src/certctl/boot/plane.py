"""`certctl plane`: a process that answers relying parties over plain http, and nothing else.

`certctl serve` starts its own; on a machine or an address of its own it is started by itself. Any
number may share one port.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from contextlib import suppress
from functools import partial

from certctl.boot.accepting import Accepting, bind
from certctl.boot.platform import Built, build, database
from certctl.boot.seats import Seat, Seats, connections_for
from certctl.domain.errors import Unavailable
from certctl.services import replicas
from certctl.services.plane.plane import Plane
from certctl.settings import Settings
from certctl.store import migrate
from certctl.web.limits import Limiter
from certctl.web.public.plane import PlaneFace
from certctl.web.public.wire import Connection, Served

log = logging.getLogger("certctl.plane")


async def plane(settings: Settings, stop: asyncio.Event, *, listening: socket.socket) -> None:
    """Answer until the stop.

    Raises:
        Unavailable: when the database is away at the start or not migrated yet.
    """
    async with database(settings, may_start=False) as conninfo:
        if await migrate.pending(conninfo):
            raise Unavailable("the database is not migrated: start `certctl serve` first")
        async with build(settings, conninfo) as built:
            await _answer(built, stop, listening)


async def _answer(built: Built, stop: asyncio.Event, listening: socket.socket) -> None:
    settings = built.settings
    answers = Plane(built.platform, live_rate=settings.ocsp_live_rate)
    await answers.start()
    limiter = _limiter(settings)
    served = Served(PlaneFace(answers), limiter, settings.trusted_proxies)
    accepting = Accepting(partial(_connection, served), seats=_seats(settings))
    accepting.start([listening])
    log.info("answering on %s:%d", *listening.getsockname()[:2])
    waiting = asyncio.create_task(stop.wait())
    sharing = replicas.share(
        built.platform,
        limiter.share if limiter else _nothing,
        kind=replicas.PLANE,
        told=partial(_told, answers, served),
    )
    running = [
        waiting,
        asyncio.create_task(answers.run()),
        asyncio.create_task(_each_second(served, answers)),
        asyncio.create_task(sharing),
    ]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    accepting.stop()
    await served.end(settings.shutdown_grace.total_seconds())
    for task in running:
        task.cancel()
    for task in running:
        with suppress(asyncio.CancelledError):
            await task
    for task in done:
        task.result()


def own_socket(settings: Settings) -> socket.socket:
    """Raises Unsafe when the address is taken by anything but another plane."""
    return bind(
        settings.pki_http_host,
        settings.pki_http_port,
        setting="CERTCTL_PKI_HTTP_PORT",
        shared=True,
    )


def inherited(descriptor: int) -> socket.socket:
    """The listening socket that `certctl serve` holds for all its planes."""
    return socket.socket(fileno=descriptor)


def stop_with_parent(stop: asyncio.Event, descriptor: int) -> None:
    """Stop when the process that holds the other end of a pipe is gone, however it ended."""
    os.set_blocking(descriptor, False)
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        stop.set()

    loop.add_reader(descriptor, ended)


def _connection(served: Served, seat: Seat) -> Connection:
    return Connection(served, leave=seat.leave)


def _seats(settings: Settings) -> Seats:
    return Seats(
        most=connections_for(1),
        per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
    )


def _limiter(settings: Settings) -> Limiter | None:
    if not settings.rate_limit_enabled:
        return None
    per_minute = settings.ocsp_rate_limit_per_ip_min
    return Limiter(rate=per_minute / 60, burst=per_minute)


def _nothing(_planes: int) -> None:
    return None


def _told(answers: Plane, served: Served) -> dict[str, int]:
    """What each plane says of itself: answers by their status, those that were given as they had
    been before, and serials in memory."""
    return {**answers.counts, "kept": served.given_again, "serials": answers.size}


async def _each_second(served: Served, answers: Plane) -> None:
    loop, settled = asyncio.get_running_loop(), 0
    while True:
        served.look_after_time(loop.time())
        if answers.loaded != settled:
            # What is loaded stays: the garbage collector would look through millions of entries
            # again and again, and hold up every answer meanwhile.
            gc.freeze()
            settled = answers.loaded
        await asyncio.sleep(1)
