"""Wake-ups between processes: NOTIFY in the sender's transaction, one LISTEN connection here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator

import psycopg

from certctl.store.db import SESSION_OPTIONS, Session

CHANNEL = "certctl_work"
log = logging.getLogger("certctl.signals")


async def wake(session: Session, key: str) -> None:
    """Wake whoever waits for `key`, in every process, when the transaction commits."""
    await session.run("SELECT pg_notify(%(channel)s, %(key)s)", channel=CHANNEL, key=key)


class Signals:
    """Waiting for keys. A missed wake-up costs a wait, never work: callers look again after it."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscribed: dict[str, list[Callable[[], None]]] = defaultdict(list)
        self.closed = asyncio.Event()
        self.hears = False  # whether wake-ups arrive at present

    def subscribe(self, key: str, act: Callable[[], None]) -> None:
        """`act` at every wake-up for `key`, and whenever some may have been missed."""
        self._subscribed[key].append(act)

    @contextlib.contextmanager
    def expecting(self, key: str) -> Iterator[asyncio.Event]:
        """An event that a wake-up for `key` sets; begin to expect before looking for work."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    def release_all(self) -> None:
        """End every wait, as at the stop."""
        self.closed.set()
        for events in list(self._waiting.values()):
            for event in events:
                event.set()

    async def listen(self) -> None:
        """Run until cancelled; reconnects while the database is away."""
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError:
                log.warning("lost the connection for wake-ups; trying again")
            await asyncio.sleep(1)

    async def _listen_once(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, options=SESSION_OPTIONS
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            for acts in self._subscribed.values():
                for act in acts:
                    act()
            self.hears = True
            try:
                async for note in connection.notifies():
                    self._arrived(note.payload)
            finally:
                self.hears = False

    def _arrived(self, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()
        for act in self._subscribed.get(key, ()):
            act()
