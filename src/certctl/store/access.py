"""Agent credentials and enrolment tokens, by the hash of the secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certctl.store.db import Row, Session, Tx


async def agent_by_credential(session: Session, credential_hash: bytes) -> Row | None:
    """The agent with this credential, or with this next one; `is_next` tells which."""
    return await session.one(
        """SELECT id, name, retired_at, credential_hash <> %(hash)s AS is_next FROM agents
           WHERE (credential_hash = %(hash)s OR next_credential_hash = %(hash)s)
             AND credential_revoked_at IS NULL""",
        hash=credential_hash,
    )


async def promote_credential(tx: Tx, agent_id: str) -> None:
    """The next credential takes the place of the present one."""
    await tx.run(
        """UPDATE agents SET credential_hash = next_credential_hash, next_credential_hash = NULL
           WHERE id = %(id)s AND next_credential_hash IS NOT NULL""",
        id=agent_id,
    )


async def offer_credential(tx: Tx, agent_id: str, credential_hash: bytes) -> None:
    """The hash of the next credential, in place of one that was never used."""
    await tx.run(
        """UPDATE agents SET next_credential_hash = %(hash)s, credential_made_at = now()
           WHERE id = %(id)s""",
        id=agent_id,
        hash=credential_hash,
    )


async def replace_credential(tx: Tx, agent_id: str, credential_hash: bytes) -> None:
    """Another credential at once, for an agent that has lost its own."""
    await tx.run(
        """UPDATE agents SET credential_hash = %(hash)s, next_credential_hash = NULL,
               credential_made_at = now(), credential_revoked_at = NULL WHERE id = %(id)s""",
        id=agent_id,
        hash=credential_hash,
    )


async def revoke_credential(tx: Tx, agent_id: str) -> None:
    await tx.run(
        """UPDATE agents SET credential_revoked_at = now(), next_credential_hash = NULL
           WHERE id = %(id)s AND credential_revoked_at IS NULL""",
        id=agent_id,
    )


async def insert_enrolment_token(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.insert("enrolment_tokens", [values])


async def lock_enrolment_token(tx: Tx, token_hash: bytes) -> Row | None:
    """The unused, unexpired token with this SHA-256, locked until the transaction ends."""
    return await tx.one(
        """SELECT id, agent_group_id, for_agent_id FROM enrolment_tokens
           WHERE token_hash = %(hash)s AND agent_id IS NULL AND revoked_at IS NULL
             AND expires_at > now() FOR UPDATE""",
        hash=token_hash,
    )


async def use_enrolment_token(tx: Tx, token_id: str, agent_id: str) -> None:
    await tx.run(
        "UPDATE enrolment_tokens SET agent_id = %(agent)s WHERE id = %(id)s",
        id=token_id,
        agent=agent_id,
    )


async def enrolment_tokens(session: Session) -> list[Row]:
    """The tokens that can still be used."""
    return await session.all(
        """SELECT id, created_by, created_at, expires_at, agent_group_id, for_agent_id
           FROM enrolment_tokens
           WHERE agent_id IS NULL AND revoked_at IS NULL AND expires_at > now()
           ORDER BY created_at, id"""
    )


async def revoke_enrolment_token(tx: Tx, token_id: str) -> None:
    """Raises NotFound for a token that is not, is used or has expired."""
    await tx.only(
        f"enrolment token {token_id}",
        """UPDATE enrolment_tokens SET revoked_at = now()
           WHERE id = %(id)s AND agent_id IS NULL AND revoked_at IS NULL AND expires_at > now()
           RETURNING id""",
        id=token_id,
    )


async def prune_enrolment_tokens(tx: Tx) -> int:
    """Forget tokens that nobody can use any more, a month after their end."""
    return await tx.run(
        "DELETE FROM enrolment_tokens WHERE expires_at < now() - interval '30 days'"
    )
