"""Begin issuances and renewals: the one way for one, for many, by hand and because they are due.

Every path goes through `begin`, and with it through the profile's two-person rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from certctl.domain import certificate, renewal
from certctl.domain.access import EVERYTHING, Actor, Permission, Scope, system
from certctl.domain.certificate import Status
from certctl.domain.errors import CertctlError, Conflict, NotFound
from certctl.domain.ids import new_id
from certctl.domain.renewal import Facts, Suggestion
from certctl.services import approve, audit, csrs, policy
from certctl.services import jobs as job_service
from certctl.services.platform import Platform
from certctl.store import queue, renewals, signals
from certctl.store.db import Row, Tx

NO_KEY_HOLDER: Final = "bind a target or send csr_pem"
BATCH: Final = 1000
TRY_AGAIN: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Wanted:
    """One certificate to begin with: for every holder, for `only` these agents, or with the key of
    `csr_pem`."""

    certificate_id: str
    why: str
    only: frozenset[str] | None = None
    csr_pem: str | None = None
    sealed_key: bytes | None = None


@dataclass
class Begun:
    """The jobs by certificate, those that were under way before, and what could not begin."""

    jobs: dict[str, list[str]] = field(default_factory=dict)
    under_way: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, CertctlError] = field(default_factory=dict)


async def renew(
    on: Platform,
    actor: Actor,
    certificate_id: str,
    *,
    csr_pem: str | None = None,
    force: bool = False,
) -> list[str]:
    """Queue a new version for every holder of a key; the ids of the jobs.

    While a renewal is under way, its jobs are the answer; with `force` they are cancelled and new
    ones take their place.

    Raises:
        Conflict: when the certificate may not be renewed, or nobody could hold its key.
    """
    within = actor.scope(Permission.CERT_ISSUE)
    wanted = Wanted(certificate_id, f"asked by {actor.id}", csr_pem=csr_pem)
    async with on.db.transaction() as tx:
        if force:
            await job_service.abandon(
                tx, certificate_id, within=within, why=f"begun anew by {actor.id}"
            )
        return await begin_one(on, tx, actor, wanted=wanted, within=within)


async def begin_one(
    on: Platform, tx: Tx, actor: Actor, *, wanted: Wanted, within: Scope = EVERYTHING
) -> list[str]:
    """As `begin` for one certificate, whose error is raised."""
    begun = await begin(on, tx, actor, wanted=[wanted], within=within)
    if wanted.certificate_id in begun.errors:
        raise begun.errors[wanted.certificate_id]
    return (begun.jobs | begun.under_way)[wanted.certificate_id]


async def begin(
    on: Platform, tx: Tx, actor: Actor, *, wanted: Sequence[Wanted], within: Scope = EVERYTHING
) -> Begun:
    """Put the jobs of these certificates, within the caller's transaction.

    What cannot begin is told in `errors` and keeps nobody else from it.
    """
    ids = [each.certificate_id for each in wanted]
    rows = {row["id"]: row for row in await renewals.lock(tx, ids, within=within)}
    under_way = await renewals.open_issuances(tx, list(rows))
    holders = await renewals.holders(tx, list(rows))
    blocked = await policy.blocking(on, tx, [one for one in rows if one not in under_way])
    begun, planned = Begun(under_way=under_way), []
    for each in wanted:
        row = rows.get(each.certificate_id)
        if each.certificate_id in under_way:
            continue
        try:
            if each.certificate_id in blocked:
                raise blocked[each.certificate_id]
            planned.append(await _plan(on, tx, each, row, holders.get(each.certificate_id, [])))
        except CertctlError as error:
            begun.errors[each.certificate_id] = error
    await _put(on, tx, actor, planned, begun=begun)
    return begun


@dataclass(frozen=True)
class Planned:
    """A certificate that may begin, and who is to hold its key; None is the operator."""

    wanted: Wanted
    row: Row
    holders: list[str | None]

    @property
    def is_first(self) -> bool:
        return not self.row["has_live"] and self.row["status"] == Status.PENDING


async def _plan(
    on: Platform, tx: Tx, wanted: Wanted, row: Row | None, agents: list[str]
) -> Planned:
    if row is None:
        raise NotFound(f"certificate {wanted.certificate_id} does not exist")
    present = Status(row["status"])
    if row["watched"]:
        raise Conflict(f"certificate {row['id']} is watched only: it is renewed elsewhere")
    if present not in certificate.RENEWABLE:
        raise Conflict(f"certificate {row['id']} is {present} and cannot be renewed")
    holders: list[str | None] = [None]
    if wanted.csr_pem is not None:
        await csrs.checked(tx, row, wanted.csr_pem)
    elif agents or not on.terms.server_makes_keys:
        holders = [agent for agent in agents if wanted.only is None or agent in wanted.only]
    if not holders:
        raise Conflict(NO_KEY_HOLDER)
    return Planned(wanted, row, holders)


async def _put(on: Platform, tx: Tx, actor: Actor, planned: list[Planned], *, begun: Begun) -> None:
    approvals, rows, events = [], [], []
    for one in planned:
        approval = None
        if one.row["requires_approval"]:
            request = approve.requested(one.row, actor.id, why=one.wanted.why)
            approval = {"id": new_id("ar", tx.now), **request}
        approvals += [approval] if approval else []
        made = [_job(on, tx, actor, one, holder=h, approval=approval) for h in one.holders]
        rows += made
        begun.jobs[one.row["id"]] = [job["id"] for job in made]
        events.append(_event(one, begun.jobs[one.row["id"]], approval))
    await tx.insert("approvals", approvals)
    await tx.insert("jobs", rows)
    await renewals.mark_begun(
        tx,
        [one.row["id"] for one in planned],
        first=[one.row["id"] for one in planned if one.is_first],
    )
    await audit.record_many(tx, actor, events)
    due: list[dict[str, Any]] = [
        {"job_id": job["id"]} for job in rows if job["status"] == "Pending"
    ]
    await on.queue.defer_many(tx, queue.RUN_JOB, due)
    for agent_id in sorted({j["agent_id"] for j in rows if j["status"] == "AwaitingCSR"}):
        await signals.wake(tx, agent_id)


def _job(
    on: Platform,
    tx: Tx,
    actor: Actor,
    one: Planned,
    *,
    holder: str | None,
    approval: Mapping[str, Any] | None,
) -> dict[str, Any]:
    status = "AwaitingCSR" if holder is not None else "Pending"
    job_id = new_id("job", tx.now)
    csr_pem, sealed = one.wanted.csr_pem, None
    if holder is None and csr_pem is None:
        csr_pem, sealed = csrs.server_key(on, one.row, job_id)
    return {
        "id": job_id,
        "type": "Issuance" if one.is_first else "Renewal",
        "certificate_id": one.row["id"],
        "agent_id": holder,
        "status": "AwaitingApproval" if approval else status,
        "reason": one.wanted.why,
        "requested_by": actor.id,
        "csr_pem": csr_pem,
        "sealed_key": sealed,
        "max_attempts": one.row["max_retries"] + 1,
        "approval_id": approval["id"] if approval else None,
    }


def _event(one: Planned, job_ids: list[str], approval: Mapping[str, Any] | None) -> audit.Event:
    action = "issuance_triggered" if one.is_first else "renewal_triggered"
    details: dict[str, Any] = {"reason": one.wanted.why, "job_ids": job_ids}
    if approval is not None:
        action, details["approval_id"] = "approval_requested", approval["id"]
    return audit.Event(action, ("certificate", one.row["id"]), details)


async def find_due(on: Platform, *, short_lived_only: bool = False) -> int:
    """Begin the renewal of every certificate that is due; how many were begun.

    With `short_lived_only` those of a life under a day, and whatever is marked or to be tried
    again: a scan that costs little and can be made often.
    """
    async with on.db.read() as session:
        await renewals.settle(session, about_now=short_lived_only)
    begun, last = 0, ""
    while True:
        async with on.db.read() as session:
            ids = await renewals.candidates(
                session, after=last, limit=BATCH, short_lived_only=short_lived_only
            )
            holdings = await renewals.holdings(session, ids) if ids else []
        wanted = _due(on, holdings)
        await _drop_idle_marks(on, holdings, wanted)
        if wanted:
            begun += await _begin_due(on, wanted)
        if len(ids) < BATCH:
            return begun
        last = ids[-1]


def _due(on: Platform, holdings: list[Row]) -> list[Wanted]:
    reasons: dict[str, str] = {}
    agents: dict[str, set[str]] = {}
    for row in holdings:
        why = _reason(on, row)
        if why is not None:
            reasons.setdefault(row["id"], why)
            agents.setdefault(row["id"], set()).add(row["agent_id"])
    return [Wanted(key, why, only=frozenset(agents[key])) for key, why in reasons.items()]


async def _drop_idle_marks(on: Platform, holdings: list[Row], wanted: list[Wanted]) -> None:
    """A mark on a certificate whose every holder has what is wanted is out of date."""
    due = {each.certificate_id for each in wanted}
    idle = {row["id"] for row in holdings if row["id"] not in due}
    if idle:
        async with on.db.transaction() as tx:
            await renewals.clear_marks(tx, sorted(idle))


def _reason(on: Platform, row: Row) -> str | None:
    """Why this holder is to make a new key, in words, or None."""
    if row["not_after"] is None:
        return str(row["renew_for"] or f"agent {row['agent_id']} has no certificate yet")
    return renewal.reason_to_renew(_facts(on, row))


def _facts(on: Platform, row: Row) -> Facts:
    suggestion = None
    if row["suggested_at"] is not None:
        suggestion = Suggestion(
            row["suggested_start"],
            row["suggested_end"],
            row["suggested_at"],
            row["explanation_url"],
        )
    return Facts(
        now=on.clock(),
        not_before=row["not_before"],
        not_after=row["not_after"],
        window=timedelta(days=row["renewal_window_days"]),
        names=frozenset(row["live_sans"]),
        wanted_names=frozenset(row["sans"]),
        jitter=float(row["jitter"]),
        suggestion=suggestion,
    )


async def _begin_due(on: Platform, wanted: list[Wanted]) -> int:
    """Those that cannot begin keep the reason and are tried again in an hour."""
    actor = system("renewal")
    async with on.db.transaction() as tx:
        begun = await begin(on, tx, actor, wanted=wanted)
        await renewals.mark_failed(
            tx,
            {key: error.message for key, error in begun.errors.items()},
            retry_at=tx.now + TRY_AGAIN,
        )
        return len(begun.jobs)
