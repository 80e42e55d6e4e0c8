"""People who have signed in."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Permission
from certctl.services import users as service
from certctl.web.api.common import Created, Id, Out
from certctl.web.gate import Call, Resource

users = Resource("/auth/users", tag="auth")


class User(Out):
    """`role_ids` are the roles in force, mapped from groups or given by hand."""

    id: str
    email: str
    display_name: str
    oidc_subject: str
    oidc_provider_id: str
    role_ids: list[str]
    last_login_at: Created | None
    created_at: Created
    deactivated_at: Created | None


class Users(Out):
    users: list[User]


@users.get(needs=Permission.AUTH_USER_READ, answer=Users, errors=())
async def list_users(call: Call, oidc_provider_id: Id | None = None) -> Any:
    """Everybody who has signed in once, deactivated or not."""
    return {"users": await service.every(call.on, call.actor, provider_id=oidc_provider_id)}


@users.delete("/{id}", needs=Permission.AUTH_USER_DEACTIVATE)
async def deactivate_user(call: Call, id: str) -> None:
    """Shut somebody out and end their sessions."""
    await service.deactivate(call.on, call.actor, id)


@users.post(
    "/{id}/reactivate",
    needs=Permission.AUTH_USER_DEACTIVATE,
    answer=None,
    status=204,
    errors=(404,),
)
async def reactivate_user(call: Call, id: str) -> None:
    """Let somebody sign in again."""
    await service.reactivate(call.on, call.actor, id)
