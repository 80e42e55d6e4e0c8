"""Break-glass passwords. Unless the operator turns them on, these routes are none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import breakglass as service
from certctl.web.api.common import Created, Id, In, Out
from certctl.web.gate import Call, Resource

breakglass = Resource("/auth/breakglass/credentials", tag="auth")


class BreakglassCredential(Out):
    actor_id: str
    created_at: Created
    last_password_change_at: Created
    failure_count: int
    last_failure_at: Created | None
    locked_until: Created | None


class BreakglassCredentials(Out):
    credentials: list[BreakglassCredential]


class NewPassword(In):
    """12 to 256 bytes, for somebody who has signed in once."""

    actor_id: Id
    password: Annotated[str, Field(max_length=1024, repr=False)]


class PasswordSet(Out):
    actor_id: str
    created_at: Created


# While break-glass is off, each of these answers 404, as a path that is none does.
@breakglass.get(needs=Permission.AUTH_BREAKGLASS_ADMIN, answer=BreakglassCredentials, errors=(404,))
async def list_credentials(call: Call) -> Any:
    """Who has a break-glass password, and which are locked."""
    return {"credentials": await service.every(call.on, call.actor)}


@breakglass.post(needs=Permission.AUTH_BREAKGLASS_ADMIN, answer=PasswordSet, errors=(404, 409))
async def set_password(call: Call, body: NewPassword) -> Any:
    """Give somebody a break-glass password, or another one."""
    return await service.set_password(call.on, call.actor, body.actor_id, body.password)


@breakglass.post(
    "/{actor_id}/unlock",
    needs=Permission.AUTH_BREAKGLASS_ADMIN,
    answer=None,
    status=204,
    errors=(404,),
)
async def unlock_credential(call: Call, actor_id: str) -> None:
    """Let somebody try again before the lock ends."""
    await service.unlock(call.on, call.actor, actor_id)


@breakglass.delete("/{actor_id}", needs=Permission.AUTH_BREAKGLASS_ADMIN)
async def remove_credential(call: Call, actor_id: str) -> None:
    """Take a break-glass password away."""
    await service.remove(call.on, call.actor, actor_id)
