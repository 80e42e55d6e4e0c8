"""Jobs: list, cancel, and fail with backoff."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.domain import certificate, job
from certctl.domain.access import EVERYTHING, Actor, Permission, Scope
from certctl.domain.errors import CertctlError, Unavailable
from certctl.domain.job import JobStatus
from certctl.domain.listing import PageRequest
from certctl.domain.notification import Kind, Severity
from certctl.domain.renewal import bounded_window
from certctl.services import audit, notify
from certctl.services.platform import Platform
from certctl.store import approvals, authorities, certificates, jobs, queue
from certctl.store.db import Row, Tx

ISSUING: Final = ("Issuance", "Renewal")
REST_AFTER_CANCEL: Final = timedelta(days=1)


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
    """A renewal that is cancelled is not begun by itself within a day.

    Raises:
        Conflict: when the job has ended already.
    """
    async with on.db.transaction() as tx:
        found = await jobs.lock(tx, job_id, within=actor.scope(Permission.JOB_CANCEL))
        await _cancel(tx, found, why=f"cancelled by {actor.id}")
        if found["type"] in ISSUING:
            rest = tx.now + REST_AFTER_CANCEL if found["type"] == "Renewal" else None
            await settle_certificate(tx, found["certificate_id"], error=None, retry_at=rest)
        await audit.record(tx, actor, "job_cancelled", on=("job", job_id), type=found["type"])


async def _cancel(tx: Tx, found: Row, *, why: str) -> None:
    job.move(found["id"], JobStatus(found["status"]), JobStatus.CANCELLED)
    await jobs.update(
        tx, found["id"], status="Cancelled", completed_at=tx.now, last_error=why, leased_until=None
    )
    await _close_intent(tx, found["id"], "job cancelled")
    if found["approval_id"] is not None:
        await approvals.drop_unneeded(tx, found["approval_id"], why=why)


async def end(tx: Tx, found: Row, *, why: str) -> None:
    """Cancel a locked job of which nothing is to come any more."""
    await _cancel(tx, found, why=why)
    if found["type"] in ISSUING:
        await settle_certificate(tx, found["certificate_id"], error=None)


async def abandon(tx: Tx, certificate_id: str, *, within: Scope, why: str) -> None:
    """Cancel the issuances under way for a certificate, so that others can begin."""
    await certificates.lock(tx, certificate_id, within=within)
    for each in await jobs.open_issuances(tx, certificate_id):
        await _cancel(tx, await jobs.lock(tx, each["id"], within=EVERYTHING), why=why)
    await settle_certificate(tx, certificate_id, error=None)


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
        longest=await _longest_wait(tx, found),
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


async def _longest_wait(tx: Tx, found: Row) -> timedelta:
    terms = await certificates.terms(tx, found["certificate_id"])
    return timedelta(seconds=terms["retry_interval_seconds"])


async def _failed_for_good(tx: Tx, actor: Actor, found: Row, error: str) -> None:
    """What has failed for good is begun anew after the policy's retry interval."""
    await _close_intent(tx, found["id"], "job failed")
    retry_at = tx.now + await _longest_wait(tx, found)
    if found["type"] in ISSUING:
        await settle_certificate(tx, found["certificate_id"], error=error[:4096], retry_at=retry_at)
    else:
        await certificates.update(tx, found["certificate_id"], last_error=error[:4096])
        await certificates.retry_deployment(
            tx, found["certificate_id"], found["target_id"], at=retry_at
        )
    await audit.record(
        tx,
        actor,
        f"{found['type'].lower()}_job_failed",
        on=("job", found["id"]),
        certificate_id=found["certificate_id"],
        error=error[:4096],
    )
    kind = Kind.RENEWAL_FAILURE if found["type"] in ISSUING else Kind.DEPLOYMENT_FAILURE
    await notify.tell(
        tx,
        kind=kind,
        certificate_id=found["certificate_id"],
        occasion=found["id"],
        severity=Severity.CRITICAL,
        message=f"{found['type']} of {found['certificate_id']} failed: {error[:1000]}",
    )


async def settle_certificate(
    tx: Tx, certificate_id: str, *, error: str | None, retry_at: datetime | None = None
) -> None:
    """As `settle_certificates`, for one."""
    await settle_certificates(tx, [certificate_id], error=error, retry_at=retry_at)


async def settle_certificates(
    tx: Tx,
    certificate_ids: Sequence[str],
    *,
    error: str | None = None,
    retry_at: datetime | None = None,
    renewed: bool = False,
) -> None:
    """The certificates' status and expiry by their live versions, once no issuance is under way.
    With `retry_at` nothing begins by itself before that moment, and then something does.

    An error of one holder stands until the next renewal, also when the others' keys went well.
    """
    standing = await certificates.lock_standing(tx, certificate_ids)
    await certificates.settle(
        tx, [_settled(tx.now, each, error, retry_at) for each in standing], renewed=renewed
    )


def _settled(now: datetime, row: Row, error: str | None, retry_at: datetime | None) -> Row:
    error = error or row["last_error"]
    if row["under_way"]:
        return {**row, "last_error": error, "retry_at": retry_at}
    present, not_after = certificate.Status(row["status"]), row["not_after"]
    days = timedelta(days=row["renewal_window_days"])
    window = bounded_window(days, row["shortest_life"] or timedelta(0))
    status = certificate.settled(not_after, now=now, window=window)
    if present is certificate.Status.PENDING and error is None and not_after is None:
        status = present
    return {
        "id": row["id"],
        "status": str(certificate.move(row["id"], present, status)),
        "expires_at": not_after,
        "last_error": error,
        "retry_at": retry_at,
    }


async def _close_intent(tx: Tx, job_id: str, note: str) -> None:
    intent = await authorities.open_intent(tx, job_id)
    if intent is not None:
        await authorities.settle_intent(
            tx, intent["authority_id"], intent["serial_number"], state="closed", note=note
        )


def is_retryable(error: CertctlError) -> bool:
    return isinstance(error, Unavailable)
