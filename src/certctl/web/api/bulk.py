"""Revoke, renew and reassign many certificates with one call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from certctl.domain.access import Permission
from certctl.domain.certificate import Status
from certctl.services import bulk as service
from certctl.services import revoke
from certctl.web.api import common
from certctl.web.api.common import Id, In, Moment, Out, Text
from certctl.web.gate import Call, Resource, encoded

bulk = Resource("/certificates", tag="bulk")
operations = Resource("/bulk-operations", tag="bulk")
Ids = Annotated[list[Id], Field(max_length=20_000)]


class Selection(In):
    """By ids or by filters, all of which must fit; `dry_run` says what would happen."""

    certificate_ids: Ids | None = None
    profile_id: Id | None = None
    owner_id: Id | None = None
    team_id: Id | None = None
    issuer_id: Id | None = None
    agent_id: Id | None = None
    environment: Text | None = None
    status: Status | None = None
    expires_before: Moment | None = None
    dry_run: bool = False


class BulkRevocation(Selection):
    reason: Text


class BulkRenewal(Selection):
    pass


class BulkReassignment(In):
    """`owner_id` and `team_id` are the new ones; `from_owner_id` and `from_team_id` select."""

    certificate_ids: Ids | None = None
    owner_id: Id
    team_id: Id | None = None
    from_owner_id: Id | None = None
    from_team_id: Id | None = None
    issuer_id: Id | None = None
    environment: Text | None = None
    dry_run: bool = False


class Failure(Out):
    certificate_id: str
    error: str


class EnqueuedJob(Out):
    certificate_id: str
    job_id: str


class Operation(Out):
    """Up to 1,000 errors and jobs are listed; the counters are complete. `id` is null after a dry
    run."""

    id: str | None
    kind: Literal["revoke", "renew", "reassign"]
    state: Literal["running", "completed", "dry_run"]
    requested_by: str
    total_matched: int
    total_revoked: int | None = None
    total_enqueued: int | None = None
    total_reassigned: int | None = None
    total_skipped: int
    total_failed: int
    errors: list[Failure]
    enqueued_jobs: list[EnqueuedJob] | None = None
    created_at: common.Created
    finished_at: common.Created | None


async def _answer(
    call: Any, kind: str, filters: dict[str, Any], parameters: dict[str, Any], *, dry_run: bool
) -> Any:
    """200 with the counters, or 202 and the address of an operation that goes on."""
    chosen = {name: value for name, value in filters.items() if value is not None}
    told = await service.start(
        call.on,
        call.actor,
        kind,
        filters=chosen,
        parameters=parameters,
        dry_run=dry_run,
        idempotency_key=call.idempotency_key,
    )
    if told["state"] != "running":
        return told
    place = f"/api/v1/bulk-operations/{told['id']}"
    return Response(encoded(told), 202, {"Location": place}, "application/json")


def _selected(body: Selection) -> dict[str, Any]:
    chosen = body.model_dump(exclude={"dry_run", "reason"})
    return {**chosen, "status": None if body.status is None else str(body.status)}


@bulk.post(
    "/bulk-revoke",
    needs=Permission.CERT_BULK_REVOKE,
    answer=Operation,
    status=200,
    also=(202,),
    errors=(409,),
)
async def bulk_revoke(call: Call, body: BulkRevocation) -> Any:
    """Revoke many certificates. Partial failure is told in `errors`."""
    reason = revoke.parse_reason(body.reason)
    return await _answer(
        call, "revoke", _selected(body), {"reason": str(reason)}, dry_run=body.dry_run
    )


@bulk.post(
    "/bulk-renew",
    needs=Permission.CERT_ISSUE,
    answer=Operation,
    status=200,
    also=(202,),
    errors=(409,),
)
async def bulk_renew(call: Call, body: BulkRenewal) -> Any:
    """Renew many certificates. Those under way are skipped."""
    return await _answer(call, "renew", _selected(body), {}, dry_run=body.dry_run)


@bulk.post(
    "/bulk-reassign",
    needs=Permission.CERT_EDIT,
    answer=Operation,
    status=200,
    also=(202,),
    errors=(409,),
)
async def bulk_reassign(call: Call, body: BulkReassignment) -> Any:
    """Give many certificates to another owner, and to another team if one is named."""
    filters = {
        "certificate_ids": body.certificate_ids,
        "owner_id": body.from_owner_id,
        "team_id": body.from_team_id,
        "issuer_id": body.issuer_id,
        "environment": body.environment,
    }
    parameters = {"owner_id": body.owner_id, "team_id": body.team_id}
    return await _answer(call, "reassign", filters, parameters, dry_run=body.dry_run)


@operations.get("/{id}", needs=Permission.CERT_READ, answer=Operation)
async def get_bulk_operation(call: Call, id: str) -> Any:
    """How far a bulk operation is, and what failed."""
    return await service.result(call.on, call.actor, id)
