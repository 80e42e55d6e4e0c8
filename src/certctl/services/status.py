"""OCSP answers of our own CAs, and what keeps these and the CRLs ahead of their ends."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from certctl.domain.errors import CertctlError, NotFound
from certctl.domain.revocation import CODES, Reason
from certctl.pki import ocsp
from certctl.pki.serials import serial_number, serial_text
from certctl.services import authority, counters, crls
from certctl.services.authority import Held
from certctl.services.platform import Platform
from certctl.store import authorities
from certctl.store.db import Row

log = logging.getLogger("certctl.status")
MOST_KEPT: Final = 20_000
LOOK_AGAIN: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Answer:
    """A DER response and, where it may be cached, its times."""

    der: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None


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


async def keep_fresh(on: Platform) -> int:
    """Renew CRLs and responder certificates ahead of their end; how many CRLs were made."""
    async with on.db.read() as session:
        rows = await authorities.all_active(session)
    for row in rows:
        await _renewed(row["id"], responder(on, row["id"]))
    made = 0
    for authority_id, shard in await crls.worn(on):
        made += await _renewed(authority_id, crls.refresh(on, authority_id, shard))
    return made


async def _renewed(authority_id: str, renewing: Awaitable[object]) -> bool:
    """Whether it was; one CA keeps no other from being."""
    try:
        await renewing
    except CertctlError as error:
        log.error("CA %s: status was not renewed: %s", authority_id, error.message)
        return False
    return True
