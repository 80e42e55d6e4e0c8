"""Our own CAs: their certificates and sealed keys, what they were asked to sign, their CRLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.domain.errors import Conflict
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = (
    "id, issuer_id, parent_id, name, state, path_length, permitted_names, excluded_names, "
    "cert_der, sealed_key, key_home, key_reference, public_key, not_before, not_after, created_at, "
    "signed_outside, csr_pem, revoked_at, revocation_reason"
)


async def get(session: Session, authority_id: str) -> Row:
    return await session.only(
        f"CA {authority_id}",
        f"SELECT {SHOWN} FROM authorities WHERE id = %(id)s",
        id=authority_id,
    )


async def all_active(session: Session) -> list[Row]:
    """Those that answer for what they have signed; not CAs whose keys are held elsewhere."""
    return await session.all(
        f"""SELECT {SHOWN} FROM authorities
            WHERE state IN ('active', 'retiring') AND key_home <> 'none' ORDER BY created_at"""
    )


async def by_name(session: Session, issuer_id: str, name: str) -> Row | None:
    return await session.one(
        f"SELECT {SHOWN} FROM authorities WHERE issuer_id = %(issuer)s AND name = %(name)s",
        issuer=issuer_id,
        name=name,
    )


async def signing_for(session: Session, issuer_id: str) -> Row | None:
    """The CA that signs leaves for an issuer: its newest active one that can have no CA below it,
    or else the one nearest to that; a root only where there is nothing else."""
    return await session.one(
        f"""SELECT {SHOWN} FROM authorities WHERE issuer_id = %(id)s AND state = 'active'
              AND key_home <> 'none'
            ORDER BY parent_id IS NULL, path_length, created_at DESC LIMIT 1""",
        id=issuer_id,
    )


async def chain(session: Session, authority_id: str) -> list[Row]:
    """The CA, its parent, and so on to the root."""
    return await session.all(
        f"""WITH RECURSIVE up AS (
                SELECT a.*, 0 AS depth FROM authorities a WHERE a.id = %(id)s
                UNION ALL
                SELECT p.*, up.depth + 1 FROM authorities p JOIN up ON p.id = up.parent_id
                WHERE up.depth < 10)
            SELECT {SHOWN} FROM up ORDER BY depth""",
        id=authority_id,
    )


async def page(session: Session, issuer_id: str, request: PageRequest) -> dict[str, Any]:
    """The CAs of an issuer, oldest first."""
    listing = Listing(
        SHOWN,
        "authorities",
        ("issuer_id = %(issuer)s",),
        {"issuer": issuer_id},
        Order("created_at"),
    )
    return await fetch(session, listing, request)


async def lock(tx: Tx, authority_id: str) -> Row:
    """As `get`, and nobody else changes the row until the transaction ends."""
    return await tx.only(
        f"CA {authority_id}",
        f"SELECT {SHOWN} FROM authorities WHERE id = %(id)s FOR UPDATE",
        id=authority_id,
    )


async def roots(session: Session, issuer_id: str) -> int:
    """How many roots of an issuer are in use, or in the making. A CA that waits for a certificate
    from outside is none."""
    return int(
        await session.value(
            """SELECT count(*) FROM authorities
               WHERE issuer_id = %(id)s AND parent_id IS NULL
                 AND (state = 'active' OR state = 'preparing' AND NOT signed_outside)""",
            id=issuer_id,
        )
    )


async def anchors(session: Session, issuer_id: str) -> list[Row]:
    """The roots of an issuer that are not retired, newest first."""
    return await session.all(
        f"""SELECT {SHOWN} FROM authorities
            WHERE issuer_id = %(id)s AND parent_id IS NULL AND cert_der IS NOT NULL
              AND state IN ('active', 'retiring')
            ORDER BY created_at DESC""",
        id=issuer_id,
    )


async def in_use(session: Session, authority_id: str) -> Row:
    """How many CAs directly below it are not retired, and how many `certificates` that it has
    signed are neither over nor revoked; its own responders do not count. Those count that were
    issued below it before a CA there was cut over to another above."""
    return await session.only(
        f"CA {authority_id}",
        """WITH RECURSIVE parted AS (
               SELECT authority_id AS id, served_until FROM authority_certificates
               WHERE parent_id = %(id)s AND served_until IS NOT NULL
               UNION
               SELECT a.id, parted.served_until FROM authorities a
               JOIN parted ON a.parent_id = parted.id)
           SELECT (SELECT count(*) FILTER (WHERE state IN ('preparing', 'active'))
                   FROM authorities WHERE parent_id = %(id)s) AS active_children,
                  (SELECT count(*) FILTER (WHERE state <> 'retired')
                   FROM authorities WHERE parent_id = %(id)s) AS children,
                  (SELECT count(*) FROM issuances i
                   WHERE (i.authority_id = %(id)s OR i.purpose <> 'server' AND EXISTS (
                            SELECT FROM parted WHERE parted.id = i.authority_id
                              AND i.created_at <= parted.served_until))
                     AND i.not_after > now() AND i.state <> 'closed'
                     AND i.purpose NOT IN ('ocsp_responder', 'ca')
                     AND NOT EXISTS (SELECT FROM certificate_revocations r
                         WHERE r.authority_id = i.authority_id
                           AND r.serial_number = i.serial_number)) AS certificates""",
        id=authority_id,
    )


async def move(tx: Tx, authority_id: str, state: str) -> None:
    await tx.run(
        "UPDATE authorities SET state = %(state)s WHERE id = %(id)s", id=authority_id, state=state
    )


async def below(session: Session, authority_id: str) -> list[str]:
    """The ids of the active CAs in the tree below a CA, its own left out."""
    rows = await session.all(
        """WITH RECURSIVE down AS (
               SELECT id, state, 0 AS depth FROM authorities WHERE id = %(id)s
               UNION ALL
               SELECT a.id, a.state, down.depth + 1 FROM authorities a
               JOIN down ON a.parent_id = down.id WHERE down.depth < 10)
           SELECT id FROM down WHERE depth > 0 AND state = 'active'""",
        id=authority_id,
    )
    return [row["id"] for row in rows]


async def mark_revoked(tx: Tx, authority_id: str, *, reason: str, below: Sequence[str]) -> None:
    """A CA is revoked; it and those below it sign nothing new."""
    await tx.run(
        """UPDATE authorities SET revoked_at = now(), revocation_reason = %(reason)s
           WHERE id = %(id)s""",
        id=authority_id,
        reason=reason,
    )
    await tx.run(
        """UPDATE authorities SET state = 'retiring'
           WHERE id = ANY(%(ids)s) AND state = 'active'""",
        ids=[authority_id, *below],
    )


async def chains(session: Session, authority_ids: Sequence[str]) -> dict[str, list[bytes]]:
    """For each CA the certificates from its own to the root, DER, as far as they are made."""
    rows = await session.all(
        """WITH RECURSIVE up AS (
               SELECT a.id AS of, a.parent_id, a.cert_der, 0 AS depth
               FROM authorities a WHERE a.id = ANY(%(ids)s)
               UNION ALL
               SELECT up.of, p.parent_id, p.cert_der, up.depth + 1
               FROM authorities p JOIN up ON p.id = up.parent_id WHERE up.depth < 10)
           SELECT of, cert_der FROM up WHERE cert_der IS NOT NULL ORDER BY of, depth""",
        ids=list(authority_ids),
    )
    found: dict[str, list[bytes]] = {each: [] for each in authority_ids}
    for row in rows:
        found[row["of"]].append(bytes(row["cert_der"]))
    return found


async def resolve(session: Session, issuer_or_ca: str) -> Row | None:
    """The CA that a public address means: a CA's own id, or the signing CA of an issuer."""
    found = await session.one(
        f"SELECT {SHOWN} FROM authorities WHERE id = %(id)s AND cert_der IS NOT NULL "
        "AND key_home <> 'none'",
        id=issuer_or_ca,
    )
    return found or await signing_for(session, issuer_or_ca)


async def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.run(
        """INSERT INTO authorities (id, issuer_id, parent_id, name, path_length, permitted_names,
               excluded_names, key_home, key_reference, sealed_key, csr_pem)
           VALUES (%(id)s, %(issuer_id)s, %(parent_id)s, %(name)s, %(path_length)s,
                   %(permitted_names)s, %(excluded_names)s, %(key_home)s, %(key_reference)s,
                   %(sealed_key)s, %(csr_pem)s)""",
        **values,
    )


async def any_of(session: Session, issuer_id: str) -> bool:
    return bool(
        await session.value(
            "SELECT EXISTS (SELECT FROM authorities WHERE issuer_id = %(id)s)", id=issuer_id
        )
    )


async def any_signed_outside(session: Session, issuer_id: str) -> bool:
    return bool(
        await session.value(
            """SELECT EXISTS (SELECT FROM authorities WHERE issuer_id = %(id)s AND signed_outside
               AND state <> 'preparing' AND key_home <> 'none')""",
            id=issuer_id,
        )
    )


async def of_certificate(session: Session, issuer_id: str, cert_der: bytes) -> Row | None:
    """The CA of an issuer that has exactly this certificate."""
    return await session.one(
        f"SELECT {SHOWN} FROM authorities WHERE issuer_id = %(issuer)s AND cert_der = %(der)s",
        issuer=issuer_id,
        der=cert_der,
    )


async def insert_signed_outside(tx: Tx, values: Mapping[str, Any]) -> None:
    """A CA with a certificate from outside; `sealed_key` is null when its key is not here."""
    await tx.run(
        """INSERT INTO authorities (id, issuer_id, parent_id, name, state, path_length,
               permitted_names, excluded_names, key_home, sealed_key, cert_der, not_before,
               not_after, signed_outside, created_at)
           VALUES (%(id)s, %(issuer_id)s, %(parent_id)s, %(name)s, 'active', %(path_length)s,
               %(permitted_names)s, %(excluded_names)s,
               CASE WHEN %(sealed_key)s::bytea IS NULL THEN 'none' ELSE 'sealed' END,
               %(sealed_key)s, %(cert_der)s, %(not_before)s, %(not_after)s, true,
               clock_timestamp())""",
        **values,
    )


async def insert_waiting(tx: Tx, values: Mapping[str, Any]) -> None:
    """A CA with a key, whose certificate somebody outside is to sign."""
    await tx.run(
        """INSERT INTO authorities (id, issuer_id, name, path_length, sealed_key, csr_pem,
               signed_outside)
           VALUES (%(id)s, %(issuer_id)s, %(name)s, %(path_length)s, %(sealed_key)s,
               %(csr_pem)s, true)""",
        **values,
    )


async def install(tx: Tx, authority_id: str, values: Mapping[str, Any]) -> None:
    """Give a waiting CA its certificate, its place and what holds there."""
    await tx.run(
        """UPDATE authorities SET state = 'active', parent_id = %(parent_id)s,
               path_length = %(path_length)s, permitted_names = %(permitted_names)s,
               excluded_names = %(excluded_names)s, cert_der = %(cert_der)s,
               not_before = %(not_before)s, not_after = %(not_after)s
           WHERE id = %(id)s AND state = 'preparing'""",
        **{**values, "id": authority_id},
    )


async def keep_public_key(tx: Tx, authority_id: str, spki: bytes) -> bytes:
    """The public key that counts for a CA whose key is made elsewhere: the first that is kept."""
    kept = await tx.value(
        """UPDATE authorities SET public_key = coalesce(public_key, %(spki)s) WHERE id = %(id)s
           RETURNING public_key""",
        id=authority_id,
        spki=spki,
    )
    return bytes(kept)


async def activate(
    tx: Tx, authority_id: str, *, cert_der: bytes, not_before: datetime, not_after: datetime
) -> None:
    await tx.run(
        """UPDATE authorities SET state = 'active', cert_der = %(der)s,
               not_before = %(not_before)s, not_after = %(not_after)s
           WHERE id = %(id)s AND state = 'preparing'""",
        id=authority_id,
        der=cert_der,
        not_before=not_before,
        not_after=not_after,
    )


async def open_intent(session: Session, job_id: str) -> Row | None:
    """The intent that an interrupted job left behind."""
    return await session.one(
        """SELECT authority_id, serial_number, purpose, tbs_der, not_after FROM issuances
           WHERE job_id = %(job)s AND state = 'intended'""",
        job=job_id,
    )


async def settle_intent(
    tx: Tx, authority_id: str, serial_number: str, *, state: str, note: str | None = None
) -> None:
    """Close an open intent as `issued` or `closed`.

    Raises:
        Conflict: when it is no longer open, so that two parties cannot both record a signature.
    """
    changed = await tx.run(
        """UPDATE issuances SET state = %(state)s, settled_at = now(), note = %(note)s
           WHERE authority_id = %(authority)s AND serial_number = %(serial)s
             AND state = 'intended'""",
        authority=authority_id,
        serial=serial_number,
        state=state,
        note=note,
    )
    if not changed:
        raise Conflict(f"the intent for serial {serial_number} has been settled already")


async def close_intents_of(tx: Tx, certificate_ids: Sequence[str], *, note: str) -> int:
    """Close what waiting jobs of certificates had drafted: it does not fit any more."""
    return await tx.run(
        """UPDATE issuances SET state = 'closed', settled_at = now(), note = %(note)s
           WHERE state = 'intended' AND job_id IN (
               SELECT id FROM jobs WHERE certificate_id = ANY(%(ids)s)
                 AND status IN ('Pending', 'AwaitingCSR', 'Cancelled'))""",
        ids=list(certificate_ids),
        note=note,
    )


async def close_stale_intents(tx: Tx, older_than: datetime) -> int:
    """Close intents that no open job will come back to; the number closed."""
    return await tx.run(
        """UPDATE issuances i SET state = 'closed', settled_at = now(), note = 'abandoned'
           WHERE i.state = 'intended' AND i.created_at < %(older_than)s
             AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = i.job_id
                 AND j.status NOT IN ('Completed', 'Failed', 'Cancelled'))
             AND NOT EXISTS (SELECT FROM authorities a WHERE a.id = i.job_id
                 AND a.state = 'preparing')
             AND NOT EXISTS (SELECT FROM authority_certificates c WHERE c.id = i.job_id
                 AND c.cert_der IS NULL)""",
        older_than=older_than,
    )


async def serial_states(session: Session, authority_id: str, serials: list[str]) -> dict[str, Row]:
    """For each serial that this CA issued: when and why it was revoked, or nulls."""
    rows = await session.all(
        """SELECT i.serial_number, r.revoked_at, r.reason FROM issuances i
           LEFT JOIN certificate_revocations r ON r.authority_id = i.authority_id
                AND r.serial_number = i.serial_number
           WHERE i.authority_id = %(id)s AND i.serial_number = ANY(%(serials)s)
             AND i.state = 'issued'""",
        id=authority_id,
        serials=serials,
    )
    return {row["serial_number"]: row for row in rows}


async def service_certificate(session: Session, purpose: str, authority_id: str) -> Row | None:
    """The newest certificate that the platform holds for itself."""
    return await session.one(
        """SELECT id, authority_id, purpose, serial_number, cert_der, sealed_key, not_before,
                  not_after FROM service_certificates
           WHERE authority_id = %(authority)s AND purpose = %(purpose)s
           ORDER BY created_at DESC, id DESC LIMIT 1""",
        authority=authority_id,
        purpose=purpose,
    )


async def lock_service_certificate(tx: Tx, purpose: str, authority_id: str) -> Row | None:
    """As `service_certificate`, and nobody adds another until the transaction ends."""
    await tx.run("SELECT FROM authorities WHERE id = %(id)s FOR NO KEY UPDATE", id=authority_id)
    return await service_certificate(tx, purpose, authority_id)


async def insert_service_certificate(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.run(
        """INSERT INTO service_certificates (id, authority_id, purpose, serial_number, cert_der,
               sealed_key, not_before, not_after)
           VALUES (%(id)s, %(authority_id)s, %(purpose)s, %(serial_number)s, %(cert_der)s,
               %(sealed_key)s, %(not_before)s, %(not_after)s)""",
        **values,
    )
