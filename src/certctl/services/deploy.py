"""Plan deployments of a version, and record what the agents report of them."""

from __future__ import annotations

from collections.abc import Sequence

from certctl.domain import job
from certctl.domain.access import EVERYTHING, Actor, Permission
from certctl.domain.errors import Conflict, Invalid, NotAllowed
from certctl.domain.ids import new_id
from certctl.domain.job import JobStatus
from certctl.domain.notification import Kind, Severity
from certctl.services import audit, counters, jobs, notify
from certctl.services.platform import Platform
from certctl.store import certificates, signals, versions
from certctl.store import jobs as job_rows
from certctl.store.db import Row, Tx
from certctl.wire import JobReport

# With the backoff of `domain.job` these reach over three quarters of an hour: long enough for a
# person to mend a broken configuration, after which the next try succeeds by itself.
MAX_ATTEMPTS = 10


async def plan(
    tx: Tx,
    held: Sequence[Row],
    *,
    only_target: str | None = None,
    requested_by: str = "system:issuance",
) -> list[str]:
    """One job for each enabled target of its agent to which a version of `held` is not being
    deployed already; the ids. Older ones not begun are dropped. Versions that no agent holds are
    nobody's to deploy."""
    by_agents = [version for version in held if version["agent_id"] is not None]
    if not by_agents:
        return []
    await job_rows.supersede_deployments(
        tx,
        [version["certificate_id"] for version in by_agents],
        [version["agent_id"] for version in by_agents],
        only_target=only_target,
    )
    found = await job_rows.deployable(
        tx, [version["id"] for version in by_agents], only_target=only_target
    )
    made = [
        {
            "id": new_id("job", tx.now),
            "type": "Deployment",
            "status": "Pending",
            "requested_by": requested_by,
            "max_attempts": MAX_ATTEMPTS,
            **row,
        }
        for row in found
    ]
    await tx.insert("jobs", made)
    for agent_id in sorted({row["agent_id"] for row in found}):
        await signals.wake(tx, agent_id)
    return [job["id"] for job in made]


async def again(tx: Tx, actor: Actor, certificate_id: str, *, only_target: str | None) -> list[str]:
    """Deploy what each agent holds live, to all of its targets or to one; the ids of the jobs."""
    live = await versions.live(tx, certificate_id)
    job_ids = await plan(tx, live, only_target=only_target, requested_by=actor.id)
    if job_ids:
        await audit.record(
            tx, actor, "deployment_triggered", on=("certificate", certificate_id), job_ids=job_ids
        )
    return job_ids


async def begin(
    on: Platform, actor: Actor, certificate_id: str, *, target_id: str | None
) -> list[str]:
    """Deploy the live version again, to all targets or to one; the ids of the jobs.

    Raises:
        Conflict: when nothing live can be deployed. Invalid: when the target is not bound.
    """
    within = actor.scope(Permission.CERT_EDIT)
    async with on.db.transaction() as tx:
        await certificates.lock(tx, certificate_id, within=within)
        bound = [target["id"] for target in await certificates.targets(tx, certificate_id)]
        if target_id is not None and target_id not in bound:
            raise Invalid("target_id names no target of this certificate", field="target_id")
        job_ids = await again(tx, actor, certificate_id, only_target=target_id)
        if not job_ids:
            raise Conflict("nothing to deploy: no live version on the agent of a bound target")
        return job_ids


async def report(on: Platform, actor: Actor, job_id: str, *, report: JobReport) -> None:
    """Record what an agent says of its job. The same report again changes nothing.

    Raises:
        NotAllowed: for the job of another agent. Conflict: when the job has gone on otherwise.
    """
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        if found["agent_id"] != actor.agent_id:
            raise NotAllowed(f"job {job_id} does not belong to this agent")
        if _said_already(found, report):
            return
        if report.status == "Running":
            await _extend(on, tx, found)
        elif report.status == "Completed":
            await _completed(tx, actor, found, report=report)
        else:
            await _failed(on, tx, actor, found=found, report=report)
    if found["type"] == "Deployment" and report.status != "Running":
        _count(found["target_type"] or "unknown", report)


def _count(target_type: str, report: JobReport) -> None:
    result = "success" if report.status == "Completed" else "failure"
    counters.DEPLOYMENTS.labels(target_type, result).inc()
    if report.rolled_back:
        counters.ROLLBACKS.labels(target_type, "restored").inc()


def _said_already(found: Row, report: JobReport) -> bool:
    """Whether this report has been recorded: the job ended so, or its lease ended with a failure
    of these words and it waits for its next try."""
    if report.status == "Running":
        return False
    failed_so = report.status == "Failed" and found["last_error"] == _why(report)
    waits = found["leased_until"] is None and found["status"] in {"Pending", "AwaitingCSR"}
    return bool(found["status"] == report.status or (failed_so and waits))


def _why(report: JobReport) -> str:
    return report.error or "the agent gave no reason"


async def _extend(on: Platform, tx: Tx, found: Row) -> None:
    if found["status"] not in {"Running", "AwaitingCSR"}:
        raise Conflict(f"job {found['id']} is {found['status']}", field="status")
    if found["leased_until"] is None:
        raise Conflict(f"job {found['id']} is not leased to this agent", field="status")
    await job_rows.update(tx, found["id"], leased_until=tx.now + on.terms.job_lease)


async def _completed(tx: Tx, actor: Actor, found: Row, *, report: JobReport) -> None:
    if found["type"] != "Deployment":
        raise Conflict("an issuance is completed by its CSR, not by a report", field="status")
    job.move(found["id"], JobStatus(found["status"]), JobStatus.COMPLETED)
    version = await versions.get(tx, found["version_id"])
    if report.fingerprint_sha256 != version["fingerprint_sha256"]:
        raise Invalid(
            "fingerprint_sha256 is not that of the version to be deployed",
            field="fingerprint_sha256",
        )
    await job_rows.update(
        tx,
        found["id"],
        status="Completed",
        completed_at=tx.now,
        leased_until=None,
        last_error=None,
    )
    await certificates.update(
        tx, found["certificate_id"], last_deployment_at=tx.now, last_error=None
    )
    outcome = "unchanged" if report.unchanged else "deployed"
    await certificates.retry_deployment(tx, found["certificate_id"], found["target_id"], at=None)
    await _insert(tx, found, outcome=outcome, report=report)
    await audit.record(
        tx,
        actor,
        "deployment_completed",
        on=("certificate", found["certificate_id"]),
        job_id=found["id"],
        target_id=found["target_id"],
        fingerprint_sha256=report.fingerprint_sha256,
        outcome=outcome,
    )
    await notify.tell(
        tx,
        kind=Kind.DEPLOYMENT_SUCCESS,
        certificate_id=found["certificate_id"],
        occasion=found["id"],
        severity=Severity.INFORMATIONAL,
        message=f"certificate {found['certificate_id']} is served by target {found['target_id']}",
    )


async def _failed(on: Platform, tx: Tx, actor: Actor, *, found: Row, report: JobReport) -> None:
    error = _why(report)
    if found["status"] == "AwaitingCSR" and found["leased_until"] is not None:
        found = {**found, "attempts": found["attempts"] + 1}
        await job_rows.update(tx, found["id"], attempts=found["attempts"])
    elif found["status"] != "Running":
        raise Conflict(f"job {found['id']} is {found['status']}", field="status")
    await jobs.fail(on, tx, actor, found=found, error=error, retryable=True)
    if found["type"] == "Deployment":
        outcome = "rolled_back" if report.rolled_back else "failed"
        await _insert(tx, found, outcome=outcome, report=report)
        await audit.record(
            tx,
            actor,
            "deployment_failed",
            on=("certificate", found["certificate_id"]),
            job_id=found["id"],
            target_id=found["target_id"],
            error=error,
            outcome=outcome,
        )


async def _insert(tx: Tx, found: Row, *, outcome: str, report: JobReport) -> None:
    await versions.insert_deployment(
        tx,
        {
            "id": new_id("dep", tx.now),
            "certificate_id": found["certificate_id"],
            "target_id": found["target_id"],
            "version_id": found["version_id"],
            "job_id": found["id"],
            "outcome": outcome,
            "fingerprint_sha256": report.fingerprint_sha256,
            "error": report.error,
        },
    )
