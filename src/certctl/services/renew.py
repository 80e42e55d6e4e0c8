"""Begin an issuance or a renewal, by hand or because it is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from certctl.domain import certificate, renewal
from certctl.domain.access import EVERYTHING, Actor, Permission, system
from certctl.domain.certificate import Status
from certctl.domain.errors import CertctlError, Conflict
from certctl.domain.ids import new_id
from certctl.domain.renewal import Facts
from certctl.services import audit, issue
from certctl.services.platform import Platform
from certctl.store import certificates, jobs, queue, signals, versions
from certctl.store.db import Row, Tx

NO_KEY_HOLDER: Final = "bind a target or send csr_pem"
BATCH: Final = 500


async def renew(
    on: Platform, actor: Actor, certificate_id: str, *, csr_pem: str | None = None
) -> list[str]:
    """Queue a new version for every holder of a key; the ids of the jobs.

    While a renewal is under way, its jobs are the answer.

    Raises:
        Conflict: when the certificate may not be renewed, or nobody could hold its key.
    """
    async with on.db.transaction() as tx:
        row = await certificates.lock(tx, certificate_id, within=actor.scope(Permission.CERT_ISSUE))
        return await begin(on, tx, actor, row=row, why=f"asked by {actor.id}", csr_pem=csr_pem)


async def begin(
    on: Platform,
    tx: Tx,
    actor: Actor,
    *,
    row: Row,
    why: str,
    csr_pem: str | None = None,
    only: frozenset[str] | None = None,
) -> list[str]:
    """Within the caller's transaction, on a locked certificate; for every holder, or `only` for
    these agents."""
    under_way = await jobs.open_issuances(tx, row["id"])
    if under_way:
        return [open_job["id"] for open_job in under_way]
    present = Status(row["status"])
    if present not in certificate.RENEWABLE:
        raise Conflict(f"certificate {row['id']} is {present} and cannot be renewed")
    if csr_pem is not None:
        await issue.checked_csr(tx, row, csr_pem)
        holders: list[str | None] = [None]
    else:
        agents = await certificates.holders(tx, row["id"])
        holders = [agent for agent in agents if only is None or agent in only]
    if not holders:
        raise Conflict(NO_KEY_HOLDER)
    first = not await versions.live(tx, row["id"]) and present is Status.PENDING
    job_ids = [
        await _put(on, tx, actor, row=row, agent_id=agent, why=why, csr_pem=csr_pem, first=first)
        for agent in holders
    ]
    if not first:
        status = certificate.move(row["id"], present, Status.RENEWAL_IN_PROGRESS)
        await certificates.update(tx, row["id"], status=str(status), last_error=None)
    await audit.record(
        tx,
        actor,
        "issuance_triggered" if first else "renewal_triggered",
        on=("certificate", row["id"]),
        reason=why,
        job_ids=job_ids,
    )
    return job_ids


async def _put(
    on: Platform,
    tx: Tx,
    actor: Actor,
    *,
    row: Row,
    agent_id: str | None,
    why: str,
    csr_pem: str | None,
    first: bool,
) -> str:
    job_id = new_id("job", tx.now)
    terms = await certificates.terms(tx, row["id"])
    await jobs.insert(
        tx,
        {
            "id": job_id,
            "type": "Issuance" if first else "Renewal",
            "certificate_id": row["id"],
            "agent_id": agent_id,
            "status": "Pending" if csr_pem else "AwaitingCSR",
            "reason": why,
            "requested_by": actor.id,
            "csr_pem": csr_pem,
            "max_attempts": terms["max_retries"] + 1,
        },
    )
    if csr_pem:
        await on.queue.defer(tx, queue.RUN_JOB, job_id=job_id)
    elif agent_id is not None:
        await signals.wake(tx, agent_id)
    return job_id


async def find_due(on: Platform) -> int:
    """Begin the renewal of every certificate that is due; how many were begun."""
    async with on.db.read() as session:
        await certificates.settle(session)
    begun = 0
    while True:
        async with on.db.read() as session:
            candidates = await certificates.due(session, BATCH)
        more = await _begin_all(on, candidates)
        begun += more
        if not more or len(candidates) < BATCH:
            return begun


async def _begin_all(on: Platform, candidates: list[Row]) -> int:
    reasons: dict[str, str] = {}
    agents: dict[str, set[str]] = {}
    for candidate in candidates:
        why = renewal.reason_to_renew(_facts(on, candidate))
        if why is not None:
            reasons.setdefault(candidate["id"], why)
            agents.setdefault(candidate["id"], set()).add(candidate["agent_id"])
    begun = 0
    for certificate_id, why in reasons.items():
        begun += await _begin_due(on, certificate_id, why, only=frozenset(agents[certificate_id]))
    return begun


def _facts(on: Platform, candidate: Row) -> Facts:
    return Facts(
        now=on.clock(),
        not_before=candidate["not_before"],
        not_after=candidate["not_after"],
        window=timedelta(days=candidate["renewal_window_days"]),
        names=frozenset(candidate["live_sans"]),
        wanted_names=frozenset(candidate["sans"]),
    )


async def _begin_due(on: Platform, certificate_id: str, why: str, *, only: frozenset[str]) -> int:
    """One certificate that cannot be renewed must not keep the others from it."""
    actor = system("renewal")
    try:
        async with on.db.transaction() as tx:
            row = await certificates.lock(tx, certificate_id, within=EVERYTHING)
            if Status(row["status"]) not in certificate.RENEWABLE:
                return 0
            await begin(on, tx, actor, row=row, why=why, only=only)
            return 1
    except CertctlError as error:
        async with on.db.transaction() as tx:
            await certificates.update(tx, certificate_id, last_error=error.message)
        return 0
