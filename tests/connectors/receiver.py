"""An HTTP receiver on loopback that answers as the test says, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
HANGS = b""  # nothing is ever said
LEAVES = b"-"  # the connection ends without a word


def says(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = (f"HTTP/1.1 {status} as told", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class Seen:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class Receiver:
    """`answer` is what the next caller is told; `busiest` how many were there at once."""

    answer: bytes = OK
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    busiest: int = 0
    on_call: Callable[[], Awaitable[None]] | None = None
    calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.calls.add(task)
        self.busiest = max(self.busiest, len(self.calls))
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.calls.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(await self._read(reader))
        if self.on_call is not None:
            await self.on_call()
        if self.answer == HANGS:
            await reader.read()
        elif self.answer != LEAVES:
            writer.write(self.answer)
            await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Seen(head[0], headers, body)


@asynccontextmanager
async def receiving(answer: bytes = OK) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook?token=in-the-url"
    try:
        yield receiver
    finally:
        server.close()
        ending = list(receiver.calls)
        for call in ending:
            call.cancel()
        await asyncio.gather(*ending)
