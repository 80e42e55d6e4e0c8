"""Certificate versions, their revocations, and the record of deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = (
    "id, certificate_id, agent_id, issuer_id, authority_id, serial_number, not_before, not_after, "
    "fingerprint_sha256, sans, pem_chain, csr_pem, key_algorithm, key_size, live, revoked_at, "
    "lint_waived, created_at"
)

# The holder of version `v` is an operator, or an agent in service with a target of the certificate.
HELD: Final = """(v.agent_id IS NULL OR EXISTS (
    SELECT FROM certificate_target_mappings m
    JOIN deployment_targets t ON t.id = m.target_id AND t.enabled AND t.agent_id = v.agent_id
    JOIN agents a ON a.id = t.agent_id AND a.retired_at IS NULL
    WHERE m.certificate_id = v.certificate_id))"""


async def page(session: Session, certificate_id: str, request: PageRequest) -> dict[str, Any]:
    """Newest first."""
    listing = Listing(
        SHOWN,
        "certificate_versions",
        ("certificate_id = %(certificate)s",),
        {"certificate": certificate_id},
        Order("created_at", descending=True),
    )
    return await fetch(session, listing, request)


async def live(session: Session, certificate_id: str) -> list[Row]:
    """The live version of each holder."""
    return await session.all(
        f"SELECT {SHOWN} FROM certificate_versions "
        "WHERE certificate_id = %(id)s AND live ORDER BY created_at",
        id=certificate_id,
    )


async def live_of(session: Session, certificate_id: str, agent_id: str | None) -> Row | None:
    return await session.one(
        f"SELECT {SHOWN} FROM certificate_versions "
        "WHERE certificate_id = %(id)s AND live AND agent_id IS NOT DISTINCT FROM %(agent)s",
        id=certificate_id,
        agent=agent_id,
    )


async def get(session: Session, version_id: str) -> Row:
    return await session.only(
        f"version {version_id}",
        f"SELECT {SHOWN} FROM certificate_versions WHERE id = %(id)s",
        id=version_id,
    )


async def insert_live(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make each the live version of its holder; those before are superseded. All rows have the same
    columns."""
    await tx.run(
        """UPDATE certificate_versions v SET live = false
           FROM unnest(%(certificates)b::text[], %(agents)b::text[]) AS new (id, agent_id)
           WHERE v.certificate_id = new.id AND v.live
             AND v.agent_id IS NOT DISTINCT FROM new.agent_id""",
        certificates=[row["certificate_id"] for row in rows],
        agents=[row["agent_id"] for row in rows],
    )
    await tx.copy("certificate_versions", rows)


async def revoke_unexpired(tx: Tx, certificate_ids: Sequence[str]) -> list[Row]:
    """Mark every version that relying parties might still accept, and ask about; what a CRL needs
    to know of each that was marked, and its certificate and key."""
    return await tx.all(
        """UPDATE certificate_versions SET revoked_at = now(), live = false
            WHERE certificate_id = ANY(%(ids)s) AND revoked_at IS NULL AND not_after > now()
              AND NOT no_revocation
            RETURNING certificate_id, issuer_id, authority_id, serial_number, not_after,
                spki_sha256""",
        ids=list(certificate_ids),
    )


async def without_revocation(session: Session, certificate_ids: Sequence[str]) -> set[str]:
    """Those of the certificates that have an unexpired version about which nobody asks."""
    rows = await session.all(
        """SELECT DISTINCT certificate_id FROM certificate_versions
           WHERE certificate_id = ANY(%(ids)s) AND no_revocation AND not_after > now()""",
        ids=list(certificate_ids),
    )
    return {row["certificate_id"] for row in rows}


async def insert_deployment(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.run(
        """INSERT INTO deployments (id, certificate_id, target_id, version_id, job_id, outcome,
               fingerprint_sha256, error)
           VALUES (%(id)s, %(certificate_id)s, %(target_id)s, %(version_id)s, %(job_id)s,
               %(outcome)s, %(fingerprint_sha256)s, %(error)s)""",
        **values,
    )
