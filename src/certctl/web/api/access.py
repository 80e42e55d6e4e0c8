"""What the caller is and may do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from certctl.domain.access import Actor, Permission
from certctl.services.access import sign_in_settings
from certctl.services.roles import permission_id
from certctl.web.api.common import Out
from certctl.web.gate import ANY_ACTOR, Call, Resource

auth = Resource("/auth", tag="auth")
ScopeType = Literal["global", "profile", "issuer"]


class EffectivePermission(Out):
    permission: str
    scope_type: ScopeType
    scope_id: str | None = None


class Me(Out):
    """`admin` is information; nothing is decided by it."""

    actor_id: str
    actor_type: str
    admin: bool
    roles: list[str]
    effective_permissions: list[EffectivePermission]


class Checked(Me):
    status: str
    user: str


class RuntimeConfig(Out):
    """By the name of the setting; `***` stands for a secret that is set."""

    settings: dict[str, str]


class PermissionShown(Out):
    id: str
    name: str
    namespace: str


class Permissions(Out):
    permissions: list[PermissionShown]


@auth.get("/check", needs=ANY_ACTOR, answer=Checked, errors=())
async def check(call: Call) -> Any:
    """Who the key belongs to. That the caller is an administrator is information, not a gate."""
    return {"status": "authenticated", "user": call.actor.id, **_told(call.actor)}


@auth.get("/me", needs=ANY_ACTOR, answer=Me, errors=())
async def me(call: Call) -> Any:
    """What the caller may do, and where."""
    return _told(call.actor)


@auth.get("/runtime-config", needs=Permission.AUTH_ROLE_ASSIGN, answer=RuntimeConfig, errors=())
async def get_runtime_config(call: Call) -> Any:
    """The settings of signing in that are in force here."""
    return {"settings": sign_in_settings(call.on, call.actor)}


@auth.get("/permissions", needs=ANY_ACTOR, answer=Permissions, errors=())
async def list_permissions() -> Any:
    """Every permission there is."""
    return {
        "permissions": [
            {"id": permission_id(each), "name": str(each), "namespace": each.area}
            for each in Permission
        ]
    }


def _told(actor: Actor) -> dict[str, Any]:
    return {
        "actor_id": actor.id,
        "actor_type": str(actor.type),
        "admin": actor.is_admin,
        "roles": list(actor.roles),
        "effective_permissions": list(_effective(actor)),
    }


def _effective(actor: Actor) -> Iterator[dict[str, Any]]:
    for permission in sorted(actor.permissions):
        scope = actor.permissions[permission]
        if scope.everything:
            yield {"permission": str(permission), "scope_type": "global", "scope_id": None}
            continue
        for kind, ids in (("issuer", scope.issuers), ("profile", scope.profiles)):
            for scope_id in sorted(ids):
                yield {"permission": str(permission), "scope_type": kind, "scope_id": scope_id}
