"""What the caller is and may do."""

from __future__ import annotations

from typing import Any

from certctl.web.api.common import Out
from certctl.web.gate import ANY_ACTOR, Call, Resource

auth = Resource("/auth", tag="auth")


class EffectivePermission(Out):
    permission: str
    scope_type: str
    scope_id: str | None = None


class Checked(Out):
    status: str
    user: str
    admin: bool
    actor_id: str
    actor_type: str
    roles: list[str]
    effective_permissions: list[EffectivePermission]


@auth.get("/check", needs=ANY_ACTOR, answer=Checked, errors=())
async def check(call: Call) -> Any:
    """Who the key belongs to. That the caller is an administrator is information, not a gate."""
    actor = call.actor
    return {
        "status": "authenticated",
        "user": actor.id,
        "admin": actor.is_admin,
        "actor_id": actor.id,
        "actor_type": str(actor.type),
        "roles": list(actor.roles),
        "effective_permissions": [
            {"permission": str(each), "scope_type": "global"} for each in sorted(actor.permissions)
        ],
    }
