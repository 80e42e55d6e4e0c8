"""Revocation status for relying parties: OCSP answers and CRLs of our own CAs."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from certctl.connectors.issuers.local import Authority
from certctl.domain.errors import CertctlError, NotFound, Unavailable
from certctl.domain.revocation import CODES, Reason
from certctl.pki import crl, lint, ocsp, x509
from certctl.pki.serials import serial_number, serial_text
from certctl.services import authority, counters
from certctl.services.authority import Held
from certctl.services.platform import Platform
from certctl.store import authorities
from certctl.store.db import Row
from certctl.store.signals import wake
from certctl.store.status_feed import CHANGED

log = logging.getLogger("certctl.status")
MOST_KEPT: Final = 20_000
LOOK_AGAIN: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Answer:
    """A DER response and, where it may be cached, its times; `number` is a CRL's."""

    der: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None
    number: int = 0


@dataclass
class _Known:
    """A CA that we answer for, with its responder; looked up again after a while."""

    authority_id: str
    cert_der: bytes
    responder: Held
    until: datetime


@dataclass
class Responder:
    """Answers OCSP requests. What a serial's status is, the database says for each request; an
    answer that was signed for the same status is given again while it is fresh."""

    platform: Platform
    _known: dict[str, _Known] = field(default_factory=dict)
    _kept: OrderedDict[tuple[str, bytes, str], Answer] = field(default_factory=OrderedDict)

    async def answer(self, issuer_or_ca: str, request_der: bytes) -> Answer:
        """The response to a DER request (RFC 6960).

        Raises:
            NotFound: when no CA of ours has that id. MalformedRequest: for bytes that are no
            request.
        """
        try:
            request = ocsp.read(request_der)
        except ocsp.MalformedRequest:
            counters.OCSP.labels("malformed").inc()
            raise
        known = await self._ca(issuer_or_ca)
        if not all(ocsp.matches(each, known.cert_der) for each in request.cert_ids):
            counters.OCSP.labels("unauthorized").inc()
            return Answer(ocsp.error_response("unauthorized"))
        return await self._signed(known, request.cert_ids, nonce=request.nonce)

    async def answer_serial(self, issuer_or_ca: str, serial: str) -> Answer:
        """The response for a serial in hex. Raises NotFound, or Invalid for other text."""
        known = await self._ca(issuer_or_ca)
        cert_id = ocsp.cert_id(known.cert_der, serial_number(serial))
        return await self._signed(known, (cert_id,), nonce=None)

    async def _ca(self, issuer_or_ca: str) -> _Known:
        now = self.platform.clock()
        known = self._known.get(issuer_or_ca)
        if known is None or known.until <= now:
            known = await self._look_up(issuer_or_ca, now)
            if len(self._known) > 1000:
                self._known.clear()
            self._known[issuer_or_ca] = known
        return known

    async def _look_up(self, issuer_or_ca: str, now: datetime) -> _Known:
        async with self.platform.db.read() as session:
            row = await authorities.resolve(session, issuer_or_ca)
        if row is None or row["cert_der"] is None:
            raise NotFound(f"{issuer_or_ca} is neither an issuer nor a CA of this server")
        # Renewing in good time is the timetable's work: who asks here is not to wait for a key.
        terms = self.platform.terms
        grace = min(terms.ocsp_validity, terms.responder_grace)
        held = await authority.service_certificate(
            self.platform, row["id"], "ocsp_responder", grace=grace
        )
        return _Known(row["id"], bytes(row["cert_der"]), held, now + LOOK_AGAIN)

    async def _signed(
        self, known: _Known, cert_ids: Sequence[ocsp.CertId], *, nonce: bytes | None
    ) -> Answer:
        serials = [serial_text(each.serial) for each in cert_ids]
        async with self.platform.db.read() as session:
            states = await authorities.serial_states(session, known.authority_id, serials)
        # Only what was issued is kept, so that strangers cannot fill the memory.
        may_keep = nonce is None and len(serials) == 1 and len(states) == 1
        key = (known.responder.facts.serial, cert_ids[0].raw, str(states))
        if may_keep and (kept := self._fresh(key)):
            counters.OCSP.labels("kept").inc()
            return kept
        answer = self._build(known, cert_ids, [states.get(serial) for serial in serials], nonce)
        if may_keep:
            self._kept[key] = answer
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return answer

    def _fresh(self, key: tuple[str, bytes, str]) -> Answer | None:
        """A signed answer for this very state, if more than half of its life is left."""
        kept = self._kept.get(key)
        if kept is None or kept.next_update is None:
            return None
        left = kept.next_update - self.platform.clock()
        return kept if left > self.platform.terms.ocsp_validity / 2 else None

    def _build(
        self,
        known: _Known,
        cert_ids: Sequence[ocsp.CertId],
        states: Sequence[Row | None],
        nonce: bytes | None,
    ) -> Answer:
        this_update = self.platform.clock().replace(microsecond=0)
        next_update = this_update + self.platform.terms.ocsp_validity
        singles = [
            _single(each, state, this_update, next_update=next_update)
            for each, state in zip(cert_ids, states, strict=True)
        ]
        der = ocsp.build(
            singles,
            responder_der=known.responder.cert_der,
            signer=known.responder.signer,
            produced_at=this_update,
            nonce=nonce,
            shape=(known.authority_id, tuple(single.status for single in singles)),
        )
        for single in singles:
            counters.OCSP.labels(single.status).inc()
        return Answer(der, this_update, next_update if nonce is None else None)


def _single(
    cert_id: ocsp.CertId, row: Row | None, this_update: datetime, *, next_update: datetime
) -> ocsp.SingleStatus:
    revoked = row is not None and row["revoked_at"] is not None
    return ocsp.SingleStatus(
        cert_id,
        "unknown" if row is None else "revoked" if revoked else "good",
        row["revoked_at"] if row is not None and revoked else None,
        CODES[Reason(row["reason"])] if row is not None and revoked else None,
        this_update,
        next_update,
    )


async def responder(on: Platform, authority_id: str) -> Held:
    """The delegated responder of a CA, replaced in good time before its end."""
    return await authority.service_certificate(
        on, authority_id, "ocsp_responder", grace=on.terms.responder_grace
    )


async def crl_of(on: Platform, issuer_or_ca: str) -> Answer:
    """The present CRL of a CA; a new one when the last is stale or about to end. While the CA's key
    is away the last one serves to its end.

    Raises:
        NotFound: when no CA of ours has that id.
        Unavailable: when the key is away and the last CRL is over.
    """
    async with on.db.read() as session:
        row = await authorities.resolve(session, issuer_or_ca)
        if row is None or row["cert_der"] is None:
            raise NotFound(f"{issuer_or_ca} is neither an issuer nor a CA of this server")
        kept = await authorities.crl(session, row["id"])
    if kept is None or _is_worn(on, kept):
        try:
            kept = await refresh_crl(on, row["id"])
        except Unavailable as error:
            if kept is None or kept["next_update"] <= on.clock():
                raise
            log.warning("CA %s: its CRL is not renewed: %s", row["id"], error.message)
    return Answer(bytes(kept["der"]), kept["this_update"], kept["next_update"], int(kept["number"]))


def _is_worn(on: Platform, kept: Row) -> bool:
    return bool(kept["stale"]) or kept["next_update"] - on.clock() < on.terms.crl_validity / 4


async def refresh_crl(on: Platform, authority_id: str) -> Row:
    """Build, sign and store the next CRL of a CA: number, DER and times."""
    async with on.db.transaction() as tx:
        ca = await authority.open_authority(on, tx, await authorities.get(tx, authority_id))
        reserved = await authorities.reserve_crl(tx, authority_id)
        this_update = on.clock().replace(microsecond=0)
        # An entry appears on one CRL beyond its certificate's expiry (RFC 5280 §3.3).
        since = reserved["this_update"] or this_update
        entries = await authorities.revoked_entries(tx, authority_id, since)
    made: Row = {
        "number": reserved["number"],
        "this_update": this_update,
        "next_update": this_update + on.terms.crl_validity,
    }
    linted = await asyncio.to_thread(_draft_crl, ca, entries, made)
    made["der"] = await ca.run(x509.sign, linted, ca.signer)
    async with on.db.transaction() as tx:
        await authorities.put_crl(tx, authority_id, covers=reserved["changes"], **made)
        await wake(tx, CHANGED)
    return made


def _draft_crl(ca: Authority, entries: list[Row], made: Row) -> lint.Linted:
    if ca.cert_der is None:
        raise Unavailable(f"CA {ca.id} has no certificate yet")
    tbs = crl.draft_crl(
        ca.cert_der,
        number=made["number"],
        this_update=made["this_update"],
        next_update=made["next_update"],
        entries=[
            crl.RevokedEntry(
                serial_number(row["serial_number"]),
                row["revoked_at"],
                CODES[Reason(row["reason"])],
            )
            for row in entries
        ],
        issuer_public_key=ca.signer.public_key,
    )
    return lint.check_crl(tbs, ca.signer.public_key, shape=(ca.id, bool(entries)))


async def keep_fresh(on: Platform) -> int:
    """Renew CRLs and responder certificates ahead of their end; how many CRLs were made."""
    async with on.db.read() as session:
        rows = await authorities.all_active(session)
        soon = on.clock() + on.terms.crl_validity / 4
        worn = await authorities.crls_to_refresh(session, soon)
    made = 0
    for row in rows:
        try:
            await responder(on, row["id"])
            if row["id"] in worn:
                await refresh_crl(on, row["id"])
                made += 1
        except CertctlError as error:
            log.error("CA %s: status was not renewed: %s", row["id"], error.message)
    return made
