"""What an issuance reads and writes, for many jobs in one statement each. Long lists are sent in
binary form (`%(…)b`), which takes a quarter of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from certctl.store.db import Row, Session, Tx
from certctl.store.jobs import INSIDE, SHOWN

INTENT: Final = (
    "authority_id",
    "serial_number",
    "purpose",
    "job_id",
    "tbs_der",
    "not_after",
    "crl_shard",
)
OURS: Final = ("GenericCA",)  # the types of issuer that sign with a CA of ours
ISSUANCE: Final = "j.type IN ('Issuance', 'Renewal')"


async def is_due(session: Session, job_id: str) -> bool:
    """Whether a job can be carried out now, as far as a look can tell."""
    return bool(
        await session.value(
            """SELECT status = 'Pending' AND csr_pem IS NOT NULL AND scheduled_at <= now()
               FROM jobs WHERE id = %(id)s""",
            id=job_id,
        )
    )


async def lock_due(tx: Tx, *, beside: str, limit: int) -> list[Row]:
    """Issuances by the issuer of the job `beside` that are due as well, longest due first, locked
    with their certificates. Nothing that somebody else has locked: this waits for nobody; and
    nothing where the CA is not ours: others are asked for one certificate after the other."""
    return await tx.all(
        f"""SELECT {SHOWN}, {INSIDE} FROM jobs j
            JOIN managed_certificates c ON c.id = j.certificate_id
            WHERE j.status = 'Pending' AND {ISSUANCE} AND j.csr_pem IS NOT NULL
              AND j.scheduled_at <= now() AND j.id <> %(beside)s
              AND c.issuer_id = (SELECT i.id FROM jobs o
                  JOIN managed_certificates m ON m.id = o.certificate_id
                  JOIN issuers i ON i.id = m.issuer_id
                  WHERE o.id = %(beside)s AND i.type = ANY(%(ours)s))
            ORDER BY j.scheduled_at LIMIT %(limit)s FOR UPDATE OF c, j SKIP LOCKED""",
        beside=beside,
        ours=list(OURS),
        limit=limit,
    )


async def subjects(session: Session, certificate_ids: Sequence[str]) -> dict[str, Row]:
    """What certificates are to hold, with the profile that binds them, by id."""
    rows = await session.all(
        """SELECT c.id, c.name, c.common_name, c.sans, c.issuer_id, p.id AS profile_id,
                  p.version AS profile_version, p.allowed_key_algorithms, p.max_ttl_seconds,
                  p.allowed_ekus, p.required_san_patterns, p.must_staple, p.allow_single_labels,
                  p.spiffe_uri_pattern, p.allow_short_lived, p.requires_approval, p.enabled,
                  p.crl_shards, p.must_staple_critical, p.certificate_policies, p.cps_uri
           FROM managed_certificates c
           JOIN certificate_profiles p ON p.id = c.certificate_profile_id
           WHERE c.id = ANY(%(ids)b)""",
        ids=list(certificate_ids),
    )
    return {row["id"]: row for row in rows}


async def start(tx: Tx, job_ids: Sequence[str], *, lease: timedelta) -> None:
    """Pending jobs that are locked begin to run."""
    await tx.run(
        """UPDATE jobs SET status = 'Running', attempts = attempts + 1,
               leased_until = now() + %(lease)s, started_at = coalesce(started_at, now())
           WHERE id = ANY(%(ids)b)""",
        ids=list(job_ids),
        lease=lease,
    )


async def lock_running(tx: Tx, attempts: Mapping[str, int]) -> set[str]:
    """Of these jobs those that still run in this attempt, locked; their certificates first, in the
    order of their ids."""
    await tx.run(
        """SELECT FROM managed_certificates
           WHERE id IN (SELECT certificate_id FROM jobs WHERE id = ANY(%(ids)b))
           ORDER BY id FOR UPDATE""",
        ids=list(attempts),
    )
    rows = await tx.all(
        """SELECT id, attempts FROM jobs
           WHERE id = ANY(%(ids)b) AND status = 'Running' ORDER BY id FOR UPDATE""",
        ids=list(attempts),
    )
    return {row["id"] for row in rows if row["attempts"] == attempts[row["id"]]}


async def open_intents(session: Session, job_ids: Sequence[str]) -> dict[str, Row]:
    """The intents that interrupted runs left behind, by job."""
    rows = await session.all(
        """SELECT job_id, authority_id, serial_number, tbs_der, not_after FROM issuances
           WHERE job_id = ANY(%(ids)b) AND state = 'intended'""",
        ids=list(job_ids),
    )
    return {row["job_id"]: row for row in rows}


async def insert_intents(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Write down what is about to be signed, before it is. The serials that were: a job has one
    open intent, and whoever comes second does not sign for it."""
    columns = {name: [row[name] for row in rows] for name in INTENT}
    made = await tx.all(
        """INSERT INTO issuances (authority_id, serial_number, purpose, job_id, tbs_der, not_after,
               crl_shard)
           SELECT * FROM unnest(%(authority_id)b::text[], %(serial_number)b::text[],
               %(purpose)b::text[], %(job_id)b::text[], %(tbs_der)b::bytea[],
               %(not_after)b::timestamptz[], %(crl_shard)b::int[])
           ON CONFLICT (job_id) WHERE state = 'intended' DO NOTHING RETURNING serial_number""",
        **columns,
    )
    return {row["serial_number"] for row in made}


async def close_intents(tx: Tx, rows: Sequence[Row], *, note: str) -> None:
    """Give up open intents, each with its authority_id and serial_number."""
    await tx.run(
        """UPDATE issuances i SET state = 'closed', settled_at = now(), note = %(note)s
           FROM unnest(%(authorities)b::text[], %(serials)b::text[]) AS old (ca, serial)
           WHERE i.authority_id = old.ca AND i.serial_number = old.serial
             AND i.state = 'intended'""",
        note=note,
        authorities=[row["authority_id"] for row in rows],
        serials=[row["serial_number"] for row in rows],
    )


async def settle_intents(tx: Tx, authority_id: str, serial_numbers: Sequence[str]) -> set[str]:
    """Close open intents as issued. The serials of those that were open: no two parties record a
    signature."""
    rows = await tx.all(
        """UPDATE issuances SET state = 'issued', settled_at = now(), note = NULL
           WHERE authority_id = %(authority)s AND serial_number = ANY(%(serials)b)
             AND state = 'intended'
           RETURNING serial_number""",
        authority=authority_id,
        serials=list(serial_numbers),
    )
    return {row["serial_number"] for row in rows}


async def complete(tx: Tx, version_ids: Mapping[str, str]) -> None:
    """End running jobs, each with the version that came of it."""
    await tx.run(
        """UPDATE jobs j SET status = 'Completed', completed_at = now(), leased_until = NULL,
               last_error = NULL, version_id = made.version_id, sealed_key = NULL
           FROM unnest(%(ids)b::text[], %(versions)b::text[]) AS made (job_id, version_id)
           WHERE j.id = made.job_id""",
        ids=list(version_ids),
        versions=list(version_ids.values()),
    )
