"""What people were told, or could not be."""

from __future__ import annotations

from typing import Any, Literal

from certctl.domain.access import Permission
from certctl.domain.notification import Kind, Severity, Status
from certctl.services import notify as service
from certctl.web.api import common
from certctl.web.api.common import Created, Id, Out, Page, Paged
from certctl.web.gate import Call, Resource

notifications = Resource("/notifications", tag="notifications")


class Notification(Out):
    """`error` and `last_error` say the same: why the last try failed. `certificate_id` is null
    for a digest; `recipient` is empty before the first try."""

    id: str
    type: Kind
    certificate_id: str | None
    channel: str
    recipient: str
    severity: Severity
    message: str
    sent_at: Created | None
    status: Status
    error: str | None
    retry_count: int
    next_retry_at: Created | None
    last_error: str | None
    created_at: Created


class Marked(Out):
    status: Literal["marked_as_read"]


class Requeued(Out):
    status: Literal["requeued"]


@notifications.get(needs=Permission.NOTIFICATION_READ, answer=Page[Notification], errors=())
async def list_notifications(
    call: Call, page: Paged, status: Status | None = None, certificate_id: Id | None = None
) -> Any:
    """Notifications, newest first."""
    chosen = common.filters(
        status=None if status is None else str(status), certificate_id=certificate_id
    )
    return await service.page(call.on, call.actor, page, filters=chosen)


@notifications.get("/{id}", needs=Permission.NOTIFICATION_READ, answer=Notification)
async def get_notification(call: Call, id: str) -> Any:
    """One notification."""
    return await service.get(call.on, call.actor, id)


@notifications.post(
    "/{id}/read",
    needs=Permission.NOTIFICATION_READ,
    answer=Marked,
    status=200,
    errors=(404, 409),
)
async def mark_notification_as_read(call: Call, id: str) -> Any:
    """Somebody has seen it; what is yet to be sent is refused."""
    await service.mark_read(call.on, call.actor, id)
    return {"status": "marked_as_read"}


@notifications.post(
    "/{id}/requeue",
    needs=Permission.NOTIFICATION_EDIT,
    answer=Requeued,
    status=200,
    errors=(404, 409),
)
async def requeue_notification(call: Call, id: str) -> Any:
    """Send what failed or is dead as if it had never been tried."""
    await service.requeue(call.on, call.actor, id)
    return {"status": "requeued"}
