"""Jobs: list, cancel, fail with backoff, and sweep up what was left behind."""

from __future__ import annotations

import logging
from typing import Any

from certctl.domain import certificate, job
from certctl.domain.access import EVERYTHING, Actor, Permission, system
from certctl.domain.errors import CertctlError, Unavailable
from certctl.domain.job import JobStatus
from certctl.domain.listing import PageRequest
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import authorities, certificates, jobs, queue, versions
from certctl.store.db import Row, Tx

log = logging.getLogger("certctl.jobs")
ISSUING = ("Issuance", "Renewal")


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, filters: dict[str, Any]
) -> dict[str, Any]:
    async with on.db.read() as session:
        return await jobs.page(
            session, request, within=actor.scope(Permission.JOB_READ), filters=filters
        )


async def get(on: Platform, actor: Actor, job_id: str) -> Row:
    async with on.db.read() as session:
        return await jobs.get(session, job_id, within=actor.scope(Permission.JOB_READ))


async def cancel(on: Platform, actor: Actor, job_id: str) -> None:
    """Raises Conflict when the job has ended already."""
    async with on.db.transaction() as tx:
        found = await jobs.lock(tx, job_id, within=actor.scope(Permission.JOB_CANCEL))
        job.move(job_id, JobStatus(found["status"]), JobStatus.CANCELLED)
        await jobs.update(
            tx,
            job_id,
            status="Cancelled",
            completed_at=tx.now,
            last_error=f"cancelled by {actor.id}",
        )
        await _close_intent(tx, job_id, "job cancelled")
        if found["type"] in ISSUING:
            await settle_certificate(tx, found["certificate_id"], error=None)
        await audit.record(tx, actor, "job_cancelled", on=("job", job_id), type=found["type"])


async def fail(
    on: Platform,
    tx: Tx,
    actor: Actor,
    *,
    found: Row,
    error: str,
    retryable: bool,
    at_once: bool = False,
) -> None:
    """One attempt has failed: another with backoff, or `at_once`, or Failed with the reason.

    `found` is the locked job. What waits for a CSR goes back to waiting.
    """
    outcome = job.after_failure(
        found["attempts"],
        found["max_attempts"],
        now=tx.now,
        jitter=on.random(),
        retryable=retryable,
    )
    final = outcome.status is JobStatus.FAILED
    again_at = tx.now if at_once else outcome.retry_at
    waits = found["type"] in ISSUING and found["csr_pem"] is None
    status = JobStatus.AWAITING_CSR if waits and not final else outcome.status
    if status != found["status"]:
        job.move(found["id"], JobStatus(found["status"]), status)
    await jobs.update(
        tx,
        found["id"],
        status=str(status),
        last_error=error[:4096],
        leased_until=None,
        scheduled_at=again_at or tx.now,
        completed_at=tx.now if final else None,
    )
    if final:
        await _failed_for_good(tx, actor, found, error)
    elif status is JobStatus.PENDING and found["type"] in ISSUING:
        await on.queue.defer(tx, queue.RUN_JOB, at=again_at, job_id=found["id"])


async def _failed_for_good(tx: Tx, actor: Actor, found: Row, error: str) -> None:
    await _close_intent(tx, found["id"], "job failed")
    if found["type"] in ISSUING:
        await settle_certificate(tx, found["certificate_id"], error=error[:4096])
    else:
        await certificates.update(tx, found["certificate_id"], last_error=error[:4096])
    await audit.record(
        tx,
        actor,
        f"{found['type'].lower()}_job_failed",
        on=("job", found["id"]),
        certificate_id=found["certificate_id"],
        error=error[:4096],
    )


async def settle_certificate(tx: Tx, certificate_id: str, *, error: str | None) -> None:
    """The certificate's status and expiry by its live versions, once no issuance is under way.

    An error of one holder stands until the next renewal, also when the others' keys went well.
    """
    row = await certificates.lock(tx, certificate_id, within=EVERYTHING)
    present = certificate.Status(row["status"])
    if present in {certificate.Status.REVOKED, certificate.Status.ARCHIVED}:
        return
    error = error or row["last_error"]
    if await jobs.open_issuances(tx, certificate_id):
        await certificates.update(tx, certificate_id, last_error=error)
        return
    live = await versions.held(tx, certificate_id)
    not_after = min((version["not_after"] for version in live), default=None)
    window = await certificates.renewal_window_days(tx, certificate_id)
    status = certificate.settled(not_after, now=tx.now, window_days=window)
    if present is certificate.Status.PENDING and error is None and not_after is None:
        status = present
    await certificates.update(
        tx,
        certificate_id,
        status=str(certificate.move(certificate_id, present, status)),
        expires_at=not_after,
        last_error=error,
    )


async def _close_intent(tx: Tx, job_id: str, note: str) -> None:
    intent = await authorities.open_intent(tx, job_id)
    if intent is not None:
        await authorities.settle_intent(
            tx, intent["authority_id"], intent["serial_number"], state="closed", note=note
        )


async def sweep(on: Platform) -> int:
    """Take up what was left behind: due jobs without a task, lapsed leases, endless waits.

    The number of jobs that were touched. A failure with one job does not stop the others.
    """
    touched = 0
    async with on.db.transaction() as tx:
        for job_id in await jobs.due_without_worker(tx):
            await on.queue.defer(tx, queue.RUN_JOB, once_per=job_id, job_id=job_id)
            touched += 1
    async with on.db.read() as session:
        lapsed = await jobs.lapsed(
            session, csr_before=on.clock() - on.terms.job_awaiting_csr_timeout
        )
    for row in lapsed:
        try:
            touched += await _reap(on, row["id"])
        except CertctlError as error:
            log.warning("job %s was not taken up: %s", row["id"], error.message)
    return touched


async def _reap(on: Platform, job_id: str) -> int:
    actor = system("sweep")
    async with on.db.transaction() as tx:
        found = await jobs.lock(tx, job_id, within=EVERYTHING)
        waited = found["created_at"] < tx.now - on.terms.job_awaiting_csr_timeout
        if found["status"] == "AwaitingCSR" and waited:
            why, retryable = "csr_timeout: no agent sent a CSR in time", False
        elif found["status"] == "Running" and (found["leased_until"] or tx.now) < tx.now:
            why, retryable = "lease_expired: whoever had the job did not report in time", True
        else:
            return 0
        # Whoever had the lease is gone; nothing that would need a rest has refused.
        await fail(on, tx, actor, found=found, error=why, retryable=retryable, at_once=True)
        await audit.record(tx, actor, "job_reaped", on=("job", job_id), reason=why)
        return 1


async def prune(on: Platform) -> int:
    """Forget jobs that ended long ago, and close intents that nobody will come back to."""
    async with on.db.transaction() as tx:
        await authorities.close_stale_intents(tx, tx.now - 4 * on.terms.job_lease)
        return await jobs.prune(tx, tx.now - on.terms.job_retention)


def is_retryable(error: CertctlError) -> bool:
    return isinstance(error, Unavailable)
