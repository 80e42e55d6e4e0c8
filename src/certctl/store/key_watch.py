"""Which data key each process seals under, as locks that die with it: a key is replaced only when
every process has taken up the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from certctl.domain.errors import Conflict, Unavailable, Unsafe
from certctl.store import migrate
from certctl.store.db import SESSION_OPTIONS, Session
from certctl.store.secrets import CHANNEL

log = logging.getLogger("certctl.keys")
LOOK_EVERY: Final = 30.0
AGAIN: Final = 1.0
READY_WITHIN: Final = 20.0
LOCKS: Final = 0x63657274  # the first half of an advisory lock; the second is a key's id


class KeyWatch:
    """Keeps a process informed of the data keys, on a connection of its own.

    `current` is the id of the key that the process seals under, `reload` brings its keys up to
    date. The shared lock for a key is taken before the keys are read, so that nobody who then
    finds it free can miss this process.
    """

    def __init__(
        self,
        conninfo: str,
        current: Callable[[], str],
        *,
        reload: Callable[[Session], Awaitable[None]],
    ) -> None:
        self._conninfo = conninfo
        self._current = current
        self._reload = reload
        self._ready = asyncio.Event()

    async def start(self) -> asyncio.Task[None]:
        """The watch, once it holds its lock and the keys are up to date.

        Raises:
            Unsafe: when the keys cannot be opened. Unavailable: when the database is away.
        """
        watching = asyncio.create_task(self._run())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait(
            [watching, ready], timeout=READY_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        ready.cancel()
        if watching.done():
            watching.result()
        if not self._ready.is_set():
            watching.cancel()
            raise Unavailable("the database cannot be reached (CERTCTL_DATABASE_URL)")
        return watching

    async def _run(self) -> None:
        while True:
            pause = AGAIN
            try:
                await self._watch()
            except psycopg.OperationalError:
                log.warning("lost the connection that watches the data keys; trying again")
            except Unavailable as error:
                log.warning("the data keys were not looked after: %s", error.message)
            except Unsafe as error:
                if not self._ready.is_set():
                    raise
                log.error("%s", error.message)
                pause = LOOK_EVERY
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        connection = await AsyncConnection.connect(
            self._conninfo, autocommit=True, options=SESSION_OPTIONS, row_factory=dict_row
        )
        async with connection:
            session, held = Session(connection), ""
            await session.run(f"LISTEN {CHANNEL}")
            while True:
                while held != self._current():
                    before, held = held, self._current()
                    await session.run(
                        "SELECT pg_advisory_lock_shared(%(a)s, hashtext(%(b)s))", a=LOCKS, b=held
                    )
                    await self._reload(session)
                    if before:
                        await session.run(
                            "SELECT pg_advisory_unlock_shared(%(a)s, hashtext(%(b)s))",
                            a=LOCKS,
                            b=before,
                        )
                self._ready.set()
                async for _note in connection.notifies(timeout=LOOK_EVERY, stop_after=1):
                    pass
                await self._reload(session)


async def is_left(session: Session, key_id: str) -> bool:
    """Whether no process seals under the key any more."""
    free = await session.value(
        "SELECT pg_try_advisory_lock(%(a)s, hashtext(%(b)s))", a=LOCKS, b=key_id
    )
    if free:
        await session.run("SELECT pg_advisory_unlock(%(a)s, hashtext(%(b)s))", a=LOCKS, b=key_id)
    return bool(free)


@asynccontextmanager
async def one_rotation(conninfo: str) -> AsyncIterator[None]:
    """Raises Conflict when another rotation is at work on this database."""
    async with migrate.connect(conninfo) as connection:
        cursor = await connection.execute(
            "SELECT pg_try_advisory_lock(%s, hashtext('rotation'))", [LOCKS]
        )
        if await cursor.fetchone() != (True,):
            raise Conflict("another `certctl secrets rotate` is at work on this database")
        yield
