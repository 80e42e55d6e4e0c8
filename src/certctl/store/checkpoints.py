"""Signed checkpoints of the audit trail and the keys that sign them; both tables only grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

SHOWN = "id, number, seal_number, key_id, payload, signature, created_at"


async def page(session: Session, request: PageRequest) -> dict[str, Any]:
    """Newest first."""
    order = Order("number", "bigint", descending=True)
    return await fetch(session, Listing(SHOWN, "audit_checkpoints", (), {}, order), request)


async def latest(session: Session) -> Row | None:
    return await session.one(f"SELECT {SHOWN} FROM audit_checkpoints ORDER BY number DESC LIMIT 1")


async def newest(session: Session, limit: int) -> list[Row]:
    return await session.all(
        f"SELECT {SHOWN} FROM audit_checkpoints ORDER BY number DESC LIMIT %(limit)s",
        limit=limit,
    )


async def beside_seals(session: Session, after: int, *, up_to: int | None, limit: int) -> list[Row]:
    """Checkpoints of the seals above `after`, with the seal of that number as it stands now and
    the public key; nulls where there is none."""
    return await session.all(
        """SELECT c.seal_number AS attested, c.payload, c.signature, k.public_key, s.*
           FROM audit_checkpoints c
           LEFT JOIN audit_checkpoint_keys k ON k.id = c.key_id
           LEFT JOIN audit_seals s ON s.number = c.seal_number
           WHERE c.seal_number > %(after)s
             AND (%(up_to)s::bigint IS NULL OR c.seal_number <= %(up_to)s)
           ORDER BY c.seal_number LIMIT %(limit)s""",
        after=after,
        up_to=up_to,
        limit=limit,
    )


async def newest_seal(session: Session, *, above: int) -> Row | None:
    """The newest seal, with the number of events sealed in those above `above`."""
    return await session.one(
        """SELECT s.*, (SELECT sum(row_count)::bigint FROM audit_seals WHERE number > %(above)s)
               AS added
           FROM audit_seals s ORDER BY number DESC LIMIT 1""",
        above=above,
    )


async def insert(tx: Tx, checkpoint: Mapping[str, Any]) -> bool:
    """Whether it was new: of replicas that attest the same seal, one does."""
    return bool(
        await tx.run(
            """INSERT INTO audit_checkpoints
                   (id, number, seal_number, key_id, payload, signature, created_at)
               VALUES (%(id)s, %(number)s, %(seal_number)s, %(key_id)s, %(payload)s,
                       %(signature)s, %(created_at)s)
               ON CONFLICT DO NOTHING""",
            **checkpoint,
        )
    )


async def key(session: Session) -> Row | None:
    """The key that signs now."""
    return await session.one(
        "SELECT * FROM audit_checkpoint_keys ORDER BY created_at DESC, id DESC LIMIT 1"
    )


async def lock_keys(tx: Tx) -> None:
    """Replicas that start together make one key."""
    await tx.run("SELECT pg_advisory_xact_lock(hashtext('audit_checkpoint_keys'))")


async def insert_key(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.insert("audit_checkpoint_keys", [row])
