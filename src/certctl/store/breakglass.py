"""Break-glass passwords, as hashes, and the counting of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from certctl.store.db import Row, Session, Tx


async def every(session: Session) -> list[Row]:
    """Every credential, without its hash."""
    return await session.all(
        """SELECT user_id AS actor_id, created_at, last_password_change_at, failure_count,
                  last_failure_at, CASE WHEN locked_until > now() THEN locked_until END
                      AS locked_until
           FROM breakglass_credentials ORDER BY created_at, user_id"""
    )


COUNTED: Final = """1 + CASE WHEN b.last_failure_at < now() - %(reset)s OR b.locked_until <= now()
    THEN 0 ELSE b.failure_count END"""


async def begin_attempt(
    tx: Tx, user_id: str, *, threshold: int, lock_for: timedelta, reset_after: timedelta
) -> Row | None:
    """Count an attempt as failed and give the hash to compare with: None for who has no credential,
    is deactivated, or is locked out. The count comes first, so that many attempts at once are no
    more than one after the other."""
    return await tx.one(
        f"""UPDATE breakglass_credentials b SET
                failure_count = {COUNTED}, last_failure_at = now(),
                locked_until = CASE WHEN {COUNTED} >= %(threshold)s THEN now() + %(lock)s END
            FROM users u
            WHERE b.user_id = %(id)s AND u.id = b.user_id AND u.deactivated_at IS NULL
              AND (b.locked_until IS NULL OR b.locked_until <= now())
            RETURNING b.password_hash, b.failure_count""",
        id=user_id,
        threshold=threshold,
        lock=lock_for,
        reset=reset_after,
    )


async def succeed(tx: Tx, user_id: str, password_hash: str) -> bool:
    """Forget the failures; False when the password was changed or removed meanwhile."""
    return bool(
        await tx.run(
            """UPDATE breakglass_credentials b SET failure_count = 0, locked_until = NULL,
                   last_failure_at = NULL
               FROM users u WHERE b.user_id = %(id)s AND b.password_hash = %(hash)s
                 AND u.id = b.user_id AND u.deactivated_at IS NULL""",
            id=user_id,
            hash=password_hash,
        )
    )


async def put(tx: Tx, user_id: str, password_hash: str) -> Row:
    """A new password, unlocked."""
    return await tx.only(
        "the credential",
        """INSERT INTO breakglass_credentials (user_id, password_hash)
           VALUES (%(id)s, %(hash)s)
           ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash,
               last_password_change_at = now(), failure_count = 0, last_failure_at = NULL,
               locked_until = NULL
           RETURNING user_id AS actor_id, created_at""",
        id=user_id,
        hash=password_hash,
    )


async def unlock(tx: Tx, user_id: str) -> int:
    """How many credentials were unlocked."""
    return await tx.run(
        """UPDATE breakglass_credentials
           SET failure_count = 0, last_failure_at = NULL, locked_until = NULL
           WHERE user_id = %(id)s""",
        id=user_id,
    )


async def remove(tx: Tx, user_id: str) -> int:
    return await tx.run("DELETE FROM breakglass_credentials WHERE user_id = %(id)s", id=user_id)
