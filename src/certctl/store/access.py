"""API keys, agent credentials and enrolment tokens, by the hash of the secret."""

from __future__ import annotations

from datetime import datetime

from certctl.store.db import Row, Session, Tx


async def api_key(session: Session, key_hash: bytes) -> Row | None:
    """The key with this SHA-256, unless it is revoked or has expired."""
    return await session.one(
        """SELECT id, name, roles FROM api_keys
           WHERE key_hash = %(hash)s AND revoked_at IS NULL
             AND (expires_at IS NULL OR expires_at > now())""",
        hash=key_hash,
    )


async def agent_by_credential(session: Session, credential_hash: bytes) -> Row | None:
    return await session.one(
        "SELECT id, name, retired_at FROM agents WHERE credential_hash = %(hash)s",
        hash=credential_hash,
    )


async def any_admin_key(session: Session) -> bool:
    return bool(
        await session.value("SELECT EXISTS (SELECT FROM api_keys WHERE 'r-admin' = ANY(roles))")
    )


async def insert_api_key(
    tx: Tx, key_id: str, *, name: str, key_hash: bytes, roles: list[str], created_by: str
) -> None:
    await tx.run(
        """INSERT INTO api_keys (id, name, key_hash, roles, created_by)
           VALUES (%(id)s, %(name)s, %(hash)s, %(roles)s, %(created_by)s)""",
        id=key_id,
        name=name,
        hash=key_hash,
        roles=roles,
        created_by=created_by,
    )


async def insert_enrolment_token(
    tx: Tx, token_id: str, *, token_hash: bytes, created_by: str, expires_at: datetime
) -> None:
    await tx.run(
        """INSERT INTO enrolment_tokens (id, token_hash, created_by, expires_at)
           VALUES (%(id)s, %(hash)s, %(created_by)s, %(expires_at)s)""",
        id=token_id,
        hash=token_hash,
        created_by=created_by,
        expires_at=expires_at,
    )


async def lock_enrolment_token(tx: Tx, token_hash: bytes) -> Row | None:
    """The unused, unexpired token with this SHA-256, locked until the transaction ends."""
    return await tx.one(
        """SELECT id FROM enrolment_tokens
           WHERE token_hash = %(hash)s AND agent_id IS NULL AND expires_at > now() FOR UPDATE""",
        hash=token_hash,
    )


async def use_enrolment_token(tx: Tx, token_id: str, agent_id: str) -> None:
    await tx.run(
        "UPDATE enrolment_tokens SET agent_id = %(agent)s WHERE id = %(id)s",
        id=token_id,
        agent=agent_id,
    )
