"""API keys: the names, their secrets' lives, and their roles."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import keys as service
from certctl.web.api.access import ScopeType
from certctl.web.api.common import Created, Id, In, Moment, Out
from certctl.web.api.roles import place
from certctl.web.gate import Call, Resource

keys = Resource("/auth/keys", tag="auth")
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
LONGEST_OVERLAP = int(service.LONGEST_OVERLAP.total_seconds())


class NewKey(In):
    """Without `expires_at` the key does not end by itself."""

    name: KeyName
    role_ids: Annotated[list[Id], Field(max_length=50)] = []
    expires_at: Moment | None = None


class Rotation(In):
    """`overlap_seconds` is how long the secrets before this one go on."""

    overlap_seconds: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP)] = 86_400
    expires_at: Moment | None = None


class MadeKey(Out):
    """`key_value` is the secret, shown this once."""

    id: str
    name: str
    key_value: str
    created_at: Created
    expires_at: Created | None


class RotatedKey(MadeKey):
    previous_expires_at: Created


class KeyRole(Out):
    role_id: str
    scope_type: ScopeType
    scope_id: str | None
    expires_at: Created | None
    granted_by: str


class KeyShown(Out):
    id: str
    created_by: str
    created_at: Created
    expires_at: Created | None
    last_used_at: Created | None


class NamedKey(Out):
    """A key's name is the actor; `keys` are its secrets, of which the environment's are not
    listed."""

    actor_id: str
    actor_type: str
    source: Literal["database", "environment"]
    role_ids: list[str]
    roles: list[KeyRole]
    keys: list[KeyShown]


class NamedKeys(Out):
    keys: list[NamedKey]


class Assignment(In):
    role_id: Id
    scope_type: ScopeType = "global"
    scope_id: Id | None = None
    expires_at: Moment | None = None


@keys.get(needs=Permission.AUTH_KEY_LIST, answer=NamedKeys, errors=())
async def list_keys(call: Call) -> Any:
    """Every name with its roles, and when its secrets were made, end, and were last used."""
    return {"keys": await service.every(call.on, call.actor)}


@keys.post(needs=Permission.AUTH_KEY_CREATE, answer=MadeKey)
async def create_key(call: Call, body: NewKey) -> Any:
    """A new key; its secret is shown this once. Its roles may be no more than the caller's."""
    return await service.create(
        call.on, call.actor, body.name, role_ids=body.role_ids, expires_at=body.expires_at
    )


@keys.post("/{id}/rotate", needs=Permission.AUTH_KEY_ROTATE, answer=RotatedKey, errors=(404, 409))
async def rotate_key(call: Call, id: str, body: Rotation | None = None) -> Any:
    """Another secret for the same name; the one before goes on for a while."""
    wish = body or Rotation()
    overlap = timedelta(seconds=wish.overlap_seconds)
    return await service.rotate(
        call.on, call.actor, id, overlap=overlap, expires_at=wish.expires_at
    )


@keys.delete("/{id}", needs=Permission.AUTH_KEY_DELETE)
async def delete_key(call: Call, id: str) -> None:
    """Revoke every secret of a name, and take its roles away."""
    await service.revoke(call.on, call.actor, id)


@keys.post(
    "/{id}/roles", needs=Permission.AUTH_ROLE_ASSIGN, answer=None, status=204, errors=(404, 409)
)
async def assign_key_role(call: Call, id: str, body: Assignment) -> None:
    """Give a role, for everything or for one issuer or profile, for good or until a time."""
    await service.assign(
        call.on,
        call.actor,
        id,
        role_id=body.role_id,
        **place(body.scope_type, body.scope_id),
        expires_at=body.expires_at,
    )


@keys.delete("/{id}/roles/{role_id}", needs=Permission.AUTH_ROLE_REVOKE, errors=(400, 404, 409))
async def revoke_key_role(
    call: Call,
    id: str,
    role_id: str,
    scope_type: ScopeType = "global",
    scope_id: Id | None = None,
) -> None:
    """Take a role away."""
    await service.unassign(call.on, call.actor, id, role_id=role_id, **place(scope_type, scope_id))
