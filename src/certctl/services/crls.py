"""CRLs of our own CAs: complete, and in shards where a profile asks for them (RFC 5280 §5)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from certctl.connectors.issuers.local import Authority
from certctl.domain.errors import NotFound, Unavailable
from certctl.domain.revocation import CODES, Reason
from certctl.pki import crl, lint, x509
from certctl.pki.serials import serial_number
from certctl.services import authority
from certctl.services.platform import Platform
from certctl.store import authorities, crls, queue
from certctl.store.db import Row, Tx
from certctl.store.signals import wake
from certctl.store.status_feed import CHANGED

log = logging.getLogger("certctl.status")
AT_A_TIME: Final = 5000
MANY: Final = 100
MOST: Final = 64 << 20
GATHERED: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Crl:
    """A list as it is sent, and its times."""

    number: int
    der: bytes
    this_update: datetime
    next_update: datetime

    @cached_property
    def sha256(self) -> str:
        """In hex; of a long list it takes a while, and is kept."""
        return sha256(self.der).hexdigest()


def entry_of(serial: str, revoked_at: datetime, reason: Reason) -> bytes:
    """How a revocation stands in a CRL, DER; `serial` in hex."""
    return crl.entry_der(crl.RevokedEntry(serial_number(serial), revoked_at, CODES[reason]))


async def record(on: Platform, tx: Tx, revocations: Sequence[dict[str, Any]]) -> None:
    """Write revocations down, have the lists built that lack them, and wake every plane."""
    lists = await crls.revoke(tx, revocations)
    await wake(tx, CHANGED)
    await crls.mark_stale(tx, lists)
    # What is one of many waits for the others; a single one that comes meanwhile does not.
    many = len(revocations) > MANY
    for authority_id in sorted({each[0] for each in lists}):
        await on.queue.defer(
            tx,
            queue.REFRESH_CRL,
            once_per=f"{authority_id}:many" if many else authority_id,
            at=tx.now + GATHERED if many else None,
            authority_id=authority_id,
        )


async def present(on: Platform, issuer_or_ca: str, shard: int = 0) -> Crl:
    """The newest list of a CA. Raises as `numbered`."""
    authority_id, _ = await numbered(on, issuer_or_ca, shard)
    found = await kept_in(on, authority_id, shard)
    assert found is not None
    return found


async def numbered(on: Platform, issuer_or_ca: str, shard: int = 0) -> tuple[str, int]:
    """The CA, and the number of its newest list: of another one where it is due for one, or the
    last is about to end. While the CA's key is away the last one serves to its end.

    Raises:
        NotFound: when no CA of ours has that id, or no certificate names that shard.
        Unavailable: when the key is away and the last list is over.
    """
    async with on.db.read() as session:
        row = await authorities.resolve(session, issuer_or_ca)
        if row is None or row["cert_der"] is None:
            raise NotFound(f"{issuer_or_ca} is neither an issuer nor a CA of this server")
        kept = await crls.newest(session, row["id"], shard)
    if kept is None and shard:
        raise NotFound(f"the CRL of {issuer_or_ca} has no shard {shard}")
    is_there = kept is not None and kept["is_there"]
    try:
        if kept is None or not is_there or _ends(on, kept):
            return row["id"], (await refresh(on, row["id"], shard)).number
        made = await refresh_due(on, row["id"], shard) if kept["is_due"] else None
    except Unavailable as error:
        if kept is None or not is_there or kept["next_update"] <= on.clock():
            raise
        log.warning("CA %s: its CRL is not renewed: %s", row["id"], error.message)
        made = None
    return row["id"], kept["number"] if made is None else made.number


class Lists:
    """The newest lists as they are asked for, each once in memory however many fetch it at a time;
    of what was asked for last, as much as `MOST` octets hold."""

    def __init__(self, on: Platform) -> None:
        self._on = on
        self._kept: OrderedDict[tuple[str, int], Crl] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def present(self, issuer_or_ca: str, shard: int = 0) -> Crl:
        """As `crls.present`."""
        authority_id, number = await numbered(self._on, issuer_or_ca, shard)
        key = (authority_id, shard)
        async with self._one_at_a_time:
            kept = self._kept.pop(key, None)
            if kept is None or kept.number < number:
                kept = await kept_in(self._on, authority_id, shard)
                assert kept is not None
                await asyncio.to_thread(lambda: kept.sha256)
            self._kept[key] = kept
            while len(self._kept) > 1 and sum(len(e.der) for e in self._kept.values()) > MOST:
                self._kept.popitem(last=False)
        return kept


async def kept_in(on: Platform, authority_id: str, shard: int) -> Crl | None:
    """The newest list that has been made, whatever its age."""
    async with on.db.read() as session:
        row = await crls.whole(session, authority_id, shard)
    return None if row is None else Crl(**row)


def _ends(on: Platform, kept: Row) -> bool:
    return bool(kept["next_update"] - on.clock() < on.terms.crl_validity / 4)


async def refresh(on: Platform, authority_id: str, shard: int = 0) -> Crl:
    """Build, sign and store the next list."""
    made = await _refreshed(on, authority_id, shard, only_if_due=False)
    assert made is not None
    return made


async def refresh_due(on: Platform, authority_id: str, shard: int) -> Crl | None:
    """As `refresh`, unless it needs no other list, has to rest, or somebody is building it."""
    return await _refreshed(on, authority_id, shard, only_if_due=True)


async def refresh_stale(on: Platform, authority_id: str) -> int:
    """Build every list of a CA that lacks a revocation; one that has to rest is put off. How many
    were built."""
    async with on.db.read() as session:
        lists = await crls.stale(session, authority_id)
    built = 0
    for each in lists:
        if await refresh_due(on, authority_id, each["shard"]) is not None:
            built += 1
        elif each["due_at"] is not None:
            async with on.db.transaction() as tx:
                await on.queue.defer(
                    tx, queue.REFRESH_CRL, once_per=f"{authority_id}:rested", at=each["due_at"],
                    authority_id=authority_id,
                )  # fmt: skip
    return built


async def _refreshed(
    on: Platform, authority_id: str, shard: int, *, only_if_due: bool
) -> Crl | None:
    began = time.monotonic()
    async with on.db.transaction() as tx:
        ca = await authority.open_authority(on, tx, await authorities.get(tx, authority_id))
        reserved = await crls.reserve(tx, authority_id, shard, only_if_due=only_if_due)
    if reserved is None:
        return None
    await _write_entries(on, authority_id)
    this_update = on.clock().replace(microsecond=0)
    # An entry appears on one CRL beyond its certificate's expiry (RFC 5280 §3.3).
    since = reserved["this_update"] or this_update
    async with on.db.read() as session:
        count, entries = await crls.entries(session, authority_id, shard, since)
    next_update = this_update + on.terms.crl_validity
    linted = await asyncio.to_thread(
        _drafted,
        ca,
        entries,
        number=reserved["number"],
        this_update=this_update,
        next_update=next_update,
        shard_urls=reserved["urls"] if shard else (),
    )
    der = await ca.run(x509.sign, linted, ca.signer)
    made = Crl(reserved["number"], der, this_update, next_update)
    async with on.db.transaction() as tx:
        await crls.put(
            tx, authority_id, shard, covers=reserved["changes"], entries=count,
            build_seconds=time.monotonic() - began, number=made.number, der=made.der,
            this_update=made.this_update, next_update=made.next_update,
        )  # fmt: skip
        await wake(tx, CHANGED)
    return made


async def _write_entries(on: Platform, authority_id: str) -> None:
    """Those that an earlier certctl left without, and that were restored without."""
    while True:
        async with on.db.transaction() as tx:
            rows = await crls.unwritten(tx, authority_id, limit=AT_A_TIME)
            if not rows:
                return
            ders = [
                entry_of(row["serial_number"], row["revoked_at"], Reason(row["reason"]))
                for row in rows
            ]
            await crls.write_entries(tx, [row["id"] for row in rows], ders)


def _drafted(
    ca: Authority,
    entries: list[bytes],
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    shard_urls: Sequence[str],
) -> lint.Linted:
    if ca.cert_der is None:
        raise Unavailable(f"CA {ca.id} has no certificate yet")
    tbs = crl.draft_crl(
        ca.cert_der,
        number=number,
        this_update=this_update,
        next_update=next_update,
        entries=entries,
        issuer_public_key=ca.signer.public_key,
        shard_urls=shard_urls,
    )
    entries.clear()  # a long list is held no more often than needed
    return lint.check_crl(tbs, ca.signer.public_key, shape=ca.id)


async def worn(on: Platform) -> list[tuple[str, int]]:
    """The lists, by CA and shard, that are to be built: missing, due, or near their end."""
    async with on.db.read() as session:
        return await crls.to_refresh(session, on.clock() + on.terms.crl_validity / 4)
