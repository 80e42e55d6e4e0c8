"""An ASGI app on a real loopback port, in this very process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from certctl.boot.accepting import bind
from certctl.boot.listeners import listener, stopped
from certctl.boot.seats import Seats


@asynccontextmanager
async def served(app: Any, port: int = 0) -> AsyncIterator[int]:
    """The port, for the time of the block."""
    sock = bind("127.0.0.1", port, setting="the port of a test")
    server = listener(app, grace=2, tls=None, seats=Seats(most=1000, per_address=1000))
    serving = asyncio.create_task(server.serve([sock]))
    try:
        yield sock.getsockname()[1]
    finally:
        await stopped(server, serving)
        sock.close()
