"""A listener on a free loopback port with an application of the test's own, and raw clients."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from certctl.boot.accepting import bind
from certctl.boot.listeners import Listener, listener, stopped
from certctl.boot.seats import Seats
from certctl.web.front import FrontDoor, Rules

App = Callable[[Any, Any, Any], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body was; below /big, four mebibytes."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"x" * (4 << 20) if scope["path"] == "/big" else str(size).encode()
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})


@dataclass
class Served:
    port: int
    server: Listener
    seats: Seats
    tls: bool

    async def connect(self, source: str = "127.0.0.1") -> Client:
        context = None
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return Client(
            *await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(source, 0), ssl=context
            )
        )

    async def ask(self, data: bytes) -> Answer:
        """The first answer on a new connection to these bytes."""
        client = await self.connect()
        client.send(data)
        answer = await client.answer()
        await client.close()
        return answer

    async def empty(self) -> None:
        """Wait until no connection is held any more."""
        async with asyncio.timeout(10):
            while self.seats.taken:
                await asyncio.sleep(0.02)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Client:
    """A connection on which a test writes what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    async def ended(self) -> bytes:
        """What is left until the other side closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


@asynccontextmanager
async def served(
    app: App = echo,
    *,
    tls: ssl.SSLContext | None = None,
    per_address: int = 200,
    most: int = 1000,
    rules: Rules = Rules(),
) -> AsyncIterator[Served]:
    """`app` behind a front door, as `serve` runs it."""
    seats = Seats(most=most, per_address=per_address, trusted=rules.trusted)
    with bind("127.0.0.1", 0, setting="") as sock:
        door = FrontDoor((), app, tls=tls is not None, rules=rules)
        server = listener(door, grace=5, tls=tls, seats=seats)
        serving = asyncio.create_task(server.serve([sock]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield Served(sock.getsockname()[1], server, seats, tls is not None)
        await stopped(server, serving)


def closed(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
