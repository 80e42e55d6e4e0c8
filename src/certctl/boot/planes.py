"""The planes of one server: processes of their own on one listening socket, started again when
they end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import Final

log = logging.getLogger("certctl.plane")
AGAIN: Final = 1.0
PATIENCE: Final = 2.0
GRACE: Final = 5.0  # seconds beyond the grace of the process itself


async def keep_planes(listening: socket.socket, number: int, *, grace: float) -> None:
    """Until cancelled; then they are asked to stop, and given `grace` in seconds.

    The pipe tells them when this process is gone, even if it could not say so.
    """
    reading, writing = os.pipe()
    try:
        await asyncio.gather(*(_keep(listening, reading, grace) for _ in range(number)))
    finally:
        os.close(reading)
        os.close(writing)


async def answers(listening: socket.socket) -> bool:
    """Whether a plane answers on the socket now: it takes connections even while none does."""
    host, port = listening.getsockname()[:2]
    reading, writing = await asyncio.open_connection(host, port)
    try:
        writing.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            return (await reading.readline()).startswith(b"HTTP/1.1 200")
    except (OSError, TimeoutError):
        return False
    finally:
        writing.close()


async def _keep(listening: socket.socket, reading: int, grace: float) -> None:
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "certctl", "plane",
            "--socket", str(listening.fileno()), "--parent", str(reading),
            pass_fds=(listening.fileno(), reading),
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process, grace + GRACE)
            raise
        log.warning("a revocation plane ended with %d; starting another", code)
        await asyncio.sleep(AGAIN)


async def _end(process: asyncio.subprocess.Process, patience: float) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        process.kill()
        await process.wait()
