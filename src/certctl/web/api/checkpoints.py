"""Signed checkpoints of the audit trail, its export and its verification."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query
from starlette.responses import Response, StreamingResponse

from certctl.domain.access import Permission
from certctl.services import audit_export, trail
from certctl.services import checkpoints as service
from certctl.services.audit_export import Wish
from certctl.web.api.audit import Category
from certctl.web.api.common import Created, Moment, Out, Page, Paged
from certctl.web.gate import Call, Resource

proofs = Resource("/audit", tag="audit")
MEDIA: Final = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
PEM: Final = "application/x-pem-file"


class Checkpoint(Out):
    id: str
    number: int
    installation: str
    seal_number: int
    seal: str
    last_sequence: int
    row_count: int
    created_at: Created
    key_id: str
    payload: str
    signature: str


class Verified(Out):
    problems: list[str]
    events: int
    seals: int
    next: str | None


@proofs.get(
    "/export", needs=Permission.AUDIT_EXPORT, answer=None, errors=(), media=(*MEDIA.values(),)
)
async def export_audit(
    call: Call,
    since: Annotated[Moment | None, Query(alias="from")] = None,
    until: Annotated[Moment | None, Query(alias="to")] = None,
    category: Category | None = None,
    format: Literal["ndjson", "csv"] = "ndjson",
    limit: Annotated[int | None, Query(ge=1, description="Default: everything")] = None,
) -> Any:
    """Every event of a time, oldest first, streamed. NDJSON holds the seals too, so that it can be
    verified offline; the last line says whether anything is missing."""
    lines = await audit_export.export(
        call.on, call.actor, Wish(since, until, category, limit, format)
    )
    headers = {
        "Content-Disposition": f'attachment; filename="audit.{format}"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(lines, media_type=MEDIA[format], headers=headers)


@proofs.get("/checkpoints", needs=Permission.AUDIT_READ, answer=Page[Checkpoint], errors=())
async def list_audit_checkpoints(call: Call, page: Paged) -> Any:
    """Checkpoints, newest first: what each attests, the signed bytes and the signature, base64."""
    return await service.page(call.on, call.actor, page)


@proofs.get("/checkpoints/latest", needs=Permission.AUDIT_READ, answer=Checkpoint)
async def get_latest_audit_checkpoint(call: Call) -> Any:
    """The newest checkpoint."""
    return await service.latest(call.on, call.actor)


@proofs.get("/checkpoint-key", needs=Permission.AUDIT_READ, answer=None, media=(PEM,))
async def get_audit_checkpoint_key(call: Call) -> Any:
    """The Ed25519 public key that checkpoints are verified with, PEM."""
    return Response(await service.public_key(call.on, call.actor), media_type=PEM)


@proofs.get("/verify", needs=Permission.AUDIT_READ, answer=Verified)
async def verify_audit(
    call: Call,
    after: Annotated[
        str | None, Query(max_length=64, description="The `next` of the answer before")
    ] = None,
) -> Any:
    """Recompute hashes, seals and checkpoints of some twenty thousand events; go on with `next`."""
    part = await trail.verified_for(call.on, call.actor, after)
    return {
        "problems": part.problems,
        "events": part.events,
        "seals": part.seals,
        "next": None if part.next is None else str(part.next),
    }
