"""The jobs that people and agents see: put, claim, move, sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.certificates import WITHIN
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = (
    "j.id, j.type, j.certificate_id, j.target_id, j.agent_id, j.version_id, j.status, j.reason, "
    "j.requested_by, j.approval_id, j.attempts, j.max_attempts, j.last_error, j.scheduled_at, "
    "j.started_at, j.completed_at, j.created_at"
)
INSIDE: Final = (
    "j.csr_pem, j.sealed_key, j.leased_until, j.lease_session, "
    "(SELECT t.type FROM deployment_targets t WHERE t.id = j.target_id) AS target_type"
)
FROM: Final = "jobs j JOIN managed_certificates c ON c.id = j.certificate_id"
FILTERS: Final = {
    "status": "j.status = %(status)s",
    "type": "j.type = %(type)s",
    "certificate_id": "j.certificate_id = %(certificate_id)s",
    "agent_id": "j.agent_id = %(agent_id)s",
}


async def page(
    session: Session, request: PageRequest, *, within: Scope, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """Newest first."""
    where = (WITHIN, *(FILTERS[name] for name in filters))
    order = Order("j.created_at", descending=True)
    listing = Listing(SHOWN, FROM, where, {**within.sql, **filters}, order, key="j.id")
    return await fetch(session, listing, request)


async def get(session: Session, job_id: str, *, within: Scope) -> Row:
    return await session.only(
        f"job {job_id}",
        f"SELECT {SHOWN} FROM {FROM} WHERE j.id = %(id)s AND {WITHIN}",
        id=job_id,
        **within.sql,
    )


async def lock(tx: Tx, job_id: str, *, within: Scope) -> Row:
    """The job with its CSR and lease, locked until the transaction ends.

    Its certificate is locked first, as everywhere, so that two changes never wait for each other.
    """
    await tx.run(
        """SELECT FROM managed_certificates
           WHERE id = (SELECT certificate_id FROM jobs WHERE id = %(id)s) FOR UPDATE""",
        id=job_id,
    )
    return await tx.only(
        f"job {job_id}",
        f"SELECT {SHOWN}, {INSIDE} FROM {FROM} WHERE j.id = %(id)s AND {WITHIN} FOR UPDATE OF j",
        id=job_id,
        **within.sql,
    )


async def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    columns = ", ".join(values)
    marks = ", ".join(f"%({name})s" for name in values)
    await tx.run(f"INSERT INTO jobs ({columns}) VALUES ({marks})", **values)


async def update(tx: Tx, job_id: str, **values: Any) -> None:
    sets = ", ".join(f"{name} = %({name})s" for name in values)
    await tx.run(f"UPDATE jobs SET {sets} WHERE id = %(id)s", id=job_id, **values)


async def open_issuances(session: Session, certificate_id: str) -> list[Row]:
    return await session.all(
        f"""SELECT {SHOWN} FROM jobs j WHERE j.certificate_id = %(id)s
              AND j.type IN ('Issuance', 'Renewal')
              AND j.status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')
            ORDER BY j.created_at""",
        id=certificate_id,
    )


async def waiting_csr(tx: Tx, agent_id: str, certificate_id: str) -> Row | None:
    """The agent's job of this certificate that waits for a CSR, locked."""
    return await tx.one(
        f"""SELECT {SHOWN}, {INSIDE} FROM jobs j WHERE j.agent_id = %(agent)s
              AND j.certificate_id = %(certificate)s AND j.status = 'AwaitingCSR'
            FOR UPDATE""",
        agent=agent_id,
        certificate=certificate_id,
    )


async def claim_for_agent(
    tx: Tx, agent_id: str, *, session: str | None, lease: timedelta, limit: int
) -> list[str]:
    """Lease due work to an agent: keys to make, and deployments.

    A lease ends by itself; it ends at once when the agent has started anew, which a new
    `session` shows. A poll that a dead agent left hanging has an old session and gets nothing:
    no job is ever handed to two parties. A deployment whose attempts are used
    up is not handed out again, also not to an agent that it brings down each time.
    """
    rows = await tx.all(
        """WITH due AS (
               SELECT id FROM jobs
               WHERE agent_id = %(agent)s AND scheduled_at <= now()
                 AND EXISTS (SELECT FROM agents a WHERE a.id = %(agent)s
                     AND a.session IS NOT DISTINCT FROM %(session)s)
                 AND (status = 'AwaitingCSR'
                      OR (type = 'Deployment' AND status IN ('Pending', 'Running')
                          AND attempts < max_attempts))
                 AND (leased_until IS NULL OR leased_until <= now()
                      OR lease_session IS DISTINCT FROM %(session)s)
               ORDER BY scheduled_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
           UPDATE jobs j SET leased_until = now() + %(lease)s, lease_session = %(session)s,
               status = CASE WHEN type = 'Deployment' THEN 'Running' ELSE status END,
               attempts = attempts + CASE WHEN type = 'Deployment' THEN 1 ELSE 0 END,
               started_at = coalesce(started_at, now())
           FROM due WHERE j.id = due.id RETURNING j.id""",
        agent=agent_id,
        session=session,
        lease=lease,
        limit=limit,
    )
    return [row["id"] for row in rows]


async def work_items(session: Session, job_ids: list[str]) -> list[Row]:
    """Everything an agent needs for its leased jobs, in one query."""
    return await session.all(
        """SELECT j.id, j.type, j.status, j.certificate_id, c.common_name, c.sans, j.target_id,
                  t.type AS target_type, t.config, t.sealed_config, v.fingerprint_sha256,
                  v.pem_chain, p.allowed_key_algorithms, p.must_staple
           FROM jobs j JOIN managed_certificates c ON c.id = j.certificate_id
           JOIN certificate_profiles p ON p.id = c.certificate_profile_id
           LEFT JOIN deployment_targets t ON t.id = j.target_id
           LEFT JOIN certificate_versions v ON v.id = j.version_id
           WHERE j.id = ANY(%(ids)s) ORDER BY j.scheduled_at, j.id""",
        ids=job_ids,
    )


async def cancel_open(tx: Tx, certificate_ids: Sequence[str], *, why: str) -> None:
    """Cancel what is still under way for certificates that are revoked or archived."""
    await tx.run(
        """UPDATE jobs SET status = 'Cancelled', completed_at = now(), last_error = %(why)s
           WHERE certificate_id = ANY(%(ids)s)
             AND status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')""",
        ids=list(certificate_ids),
        why=why,
    )
    await tx.run(
        """UPDATE approvals SET state = 'expired', decided_by = 'system', decided_at = now(),
               decision_note = %(why)s, updated_at = now()
           WHERE certificate_id = ANY(%(ids)s) AND state = 'pending'""",
        ids=list(certificate_ids),
        why=why,
    )


async def supersede_deployments(
    tx: Tx, certificate_ids: Sequence[str], agent_ids: Sequence[str], *, only_target: str | None
) -> None:
    """Cancel deployments of each of these certificates by its agent, to all of its targets or to
    one, that are not begun."""
    await tx.run(
        """UPDATE jobs j SET status = 'Cancelled', completed_at = now(),
               last_error = 'superseded by a newer version'
           FROM unnest(%(certificates)s::text[], %(agents)s::text[]) AS old (id, agent_id)
           WHERE j.certificate_id = old.id AND j.agent_id = old.agent_id
             AND j.type = 'Deployment' AND j.status = 'Pending'
             AND (%(target)s::text IS NULL OR j.target_id = %(target)s)""",
        certificates=list(certificate_ids),
        agents=list(agent_ids),
        target=only_target,
    )


async def deployable(tx: Tx, version_ids: Sequence[str], *, only_target: str | None) -> list[Row]:
    """The targets in use to which the agents of these versions could deploy them, all or one,
    without those where this is under way: certificate, version, agent and target by id."""
    return await tx.all(
        """SELECT v.certificate_id, v.id AS version_id, v.agent_id, t.id AS target_id
           FROM certificate_versions v
           JOIN certificate_target_mappings m ON m.certificate_id = v.certificate_id
           JOIN deployment_targets t ON t.id = m.target_id AND t.enabled
               AND t.agent_id = v.agent_id
           WHERE v.id = ANY(%(ids)s) AND (%(target)s::text IS NULL OR t.id = %(target)s)
             AND NOT EXISTS (SELECT FROM jobs j WHERE j.version_id = v.id AND j.target_id = t.id
                 AND j.type = 'Deployment' AND j.status IN ('Pending', 'Running'))
           ORDER BY v.id, t.name COLLATE "C", t.id COLLATE "C" """,
        ids=list(version_ids),
        target=only_target,
    )


async def due_without_worker(session: Session) -> list[str]:
    """Issuances that are due: their CSR is in, and their time has come."""
    rows = await session.all(
        """SELECT id FROM jobs WHERE status = 'Pending' AND type IN ('Issuance', 'Renewal')
             AND csr_pem IS NOT NULL AND scheduled_at <= now() ORDER BY scheduled_at LIMIT 500"""
    )
    return [row["id"] for row in rows]


async def lapsed(session: Session) -> list[str]:
    """Jobs whose lease ran out while Running."""
    rows = await session.all(
        """SELECT id FROM jobs WHERE status = 'Running' AND leased_until < now()
           ORDER BY scheduled_at LIMIT 500"""
    )
    return [row["id"] for row in rows]


async def unanswered(session: Session, *, before: datetime) -> list[str]:
    """Jobs that have waited for a CSR since before that moment; the wait for an approval, which
    came first, does not count."""
    rows = await session.all(
        """SELECT j.id FROM jobs j LEFT JOIN approvals a ON a.id = j.approval_id
           WHERE j.status = 'AwaitingCSR'
             AND coalesce(a.decided_at, j.created_at) < %(before)s
           ORDER BY j.scheduled_at LIMIT 500""",
        before=before,
    )
    return [row["id"] for row in rows]


async def forsaken(session: Session, *, heard_before: datetime) -> list[str]:
    """Deployments that run in the hands of agents that have not been heard of since.

    What a server-made key is for is in no agent's hands, and an agent that never sent a heartbeat
    counts from its enrolment.
    """
    rows = await session.all(
        """SELECT j.id FROM jobs j JOIN agents a ON a.id = j.agent_id
           WHERE j.status = 'Running' AND j.type = 'Deployment'
             AND coalesce(a.last_heartbeat_at, a.registered_at) < %(before)s
           ORDER BY j.scheduled_at LIMIT 500""",
        before=heard_before,
    )
    return [row["id"] for row in rows]


async def misplaced(session: Session) -> list[str]:
    """Work of agents that serve it no more: its target has gone to another agent."""
    rows = await session.all(
        """SELECT j.id FROM jobs j
           WHERE j.agent_id IS NOT NULL AND (
               (j.status = 'Pending' AND j.type = 'Deployment' AND EXISTS (
                   SELECT FROM deployment_targets t
                   WHERE t.id = j.target_id AND t.agent_id <> j.agent_id))
            OR (j.status = 'AwaitingCSR' AND NOT EXISTS (
                   SELECT FROM certificate_target_mappings m
                   JOIN deployment_targets t ON t.id = m.target_id AND t.enabled
                   WHERE m.certificate_id = j.certificate_id AND t.agent_id = j.agent_id)))
           ORDER BY j.scheduled_at LIMIT 500"""
    )
    return [row["id"] for row in rows]


async def prune(tx: Tx, before: datetime) -> int:
    return await tx.run("DELETE FROM jobs WHERE completed_at < %(before)s", before=before)
