"""The version that an export hands out, with its sealed key."""

from __future__ import annotations

from certctl.store.db import Row, Session


async def newest_live(session: Session, certificate_id: str) -> Row | None:
    """The live version that was recorded last."""
    return await session.one(
        """SELECT id, pem_chain, fingerprint_sha256, serial_number, sealed_key
           FROM certificate_versions WHERE certificate_id = %(id)s AND live
           ORDER BY created_at DESC, id DESC LIMIT 1""",
        id=certificate_id,
    )
