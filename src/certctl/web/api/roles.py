"""Roles, and what they permit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Grant, Permission
from certctl.domain.errors import Invalid, NotFound
from certctl.services import roles as service
from certctl.web.api import common
from certctl.web.api.access import ScopeType
from certctl.web.api.common import Created, Id, In, NameText, Out
from certctl.web.gate import Call, Resource

roles = Resource("/auth/roles", tag="auth")
Description = Annotated[str, Field(max_length=1000)]


class NewRole(In):
    name: NameText
    description: Description = ""


class RoleChange(In):
    name: NameText | None = None
    description: Description | None = None


class Role(Out):
    id: str
    name: str
    description: str
    built_in: bool
    created_at: Created
    updated_at: Created


class Roles(Out):
    roles: list[Role]


class RolePermission(Out):
    role_id: str
    permission_id: str
    permission: str
    scope_type: ScopeType
    scope_id: str | None


class RoleWithPermissions(Out):
    role: Role
    permissions: list[RolePermission]


class Permitted(In):
    """`scope_id` names the issuer or the profile of `scope_type`."""

    permission: str
    scope_type: ScopeType = "global"
    scope_id: Id | None = None


def place(scope_type: ScopeType, scope_id: str | None) -> dict[str, str | None]:
    """`issuer_id` and `profile_id` of a scope.

    Raises:
        Invalid: naming `scope_id`, when it is missing or too much.
    """
    if (scope_type == "global") != (scope_id is None):
        words = "is for an issuer or a profile" if scope_id else f"names the {scope_type}"
        raise Invalid(f"scope_id {words}", field="scope_id")
    return {
        "issuer_id": scope_id if scope_type == "issuer" else None,
        "profile_id": scope_id if scope_type == "profile" else None,
    }


def _grant(permission: str, scope_type: ScopeType, scope_id: str | None) -> Grant:
    try:
        return Grant(Permission(permission), **place(scope_type, scope_id))
    except ValueError:
        raise Invalid(
            f"permission: there is no {permission}; see GET /api/v1/auth/permissions",
            field="permission",
        ) from None


@roles.get(needs=Permission.AUTH_ROLE_LIST, answer=Roles, errors=())
async def list_roles(call: Call) -> Any:
    """Every role, the built-in ones first."""
    return {"roles": await service.every(call.on, call.actor)}


@roles.post(needs=Permission.AUTH_ROLE_CREATE, answer=Role)
async def create_role(call: Call, body: NewRole) -> Any:
    """A role that permits nothing yet."""
    return await service.create(call.on, call.actor, **body.model_dump())


@roles.get("/{id}", needs=Permission.AUTH_ROLE_LIST, answer=RoleWithPermissions)
async def get_role(call: Call, id: str) -> Any:
    """A role and what it permits."""
    role, permissions = await service.get(call.on, call.actor, id)
    return {"role": role, "permissions": permissions}


@roles.put("/{id}", needs=Permission.AUTH_ROLE_EDIT, answer=Role, errors=(404, 409))
async def update_role(call: Call, id: str, body: RoleChange) -> Any:
    """Change a name or a description."""
    return await service.update(call.on, call.actor, id, changes=common.changes(body))


@roles.delete("/{id}", needs=Permission.AUTH_ROLE_DELETE)
async def delete_role(call: Call, id: str) -> None:
    """Delete a role that nobody has."""
    await service.delete(call.on, call.actor, id)


@roles.post(
    "/{id}/permissions",
    needs=Permission.AUTH_ROLE_EDIT,
    answer=None,
    status=204,
    errors=(404, 409),
)
async def grant_role_permission(call: Call, id: str, body: Permitted) -> None:
    """Let a role permit what the caller holds too."""
    grant = _grant(body.permission, body.scope_type, body.scope_id)
    await service.permit(call.on, call.actor, id, grant)


@roles.delete(
    "/{id}/permissions/{permission}",
    needs=Permission.AUTH_ROLE_EDIT,
    errors=(400, 404, 409),
)
async def revoke_role_permission(
    call: Call,
    id: str,
    permission: str,
    scope_type: ScopeType = "global",
    scope_id: Id | None = None,
) -> None:
    """Take a permission from a role."""
    if permission not in Permission.__members__.values():
        raise NotFound(f"there is no permission {permission}")
    await service.forbid(call.on, call.actor, id, _grant(permission, scope_type, scope_id))
