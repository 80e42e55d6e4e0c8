"""API keys by name and by the hash of their secret, and the bootstrap tokens that were used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from certctl.store.db import Row, Session, Tx

LIVE: Final = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())"
SHOWN: Final = "k.id, k.name, k.created_by, k.created_at, k.expires_at, k.last_used_at"


async def by_hash(session: Session, key_hash: bytes) -> Row | None:
    """The key with this SHA-256, unless it is revoked or has expired."""
    return await session.one(
        f"SELECT k.id, k.name, k.expires_at FROM api_keys k WHERE k.key_hash = %(hash)s AND {LIVE}",
        hash=key_hash,
    )


async def live(session: Session) -> list[Row]:
    """Every key that opens something, by name and age."""
    return await session.all(
        f'SELECT {SHOWN} FROM api_keys k WHERE {LIVE} ORDER BY k.name COLLATE "C", k.created_at'
    )


async def lock_live(tx: Tx, name: str) -> list[Row]:
    """The keys of this name; nobody else changes them until the transaction ends."""
    return await tx.all(
        f"SELECT {SHOWN} FROM api_keys k WHERE k.name = %(name)s AND {LIVE} FOR UPDATE", name=name
    )


async def insert(
    tx: Tx,
    key_id: str,
    *,
    name: str,
    key_hash: bytes,
    created_by: str,
    expires_at: datetime | None = None,
) -> None:
    await tx.run(
        """INSERT INTO api_keys (id, name, key_hash, created_by, expires_at)
           VALUES (%(id)s, %(name)s, %(hash)s, %(by)s, %(expires_at)s)""",
        id=key_id,
        name=name,
        hash=key_hash,
        by=created_by,
        expires_at=expires_at,
    )


async def end_all(tx: Tx, name: str, *, except_id: str, at: datetime) -> None:
    """The other keys of this name end at `at`, those that end earlier then."""
    await tx.run(
        f"""UPDATE api_keys k SET expires_at = least(k.expires_at, %(at)s)
            WHERE k.name = %(name)s AND k.id <> %(except)s AND {LIVE}""",
        name=name,
        at=at,
        **{"except": except_id},
    )


async def revoke_all(tx: Tx, name: str) -> int:
    """Revoke every live key of this name; how many there were."""
    return await tx.run(
        f"UPDATE api_keys k SET revoked_at = now() WHERE k.name = %(name)s AND {LIVE}", name=name
    )


async def note_uses(session: Session, uses: Mapping[str, datetime]) -> None:
    """When keys, by id, were last used; never back in time."""
    await session.run(
        """UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, u.at)
           FROM unnest(%(ids)s::text[], %(times)s::timestamptz[]) AS u(id, at)
           WHERE k.id = u.id""",
        ids=list(uses),
        times=list(uses.values()),
    )


async def use_bootstrap_token(tx: Tx, token_hash: bytes, actor_id: str) -> bool:
    """Whether the token had not been used before."""
    return bool(
        await tx.run(
            """INSERT INTO bootstrap_uses (token_hash, actor_id) VALUES (%(hash)s, %(actor)s)
               ON CONFLICT DO NOTHING""",
            hash=token_hash,
            actor=actor_id,
        )
    )


async def bootstrap_token_used(session: Session, token_hash: bytes) -> bool:
    return bool(
        await session.value(
            "SELECT EXISTS (SELECT FROM bootstrap_uses WHERE token_hash = %(hash)s)",
            hash=token_hash,
        )
    )
