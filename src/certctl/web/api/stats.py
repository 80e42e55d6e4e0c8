"""Statistics for dashboards."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from certctl.domain.access import Permission
from certctl.services import statistics
from certctl.web.api.common import Created, Out
from certctl.web.gate import Call, Resource

stats = Resource("/stats", tag="stats")
Days = Annotated[int, Query(ge=1, le=365)]


class Summary(Out):
    total_certificates: int
    expiring_certificates: int
    expired_certificates: int
    revoked_certificates: int
    active_agents: int
    offline_agents: int
    total_agents: int
    pending_jobs: int
    failed_jobs: int
    complete_jobs: int
    notifications_dead: int
    completed_at: Created


class StatusCount(Out):
    status: str
    count: int


class StatusCounts(Out):
    status_counts: list[StatusCount]


class DayCount(Out):
    date: str
    count: int


class Timeline(Out):
    buckets: list[DayCount]


class JobDay(Out):
    date: str
    completed: int
    failed: int


class JobTrends(Out):
    trends: list[JobDay]


class IssuanceRate(Out):
    rate: list[DayCount]


@stats.get("/summary", needs=Permission.STATS_READ, answer=Summary, errors=())
async def get_dashboard_summary(call: Call) -> Any:
    """Certificates, agents and jobs in numbers; archived certificates are left out."""
    return await statistics.summary(call.on, call.actor)


@stats.get("/certificates-by-status", needs=Permission.STATS_READ, answer=StatusCounts, errors=())
async def get_certificates_by_status(call: Call) -> Any:
    """How many certificates there are in each status."""
    return {"status_counts": await statistics.by_status(call.on, call.actor)}


@stats.get("/expiration-timeline", needs=Permission.STATS_READ, answer=Timeline, errors=())
async def get_expiration_timeline(call: Call, days: Days = 30) -> Any:
    """How many certificates end on each of the coming days (UTC)."""
    return {"buckets": await statistics.expirations(call.on, call.actor, days)}


@stats.get("/job-trends", needs=Permission.STATS_READ, answer=JobTrends, errors=())
async def get_job_trends(call: Call, days: Days = 30) -> Any:
    """How many jobs were completed and failed on each of the past days (UTC)."""
    return {"trends": await statistics.job_trends(call.on, call.actor, days)}


@stats.get("/issuance-rate", needs=Permission.STATS_READ, answer=IssuanceRate, errors=())
async def get_issuance_rate(call: Call, days: Days = 30) -> Any:
    """How many certificates were issued on each of the past days (UTC)."""
    return {"rate": await statistics.issuances(call.on, call.actor, days)}
