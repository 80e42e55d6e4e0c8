"""Begin again what has failed or was cancelled: a new job, so that the old one's record stays."""

from __future__ import annotations

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import Conflict
from certctl.services import audit, deploy, renew
from certctl.services.jobs import ISSUING
from certctl.services.platform import Platform
from certctl.store import jobs
from certctl.store.db import Row, Tx


async def retry(on: Platform, actor: Actor, job_id: str) -> list[str]:
    """The ids of the jobs that do it now.

    Raises:
        Conflict: for a job that neither failed nor was cancelled, or when it cannot begin.
    """
    within = actor.scope(Permission.JOB_CANCEL)
    async with on.db.transaction() as tx:
        found = await jobs.lock(tx, job_id, within=within)
        if found["status"] not in {"Failed", "Cancelled"}:
            raise Conflict(f"job {job_id} is {found['status']}", field="status")
        job_ids = await _again(on, tx, actor, found)
        await audit.record(tx, actor, "job_retry", on=("job", job_id), job_ids=job_ids)
        return job_ids


async def _again(on: Platform, tx: Tx, actor: Actor, found: Row) -> list[str]:
    certificate_id = found["certificate_id"]
    if found["type"] in ISSUING:
        holder = found["agent_id"]
        wanted = renew.Wanted(
            certificate_id,
            f"tried again by {actor.id}",
            only=None if holder is None else frozenset({holder}),
            csr_pem=found["csr_pem"] if holder is None and not found["sealed_key"] else None,
        )
        return await renew.begin_one(on, tx, actor, wanted=wanted)
    job_ids = await deploy.again(tx, actor, certificate_id, only_target=found["target_id"])
    if not job_ids:
        raise Conflict("nothing to deploy: it is under way, or its agent holds no live version")
    return job_ids
