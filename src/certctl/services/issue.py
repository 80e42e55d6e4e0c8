"""The one path from accepted CSRs to recorded certificate versions.

Claim, order, write down the intents, sign, record: for one job, or for many of one issuer at once.
Each step is its own transaction, so that a kill at any moment leaves either jobs that go on where
they were, or intents that are closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from certctl.connectors.issuer import Draft, Issued, Order, Prepares
from certctl.domain.access import EVERYTHING, Actor, system
from certctl.domain.errors import CertctlError, NotFound
from certctl.services import approve, authority, blocked, counters, csrs, intents, issued, jobs
from certctl.services import policy as policies
from certctl.services.issued import Work
from certctl.services.platform import Platform
from certctl.store import issuing, lint_waivers
from certctl.store import jobs as job_rows
from certctl.store.db import Row, Session, Tx

MOST: Final = 100  # jobs in one run


async def run(on: Platform, job_id: str) -> bool:
    """Carry out an issuance that is due, and what else our own CA has due beside it; whether a
    certificate was recorded for this one.

    Does nothing when the job is not due, is gone, or somebody else has it.
    """
    works = await _claim(on, job_id)
    if not works:
        return False
    began, kind = time.monotonic(), "unknown"
    try:
        async with on.db.read() as session:
            opened = await authority.open_issuer(on, session, works[0].subject["issuer_id"])
            await _take_waivers(session, works)
        kind = opened.issuer.kind
        await _carry_out(on, works, opened)
    except CertctlError as error:
        for work in _going(works):
            work.error = error
    for work in works:
        _count(kind, work, time.monotonic() - began)
        if work.error is not None:
            await _failed(on, work.job, work.error)
    return any(work.job["id"] == job_id and work.error is None for work in works)


def _going(works: Sequence[Work]) -> list[Work]:
    return [work for work in works if work.error is None]


async def _claim(on: Platform, job_id: str) -> list[Work]:
    """The job, and what is due beside it, as this run has them: `attempts` fences each against a
    later run."""
    async with on.db.read() as session:
        if not await issuing.is_due(session, job_id):
            return []
    async with on.db.transaction() as tx:
        try:
            own = await job_rows.lock(tx, job_id, within=EVERYTHING)
        except NotFound:
            return []
        if own["status"] != "Pending" or own["scheduled_at"] > tx.now or not own["csr_pem"]:
            return []
        due = [own, *await issuing.lock_due(tx, beside=own["id"], limit=MOST - 1)]
        subjects = await issuing.subjects(tx, [job["certificate_id"] for job in due])
        works = [Work(job, subjects[job["certificate_id"]]) for job in due]
        works = [work for work in works if not await _waits(tx, work)]
        await issuing.start(tx, [work.job["id"] for work in works], lease=on.terms.job_lease)
    for work in works:
        work.job["attempts"] += 1
    return works


async def _waits(tx: Tx, work: Work) -> bool:
    """Whether it must wait for a second person's approval instead."""
    return work.subject["requires_approval"] and await approve.asked_instead(tx, work.job)


async def _carry_out(on: Platform, works: Sequence[Work], opened: authority.Opened) -> None:
    """Everything after the claim. Each work ends recorded, or with its error.

    Raises:
        CertctlError: when those that have none can go no further.
    """
    days = getattr(opened.config, "validity_days", None)
    longest = timedelta(days=days) if days else timedelta.max
    await asyncio.to_thread(_order_all, works, longest)
    await _refuse_blocked_keys(on, _going(works))
    await _judge(on, _going(works))
    await _intend(on, _going(works), opened)
    await _complete(_going(works), opened)
    await issued.record(on, _going(works), authority_id=opened.authority_id)


async def _take_waivers(session: Session, works: Sequence[Work]) -> None:
    profiles = {work.subject["profile_id"] for work in works}
    in_force = await lint_waivers.in_force(session, sorted(profiles))
    for work in works:
        work.waivers = in_force.get(work.subject["profile_id"], {})


def _order_all(works: Sequence[Work], longest: timedelta) -> None:
    for work in works:
        try:
            work.order, work.spki_sha256 = _order(work, longest)
        except CertctlError as error:
            work.error = error


def _order(work: Work, longest: timedelta) -> tuple[Order, str]:
    """What the CA is asked for, and the hash of the key."""
    subject = work.subject
    rules, names = csrs.profile_of(subject), csrs.approved_names(subject)
    csr = csrs.fitting(work.job["csr_pem"], names, subject["common_name"], rules=rules)
    order = Order(
        names=names,
        common_name=subject["common_name"],
        public_key=csr.public_key,
        lifetime=min(rules.max_lifetime, longest),
        ekus=rules.ekus,
        csr_pem=work.job["csr_pem"],
        must_staple=rules.must_staple,
        must_staple_critical=rules.must_staple_critical,
        certificate_policies=rules.certificate_policies,
        cps_uri=rules.cps_uri,
        short_lived=rules.is_short_lived,
        crl_shards=rules.crl_shards,
        waived=tuple(work.waivers),
    )
    return order, csr.spki_sha256


async def _refuse_blocked_keys(on: Platform, works: Sequence[Work]) -> None:
    async with on.db.read() as session:
        refused = await blocked.among(session, [work.spki_sha256 for work in works])
    for work in works:
        work.error = refused.get(work.spki_sha256)


async def _judge(on: Platform, works: Sequence[Work]) -> None:
    by_lifetime: dict[timedelta, list[Work]] = defaultdict(list)
    for work in works:
        by_lifetime[work.ordered.lifetime].append(work)
    for lifetime, group in by_lifetime.items():
        ids = [work.subject["id"] for work in group]
        refused = await policies.before_issuance(on, ids, lifetime)
        for work in group:
            work.error = refused.get(work.subject["id"])


async def _intend(on: Platform, works: Sequence[Work], opened: authority.Opened) -> None:
    """Drafts are committed before they are signed, where the CA can write them down."""
    if not isinstance(opened.issuer, Prepares) or opened.authority_id is None:
        return
    orders = {work.job["id"]: work.ordered for work in works}
    drafts = await intents.intentions(on, opened.issuer, opened.authority_id, orders=orders)
    for work in works:
        match drafts[work.job["id"]]:
            case Draft() as draft:
                work.draft = draft
            case error:
                work.error = error


async def _complete(works: Sequence[Work], opened: authority.Opened) -> None:
    drafts = [work.draft for work in works if work.draft is not None]
    outcomes: Sequence[Issued | CertctlError]
    if isinstance(opened.issuer, Prepares) and drafts:
        outcomes = await opened.issuer.complete_many(drafts)
    else:
        outcomes = [await opened.issuer.issue(work.ordered) for work in works]
    for work, outcome in zip(works, outcomes, strict=True):
        if isinstance(outcome, CertctlError):
            work.error = outcome
        else:
            work.issued = outcome


def _count(kind: str, work: Work, seconds: float) -> None:
    if work.error is None:
        counters.ISSUANCE.labels(kind, "success").inc()
        counters.ISSUANCE_SECONDS.labels(kind).observe(seconds)
    else:
        counters.ISSUANCE.labels(kind, "failure").inc()
        counters.ISSUANCE_FAILURES.labels(kind, type(work.error).__name__).inc()


async def _failed(on: Platform, claimed: Row, error: CertctlError) -> None:
    """A run whose job went on without it has nothing to say about the job any more."""
    actor: Actor = system("issuance")
    async with on.db.transaction() as tx:
        present = await job_rows.lock(tx, claimed["id"], within=EVERYTHING)
        if present["status"] == "Running" and present["attempts"] == claimed["attempts"]:
            await jobs.fail(
                on,
                tx,
                actor,
                found=present,
                error=error.message,
                retryable=jobs.is_retryable(error),
            )
