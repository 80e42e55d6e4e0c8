"""Agents: enrolment, heartbeat, work, CSRs, retirement. An agent sees what is its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from certctl import wire
from certctl.domain import profile
from certctl.domain.access import EVERYTHING, Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Gone, Invalid, NotAllowed, NotFound
from certctl.domain.listing import PageRequest
from certctl.services import audit, csrs, plain, revoke
from certctl.services import jobs as job_service
from certctl.services.platform import Platform
from certctl.store import certificates, fleet, jobs, queue, versions
from certctl.store.db import Row

LONGEST_WAIT: Final = 60.0
LOOK_EVERY: Final = 5.0
AT_ONCE: Final = 10
TOKEN_LIFETIME: Final = timedelta(hours=1)


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, retired: bool = False
) -> dict[str, Any]:
    async with on.db.read() as session:
        within = actor.scope(Permission.AGENT_READ)
        return await fleet.page(session, request, within=within, retired=retired)


async def get(on: Platform, actor: Actor, agent_id: str) -> Row:
    async with on.db.read() as session:
        return await fleet.get(session, agent_id, within=actor.scope(Permission.AGENT_READ))


async def retire(
    on: Platform, actor: Actor, agent_id: str, *, force: bool, reason: str
) -> dict[str, Any]:
    """Retire an agent for good: from then on it is answered 410.

    Raises:
        Conflict: with the counts, while targets, certificates or jobs depend on it, unless forced.
    """
    if force and not reason:
        raise Invalid("reason is needed with force", field="reason")
    async with on.db.transaction() as tx:
        found = await fleet.get(tx, agent_id, within=actor.scope(Permission.AGENT_RETIRE))
        counts = await fleet.dependencies(tx, agent_id)
        if found["retired_at"] is not None:
            answer = {"retired_at": found["retired_at"], "already_retired": True}
            return {**answer, "cascade": False, "counts": counts}
        if any(counts.values()) and not force:
            words = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in counts.items() if n)
            raise Conflict(
                f"agent {agent_id} still has {words}; retire it with force", counts=counts
            )
        waiting = await fleet.issuing_for(tx, agent_id)
        for certificate_id in waiting:
            await certificates.lock(tx, certificate_id, within=EVERYTHING)
        await fleet.retire(tx, agent_id, reason)
        await fleet.release(tx, agent_id, reason)
        await revoke.certificates_of_agent(on, tx, actor, agent_id)
        for certificate_id in waiting:
            await job_service.settle_certificate(
                tx, certificate_id, error=f"agent {found['name']} was retired"
            )
        await audit.record(
            tx,
            actor,
            "agent_retired",
            on=("agent", agent_id),
            category=Category.CONFIG,
            reason=reason,
            counts=counts,
        )
        return {
            "retired_at": tx.now,
            "already_retired": False,
            "cascade": force,
            "counts": counts,
        }


async def own(on: Platform, actor: Actor, agent_id: str) -> str:
    """The agent, if the caller is that very agent and in service.

    Raises:
        NotAllowed: for anybody else. Gone: after its retirement.
    """
    if actor.agent_id != agent_id:
        raise NotAllowed("an agent's routes are open to that agent only")
    async with on.db.read() as session:
        if not await fleet.is_serving(session, agent_id):
            raise Gone(f"agent {agent_id} has been retired")
    return agent_id


async def heartbeat(
    on: Platform, actor: Actor, agent_id: str, beat: wire.Heartbeat
) -> wire.HeartbeatRecorded:
    """Note that the agent is alive, and tell it when its credential has become old."""
    await own(on, actor, agent_id)
    async with on.db.read() as session:
        made_at = await fleet.heartbeat(session, agent_id, beat.model_dump())
    is_old = on.clock() - made_at > on.terms.agent_credential_renew_after
    return wire.HeartbeatRecorded(status="heartbeat_recorded", renew_credential=is_old)


async def work(
    on: Platform,
    actor: Actor,
    agent_id: str,
    *,
    wait: float,
    session: str | None,
    has_left: Callable[[], Awaitable[bool]],
) -> wire.Work:
    """Lease due work to the agent; with none, wait up to `wait` seconds for some.

    `has_left` tells that nobody waits for the answer any more: work leased then would be lost
    until its lease ends.
    """
    await own(on, actor, agent_id)
    async with on.db.read() as reading:
        await fleet.begin_session(reading, agent_id, session)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(max(wait, 0.0), LONGEST_WAIT)
    while True:
        with on.signals.expecting(agent_id) as event:
            items = [] if await has_left() else await _claim(on, agent_id, session)
            left = deadline - loop.time()
            if items or left <= 0 or on.signals.closed.is_set():
                return wire.Work(jobs=items, count=len(items))
            # A wake-up may be lost with its connection: look again every few seconds.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), min(left, LOOK_EVERY))


async def _claim(on: Platform, agent_id: str, session: str | None) -> list[wire.WorkItem]:
    async with on.db.transaction() as tx:
        leased = await jobs.claim_for_agent(
            tx, agent_id, session=session, lease=on.terms.job_lease, limit=AT_ONCE
        )
        rows = await jobs.work_items(tx, leased) if leased else []
    return [_item(on, row) for row in rows]


def _item(on: Platform, row: Row) -> wire.WorkItem:
    config = None
    if row["sealed_config"] is not None:
        config = plain.unsealed_config(
            on, plain.TARGETS, row["target_id"], sealed=row["sealed_config"]
        )
    return wire.WorkItem(
        id=row["id"],
        type=row["type"],
        status=row["status"],
        certificate_id=row["certificate_id"],
        common_name=row["common_name"],
        sans=row["sans"],
        key_algorithm=profile.preferred_key(row["allowed_key_algorithms"]),
        must_staple=row["must_staple"],
        target_id=row["target_id"],
        target_type=row["target_type"],
        target_config=config,
        fingerprint_sha256=row["fingerprint_sha256"],
        certificate_pem=row["pem_chain"],
        lease_seconds=int(on.terms.job_lease.total_seconds()),
    )


async def submit_csr(
    on: Platform, actor: Actor, agent_id: str, submission: wire.CsrSubmission
) -> str:
    """Take an agent's CSR; the status word of the answer. The same CSR again changes nothing.

    Raises:
        Invalid: naming the rule that the CSR breaks. Conflict: when no job of the agent waits.
    """
    await own(on, actor, agent_id)
    async with on.db.transaction() as tx:
        found = await _waiting(tx, agent_id, submission)
        if found["status"] != "AwaitingCSR":
            if found["csr_pem"] == submission.csr_pem:
                return "csr_accepted"
            raise Conflict(f"job {found['id']} is {found['status']} and takes no other CSR")
        row = await certificates.get(tx, found["certificate_id"], within=EVERYTHING)
        csr = await csrs.checked(tx, row, submission.csr_pem)
        await jobs.update(
            tx,
            found["id"],
            csr_pem=submission.csr_pem,
            status="Pending",
            leased_until=None,
            scheduled_at=tx.now,
        )
        await on.queue.defer(tx, queue.RUN_JOB, job_id=found["id"])
        await audit.record(
            tx,
            actor,
            "csr_submitted",
            on=("certificate", row["id"]),
            job_id=found["id"],
            spki_sha256=csr.spki_sha256,
        )
    return "csr_accepted"


async def _waiting(tx: Any, agent_id: str, submission: wire.CsrSubmission) -> Row:
    if submission.job_id is not None:
        found = await jobs.lock(tx, submission.job_id, within=EVERYTHING)
        if found["agent_id"] != agent_id or found["type"] == "Deployment":
            raise NotFound(f"job {submission.job_id} does not exist")
        return found
    if submission.certificate_id is None:
        raise Invalid("job_id or certificate_id is needed", field="job_id")
    waiting = await jobs.waiting_csr(tx, agent_id, submission.certificate_id)
    if waiting is None:
        raise Conflict(f"no job of this agent waits for a CSR of {submission.certificate_id}")
    return waiting


async def certificate(
    on: Platform, actor: Actor, agent_id: str, certificate_id: str
) -> wire.CertificatePickup:
    """The live version that this agent holds the key of."""
    await own(on, actor, agent_id)
    async with on.db.read() as session:
        version = await versions.live_of(session, certificate_id, agent_id)
    if version is None:
        raise NotFound(f"certificate {certificate_id} has no live version of this agent")
    return wire.CertificatePickup(
        certificate_pem=version["pem_chain"], fingerprint_sha256=version["fingerprint_sha256"]
    )
