"""Client certificates of agents, by the fingerprint of their DER."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certctl.store.db import Row, Session, Tx


async def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.insert("agent_certificates", [values])


async def live(session: Session, fingerprint_sha256: str) -> Row | None:
    """The agent whose certificate this is, unless it is revoked or over."""
    return await session.one(
        """SELECT c.agent_id, c.not_after FROM agent_certificates c
           WHERE c.fingerprint_sha256 = %(fingerprint)s AND c.revoked_at IS NULL
             AND c.not_after > now()""",
        fingerprint=fingerprint_sha256,
    )


async def revoke_all(tx: Tx, agent_id: str) -> list[Row]:
    """Revoke what is not over; what a CRL needs to know of each."""
    return await tx.all(
        """UPDATE agent_certificates SET revoked_at = now()
           WHERE agent_id = %(id)s AND revoked_at IS NULL AND not_after > now()
           RETURNING issuer_id, authority_id, serial_number, not_after""",
        id=agent_id,
    )


async def prune(tx: Tx) -> int:
    """Forget what has been over for a month."""
    return await tx.run(
        "DELETE FROM agent_certificates WHERE not_after < now() - interval '30 days'"
    )
