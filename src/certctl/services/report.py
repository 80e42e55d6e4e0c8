"""Counts over the whole inventory, and whether the platform is fit to serve."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Actor, Permission
from certctl.services.platform import Platform
from certctl.store import report


async def gauges(on: Platform, actor: Actor) -> dict[str, int]:
    """The established metrics that are counted in the database."""
    actor.scope(Permission.METRICS_READ)
    async with on.db.read() as session:
        return await report.gauges(session)


async def readiness(on: Platform) -> dict[str, Any]:
    """How long ago a worker was last alive, in seconds; None when there never was one."""
    async with on.db.read() as session:
        return {"worker_age": await report.worker_age(session)}
