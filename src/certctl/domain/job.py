"""Jobs: what people and agents see of work under way, and its legal moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from certctl.domain.errors import Conflict


class JobType(StrEnum):
    ISSUANCE = "Issuance"
    RENEWAL = "Renewal"
    DEPLOYMENT = "Deployment"
    VALIDATION = "Validation"
    REVOCATION = "Revocation"


class JobStatus(StrEnum):
    PENDING = "Pending"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_CSR = "AwaitingCSR"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


S = JobStatus

# A received CSR makes an issuance due (AwaitingCSR → Pending); a failed attempt with tries left
# goes back to where it was due (Running → Pending); an agent that cannot make a key fails the
# job where it waits; whatever waits, waits for a limited time. What waits for an approval runs
# only after it, and ends by being cancelled; a profile that has come to need one sends it there.
MOVES: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    S.PENDING: frozenset({S.RUNNING, S.AWAITING_APPROVAL, S.AWAITING_CSR, S.CANCELLED, S.FAILED}),
    S.AWAITING_APPROVAL: frozenset({S.PENDING, S.AWAITING_CSR, S.CANCELLED}),
    S.AWAITING_CSR: frozenset({S.PENDING, S.AWAITING_APPROVAL, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.PENDING, S.AWAITING_CSR, S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}
TERMINAL: Final = frozenset(status for status, onward in MOVES.items() if not onward)
OPEN: Final = frozenset(MOVES) - TERMINAL


def move(job_id: str, now_in: JobStatus, to: JobStatus) -> JobStatus:
    """The one transition function.

    Raises:
        Conflict: when a job in `now_in` may not become `to`.
    """
    if to not in MOVES[now_in]:
        raise Conflict(f"job {job_id} is {now_in} and cannot become {to}", field="status")
    return to


@dataclass(frozen=True)
class Attempt:
    """What a failed try leads to."""

    status: JobStatus
    retry_at: datetime | None


FIRST_WAIT: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(hours=1)


def backoff(attempts: int, jitter: float, *, longest: timedelta = LONGEST_WAIT) -> timedelta:
    """Wait before the next try: 5 s doubled per attempt, at most `longest`, spread by ±20 %.

    `jitter` is a random number from 0 to 1.
    """
    wait = min(FIRST_WAIT * (1 << min(max(attempts - 1, 0), 15)), longest)
    return wait * (0.8 + 0.4 * jitter)


def after_failure(
    attempts: int,
    max_attempts: int,
    *,
    now: datetime,
    jitter: float,
    retryable: bool,
    longest: timedelta = LONGEST_WAIT,
) -> Attempt:
    """Another try with backoff while attempts are left and it may help, otherwise Failed."""
    if retryable and attempts < max_attempts:
        return Attempt(JobStatus.PENDING, now + backoff(attempts, jitter, longest=longest))
    return Attempt(JobStatus.FAILED, None)
