"""What an import needs to know of the inventory before it adds to it."""

from __future__ import annotations

from certctl.store.db import Row, Session, Tx

SHOWN = "c.id, c.name, c.status, c.watched, c.source, c.issuer_id"


async def by_fingerprint(session: Session, fingerprint_sha256: str) -> Row | None:
    """The certificate of which this is a version."""
    return await session.one(
        f"""SELECT {SHOWN} FROM managed_certificates c
            JOIN certificate_versions v ON v.certificate_id = c.id
            WHERE v.fingerprint_sha256 = %(fingerprint)s""",
        fingerprint=fingerprint_sha256,
    )


async def lock_by_name(tx: Tx, name: str) -> Row | None:
    """The certificate that has the name now; nobody else changes it until the transaction ends."""
    return await tx.one(
        f"""SELECT {SHOWN} FROM managed_certificates c
            WHERE c.name = %(name)s AND c.status <> 'Archived' FOR UPDATE""",
        name=name,
    )


async def newest(session: Session, certificate_id: str) -> Row:
    """The latest `not_before` of all versions, and whether an agent holds a live one."""
    return await session.only(
        f"certificate {certificate_id}",
        """SELECT max(not_before) AS not_before,
                  coalesce(bool_or(live AND agent_id IS NOT NULL), false) AS held_by_agent
           FROM certificate_versions WHERE certificate_id = %(id)s""",
        id=certificate_id,
    )


async def own_cas(session: Session) -> list[Row]:
    """Our own CAs, with what is needed to tell whether one signed a certificate."""
    return await session.all(
        "SELECT id, issuer_id, cert_der FROM authorities WHERE cert_der IS NOT NULL"
    )
