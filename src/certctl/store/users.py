"""People, as the providers that vouch for them name them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import ActorType
from certctl.store.db import Row, Session, Tx

SHOWN: Final = """u.id, u.email, u.display_name, u.oidc_subject, u.oidc_provider_id,
    u.last_login_at, u.created_at, u.deactivated_at"""
ROLES: Final = f"""ARRAY(SELECT DISTINCT a.role_id FROM actor_roles a
    WHERE a.actor_type = '{ActorType.USER}' AND a.actor_id = u.id
      AND (a.expires_at IS NULL OR a.expires_at > now()) ORDER BY a.role_id) AS role_ids"""


async def every(session: Session, *, provider_id: str | None) -> list[Row]:
    """Everybody, or those of one provider, with the ids of the roles in force."""
    return await session.all(
        f"""SELECT {SHOWN}, {ROLES} FROM users u
            WHERE %(provider)s::text IS NULL OR u.oidc_provider_id = %(provider)s
            ORDER BY u.created_at, u.id""",
        provider=provider_id,
    )


async def exists(session: Session, user_id: str) -> bool:
    return bool(
        await session.value("SELECT EXISTS (SELECT FROM users WHERE id = %(id)s)", id=user_id)
    )


async def lock(tx: Tx, user_id: str) -> Row:
    """Raises NotFound; nobody else changes the row until the transaction ends."""
    return await tx.only(
        f"user {user_id}",
        f"SELECT {SHOWN} FROM users u WHERE u.id = %(id)s FOR UPDATE",
        id=user_id,
    )


async def set_active(tx: Tx, user_id: str, active: bool) -> None:
    await tx.run(
        """UPDATE users SET deactivated_at =
               CASE WHEN %(active)s THEN NULL ELSE coalesce(deactivated_at, now()) END
           WHERE id = %(id)s""",
        id=user_id,
        active=active,
    )


async def forget(tx: Tx, *, deactivated_before: datetime) -> list[str]:
    """Blank name and address of those who were deactivated before; the ids of whom it was. The
    subject stays, by which the door knows them."""
    rows = await tx.all(
        """UPDATE users SET email = '', display_name = ''
           WHERE deactivated_at < %(before)s AND (email, display_name) <> ('', '')
           RETURNING id""",
        before=deactivated_before,
    )
    return [row["id"] for row in rows]


async def provision(tx: Tx, user_id: str, values: Mapping[str, Any]) -> Row:
    """The user with this provider and subject, made under `user_id` when there is none. One who is
    deactivated is left as they are. The row is locked; `is_new` tells whether it was made."""
    row = await tx.one(
        f"""INSERT INTO users AS u (id, oidc_provider_id, oidc_subject, email, display_name,
                last_login_at)
            VALUES (%(id)s, %(provider)s, %(subject)s, %(email)s, %(display_name)s, now())
            ON CONFLICT ON CONSTRAINT users_subject_key DO UPDATE
                SET email = excluded.email, display_name = excluded.display_name,
                    last_login_at = now()
                WHERE u.deactivated_at IS NULL
            RETURNING {SHOWN}, xmax = 0 AS is_new""",
        id=user_id,
        **values,
    )
    if row is not None:
        return row
    return await tx.only(
        "the user",
        f"""SELECT {SHOWN}, false AS is_new FROM users u
            WHERE u.oidc_provider_id = %(provider)s AND u.oidc_subject = %(subject)s""",
        provider=values["provider"],
        subject=values["subject"],
    )
