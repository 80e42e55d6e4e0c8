"""Lint findings that do not block a profile for a time: one person asks, another approves.

Before the approval, after the end and once withdrawn a waiver has no effect. It is for leaves:
findings in CAs, CRLs and OCSP responses always block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound
from certctl.domain.ids import new_id
from certctl.domain.listing import PageRequest
from certctl.pki import lint
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import lint_waivers, rows
from certctl.store.db import Row, Tx

LONGEST: Final = timedelta(days=365)


@dataclass(frozen=True)
class Wish:
    """What is asked for: that findings of this code do not block this profile until then."""

    profile_id: str
    code: str
    reason: str
    ends_at: datetime


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, filters: Mapping[str, Any]
) -> dict[str, Any]:
    within = actor.scope(Permission.PROFILE_READ)
    async with on.db.read() as session:
        return await lint_waivers.page(session, request, within=within, filters=filters)


async def get(on: Platform, actor: Actor, waiver_id: str) -> Row:
    within = actor.scope(Permission.PROFILE_READ)
    async with on.db.read() as session:
        return await lint_waivers.get(session, waiver_id, within=within)


async def ask(on: Platform, actor: Actor, wish: Wish) -> Row:
    """A waiver that waits for a second person.

    Raises:
        Invalid: naming the field; for a code that is never passed over, with the reason.
        Conflict: when the same is asked already.
    """
    within = actor.scope(Permission.PROFILE_EDIT)
    if why := lint.why_never(wish.code):
        raise Invalid(f"code: {wish.code} is never passed over: {why}", field="code")
    async with on.db.transaction() as tx:
        if not tx.now < wish.ends_at <= tx.now + LONGEST:
            raise Invalid("ends_at: in the future, and within a year", field="ends_at")
        try:
            await rows.lock(tx, rows.PROFILES, wish.profile_id, within=within)
        except NotFound as error:
            raise Invalid(f"profile_id: {error.message}", field="profile_id") from None
        if await lint_waivers.pending(tx, wish.profile_id, wish.code):
            raise Conflict(f"{wish.code} is asked for already and waits", field="code")
        waiver_id = new_id("lw", tx.now)
        row = {"id": waiver_id, **vars(wish), "requested_by": actor.id}
        await lint_waivers.insert(tx, row)
        made = await lint_waivers.get(tx, waiver_id, within=within)
        await _record(tx, actor, "asked", made)
        return made


async def approve(on: Platform, actor: Actor, waiver_id: str, *, note: str | None) -> Row:
    """Let findings of the code pass from now on.

    Raises:
        NotAllowed: for whoever asked. Conflict: when it is decided, withdrawn or over.
    """
    within = actor.scope(Permission.APPROVAL_APPROVE)
    async with on.db.transaction() as tx:
        found = await lint_waivers.lock(tx, waiver_id, within=within)
        _check_pending(found)
        if actor.id == found["requested_by"]:
            words = "whoever asked for it cannot approve it: a second person is needed"
            raise NotAllowed(words)
        if found["ends_at"] <= tx.now:
            raise Conflict(f"lint waiver {waiver_id} is over already: ask anew", field="ends_at")
        await lint_waivers.decide(tx, waiver_id, state="approved", by=actor.id, note=note)
        await _record(tx, actor, "approved", found, note=note)
        return await lint_waivers.get(tx, waiver_id, within=within)


async def reject(on: Platform, actor: Actor, waiver_id: str, *, note: str | None) -> Row:
    """Raises Conflict when it is decided or withdrawn already."""
    within = actor.scope(Permission.APPROVAL_REJECT)
    async with on.db.transaction() as tx:
        found = await lint_waivers.lock(tx, waiver_id, within=within)
        _check_pending(found)
        await lint_waivers.decide(tx, waiver_id, state="rejected", by=actor.id, note=note)
        await _record(tx, actor, "rejected", found, note=note)
        return await lint_waivers.get(tx, waiver_id, within=within)


async def withdraw(on: Platform, actor: Actor, waiver_id: str, *, note: str | None) -> Row:
    """End it at once, approved or not: findings of the code block again.

    Raises:
        Conflict: for one that was rejected or is withdrawn.
    """
    within = actor.scope(Permission.PROFILE_EDIT)
    async with on.db.transaction() as tx:
        found = await lint_waivers.lock(tx, waiver_id, within=within)
        if found["state"] not in {"pending", "approved"}:
            raise _settled(found)
        await lint_waivers.withdraw(tx, waiver_id, by=actor.id)
        await _record(tx, actor, "withdrawn", found, note=note)
        return await lint_waivers.get(tx, waiver_id, within=within)


def _check_pending(found: Row) -> None:
    if found["state"] != "pending":
        raise _settled(found)


def _settled(found: Row) -> Conflict:
    return Conflict(f"lint waiver {found['id']} is {found['state']} already", field="state")


async def _record(tx: Tx, actor: Actor, verb: str, row: Row, **details: Any) -> None:
    told = {name: row[name] for name in ("profile_id", "code", "reason", "ends_at", "requested_by")}
    await audit.record(
        tx,
        actor,
        f"lint_waiver_{verb}",
        on=("lint_waiver", row["id"]),
        category=Category.CONFIG,
        **told,
        **details,
    )
