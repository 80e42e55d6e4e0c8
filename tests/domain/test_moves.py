"""Which status may follow which, for jobs and for certificates, pair by pair."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain import certificate, job
from certctl.domain.certificate import Status
from certctl.domain.errors import Conflict
from certctl.domain.job import JobStatus

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

# Rows: from. Columns: to, in the order of the header. x is a legal move.
JOBS = """
                 Pending AwaitingApproval AwaitingCSR Running Completed Failed Cancelled
Pending          .       x                x           x       .         x      x
AwaitingApproval x       .                x           .       .         .      x
AwaitingCSR      x       x                .           .       .         x      x
Running          x       .                x           .       x         x      x
Completed        .       .                .           .       .         .      .
Failed           .       .                .           .       .         .      .
Cancelled        .       .                .           .       .         .      .
"""
CERTIFICATES = """
                  Pending Active Expiring Expired RenewalInProgress Failed Revoked Archived
Pending           x       x      x        x       x                 x      .       x
Active            .       x      x        x       x                 .      x       x
Expiring          .       x      x        x       x                 .      x       x
Expired           .       .      .        x       x                 .      x       x
RenewalInProgress x       x      x        x       x                 x      x       x
Failed            .       .      .        .       x                 x      x       x
Revoked           .       .      .        .       .                 .      x       x
Archived          .       .      .        .       .                 .      .       x
"""


def name(part: object) -> str:
    return " to ".join(part) if isinstance(part, tuple) else "legal" if part else "not legal"


def table(text: str) -> dict[tuple[str, str], bool]:
    header, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (row[0], column): mark == "x"
        for row in rows
        for column, mark in zip(header, row[1:], strict=True)
    }


def test_the_tables_hold_every_pair_of_statuses() -> None:
    assert set(table(JOBS)) == set(itertools.product(map(str, JobStatus), repeat=2))
    assert set(table(CERTIFICATES)) == set(itertools.product(map(str, Status), repeat=2))


@pytest.mark.parametrize(("pair", "legal"), table(JOBS).items(), ids=name)
def test_a_job_moves_only_as_the_table_says(pair: tuple[str, str], legal: bool) -> None:
    now_in, to = map(JobStatus, pair)
    if legal:
        assert job.move("job-1", now_in, to) is to
    else:
        with pytest.raises(Conflict, match=f"job job-1 is {now_in} and cannot become {to}"):
            job.move("job-1", now_in, to)


@pytest.mark.parametrize(("pair", "legal"), table(CERTIFICATES).items(), ids=name)
def test_a_certificate_moves_only_as_the_table_says(pair: tuple[str, str], legal: bool) -> None:
    now_in, to = map(Status, pair)
    if legal:
        assert certificate.move("mc-1", now_in, to) is to
    else:
        with pytest.raises(Conflict, match=f"certificate mc-1 is {now_in} and cannot become {to}"):
            certificate.move("mc-1", now_in, to)


def test_what_may_be_renewed_and_revoked_follows_from_the_moves() -> None:
    everything = set(Status)
    assert everything - certificate.RENEWABLE == {
        Status.RENEWAL_IN_PROGRESS,
        Status.REVOKED,
        Status.ARCHIVED,
    }
    assert everything - certificate.REVOCABLE == {Status.PENDING, Status.REVOKED, Status.ARCHIVED}


@pytest.mark.parametrize(
    ("left", "status"),
    [
        (None, Status.FAILED),
        (timedelta(0), Status.EXPIRED),
        (timedelta(seconds=1), Status.EXPIRING),
        (timedelta(days=30), Status.EXPIRING),
        (timedelta(days=30, seconds=1), Status.ACTIVE),
    ],
)
def test_a_settled_certificate_has_the_status_of_what_is_left(
    left: timedelta | None, status: Status
) -> None:
    not_after = None if left is None else NOON + left
    assert certificate.settled(not_after, now=NOON, window=timedelta(days=30)) is status


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_wait_before_another_try_is_bounded(attempts: int, jitter: float) -> None:
    assert timedelta(seconds=4) <= job.backoff(attempts, jitter) <= 1.2 * job.LONGEST_WAIT


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_wait_never_gets_shorter_with_more_attempts(attempts: int, jitter: float) -> None:
    assert job.backoff(attempts, jitter) <= job.backoff(attempts + 1, jitter)


@pytest.mark.parametrize(
    ("attempts", "retryable", "status"),
    [
        (1, True, JobStatus.PENDING),
        (2, True, JobStatus.PENDING),
        (3, True, JobStatus.FAILED),
        (9, True, JobStatus.FAILED),
        (1, False, JobStatus.FAILED),
    ],
)
def test_a_job_is_tried_again_while_that_may_help(
    attempts: int, retryable: bool, status: JobStatus
) -> None:
    outcome = job.after_failure(attempts, 3, now=NOON, jitter=0.5, retryable=retryable)
    assert outcome.status is status
    assert (outcome.retry_at is None) == (status is JobStatus.FAILED)


def test_the_next_try_lies_in_the_future() -> None:
    outcome = job.after_failure(1, 3, now=NOON, jitter=0.0, retryable=True)
    assert outcome.retry_at == NOON + timedelta(seconds=4)
