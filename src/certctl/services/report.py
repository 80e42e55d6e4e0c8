"""Counts over the whole inventory, and whether the platform is fit to serve."""

from __future__ import annotations

from certctl.domain.access import Actor, Permission
from certctl.services.platform import Platform
from certctl.store import notifications, report


async def gauges(on: Platform, actor: Actor) -> dict[str, int]:
    """The established metrics that are counted in the database."""
    actor.everywhere(Permission.METRICS_READ)
    async with on.db.read() as session:
        return {
            **await report.gauges(session),
            "notification_dead_total": await notifications.dead(session),
        }


async def worker_age(on: Platform) -> float | None:
    """How long ago a worker was last alive, in seconds; None when there never was one."""
    async with on.db.read() as session:
        return await report.worker_age(session)
