"""The two listeners of one process, without signal handling of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from certctl.boot.connection import Connection
from certctl.boot.seats import Seat, Seats
from certctl.domain.errors import Unsafe

log = logging.getLogger("certctl.listener")
HANDSHAKE_TIME: Final = 10.0  # seconds for TLS to be agreed, and as many to be ended
AT_A_TIME: Final = 64  # connections that are accepted before others get a turn
TICKS: Final = 10  # of uvicorn's, in a second


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to the process and accepts connections itself, so
    that they are counted before TLS is agreed."""

    def __init__(self, config: uvicorn.Config, *, tls: ssl.SSLContext | None, seats: Seats) -> None:
        super().__init__(config)
        self._tls = tls
        self._seats = seats
        self._listening: list[socket.socket] = []
        self._admitting: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        self._listening = sockets or []
        for listening in self._listening:
            listening.setblocking(False)
            self._watch(listening)
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._look_after_time()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
        for admitting in self._admitting:
            admitting.cancel()
        watching = asyncio.create_task(self._keep_looking())
        await super().shutdown(sockets)
        watching.cancel()

    def _watch(self, listening: socket.socket) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take what waits, a bounded number at a time."""
        for _ in range(AT_A_TIME):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            seat = self._seats.take(address[0])
            if seat is None:
                connection.close()
                continue
            admitting = asyncio.create_task(self._admit(connection, seat))
            self._admitting.add(admitting)
            admitting.add_done_callback(self._admitting.discard)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Out of files or memory: let others end first."""
        log.error("no connection can be accepted: %s", errno.errorcode.get(error.errno or 0, "?"))
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(1.0, self._watch, listening)

    async def _admit(self, connection: socket.socket, seat: Seat) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = {} if self._tls is None else {
            "ssl_handshake_timeout": HANDSHAKE_TIME, "ssl_shutdown_timeout": HANDSHAKE_TIME
        }  # fmt: skip
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connection(seat), connection, ssl=self._tls, **times
            )
        except OSError:
            # TLS was not agreed; the socket is closed by then.
            seat.leave()
        except asyncio.CancelledError:
            seat.leave()
            raise

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


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        Unsafe: naming the setting, when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise Unsafe(
            f"{setting}: {host}:{port} cannot be used ({error.strerror}); choose another port, "
            "or stop what listens there"
        ) from None
    return listening


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
