"""Take up what was left behind: due jobs without a task, lapsed leases, endless waits, agents gone.

Each arm looks for itself and fails for itself; every reaping is audited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from certctl.domain.access import EVERYTHING, system
from certctl.domain.errors import CertctlError
from certctl.services import approve, audit, bulk, deploy, jobs, notify, users
from certctl.services.platform import Platform
from certctl.store import authorities, certificates, oidc, policies, queue, sessions, versions
from certctl.store import bulk as bulk_rows
from certctl.store import jobs as job_rows
from certctl.store.db import Row, Tx

log = logging.getLogger("certctl.jobs")
ACTOR: Final = system("sweep")
One = TypeVar("One")


async def sweep(on: Platform) -> int:
    """The number of jobs that were touched. An arm that fails does not stop the others; its error
    is raised once they have all ended."""
    ended = await asyncio.gather(*(arm(on) for arm in ARMS), return_exceptions=True)
    failures = [each for each in ended if isinstance(each, BaseException)]
    for failure in failures[1:]:
        log.error("an arm of the sweep failed: %s", failure)
    if failures:
        raise failures[0]
    return sum(each for each in ended if isinstance(each, int))


async def _defer_due(on: Platform) -> int:
    async with on.db.transaction() as tx:
        due = await job_rows.due_without_worker(tx)
        for job_id in due:
            await on.queue.defer(tx, queue.RUN_JOB, once_per=job_id, job_id=job_id)
    return len(due)


async def _lapsed(on: Platform) -> int:
    async with on.db.read() as session:
        found = await job_rows.lapsed(session)
    return await _each(found, lambda job_id: _end_lease(on, job_id))


async def _unanswered(on: Platform) -> int:
    before = on.clock() - on.terms.job_awaiting_csr_timeout
    async with on.db.read() as session:
        found = await job_rows.unanswered(session, before=before)
    return await _each(found, lambda job_id: _end_wait(on, job_id))


async def _forsaken(on: Platform) -> int:
    before = on.clock() - on.terms.job_agent_offline_ttl
    async with on.db.read() as session:
        found = await job_rows.forsaken(session, heard_before=before)
    return await _each(found, lambda job_id: _agent_offline(on, job_id))


async def _misplaced(on: Platform) -> int:
    async with on.db.read() as session:
        found = await job_rows.misplaced(session)
    return await _each(found, lambda job_id: _hand_on(on, job_id))


async def _each(found: Iterable[One], reap: Callable[[One], Awaitable[int]]) -> int:
    """One that cannot be taken up keeps nobody behind it waiting."""
    touched = 0
    for one in found:
        try:
            touched += await reap(one)
        except CertctlError as error:
            log.warning("%s was not taken up: %s", one, error.message)
    return touched


async def _end_lease(on: Platform, job_id: str) -> int:
    """Whoever had the lease is gone; nothing that would need a rest has refused."""
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        if found["status"] != "Running" or (found["leased_until"] or tx.now) >= tx.now:
            return 0
        why = "lease_expired: whoever had the job did not report in time"
        await _fail(on, tx, found, why, action="job_timeout", retryable=True)
        return 1


async def _end_wait(on: Platform, job_id: str) -> int:
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        if found["status"] != "AwaitingCSR":
            return 0
        why = "csr_timeout: no agent sent a CSR in time"
        await _fail(on, tx, found, why, action="job_timeout", retryable=False)
        return 1


async def _agent_offline(on: Platform, job_id: str) -> int:
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        if found["status"] != "Running":
            return 0
        why = f"agent_offline: agent {found['agent_id']} has sent no heartbeat"
        await _fail(on, tx, found, why, action="job_offline_agent_reap", retryable=True)
        return 1


async def _fail(
    on: Platform, tx: Tx, found: Row, why: str, *, action: str, retryable: bool
) -> None:
    await jobs.fail(on, tx, ACTOR, found=found, error=why, retryable=retryable, at_once=True)
    await audit.record(tx, ACTOR, action, on=("job", found["id"]), reason=why)


async def _hand_on(on: Platform, job_id: str) -> int:
    """The job ends with the agent that had it. Where the agent that now serves the target holds a
    live version, that is deployed; otherwise it makes a key of its own."""
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        if found["status"] not in {"Pending", "AwaitingCSR"}:
            return 0
        why = f"agent_offline: another agent than {found['agent_id']} serves this now"
        await jobs.end(tx, found, why=why)
        serving = await certificates.serving_agent(tx, found["target_id"])
        certificate_id = found["certificate_id"]
        live = await versions.live_of(tx, certificate_id, serving) if serving else None
        if live is not None and serving is not None:
            await deploy.plan(tx, [live], only_target=found["target_id"], requested_by=ACTOR.id)
        else:
            await certificates.update(tx, certificate_id, renew_for=why, retry_at=None)
        await audit.record(
            tx, ACTOR, "job_offline_agent_reap", on=("job", job_id), reason=why, agent_id=serving
        )
        return 1


async def _redeploy(on: Platform) -> int:
    async with on.db.read() as session:
        found = await certificates.deployments_to_retry(session)
    places = [(row["certificate_id"], row["target_id"]) for row in found]
    return await _each(places, lambda place: _deploy_again(on, *place))


async def _deploy_again(on: Platform, certificate_id: str, target_id: str) -> int:
    async with on.db.transaction() as tx:
        await certificates.lock(tx, certificate_id, within=EVERYTHING)
        await certificates.retry_deployment(tx, certificate_id, target_id, at=None)
        await deploy.again(tx, ACTOR, certificate_id, only_target=target_id)
    return 1


# What may be left behind, each looked for by itself.
ARMS: Final = (
    _defer_due,
    _lapsed,
    _unanswered,
    _forsaken,
    _misplaced,
    _redeploy,
    approve.expire,
    bulk.resume,
)


async def prune(on: Platform) -> int:
    """Forget jobs and violations that ended long ago, sessions that are over, and the names of
    people who left; close intents that nobody will come back to."""
    async with on.db.transaction() as tx:
        await authorities.close_stale_intents(tx, tx.now - 4 * on.terms.job_lease)
        await notify.prune(tx, tx.now - on.terms.notification_retention)
        await policies.prune(tx, tx.now - on.terms.notification_retention)
        await sessions.prune(tx)
        await oidc.prune(tx)
        await users.forget(on, tx, ACTOR)
        await bulk_rows.prune(tx, tx.now - on.terms.job_retention)
        return await job_rows.prune(tx, tx.now - on.terms.job_retention)
