"""Browser sessions, by the hash of their cookie."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from certctl.store.db import Row, Session, Tx

LIVE: Final = """s.revoked_at IS NULL AND s.absolute_expires_at > now()
    AND s.last_seen_at + %(idle)s > now()"""
SHOWN: Final = """s.id, s.user_id AS actor_id, 'User' AS actor_type, s.ip_address, s.user_agent,
    s.signed_in_by, s.created_at, s.last_seen_at, s.absolute_expires_at,
    least(s.last_seen_at + %(idle)s, s.absolute_expires_at) AS idle_expires_at"""


async def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.insert("sessions", [values])


async def by_hash(session: Session, token_hash: bytes) -> Row | None:
    """The session with this SHA-256, be it over or not, and whether its user is active."""
    return await session.one(
        """SELECT s.id, s.user_id, s.csrf_hash, s.ip_address, s.user_agent, s.last_seen_at,
                  s.absolute_expires_at, s.revoked_at, s.revoked_because,
                  u.deactivated_at IS NULL AS user_is_active
           FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = %(hash)s""",
        hash=token_hash,
    )


async def note_use(session: Session, session_id: str, *, at_most_every: timedelta) -> None:
    """That it was used just now, unless that was noted a moment ago."""
    await session.run(
        """UPDATE sessions SET last_seen_at = now()
           WHERE id = %(id)s AND last_seen_at < now() - %(gap)s AND revoked_at IS NULL""",
        id=session_id,
        gap=at_most_every,
    )


async def live(session: Session, *, user_id: str | None, idle: timedelta) -> list[Row]:
    """The sessions that open something, of one user or of all, the newest first."""
    return await session.all(
        f"""SELECT {SHOWN}, false AS revoked FROM sessions s
            WHERE {LIVE} AND (%(user)s::text IS NULL OR s.user_id = %(user)s)
            ORDER BY s.created_at DESC, s.id""",
        user=user_id,
        idle=idle,
    )


async def lock_live(tx: Tx, session_id: str, *, idle: timedelta) -> Row:
    """Raises NotFound for a session that is not, or is over."""
    return await tx.only(
        f"session {session_id}",
        f"SELECT s.id, s.user_id FROM sessions s WHERE s.id = %(id)s AND {LIVE} FOR UPDATE",
        id=session_id,
        idle=idle,
    )


async def revoke(tx: Tx, session_id: str, *, because: str) -> None:
    await tx.run(
        """UPDATE sessions SET revoked_at = now(), revoked_because = %(because)s
           WHERE id = %(id)s AND revoked_at IS NULL""",
        id=session_id,
        because=because,
    )


async def revoke_of(
    tx: Tx,
    user_id: str,
    *,
    because: str,
    except_id: str | None = None,
    signed_in_by: str | None = None,
    oidc_sid: str | None = None,
) -> list[str]:
    """End a user's sessions, or those that were begun one way or under one sid; their ids."""
    rows = await tx.all(
        """UPDATE sessions SET revoked_at = now(), revoked_because = %(because)s
           WHERE user_id = %(user)s AND revoked_at IS NULL AND absolute_expires_at > now()
             AND (%(except)s::text IS NULL OR id <> %(except)s)
             AND (%(by)s::text IS NULL OR signed_in_by = %(by)s)
             AND (%(sid)s::text IS NULL OR oidc_sid = %(sid)s)
           RETURNING id""",
        user=user_id,
        because=because,
        by=signed_in_by,
        sid=oidc_sid,
        **{"except": except_id},
    )
    return sorted(row["id"] for row in rows)


async def prune(tx: Tx) -> int:
    """Forget sessions a day after their end."""
    return await tx.run("DELETE FROM sessions WHERE absolute_expires_at < now() - interval '1 day'")
