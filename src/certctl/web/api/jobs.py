"""What is queued, running, done or failed."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Permission
from certctl.domain.job import JobStatus, JobType
from certctl.services import jobs as service
from certctl.services import retry
from certctl.web.api import common
from certctl.web.api.common import Created, Id, Out, Page, Paged
from certctl.web.gate import Call, Resource

jobs = Resource("/jobs", tag="jobs")


class Job(Out):
    id: str
    type: JobType
    certificate_id: str
    target_id: str | None
    agent_id: str | None
    version_id: str | None
    status: JobStatus
    reason: str
    requested_by: str
    approval_id: str | None
    attempts: int
    max_attempts: int
    last_error: str | None
    scheduled_at: Created
    started_at: Created | None
    completed_at: Created | None
    created_at: Created


@jobs.get(needs=Permission.JOB_READ, answer=Page[Job], errors=())
async def list_jobs(
    call: Call,
    page: Paged,
    status: JobStatus | None = None,
    type: JobType | None = None,
    certificate_id: Id | None = None,
    agent_id: Id | None = None,
) -> Any:
    """Jobs, newest first."""
    chosen = common.filters(
        status=None if status is None else str(status),
        type=None if type is None else str(type),
        certificate_id=certificate_id,
        agent_id=agent_id,
    )
    return await service.page(call.on, call.actor, page, filters=chosen)


@jobs.get("/{id}", needs=Permission.JOB_READ, answer=Job)
async def get_job(call: Call, id: str) -> Any:
    """One job."""
    return await service.get(call.on, call.actor, id)


@jobs.post(
    "/{id}/cancel",
    needs=Permission.JOB_CANCEL,
    answer=common.StatusAnswer,
    status=200,
    errors=(404, 409),
)
async def cancel_job(call: Call, id: str) -> Any:
    """Cancel a job that has not ended."""
    await service.cancel(call.on, call.actor, id)
    return {"status": "job_cancelled", "job_ids": [id]}


@jobs.post(
    "/{id}/retry",
    needs=Permission.JOB_CANCEL,
    answer=common.StatusAnswer,
    status=202,
    errors=(404, 409),
)
async def retry_job(call: Call, id: str) -> Any:
    """Begin again what failed or was cancelled; the answer names the new jobs."""
    job_ids = await retry.retry(call.on, call.actor, id)
    return {"status": "job_retried", "job_ids": job_ids}
