"""What dashboards show: counts and trends over the whole inventory."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Actor, Permission
from certctl.services.platform import Platform
from certctl.store import statistics
from certctl.store.db import Row


async def summary(on: Platform, actor: Actor) -> dict[str, Any]:
    actor.everywhere(Permission.STATS_READ)
    async with on.db.read() as session:
        return {**await statistics.summary(session), "completed_at": on.clock()}


async def by_status(on: Platform, actor: Actor) -> list[Row]:
    actor.everywhere(Permission.STATS_READ)
    async with on.db.read() as session:
        return await statistics.by_status(session)


async def expirations(on: Platform, actor: Actor, days: int) -> list[Row]:
    """A row for each of the coming `days`."""
    actor.everywhere(Permission.STATS_READ)
    async with on.db.read() as session:
        return await statistics.expirations(session, days)


async def job_trends(on: Platform, actor: Actor, days: int) -> list[Row]:
    """A row for each of the past `days`."""
    actor.everywhere(Permission.STATS_READ)
    async with on.db.read() as session:
        return await statistics.job_trends(session, days)


async def issuances(on: Platform, actor: Actor, days: int) -> list[Row]:
    """A row for each of the past `days`."""
    actor.everywhere(Permission.STATS_READ)
    async with on.db.read() as session:
        return await statistics.issuances(session, days)
