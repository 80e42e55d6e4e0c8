"""What our CAs are about to sign, written down first: whoever is interrupted goes on from there."""

from __future__ import annotations

from collections.abc import Mapping

from certctl.connectors.issuer import Draft, Order, Prepares, Purpose
from certctl.domain.errors import CertctlError, Conflict
from certctl.services.platform import Platform
from certctl.store import crls, issuing
from certctl.store.db import Tx

Outcome = Draft | CertctlError


async def intended(
    on: Platform, ca: Prepares, authority_id: str, *, order: Order, job_id: str
) -> Draft:
    """As `intentions`, for one, whose error is raised."""
    outcome = (await intentions(on, ca, authority_id, orders={job_id: order}))[job_id]
    if isinstance(outcome, CertctlError):
        raise outcome
    return outcome


async def intentions(
    on: Platform, ca: Prepares, authority_id: str, *, orders: Mapping[str, Order]
) -> dict[str, Outcome]:
    """The drafts that interrupted runs for these jobs left, or new ones, committed; or why there is
    none. All orders are for one purpose.

    Closed is what was drafted for another CA, which has been replaced since; and what may have been
    signed with a key that signs differently each time: no serial is ever on two certificates.
    """
    async with on.db.read() as session:
        left = await issuing.open_intents(session, list(orders))
    replaced = [row for row in left.values() if row["authority_id"] != authority_id]
    fitting = [row for row in left.values() if row["authority_id"] == authority_id]
    kept: dict[str, Outcome] = {}
    if ca.repeats:
        kept = {
            row["job_id"]: Draft(
                row["serial_number"],
                bytes(row["tbs_der"]),
                row["not_after"],
                waived=orders[row["job_id"]].waived,
            )
            for row in fitting
        }
    wanted = [job_id for job_id in orders if job_id not in kept]
    drafted = dict(zip(wanted, await ca.prepare_many([orders[j] for j in wanted]), strict=True))
    async with on.db.transaction() as tx:
        await issuing.close_intents(tx, replaced, note="CA replaced")
        if not ca.repeats:
            note = "signed perhaps, and not to be signed again"
            await issuing.close_intents(tx, fitting, note=note)
        if drafted:
            purpose = orders[wanted[0]].purpose
            drafted = await _recorded(tx, authority_id, drafted, purpose=purpose)
    return kept | drafted


async def _recorded(
    tx: Tx, authority_id: str, drafted: Mapping[str, Outcome], *, purpose: Purpose
) -> dict[str, Outcome]:
    drafts = {job_id: each for job_id, each in drafted.items() if isinstance(each, Draft)}
    written = await record(tx, authority_id, drafts, purpose=purpose)
    overtaken: dict[str, Outcome] = {
        job_id: Conflict(f"{job_id} went on without this run")
        for job_id, draft in drafts.items()
        if draft.serial not in written
    }
    return {**drafted, **overtaken}


async def record(
    tx: Tx, authority_id: str, drafts: Mapping[str, Draft], *, purpose: Purpose
) -> set[str]:
    """Write down what is about to be signed; `drafts` by the job, or what else wants one. The
    serials that may be signed."""
    rows = [
        {
            "authority_id": authority_id,
            "serial_number": draft.serial,
            "purpose": purpose,
            "job_id": job_id,
            "tbs_der": draft.tbs_der,
            "not_after": draft.not_after,
            "crl_shard": draft.crl_shard,
        }
        for job_id, draft in drafts.items()
    ]
    shards = {draft.crl_shard: draft.crl_url for draft in drafts.values() if draft.crl_shard}
    for shard in sorted(shards):
        await crls.open_shard(tx, authority_id, shard, url=shards[shard])
    return await issuing.insert_intents(tx, rows)
