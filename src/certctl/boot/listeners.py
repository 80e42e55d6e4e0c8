"""The listener of the management faces, without signal handling of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from certctl.boot.accepting import Accepting
from certctl.boot.connection import Connection
from certctl.boot.seats import Seat, Seats

TICKS: Final = 10  # of uvicorn's, in a second


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to the process and accepts connections itself, so
    that they are counted before TLS is agreed."""

    def __init__(self, config: uvicorn.Config, *, tls: ssl.SSLContext | None, seats: Seats) -> None:
        super().__init__(config)
        self._accepting = Accepting(self._connection, seats=seats, tls=tls)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        self._accepting.start(sockets or [])
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._look_after_time()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.stop()
        watching = asyncio.create_task(self._keep_looking())
        await super().shutdown(sockets)
        watching.cancel()

    def _connection(self, seat: Seat) -> Connection:
        return Connection(
            seat=seat, config=self.config, server_state=self.server_state, app_state={}
        )

    def _look_after_time(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.look_after_time(now)

    async def _keep_looking(self) -> None:
        """Also while the last requests are waited for."""
        while True:
            self._look_after_time()
            await asyncio.sleep(1)


def listener(app: Any, *, grace: float, tls: ssl.SSLContext | None, seats: Seats) -> Listener:
    """A server for an ASGI app; `grace` in seconds is the longest wait for open requests."""
    config = uvicorn.Config(
        app,
        http=Connection,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(grace),
    )
    return Listener(config, tls=tls, seats=seats)


async def stopped(server: Listener, serving: asyncio.Task[None]) -> None:
    """Stop accepting, let open requests end, and wait for it."""
    server.should_exit = True
    await serving
