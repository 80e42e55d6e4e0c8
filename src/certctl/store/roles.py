"""Roles, their permissions, and who has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import ActorType, Grant
from certctl.store.db import Row, Session, Tx
from certctl.store.keys import LIVE as LIVE_KEY

SHOWN: Final = "r.id, r.name, r.description, r.built_in, r.created_at, r.updated_at"
IN_FORCE: Final = "(a.expires_at IS NULL OR a.expires_at > now())"
SAME_PLACE: Final = """issuer_id IS NOT DISTINCT FROM %(issuer_id)s
    AND profile_id IS NOT DISTINCT FROM %(profile_id)s"""


COMES_IN: Final = """u.deactivated_at IS NULL AND (
    EXISTS (SELECT FROM oidc_providers p WHERE p.id = u.oidc_provider_id AND p.enabled)
    OR %(breakglass)s AND EXISTS (SELECT FROM breakglass_credentials b WHERE b.user_id = u.id))"""


async def grants_of(session: Session, kind: ActorType, actor_id: str) -> list[Row]:
    """For each role in force its place, its end, and one row for each permission of a role that is
    not built in; `permission` is null without one."""
    return await session.all(
        f"""SELECT a.role_id, a.issuer_id, a.profile_id, a.expires_at, p.permission,
                   p.issuer_id AS of_issuer_id, p.profile_id AS of_profile_id
            FROM actor_roles a LEFT JOIN role_permissions p ON p.role_id = a.role_id
            WHERE a.actor_type = %(type)s AND a.actor_id = %(id)s AND {IN_FORCE}
            ORDER BY a.role_id""",
        type=str(kind),
        id=actor_id,
    )


async def assignments(session: Session, kind: ActorType) -> list[Row]:
    """Every role in force that an actor of this type has."""
    return await session.all(
        f"""SELECT a.actor_id, a.role_id, a.issuer_id, a.profile_id, a.expires_at, a.granted_by,
                   a.created_at
            FROM actor_roles a WHERE a.actor_type = %(type)s AND {IN_FORCE}
            ORDER BY a.actor_id, a.role_id""",
        type=str(kind),
    )


async def assign(
    tx: Tx,
    kind: ActorType,
    actor_id: str,
    *,
    role_id: str,
    issuer_id: str | None = None,
    profile_id: str | None = None,
    expires_at: datetime | None = None,
    granted_by: str,
) -> None:
    """Give a role; given already, it gets this end. Raises Invalid for a place that is not."""
    await tx.run(
        """INSERT INTO actor_roles (actor_type, actor_id, role_id, issuer_id, profile_id,
               expires_at, granted_by)
           VALUES (%(type)s, %(actor)s, %(role)s, %(issuer)s, %(profile)s, %(expires)s, %(by)s)
           ON CONFLICT ON CONSTRAINT actor_roles_key
           DO UPDATE SET expires_at = excluded.expires_at, granted_by = excluded.granted_by""",
        type=str(kind),
        actor=actor_id,
        role=role_id,
        issuer=issuer_id,
        profile=profile_id,
        expires=expires_at,
        by=granted_by,
    )


async def unassign(
    tx: Tx,
    kind: ActorType,
    actor_id: str,
    *,
    role_id: str,
    issuer_id: str | None,
    profile_id: str | None,
) -> int:
    """How many assignments were taken away."""
    return await tx.run(
        f"""DELETE FROM actor_roles WHERE actor_type = %(type)s AND actor_id = %(actor)s
            AND role_id = %(role)s AND {SAME_PLACE}""",
        type=str(kind),
        actor=actor_id,
        role=role_id,
        issuer_id=issuer_id,
        profile_id=profile_id,
    )


async def replace_mapped(
    tx: Tx, kind: ActorType, actor_id: str, role_ids: Sequence[str], *, granted_by: str
) -> bool:
    """Make `role_ids`, for everything, the roles that `granted_by` has given; those that others
    gave stay. Whether anything changed."""
    gone = await tx.run(
        """DELETE FROM actor_roles WHERE actor_type = %(type)s AND actor_id = %(id)s
           AND granted_by = %(by)s AND role_id <> ALL (%(roles)s)""",
        type=str(kind),
        id=actor_id,
        by=granted_by,
        roles=list(role_ids),
    )
    come = await tx.run(
        """INSERT INTO actor_roles (actor_type, actor_id, role_id, granted_by)
           SELECT %(type)s, %(id)s, r, %(by)s FROM unnest(%(roles)s::text[]) r
           ON CONFLICT ON CONSTRAINT actor_roles_key
           DO UPDATE SET expires_at = NULL, granted_by = excluded.granted_by
               WHERE actor_roles.expires_at <= now()""",
        type=str(kind),
        id=actor_id,
        by=granted_by,
        roles=list(role_ids),
    )
    return bool(gone or come)


async def unassign_all(tx: Tx, kind: ActorType, actor_id: str) -> None:
    await tx.run(
        "DELETE FROM actor_roles WHERE actor_type = %(type)s AND actor_id = %(id)s",
        type=str(kind),
        id=actor_id,
    )


async def lock_administration(tx: Tx) -> None:
    """Who takes administrators away does so one after the other."""
    await tx.run("SELECT pg_advisory_xact_lock(hashtext('certctl_administrators'))")


async def administrators(session: Session, *, breakglass: bool) -> Row:
    """Whether there is `one`, a live key or an active person with a way in who has the role of the
    administrator for everything, `one_for_good`, whose key and role have no end, and `a_person`.
    A person comes in by a provider that is enabled, or where `breakglass` is, by a password."""
    return await session.only(
        "the administrators",
        f"""SELECT count(*) > 0 AS one,
                   count(*) FILTER (WHERE a.expires_at IS NULL AND k.expires_at IS NULL) > 0
                       AS one_for_good,
                   count(u.id) > 0 AS a_person
            FROM actor_roles a
            LEFT JOIN api_keys k ON a.actor_type = 'APIKey' AND k.name = a.actor_id AND {LIVE_KEY}
            LEFT JOIN users u ON a.actor_type = 'User' AND u.id = a.actor_id AND {COMES_IN}
            WHERE a.role_id = 'r-admin' AND a.issuer_id IS NULL AND a.profile_id IS NULL
              AND (k.id IS NOT NULL OR u.id IS NOT NULL) AND {IN_FORCE}""",
        breakglass=breakglass,
    )


async def every(session: Session) -> list[Row]:
    return await session.all(
        f'SELECT {SHOWN} FROM roles r ORDER BY r.built_in DESC, r.name COLLATE "C"'
    )


async def get(session: Session, role_id: str) -> Row:
    return await session.only(
        f"role {role_id}", f"SELECT {SHOWN} FROM roles r WHERE r.id = %(id)s", id=role_id
    )


async def lock(tx: Tx, role_id: str) -> Row:
    """As `get`, and nobody else changes the role until the transaction ends."""
    return await tx.only(
        f"role {role_id}",
        f"SELECT {SHOWN} FROM roles r WHERE r.id = %(id)s FOR UPDATE",
        id=role_id,
    )


async def permissions(session: Session, role_id: str) -> list[Row]:
    """What a role that is not built in permits."""
    return await session.all(
        """SELECT permission, issuer_id, profile_id FROM role_permissions
           WHERE role_id = %(id)s ORDER BY permission, issuer_id, profile_id""",
        id=role_id,
    )


async def insert(tx: Tx, role_id: str, values: Mapping[str, Any]) -> None:
    await tx.insert("roles", [{"id": role_id, **values}])


async def update(tx: Tx, role_id: str, values: Mapping[str, Any]) -> Row:
    sets = "".join(f"{name} = %({name})s, " for name in values)
    return await tx.only(
        f"role {role_id}",
        f"UPDATE roles r SET {sets}updated_at = now() WHERE r.id = %(id)s RETURNING {SHOWN}",
        **{**values, "id": role_id},
    )


async def uses(tx: Tx, role_id: str) -> int:
    """How many actors have the role."""
    return int(
        await tx.value("SELECT count(*) FROM actor_roles WHERE role_id = %(id)s", id=role_id)
    )


async def delete(tx: Tx, role_id: str) -> None:
    await tx.run("DELETE FROM roles WHERE id = %(id)s", id=role_id)


async def permit(tx: Tx, role_id: str, grants: Sequence[Grant]) -> None:
    """Add permissions to a role; those it has stay. Raises Invalid for a place that is not."""
    await tx.many(
        """INSERT INTO role_permissions (role_id, permission, issuer_id, profile_id)
           VALUES (%(role)s, %(permission)s, %(issuer)s, %(profile)s) ON CONFLICT DO NOTHING""",
        [
            {
                "role": role_id,
                "permission": str(each.permission),
                "issuer": each.issuer_id,
                "profile": each.profile_id,
            }
            for each in grants
        ],
    )


async def forbid(tx: Tx, role_id: str, grant: Grant) -> int:
    """Take a permission from a role; how many there were."""
    return await tx.run(
        f"""DELETE FROM role_permissions WHERE role_id = %(role)s
            AND permission = %(permission)s AND {SAME_PLACE}""",
        role=role_id,
        permission=str(grant.permission),
        issuer_id=grant.issuer_id,
        profile_id=grant.profile_id,
    )
