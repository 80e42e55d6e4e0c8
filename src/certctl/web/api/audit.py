"""The audit trail."""

from __future__ import annotations

from typing import Any, Literal

from certctl.domain.access import Permission
from certctl.domain.errors import Invalid
from certctl.services import audit as service
from certctl.web.api import common
from certctl.web.api.common import Created, Id, Moment, Out, Page, Paged, Text
from certctl.web.gate import Call, Resource

audit = Resource("/audit", tag="audit")
Category = Literal["cert_lifecycle", "auth", "config"]


class AuditEvent(Out):
    sequence: int
    id: str
    actor: str
    actor_type: str
    action: str
    resource_type: str
    resource_id: str
    details: dict[str, Any]
    event_category: Category
    address: str | None
    request_id: str | None
    timestamp: Created
    content_hash: str


@audit.get(needs=Permission.AUDIT_READ, answer=Page[AuditEvent], errors=())
async def list_audit_events(
    call: Call,
    page: Paged,
    category: Category | None = None,
    actor: Text | None = None,
    resource_type: Text | None = None,
    resource_id: Id | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Any:
    """Events, newest first."""
    if since is not None and until is not None and until <= since:
        raise Invalid("until must be later than since", field="until")
    chosen = common.filters(
        event_category=category,
        actor=actor,
        resource_type=resource_type,
        resource_id=resource_id,
        since=since,
        until=until,
    )
    return await service.page(call.on, call.actor, page, filters=chosen)


@audit.get("/{id}", needs=Permission.AUDIT_READ, answer=AuditEvent)
async def get_audit_event(call: Call, id: str) -> Any:
    """One event."""
    return await service.get(call.on, call.actor, id)
