"""What waits for a second person's decision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import approve as service
from certctl.web.api import common
from certctl.web.api.common import Created, Id, In, Out, Page, Paged, Text
from certctl.web.gate import Call, Resource

approvals = Resource("/approvals", tag="approvals")
job_decisions = Resource("/jobs", tag="approvals")
State = Literal["pending", "approved", "rejected", "expired"]
Words = Annotated[str, Field(max_length=2000)]


class Approval(Out):
    """`job_ids` are the jobs that wait for it, or came of it."""

    id: str
    certificate_id: str
    job_ids: list[str]
    profile_id: str
    issuer_id: str
    common_name: str
    sans: list[str]
    requested_by: str
    reason: str
    state: State
    decided_by: str | None
    decided_at: Created | None
    decision_note: str | None
    created_at: Created
    updated_at: Created


class Decision(In):
    note: Words | None = None


class Rejection(In):
    reason: Words | None = None


class Decided(Out):
    id: str
    decided_by: str
    action: Literal["approved", "rejected"]


@approvals.get(needs=Permission.APPROVAL_READ, answer=Page[Approval], errors=())
async def list_approvals(
    call: Call,
    page: Paged,
    state: State | None = None,
    certificate_id: Id | None = None,
    requested_by: Text | None = None,
) -> Any:
    """Approvals, newest first."""
    chosen = common.filters(state=state, certificate_id=certificate_id, requested_by=requested_by)
    return await service.page(call.on, call.actor, page, filters=chosen)


@approvals.get("/{id}", needs=Permission.APPROVAL_READ, answer=Approval)
async def get_approval(call: Call, id: str) -> Any:
    """One approval."""
    return await service.get(call.on, call.actor, id)


@approvals.post(
    "/{id}/approve",
    needs=Permission.APPROVAL_APPROVE,
    answer=Decided,
    status=200,
    errors=(404, 409),
)
async def approve(call: Call, id: str, body: Decision | None = None) -> Any:
    """Let the waiting jobs begin. Whoever asked is refused."""
    row = await service.approve(call.on, call.actor, id, note=body.note if body else None)
    return {"id": id, "decided_by": row["decided_by"], "action": "approved"}


@approvals.post(
    "/{id}/reject",
    needs=Permission.APPROVAL_REJECT,
    answer=Decided,
    status=200,
    errors=(404, 409),
)
async def reject(call: Call, id: str, body: Decision | None = None) -> Any:
    """Cancel the waiting jobs; the note is the reason."""
    row = await service.reject(call.on, call.actor, id, note=body.note if body else None)
    return {"id": id, "decided_by": row["decided_by"], "action": "rejected"}


@job_decisions.post(
    "/{id}/approve",
    needs=Permission.APPROVAL_APPROVE,
    answer=common.StatusAnswer,
    status=200,
    errors=(404, 409),
)
async def approve_job(call: Call, id: str) -> Any:
    """Approve what a waiting job was asked with; its approval may cover other jobs too."""
    approval_id = await service.of_job(call.on, call.actor, id)
    row = await service.approve(call.on, call.actor, approval_id, note=None)
    return {"status": "job_approved", "job_ids": row["job_ids"]}


@job_decisions.post(
    "/{id}/reject",
    needs=Permission.APPROVAL_REJECT,
    answer=common.StatusAnswer,
    status=200,
    errors=(404, 409),
)
async def reject_job(call: Call, id: str, body: Rejection | None = None) -> Any:
    """Reject what a waiting job was asked with."""
    approval_id = await service.of_job(call.on, call.actor, id)
    reason = body.reason if body else None
    row = await service.reject(call.on, call.actor, approval_id, note=reason)
    return {"status": "job_rejected", "job_ids": row["job_ids"]}
