"""The audit trail handed out as a stream: constant memory, nothing left out in silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from certctl.domain import exported
from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category, is_unchanged
from certctl.domain.errors import Invalid
from certctl.domain.trail import Seal
from certctl.services import audit, checkpoints
from certctl.services.platform import Platform
from certctl.services.trail import Span, in_order, span_of
from certctl.store.db import Row


@dataclass(frozen=True)
class Wish:
    """Which events, from `since` on and before `until`, and in which form."""

    since: datetime | None = None
    until: datetime | None = None
    category: str | None = None
    limit: int | None = None
    form: Literal["ndjson", "csv"] = "ndjson"

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise Invalid("to must be later than from", field="to")

    def wants(self, row: Row) -> bool:
        return (
            (self.since is None or row["timestamp"] >= self.since)
            and (self.until is None or row["timestamp"] < self.until)
            and self.category in (None, row["event_category"])
        )


async def export(on: Platform, actor: Actor, wish: Wish) -> AsyncIterator[bytes]:
    """The lines of an export, which is itself audited before the first of them."""
    actor.everywhere(Permission.AUDIT_EXPORT)
    key = await checkpoints.ensure_key(on)
    async with on.db.transaction() as tx:
        span = await span_of(tx, wish.since, wish.until)
        await audit.record(
            tx,
            actor,
            "audit_exported",
            on=("audit", "export"),
            category=Category.AUTH,
            since=wish.since,
            until=wish.until,
            event_category=wish.category,
            limit=wish.limit,
            format=wish.form,
        )
        made_at = tx.now
    if wish.form == "csv":
        return _csv(on, span, wish)
    head = exported.line(
        "export",
        version=exported.FORM,
        installation=key["installation"],
        after_seal=span.after.seal,
        since=wish.since and wish.since.astimezone(UTC),
        until=wish.until and wish.until.astimezone(UTC),
        category=wish.category,
        limit=wish.limit,
        made_at=made_at,
    )
    return _ndjson(on, span, wish, head=head)


async def _ndjson(on: Platform, span: Span, wish: Wish, *, head: bytes) -> AsyncIterator[bytes]:
    yield head
    count, cut = 0, False
    lines: list[bytes] = []
    async for each in in_order(on.db, span):
        if isinstance(each, Seal):
            lines.append(exported.seal_line(each))
        # An event that was changed is shown, wherever it pretends to belong.
        elif not wish.wants(each) and is_unchanged(each):
            lines.append(exported.hash_line(each))
        elif count == wish.limit:
            cut = True
            break
        else:
            count += 1
            lines.append(exported.event_line(each))
        if len(lines) >= 200:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines) + exported.line("end", complete=not cut, events=count)


async def _csv(on: Platform, span: Span, wish: Wish) -> AsyncIterator[bytes]:
    yield exported.csv_header()
    count, words = 0, "complete"
    async for each in in_order(on.db, span):
        if isinstance(each, Seal) or not wish.wants(each):
            continue
        if count == wish.limit:
            words = "cut at the limit, there is more"
            break
        count += 1
        yield exported.csv_line(each)
    yield exported.csv_end(f"{words}, {count} events")
