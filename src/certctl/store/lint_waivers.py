"""Lint codes that do not block the issuance of a profile, for a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = (
    "id, profile_id, code, reason, ends_at, requested_by, state, decided_by, decided_at, "
    "decision_note, withdrawn_by, withdrawn_at, created_at, updated_at, "
    "state = 'approved' AND ends_at > now() AS in_force"
)
WITHIN: Final = "(%(scope_all)s OR profile_id = ANY(%(scope_profiles)s))"
FILTERS: Final = {
    "state": "state = %(state)s",
    "profile_id": "profile_id = %(profile_id)s",
    "code": "code = %(code)s",
}


async def page(
    session: Session, request: PageRequest, *, within: Scope, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """Newest first."""
    where = (WITHIN, *(FILTERS[name] for name in filters))
    order = Order("created_at", descending=True)
    listing = Listing(SHOWN, "lint_waivers", where, {**within.sql, **filters}, order)
    return await fetch(session, listing, request)


async def get(session: Session, waiver_id: str, *, within: Scope) -> Row:
    return await session.only(
        f"lint waiver {waiver_id}",
        f"SELECT {SHOWN} FROM lint_waivers WHERE id = %(id)s AND {WITHIN}",
        id=waiver_id,
        **within.sql,
    )


async def lock(tx: Tx, waiver_id: str, *, within: Scope) -> Row:
    """As `get`, and nobody else changes it until the transaction ends."""
    return await tx.only(
        f"lint waiver {waiver_id}",
        f"SELECT {SHOWN} FROM lint_waivers WHERE id = %(id)s AND {WITHIN} FOR UPDATE",
        id=waiver_id,
        **within.sql,
    )


async def pending(session: Session, profile_id: str, code: str) -> bool:
    """Whether one waits for a decision already."""
    return bool(
        await session.value(
            """SELECT EXISTS (SELECT FROM lint_waivers WHERE profile_id = %(profile)s
                   AND code = %(code)s AND state = 'pending')""",
            profile=profile_id,
            code=code,
        )
    )


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.insert("lint_waivers", [row])


async def decide(tx: Tx, waiver_id: str, *, state: str, by: str, note: str | None) -> None:
    await tx.run(
        """UPDATE lint_waivers SET state = %(state)s, decided_by = %(by)s, decided_at = now(),
               decision_note = %(note)s, updated_at = now() WHERE id = %(id)s""",
        id=waiver_id,
        state=state,
        by=by,
        note=note,
    )


async def withdraw(tx: Tx, waiver_id: str, *, by: str) -> None:
    await tx.run(
        """UPDATE lint_waivers SET state = 'withdrawn', withdrawn_by = %(by)s,
               withdrawn_at = now(), updated_at = now() WHERE id = %(id)s""",
        id=waiver_id,
        by=by,
    )


async def in_force(session: Session, profile_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """For these profiles the codes that do not block now, each with the waiver that says so."""
    rows = await session.all(
        """SELECT profile_id, code, id FROM lint_waivers WHERE profile_id = ANY(%(profiles)s)
             AND state = 'approved' AND ends_at > now() ORDER BY ends_at, id""",
        profiles=list(profile_ids),
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["profile_id"], {})[row["code"]] = row["id"]
    return found
