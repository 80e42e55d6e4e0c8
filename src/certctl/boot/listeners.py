"""The two listeners of one process, without signal handling of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from certctl.domain.errors import Unsafe


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        Unsafe: naming the setting, when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol given, asyncio would leave Nagle's algorithm on.
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


def listener(app: Any, *, grace: float, tls: ssl.SSLContext | None) -> Listener:
    """A server for an ASGI app; `grace` in seconds is the longest wait for open requests."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=int(grace),
        limit_concurrency=2000,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    return Listener(config)


async def stopped(server: Listener, serving: asyncio.Task[None]) -> None:
    """Stop accepting, let open requests end, and wait for it."""
    server.should_exit = True
    await serving
