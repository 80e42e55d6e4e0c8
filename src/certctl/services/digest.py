"""The digest: what an operator wants to know each morning, as text and as HTML."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from certctl.domain.access import EVERYTHING, Actor, Permission, Scope, system
from certctl.domain.audit import Category
from certctl.domain.errors import Unavailable
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import digest, notifications
from certctl.store.db import Row

log = logging.getLogger("certctl.notify")
NO_CHANNEL: Final = (
    "no channel is configured: set CERTCTL_WEBHOOK_URL and CERTCTL_WEBHOOK_SECRET, start again"
)
Lines = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Digest:
    subject: str
    text: str
    html: str


async def build(on: Platform, *, within: Scope = EVERYTHING) -> Digest:
    """The digest of this moment, over what the scope holds."""
    async with on.db.read() as session:
        statuses = await digest.by_status(session, within=within)
        expiring = await digest.expiring(session, within=within)
        soonest = await digest.soonest(session, within=within)
        day = await digest.last_day(session, within=within)
    sections = (
        ("Certificates", [("in all", str(sum(statuses.values()))), *_numbers(statuses)]),
        ("Expiring", [(f"within {d} days", str(expiring[f"days_{d}"])) for d in (7, 14, 30)]),
        ("Next to expire", [_line(row) for row in soonest]),
        ("The last 24 hours", [(f"jobs {name}", str(day[name])) for name in ("failed", "renewed")]),
    )
    subject = (
        f"certctl {on.clock():%Y-%m-%d}: {expiring['days_7']} expire within 7 days, "
        f"{day['failed']} jobs failed"
    )
    return Digest(subject, _text(sections), _html(subject, sections))


def _numbers(counts: dict[str, int]) -> Lines:
    return [(name, str(number)) for name, number in counts.items()]


def _line(row: Row) -> tuple[str, str]:
    return (
        f"{row['name']} ({row['common_name']})",
        f"{row['expires_at']:%Y-%m-%d %H:%M} UTC, {row['status']}",
    )


def _text(sections: Sequence[tuple[str, Lines]]) -> str:
    return "\n\n".join(
        "\n".join((title, *(f"  {name}: {value}" for name, value in lines)))
        for title, lines in sections
        if lines
    )


def _html(subject: str, sections: Sequence[tuple[str, Lines]]) -> str:
    """A page that needs no style, script or image."""
    body = "".join(
        f"<h2>{escape(title)}</h2><table>{''.join(_row(*line) for line in lines)}</table>"
        for title, lines in sections
        if lines
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(subject)}'
        f"</title></head><body><h1>{escape(subject)}</h1>{body}</body></html>\n"
    )


def _row(name: str, value: str) -> str:
    return f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"


async def preview(on: Platform, actor: Actor) -> Digest:
    return await build(on, within=actor.scope(Permission.DIGEST_READ))


async def send(on: Platform, actor: Actor) -> list[str]:
    """Queue the digest for every configured channel; their names.

    Raises:
        Unavailable: when no channel is configured.
    """
    made = await build(on, within=actor.scope(Permission.DIGEST_SEND))
    if not on.notifiers:
        raise Unavailable(NO_CHANNEL)
    occasion = f"asked for by {actor.id} at {on.clock().isoformat()}"
    return await _queue(on, actor, made, occasion)


async def send_daily(on: Platform) -> int:
    """Queue the digest of this day, once however many replicas ask; for how many channels."""
    if not on.notifiers:
        log.warning("the digest was not sent: %s", NO_CHANNEL)
        return 0
    occasion = f"digest of {on.clock():%Y-%m-%d}"
    return len(await _queue(on, system("digest"), await build(on), occasion))


async def _queue(on: Platform, actor: Actor, made: Digest, occasion: str) -> list[str]:
    channels = sorted(on.notifiers)
    message = f"{made.subject}\n\n{made.text}"
    async with on.db.transaction() as tx:
        if not await notifications.put_digest(tx, channels, occasion=occasion, message=message):
            return []
        await audit.record(
            tx,
            actor,
            "digest_sent",
            on=("digest", occasion),
            category=Category.CONFIG,
            channels=channels,
        )
    return channels
