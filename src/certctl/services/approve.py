"""The two-person rule: who asked does not decide, and nothing runs before the decision.

Approving and carrying out are separate records: the decision stands in `approvals` and in the audit
trail, what came of it in the jobs that name the approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from certctl.domain.access import EVERYTHING, Actor, Permission, system
from certctl.domain.errors import Conflict, NotAllowed
from certctl.domain.ids import new_id
from certctl.domain.job import JobStatus, move
from certctl.domain.listing import PageRequest
from certctl.services import audit, jobs
from certctl.services.platform import Platform
from certctl.store import approvals, certificates, queue, signals
from certctl.store import jobs as job_rows
from certctl.store.db import Row, Tx

ASK_AGAIN: Final = timedelta(days=1)


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, filters: Mapping[str, Any]
) -> dict[str, Any]:
    async with on.db.read() as session:
        within = actor.scope(Permission.APPROVAL_READ)
        return await approvals.page(session, request, within=within, filters=filters)


async def get(on: Platform, actor: Actor, approval_id: str) -> Row:
    async with on.db.read() as session:
        return await approvals.get(
            session, approval_id, within=actor.scope(Permission.APPROVAL_READ)
        )


async def approve(on: Platform, actor: Actor, approval_id: str, *, note: str | None) -> Row:
    """Let the waiting jobs begin.

    Raises:
        NotAllowed: for whoever asked. Conflict: when it is decided, or the certificate is another
            one than was asked for.
    """
    within = actor.scope(Permission.APPROVAL_APPROVE)
    async with on.db.transaction() as tx:
        found = await approvals.lock(tx, approval_id, within=within)
        _check_pending(found)
        _check_second_person(actor, found)
        row = await certificates.get(tx, found["certificate_id"], within=EVERYTHING)
        if not still_fits(found, row):
            raise Conflict("the certificate has changed since this was asked: renew it anew")
        await _decide(tx, actor, found, state="approved", note=note)
        for job in await approvals.release(tx, approval_id):
            if job["status"] == "Pending":
                await on.queue.defer(tx, queue.RUN_JOB, job_id=job["id"])
            else:
                await signals.wake(tx, job["agent_id"])
        return await approvals.get(tx, approval_id, within=within)


async def reject(on: Platform, actor: Actor, approval_id: str, *, note: str | None) -> Row:
    """Cancel the waiting jobs, for the reason given. Whoever asked may withdraw.

    Raises:
        Conflict: when it is decided already.
    """
    within = actor.scope(Permission.APPROVAL_REJECT)
    async with on.db.transaction() as tx:
        found = await approvals.lock(tx, approval_id, within=within)
        await _decide(tx, actor, found, state="rejected", note=note)
        words = f": {note}" if note else ""
        await _end(tx, found, why=f"rejected by {actor.id}{words}")
        return await approvals.get(tx, approval_id, within=within)


async def of_job(on: Platform, actor: Actor, job_id: str) -> str:
    """The approval that a waiting job needs. Raises Conflict when it waits for none."""
    async with on.db.read() as session:
        job = await job_rows.get(session, job_id, within=actor.scope(Permission.APPROVAL_READ))
    if job["approval_id"] is None or job["status"] != "AwaitingApproval":
        raise Conflict(f"job {job_id} is {job['status']} and waits for no approval")
    return str(job["approval_id"])


def still_fits(approval: Row, certificate: Row) -> bool:
    """Whether the certificate is what was asked for: names, issuer and profile."""
    return bool(
        sorted(approval["sans"]) == sorted(certificate["sans"])
        and approval["common_name"] == certificate["common_name"]
        and approval["issuer_id"] == certificate["issuer_id"]
        and approval["profile_id"] == certificate["certificate_profile_id"]
    )


async def asked_instead(tx: Tx, job: Row) -> bool:
    """Whether a job that was about to run must wait for a decision first: its profile asks for one,
    and none fits what the certificate is now."""
    row = await certificates.get(tx, job["certificate_id"], within=EVERYTHING)
    terms = await certificates.terms(tx, row["id"])
    if not terms["requires_approval"]:
        return False
    found = await approvals.settles(tx, job["id"])
    if found is not None and found["state"] == "approved" and still_fits(found, row):
        return False
    asked = await approvals.pending_of(tx, row["id"]) or await _ask(tx, job, row)
    move(job["id"], JobStatus(job["status"]), JobStatus.AWAITING_APPROVAL)
    await job_rows.update(tx, job["id"], status="AwaitingApproval", approval_id=asked)
    return True


async def _ask(tx: Tx, job: Row, row: Row) -> str:
    approval_id = new_id("ar", tx.now)
    request = requested(row, job["requested_by"], why=job["reason"])
    await tx.insert("approvals", [{"id": approval_id, **request}])
    await audit.record(
        tx,
        system("approvals"),
        "approval_requested",
        on=("certificate", row["id"]),
        approval_id=approval_id,
        job_ids=[job["id"]],
    )
    return approval_id


def requested(row: Row, by: str, *, why: str) -> dict[str, Any]:
    """What the two-person rule asks: exactly these names, from this issuer, under this profile."""
    return {
        "certificate_id": row["id"],
        "profile_id": row["certificate_profile_id"],
        "requested_by": by,
        "reason": why,
        "common_name": row["common_name"],
        "sans": row["sans"],
        "issuer_id": row["issuer_id"],
    }


async def withdraw(tx: Tx, actor: Actor, certificate_id: str, *, why: str) -> None:
    """End what was asked or approved for a certificate that is not the same any more."""
    for found in await approvals.open_of(tx, certificate_id):
        if found["state"] == "pending":
            await _decide(tx, actor, found, state="expired", note=why)
        await approvals.cancel_waiting(tx, found["id"], why)


async def expire(on: Platform) -> int:
    """Cancel what nobody decided in time; it never runs. How many there were."""
    actor, expired = system("sweep"), 0
    async with on.db.read() as session:
        before = on.clock() - on.terms.job_awaiting_approval_timeout
        overdue = await approvals.overdue(session, before)
    for approval_id in overdue:
        async with on.db.transaction() as tx:
            found = await approvals.lock(tx, approval_id, within=EVERYTHING)
            if found["state"] != "pending":
                continue
            why = "approval_timeout: nobody decided in time"
            await _decide(tx, actor, found, state="expired", note=why)
            await _end(tx, found, why=why)
            expired += 1
    return expired


def _check_second_person(actor: Actor, found: Row) -> None:
    if actor.id == found["requested_by"]:
        raise NotAllowed("whoever asked for it cannot approve it: a second person is needed")


def _check_pending(found: Row) -> None:
    if found["state"] != "pending":
        raise Conflict(f"approval {found['id']} is {found['state']} already", field="state")


async def _decide(tx: Tx, actor: Actor, found: Row, *, state: str, note: str | None) -> None:
    _check_pending(found)
    await approvals.decide(tx, [found["id"]], state=state, decided_by=actor.id, note=note)
    await audit.record(
        tx,
        actor,
        f"approval_{state}",
        on=("approval", found["id"]),
        certificate_id=found["certificate_id"],
        requested_by=found["requested_by"],
        note=note,
    )


async def _end(tx: Tx, found: Row, *, why: str) -> None:
    await approvals.cancel_waiting(tx, found["id"], why)
    await jobs.settle_certificate(
        tx, found["certificate_id"], error=why, retry_at=tx.now + ASK_AGAIN
    )
