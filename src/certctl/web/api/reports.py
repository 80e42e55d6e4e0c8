"""Metrics, as JSON and for Prometheus."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from certctl.domain.access import Permission
from certctl.services import replicas, report
from certctl.web import metrics
from certctl.web.api.common import Out
from certctl.web.gate import Call, Resource

reports = Resource("/metrics", tag="metrics")
STARTED: Final = datetime.now(UTC)


class Gauges(Out):
    certificate_total: int
    certificate_active: int
    certificate_expiring_soon: int
    certificate_expired: int
    certificate_revoked: int
    agent_total: int
    agent_online: int
    job_pending: int


class Counters(Out):
    job_completed_total: int
    job_failed_total: int
    notifications_dead_total: int


class Uptime(Out):
    uptime_seconds: int
    server_started: datetime
    measured_at: datetime


class Metrics(Out):
    gauge: Gauges
    counter: Counters
    uptime: Uptime


@reports.get(needs=Permission.METRICS_READ, answer=Metrics, errors=())
async def get_metrics(call: Call) -> Any:
    """Counts over the whole inventory."""
    counts = await report.gauges(call.on, call.actor)
    now = datetime.now(UTC)
    return {
        "gauge": {name: counts[name] for name in Gauges.model_fields},
        "counter": {
            "job_completed_total": counts["job_completed_total"],
            "job_failed_total": counts["job_failed_total"],
            "notifications_dead_total": counts["notification_dead_total"],
        },
        "uptime": {
            "uptime_seconds": int(time.time() - STARTED.timestamp()),
            "server_started": STARTED,
            "measured_at": now,
        },
    }


@reports.get("/prometheus", needs=Permission.METRICS_READ, answer=None, errors=())
async def get_prometheus_metrics(call: Call) -> Any:
    """The same in the Prometheus text format, with what this process has counted itself."""
    counts = await report.gauges(call.on, call.actor)
    uptime = time.time() - STARTED.timestamp()
    planes = await replicas.planes(call.on)
    return Response(metrics.text(counts, uptime, planes), media_type=metrics.CONTENT_TYPE)
