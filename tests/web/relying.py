"""The plain-http face of the revocation plane as a client meets it: its own bytes, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
import httpx

from certctl.services.plane.plane import Plane
from certctl.services.platform import Platform
from certctl.web.limits import Limiter
from certctl.web.public.plane import PlaneFace
from certctl.web.public.wire import Connection, Served


class Pipe(asyncio.Transport):
    """Takes what a connection writes."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 40_000)})
        self.written: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.put_nowait(bytes(data))

    def close(self) -> None:
        self.closed = True
        self.written.put_nowait(b"")

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """Each request on a connection of its own; the plane first hears of what has changed."""

    plane: Plane
    served: Served
    address: str = "198.51.100.7"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.plane.catch_up()
        ours = h11.Connection(h11.CLIENT)
        body = await request.aread()
        target = request.url.raw_path
        headers = [(name, value) for name, value in request.headers.raw]
        sent = ours.send(h11.Request(method=request.method, target=target, headers=headers)) or b""
        if body:
            sent += ours.send(h11.Data(data=body)) or b""
        sent += ours.send(h11.EndOfMessage()) or b""
        pipe = Pipe(self.address)
        connection = Connection(self.served, leave=lambda: None)
        connection.connection_made(pipe)
        connection.data_received(sent)
        return await _read(ours, pipe)


async def _read(ours: h11.Connection, pipe: Pipe) -> httpx.Response:
    status, headers, content = 0, [], b""
    async with asyncio.timeout(20):
        while True:
            event = ours.next_event()
            if event is h11.NEED_DATA:
                ours.receive_data(await pipe.written.get())
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, list(event.headers.raw_items())
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return httpx.Response(status, headers=headers, content=content)


@asynccontextmanager
async def relying(
    on: Platform, *, live_rate: float = 1000, limiter: Limiter | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a plane on this platform; `client.wire` is its transport."""
    plane = Plane(on, live_rate=live_rate)
    await plane.start()
    wire = Wire(plane, Served(PlaneFace(plane), limiter))
    async with httpx.AsyncClient(transport=wire, base_url="http://certctl.test") as client:
        client.wire = wire  # type: ignore[attr-defined]
        yield client
