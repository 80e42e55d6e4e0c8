"""Accepts connections: each is counted before anything is read of it or TLS is agreed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from certctl.boot.seats import Seat, Seats
from certctl.domain.errors import Unsafe

log = logging.getLogger("certctl.listener")
HANDSHAKE_TIME: Final = 10.0  # seconds for TLS to be agreed, and as many to be ended
AT_A_TIME: Final = 64  # connections that are accepted before others get a turn


class Accepting:
    """Gives each connection that finds a seat to a protocol, which `make` makes; the protocol
    leaves the seat."""

    def __init__(
        self,
        make: Callable[[Seat], asyncio.Protocol],
        *,
        seats: Seats,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._make = make
        self._seats = seats
        self._tls = tls
        self._listening: Sequence[socket.socket] = ()
        self._admitting: set[asyncio.Task[None]] = set()

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from these."""
        self._listening = sockets
        for listening in sockets:
            listening.setblocking(False)
            self._watch(listening)

    def stop(self) -> None:
        """Accept no more; connections go on, unless TLS is being agreed."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
        self._listening = ()
        for admitting in self._admitting:
            admitting.cancel()

    def _watch(self, listening: socket.socket) -> None:
        if listening in self._listening:
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
                lambda: self._make(seat), connection, ssl=self._tls, **times
            )
        except OSError:
            # TLS was not agreed; the socket is closed by then.
            seat.leave()
        except asyncio.CancelledError:
            seat.leave()
            raise


def bind(host: str, port: int, *, setting: str, shared: bool = False) -> socket.socket:
    """A listening socket; a `shared` port may be bound by others who share it.

    Raises:
        Unsafe: naming the setting, when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
