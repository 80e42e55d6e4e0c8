"""Revoke, renew and reassign many certificates: by ids or by filter, at once or in batches.

The operation and its items are written down first, so that nothing is lost when the client goes
away or the server dies: what is left is taken up by the sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from certctl.domain.access import EVERYTHING, Actor, ActorType, Permission, Scope
from certctl.domain.errors import CertctlError, Conflict, Invalid, NotFound
from certctl.domain.ids import new_id, repeatable_id
from certctl.domain.revocation import Reason
from certctl.services import audit, renew, revoke
from certctl.services.platform import Platform
from certctl.store import bulk, queue, rows
from certctl.store.db import Row, Session, Tx

AT_ONCE: Final = 1000
BATCH: Final = 500
LANES: Final = {"revoke": 2}  # batches at a time: while one computes, the database has another
TOLD: Final = 1000  # errors and jobs that an answer lists
NEEDS: Final = {
    "revoke": Permission.CERT_BULK_REVOKE,
    "renew": Permission.CERT_ISSUE,
    "reassign": Permission.CERT_EDIT,
}
WORDS: Final = {
    "revoke": "total_revoked",
    "renew": "total_enqueued",
    "reassign": "total_reassigned",
}
Outcome = dict[str, Any]


class _DryRun(Exception):
    """Ends a transaction that was only to show what would happen."""


async def start(
    on: Platform,
    actor: Actor,
    kind: str,
    *,
    filters: Mapping[str, Any],
    parameters: Mapping[str, Any],
    dry_run: bool,
    idempotency_key: str | None = None,
) -> Row:
    """Do it for up to 1,000 certificates and say what came of it, or begin it for more; asked
    again with the same Idempotency-Key, say how far it is.

    Raises:
        Invalid: when the selection has no bounds or matches nothing.
        Conflict: when the key belongs to another operation.
    """
    within = actor.scope(NEEDS[kind])
    if not filters or filters.get("certificate_ids") == []:
        raise Invalid("give certificate_ids or a filter: all certificates are never meant")
    key = None if dry_run else idempotency_key
    operation_id = repeatable_id("bulk", actor.id, key) if key else ""
    try:
        async with on.db.transaction() as tx:
            await _check(tx, parameters)
            operation_id = operation_id or new_id("bulk", tx.now)
            if not await _opened(tx, actor, kind, operation_id=operation_id, parameters=parameters):
                return await _repeated(tx, operation_id, kind, parameters)
            matched = await _select(tx, operation_id, within=within, filters=filters)
            await audit.record(
                tx,
                actor,
                f"bulk_{kind}_initiated",
                on=("bulk", operation_id),
                filters={key: value for key, value in filters.items() if key != "certificate_ids"},
                parameters=parameters,
                total_matched=matched,
            )
            if dry_run:
                return await _rehearse(on, tx, operation_id, matched)
            if matched > AT_ONCE:
                await on.queue.defer(
                    tx, queue.RUN_BULK, once_per=operation_id, operation_id=operation_id
                )
    except _DryRun as ended:
        return dict(ended.args[0])
    if matched <= AT_ONCE:
        # Goes on to its end although the client may leave.
        await asyncio.shield(run(on, operation_id))
    return await result(on, actor, operation_id)


async def _check(tx: Tx, parameters: Mapping[str, Any]) -> None:
    tables = {"owner_id": rows.OWNERS, "team_id": rows.TEAMS}
    given = {name: table for name, table in tables.items() if parameters.get(name)}
    for name in await rows.dangling(tx, given, parameters, within=EVERYTHING):
        noun = given[name].noun
        raise Invalid(f"{name}: {noun} {parameters[name]} does not exist", field=name)


async def _opened(
    tx: Tx, actor: Actor, kind: str, *, operation_id: str, parameters: Mapping[str, Any]
) -> bool:
    """Whether the operation is new."""
    return await bulk.open_operation(
        tx,
        {
            "id": operation_id,
            "kind": kind,
            "parameters": dict(parameters),
            "requested_by": actor.id,
            "actor": {
                "id": actor.id,
                "type": str(actor.type),
                "address": actor.address,
                "request_id": actor.request_id,
            },
        },
    )


async def _repeated(tx: Tx, operation_id: str, kind: str, parameters: Mapping[str, Any]) -> Row:
    row = await bulk.get(tx, operation_id)
    if (row["kind"], row["parameters"]) != (kind, dict(parameters)):
        raise Conflict("this Idempotency-Key was used for something else", field="Idempotency-Key")
    return await _told(tx, row)


async def _select(tx: Tx, operation_id: str, *, within: Scope, filters: Mapping[str, Any]) -> int:
    matched = await bulk.select(tx, operation_id, within=within, filters=filters)
    if "certificate_ids" in filters:
        matched += await bulk.add_missing(tx, operation_id, filters["certificate_ids"])
    if not matched:
        raise Invalid("no certificate matches the selection")
    return matched


async def _rehearse(on: Platform, tx: Tx, operation_id: str, matched: int) -> Row:
    """What would happen, found by doing it and taking it back; beyond what is done at once, only
    how many certificates are meant."""
    if matched <= AT_ONCE:
        while await _batch(on, tx, operation_id):
            pass
    row = await bulk.get(tx, operation_id)
    told = await _told(tx, row)
    raise _DryRun({**told, "state": "dry_run", "id": None})


async def run(on: Platform, operation_id: str) -> int:
    """Carry out what is left of an operation; how many certificates."""
    async with on.db.read() as session:
        kind = (await bulk.asked(session, operation_id))["kind"]
    lanes = [_lane(on, operation_id) for _ in range(LANES.get(kind, 1))]
    ended = await asyncio.gather(*lanes, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    async with on.db.read() as session:
        await bulk.complete(session, operation_id)
    return sum(each for each in ended if isinstance(each, int))


async def _lane(on: Platform, operation_id: str) -> int:
    """Batch after batch, beside others who do the same."""
    touched = 0
    while True:
        async with on.db.transaction() as tx:
            count = await _batch(on, tx, operation_id)
        touched += count
        if not count:
            return touched


async def _batch(on: Platform, tx: Tx, operation_id: str) -> int:
    ids = await bulk.take(tx, operation_id, limit=BATCH)
    if ids:
        row = await bulk.asked(tx, operation_id)
        part = Part(on, tx, _actor(row), ids, row["parameters"])
        outcomes = await ACTS[row["kind"]](part)
        await bulk.finish_items(tx, operation_id, outcomes)
    return len(ids)


@dataclass(frozen=True)
class Part:
    """One batch of an operation, in a transaction of its own."""

    on: Platform
    tx: Tx
    actor: Actor
    ids: list[str]
    parameters: Mapping[str, Any]


def _actor(row: Row) -> Actor:
    """Whoever asked; the items were chosen within what they may do."""
    who = row["actor"]
    return Actor(
        who["id"],
        ActorType(who["type"]),
        permissions={NEEDS[row["kind"]]: EVERYTHING},
        address=who["address"],
        request_id=who["request_id"],
    )


def _failed(certificate_id: str, error: CertctlError) -> Outcome:
    return {"certificate_id": certificate_id, "outcome": "failed", "error": error.message}


async def _revoke(part: Part) -> list[Outcome]:
    reason = Reason(part.parameters["reason"])
    done = await revoke.many(part.on, part.tx, part.actor, part.ids, reason=reason)
    outcomes = [{"certificate_id": one, "outcome": "done"} for one in done.versions]
    for one, error in done.errors.items():
        skipped = {"certificate_id": one, "outcome": "skipped"}
        outcomes.append(skipped if one in done.already else _failed(one, error))
    return outcomes


async def _renew(part: Part) -> list[Outcome]:
    wanted = [renew.Wanted(one, f"asked by {part.actor.id}") for one in part.ids]
    begun = await renew.begin(part.on, part.tx, part.actor, wanted=wanted)
    outcomes: list[Outcome] = [
        {"certificate_id": one, "outcome": "done", "job_id": jobs[0]}
        for one, jobs in begun.jobs.items()
    ]
    outcomes += [{"certificate_id": one, "outcome": "skipped"} for one in begun.under_way]
    return outcomes + [_failed(one, error) for one, error in begun.errors.items()]


async def _reassign(part: Part) -> list[Outcome]:
    owner_id, team_id = part.parameters["owner_id"], part.parameters.get("team_id")
    changed = await bulk.reassign(part.tx, part.ids, owner_id=owner_id, team_id=team_id)
    events = [
        audit.Event(
            "certificate_updated",
            ("certificate", row["id"]),
            {
                "before": {"owner_id": row["owner_id"], "team_id": row["team_id"]},
                "after": {"owner_id": owner_id, "team_id": team_id or row["team_id"]},
            },
        )
        for row in changed
    ]
    await audit.record_many(part.tx, part.actor, events)
    done = {row["id"] for row in changed}
    return [
        {"certificate_id": one, "outcome": "done" if one in done else "skipped"} for one in part.ids
    ]


Act = Callable[[Part], Awaitable[list[Outcome]]]
ACTS: Final[Mapping[str, Act]] = {"revoke": _revoke, "renew": _renew, "reassign": _reassign}


async def result(on: Platform, actor: Actor, operation_id: str) -> Row:
    """How far an operation is, in the counters of its kind, and what failed.

    Raises:
        NotFound: also for operations of others, unless the caller sees everything.
    """
    within = actor.scope(Permission.CERT_READ)
    async with on.db.read() as session:
        row = await bulk.get(session, operation_id)
        if row["requested_by"] != actor.id and not within.everything:
            raise NotFound(f"bulk operation {operation_id} does not exist")
        return await _told(session, row)


async def _told(session: Session, row: Row) -> Row:
    kind = row["kind"]
    told = {
        "id": row["id"],
        "kind": kind,
        "state": row["state"],
        "requested_by": row["requested_by"],
        "total_matched": row["total_matched"],
        WORDS[kind]: row["total_done"],
        "total_skipped": row["total_skipped"],
        "total_failed": row["total_failed"],
        "errors": await bulk.failures(session, row["id"], limit=TOLD),
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }
    if kind == "renew":
        told["enqueued_jobs"] = await bulk.enqueued(session, row["id"], limit=TOLD)
    return told


async def resume(on: Platform) -> int:
    """Defer what was begun and has nobody who carries it out; how many operations are open."""
    async with on.db.transaction() as tx:
        found = await bulk.unfinished(tx)
        for operation_id in found:
            await on.queue.defer(
                tx, queue.RUN_BULK, once_per=operation_id, operation_id=operation_id
            )
    return len(found)
