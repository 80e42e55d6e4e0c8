"""How many servers share one database, so that each grants its part of every budget."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

from certctl.domain.errors import CertctlError
from certctl.services.platform import Platform
from certctl.store import replicas

log = logging.getLogger("certctl.replicas")
EVERY: Final = 10.0  # seconds
SERVER: Final = "serve"
PLANE: Final = "plane"


def _nothing() -> dict[str, int]:
    return {}


async def share(
    on: Platform,
    tell: Callable[[int], None],
    *,
    kind: str = SERVER,
    told: Callable[[], dict[str, int]] = _nothing,
    every: float = EVERY,
) -> None:
    """Count among the live processes of a kind until cancelled, and tell their number at every
    count; `told` is what this one has others know of it.

    While the database is away the last number stands.
    """
    replica_id = f"rep-{uuid4()}"
    try:
        while True:
            try:
                tell(await beat(on, replica_id, kind, told()))
            except CertctlError as error:
                log.warning("the other servers were not counted: %s", error.message)
            await asyncio.sleep(every)
    finally:
        await _leave(on, replica_id)


async def beat(
    on: Platform, replica_id: str, kind: str = SERVER, told: Mapping[str, int] | None = None
) -> int:
    """Be counted; how many of the kind are alive now, this one included. Raises Unavailable."""
    async with on.db.read() as session:
        return await replicas.beat(session, replica_id, kind, told=told or {})


async def planes(on: Platform) -> list[dict[str, int]]:
    """What each live revocation plane says of itself. Raises Unavailable."""
    async with on.db.read() as session:
        return await replicas.told(session, PLANE)


async def _leave(on: Platform, replica_id: str) -> None:
    try:
        async with asyncio.timeout(2), on.db.read() as session:
            await replicas.leave(session, replica_id)
    except (CertctlError, TimeoutError):
        log.info("this server could not sign off; it counts for a while yet")
