"""Jobs of a certificate, watched until the last one has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from certctl.domain.errors import Refused, Unavailable

if TYPE_CHECKING:
    from certctl.cli.client import Api

Job = dict[str, Any]
ENDED: Final = frozenset({"Completed", "Failed", "Cancelled"})
INTERVAL: Final = 0.25
MOST: Final = 100


def follow(
    api: Api, certificate_id: str, *, job_ids: Sequence[str] | None, seconds: float
) -> Iterator[list[Job]]:
    """The jobs of one operation, oldest first, four times a second until all have ended.

    `job_ids` began the operation; the jobs that followed from them belong to it too. None stands
    for all jobs of the certificate.

    Raises:
        Refused: when one has failed or was cancelled, with its reason.
        Unavailable: when `seconds` have passed before the end.
    """
    deadline = time.monotonic() + seconds
    while True:
        listed = api.get("jobs", certificate_id=certificate_id, per_page=MOST)["data"]
        jobs = belonging(listed, job_ids)
        yield jobs
        if all(job["status"] in ENDED for job in jobs):
            break
        if time.monotonic() > deadline:
            raise Unavailable(f"not done after {seconds:g} s: {words(jobs)}")
        time.sleep(INTERVAL)
    failed = [job for job in jobs if job["status"] != "Completed"]
    if failed:
        raise Refused(words(failed))


def belonging(listed: Sequence[Job], job_ids: Sequence[str] | None) -> list[Job]:
    """The jobs named by `job_ids` and those made after the first of them, oldest first."""
    begun = [_made(job) for job in listed if job_ids is None or job["id"] in job_ids]
    if not begun:
        return []
    return sorted((job for job in listed if _made(job) >= min(begun)), key=_made)


def words(jobs: Sequence[Job]) -> str:
    """What is open or went wrong, in one sentence."""
    parts = []
    for job in jobs:
        if job["status"] != "Completed":
            why = f" ({job['last_error']})" if job["last_error"] else ""
            parts.append(f"{job['type']} {job['id']} is {job['status']}{why}")
    return "; ".join(parts)


def _made(job: Job) -> datetime:
    return datetime.fromisoformat(job["created_at"])
