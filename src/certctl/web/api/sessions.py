"""Browser sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query

from certctl.domain.access import Permission
from certctl.services import sessions as service
from certctl.web.api.common import Created, Id, Out, filters
from certctl.web.gate import Call, Resource

sessions = Resource("/auth/sessions", tag="auth")


ExceptCurrent = Annotated[Literal["current"], Query(alias="except")]


class BrowserSession(Out):
    """It is over at `absolute_expires_at`, and at `idle_expires_at` unless it is used before."""

    id: str
    actor_id: str
    actor_type: str
    signed_in_by: Literal["oidc", "breakglass"]
    ip_address: str | None
    user_agent: str
    created_at: Created
    last_seen_at: Created
    idle_expires_at: Created
    absolute_expires_at: Created
    revoked: bool


class BrowserSessions(Out):
    sessions: list[BrowserSession]


class RevokedSessions(Out):
    revoked_count: int


@sessions.get(needs=Permission.AUTH_SESSION_LIST, answer=BrowserSessions, errors=())
async def list_sessions(
    call: Call, actor_id: Id | None = None, actor_type: Id | None = None
) -> Any:
    """Sessions that are not over: one's own, or with `auth.session.list.all` those of others."""
    wanted = filters(actor_id=actor_id, actor_type=actor_type)
    return {"sessions": await service.live(call.on, call.actor, wanted)}


@sessions.delete("/{id}", needs=Permission.AUTH_SESSION_REVOKE, errors=(404,))
async def revoke_session(call: Call, id: str) -> None:
    """End a session."""
    await service.revoke(call.on, call.actor, id)


@sessions.delete("", needs=Permission.AUTH_SESSION_REVOKE, answer=RevokedSessions, errors=(400,))
async def revoke_other_sessions(call: Call, except_: ExceptCurrent) -> Any:  # noqa: ARG001 - it must be given
    """End all of one's sessions but the one that asks."""
    return {"revoked_count": await service.revoke_others(call.on, call.actor)}
