"""The audit trail: recorded in the change's own transaction, sealed in batches afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certctl.domain import audit
from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.ids import new_id
from certctl.domain.listing import PageRequest
from certctl.services.platform import Platform
from certctl.store import audit as events
from certctl.store.db import Row, Tx

BATCH = 5000


async def record(
    tx: Tx,
    actor: Actor,
    action: str,
    *,
    on: tuple[str, str],
    category: Category = Category.CERT_LIFECYCLE,
    **details: Any,
) -> None:
    """Write who did what to `on` (type, id). `details` must hold no secrets."""
    await record_many(tx, actor, [Event(action, on, details)], category=category)


@dataclass(frozen=True)
class Event:
    """One of many changes of a transaction, for `record_many`."""

    action: str
    on: tuple[str, str]
    details: Mapping[str, Any]


async def record_many(
    tx: Tx, actor: Actor, many: Sequence[Event], *, category: Category = Category.CERT_LIFECYCLE
) -> None:
    """As `record`, for many resources in one go."""
    rows = [_row(tx, actor, each, category=category) for each in many]
    await events.insert_many(tx, rows)


def _row(tx: Tx, actor: Actor, event: Event, *, category: Category) -> Row:
    row = {
        "id": new_id("audit", tx.now),
        "actor": actor.id,
        "actor_type": str(actor.type),
        "action": event.action,
        "resource_type": event.on[0],
        "resource_id": event.on[1],
        "details": {key: _plain(value) for key, value in event.details.items()},
        "event_category": str(category),
        "address": actor.address,
        "request_id": actor.request_id,
        "timestamp": tx.now,
    }
    return {**row, "content_hash": audit.content_hash(row)}


def _plain(value: Any) -> Any:
    """A form that JSON keeps as it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


async def page(
    on: Platform, actor: Actor, request: PageRequest, *, filters: dict[str, Any]
) -> dict[str, Any]:
    actor.everywhere(Permission.AUDIT_READ)
    async with on.db.read() as session:
        return await events.page(session, request, filters=filters)


async def get(on: Platform, actor: Actor, event_id: str) -> Row:
    actor.everywhere(Permission.AUDIT_READ)
    async with on.db.read() as session:
        return await events.get(session, event_id)


@dataclass
class Sealer:
    """Chains committed rows into seals.

    A row is sealed only when every transaction that could still commit a smaller sequence number
    has ended: the numbers seen at one tick are sealed at a later one, once all transactions that
    ran at the first have finished.
    """

    platform: Platform
    _newest: int = 0
    _ended_when: int = 0

    async def tick(self) -> int:
        """Seal what is ready; the number of rows sealed."""
        async with self.platform.db.transaction() as tx:
            newest, above, oldest = await events.horizon(tx)
            ready = self._newest if oldest >= self._ended_when else 0
            if ready or not self._newest:
                self._newest, self._ended_when = newest, above
            if not ready or not await events.lock_seals(tx):
                return 0
            return await self._seal_up_to(tx, ready)

    async def _seal_up_to(self, tx: Tx, ready: int) -> int:
        last, sealed = await events.last_seal(tx), 0
        while rows := await events.unsealed(
            tx, last["last_sequence"] if last else 0, up_to=ready, limit=BATCH
        ):
            last = _next_seal(last, rows)
            await events.insert_seal(tx, last)
            sealed += len(rows)
        return sealed


def _next_seal(last: Row | None, rows: list[Row]) -> Row:
    previous = last["seal"] if last else ""
    return {
        "number": last["number"] + 1 if last else 1,
        "first_sequence": rows[0]["sequence"],
        "last_sequence": rows[-1]["sequence"],
        "row_count": len(rows),
        "previous": previous,
        "seal": audit.seal(previous, [(r["sequence"], r["content_hash"]) for r in rows]),
    }
