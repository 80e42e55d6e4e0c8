"""Public keys that are not certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb

from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN: Final = "id, spki_sha256, reason, compromised, blocked_by, created_at"


async def page(
    session: Session, request: PageRequest, *, spki_sha256: str | None
) -> dict[str, Any]:
    """Newest first; all of them, or the one with this hash."""
    where = ("spki_sha256 = %(spki)s",) if spki_sha256 else ()
    order = Order("created_at", descending=True)
    return await fetch(
        session, Listing(SHOWN, "blocked_keys", where, {"spki": spki_sha256}, order), request
    )


async def get(session: Session, key_id: str) -> Row:
    return await session.only(
        f"blocked key {key_id}", f"SELECT {SHOWN} FROM blocked_keys WHERE id = %(id)s", id=key_id
    )


async def lock(tx: Tx, key_id: str) -> Row:
    return await tx.only(
        f"blocked key {key_id}",
        f"SELECT {SHOWN} FROM blocked_keys WHERE id = %(id)s FOR UPDATE",
        id=key_id,
    )


async def find(session: Session, spki_sha256s: Sequence[str]) -> list[Row]:
    """Those of these keys that are blocked."""
    return await session.all(
        f"SELECT {SHOWN} FROM blocked_keys WHERE spki_sha256 = ANY(%(spkis)s)",
        spkis=list(spki_sha256s),
    )


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    """Raises Conflict for a key that is blocked already."""
    await tx.insert("blocked_keys", [row])


async def compromised(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keys that somebody else has; one that an operator had named before is one of them now."""
    # In one order, so that two revocations never wait for each other.
    await tx.run(
        """INSERT INTO blocked_keys (id, spki_sha256, reason, compromised, blocked_by)
           SELECT id, spki_sha256, reason, true, blocked_by
           FROM jsonb_to_recordset(%(rows)s)
               AS r(id text, spki_sha256 text, reason text, blocked_by text)
           ORDER BY spki_sha256
           ON CONFLICT ON CONSTRAINT blocked_keys_spki_sha256_key
               DO UPDATE SET compromised = true, reason = excluded.reason
               WHERE NOT blocked_keys.compromised""",
        rows=Jsonb([dict(each) for each in rows]),
    )


async def delete(tx: Tx, key_id: str) -> None:
    await tx.run("DELETE FROM blocked_keys WHERE id = %(id)s", id=key_id)
