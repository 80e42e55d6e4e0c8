"""Keeps the answers of every CA true: loads them, follows each revocation, signs ahead of expiry.

What was revoked is told by a NOTIFY in the revoking transaction, and looked for every few seconds
besides. While the database is away, answers go on with the time at which they were last known to
be true, until that is too old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from certctl.domain.errors import CertctlError, NotFound, Unavailable
from certctl.pki import ocsp
from certctl.pki.serials import serial_number, serial_text
from certctl.services import status
from certctl.services.plane.answers import (
    Answer,
    Answers,
    Responder,
    State,
    seconds,
    serial_content,
)
from certctl.services.plane.documents import Document, Documents
from certctl.services.platform import Platform
from certctl.store import authorities, status_feed
from certctl.store.db import Row

log = logging.getLogger("certctl.plane")
LOOK_EVERY: Final = 5.0
LOOK_DEAF: Final = 0.5  # while no wake-ups arrive
AGAIN: Final = 1.0
KNOWN_FOR: Final = 30.0
LOOKS_AT_ONCE: Final = 4
LOOKS_WAITING: Final = 256
# Signing ahead takes a third of the process, a millisecond at a time.
SLICE: Final = 0.001
REST: Final = 0.002
PASS_EVERY: Final = 15.0


class Budget:
    """So many signatures a second for what cannot be signed ahead."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left, self._at = rate, time.monotonic()

    def spend(self) -> None:
        """Raises Unavailable when this second's are gone."""
        now = time.monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            raise Unavailable("too many answers are to be signed at once")
        self._left -= 1


@dataclass
class _Alias:
    """Which CA an address means, until when that is to be believed."""

    authority_id: str
    until: float


class Plane:
    """`live_rate` is how many answers a second may be signed for single requests."""

    def __init__(self, on: Platform, *, live_rate: float) -> None:
        self._on = on
        self._live = Budget(live_rate)
        self._answers: dict[str, Answers] = {}
        self._aliases: dict[str, _Alias] = {}
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._waiting = 0
        self._changed, self._loaded = asyncio.Event(), asyncio.Event()
        self._numbered = asyncio.Event()
        self._numbers: dict[tuple[str, int], int] = {}
        self.documents = Documents(on)
        self.counts: Counter[str] = Counter()
        self.synced_at = 0
        self.is_away = False

    async def start(self) -> None:
        """Know every CA and its responder; their serials are loaded by `run`.

        Raises:
            Unavailable: when the database is away.
        """
        async with self._on.db.read() as session:
            self._mark = await status_feed.mark(session)
            rows = await authorities.all_active(session)
        for row in rows:
            await self._opened(row)
        self.synced_at = self._now()
        self._on.signals.subscribe(status_feed.CHANGED, self._changed.set)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._follow(), self._follow_crls(), self._load(), self._sign_ahead())

    @property
    def loaded(self) -> int:
        """Of how many CAs the serials have been loaded."""
        return sum(each.is_loaded for each in self._answers.values())

    @property
    def size(self) -> int:
        """How many serials are in memory."""
        return sum(len(each.entries) for each in self._answers.values())

    @property
    def signed(self) -> int:
        """How many of their answers are signed."""
        return sum(each.signed for each in self._answers.values())

    def quick(self, address: str, request: bytes) -> Answer | None:
        """The answer, where that takes nothing but memory and perhaps one signature."""
        alias = self._aliases.get(address)
        if alias is None or alias.until < time.monotonic():
            return None
        answers = self._answers[alias.authority_id]
        asked = answers.recognised(request)
        if asked is None:
            return None
        (serial, nonce), now = asked, self._now()
        answer = None if nonce else answers.kept(serial, now)
        if answer is None:
            answer = self._signed_now(answers, serial, nonce, now=now)
        if answer is not None:
            self.counts[answer.status] += 1
        return answer

    def _signed_now(
        self, answers: Answers, serial: bytes, nonce: bytes, *, now: int
    ) -> Answer | None:
        """Where the serial is in memory and not over."""
        state = answers.state(serial)
        if state is None or state.not_after <= now:
            return None
        if not nonce:
            return answers.sign(serial, now, as_of=self._as_of(now))
        self._live.spend()
        return answers.nonced(serial, state, nonce, now=now, as_of=self._as_of(now))

    async def answer(self, address: str, request: bytes) -> Answer:
        """The answer to any request.

        Raises:
            NotFound: when the address is neither an issuer's nor a CA's. MalformedRequest.
            Unavailable: when it cannot be known now, or too many ask for what must be signed.
        """
        if quick := self.quick(address, request):
            return quick
        answers = await self._find(address)
        try:
            asked = ocsp.read(request)
        except ocsp.MalformedRequest:
            self.counts["malformed"] += 1
            raise
        if not all(ocsp.matches(each, answers.cert_der) for each in asked.cert_ids):
            self.counts["unauthorized"] += 1
            return Answer(ocsp.error_response("unauthorized"))
        found = [await self._state(answers, each.serial) for each in asked.cert_ids]
        if quick := self.quick(address, request):
            return quick
        self._live.spend()
        now = self._now()
        answer = answers.signed_for(asked, found, now=now, as_of=self._as_of(now))
        self.counts[answer.status] += 1
        return answer

    async def answer_serial(self, address: str, text: str) -> Answer:
        """The answer about a serial in hex. Raises as `answer`, and Invalid for other text."""
        answers = await self._find(address)
        cert_id = ocsp.cert_id(answers.cert_der, serial_number(text))
        request = ocsp.request_for(cert_id)
        return await self.answer(address, request)

    async def crl(self, address: str, shard: int = 0) -> Document:
        """The newest CRL of a CA or of an issuer's. Raises NotFound or Unavailable."""
        authority_id = (await self._find(address)).authority_id
        kept = self.documents.crl(authority_id, shard)
        if kept is None:
            with self._in_line():
                kept = await self.documents.load_crl(authority_id, shard)
        return kept

    async def _state(self, answers: Answers, serial: int) -> State | None:
        content = serial_content(serial)
        state = answers.state(content)
        if state is not None:
            return state
        row = await self._looked_up(answers.authority_id, serial_text(serial))
        if row is None:
            return None
        state = State(row["not_after"], row["revoked_at"], row["reason"])
        if state.not_after > self._now():
            answers.put(content, state)
            return answers.state(content)
        return state

    async def _looked_up(self, authority_id: str, serial: str) -> Row | None:
        """In the database; few at once, so that strangers' inventions do not fill it."""
        with self._in_line():
            async with self._looking, self._on.db.read() as session:
                return await status_feed.one(session, authority_id, serial)

    async def _find(self, address: str) -> Answers:
        alias, now = self._aliases.get(address), time.monotonic()
        if alias is not None and (alias.until >= now or self.is_away):
            return self._answers[alias.authority_id]
        with self._in_line():
            async with self._looking, self._on.db.read() as session:
                row = await authorities.resolve(session, address)
        if row is None or row["cert_der"] is None:
            raise NotFound(f"{address} is neither an issuer nor a CA of this server")
        answers = self._answers.get(row["id"]) or await self._open(row)
        self._aliases[address] = _Alias(row["id"], now + KNOWN_FOR)
        return answers

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        """A place among those who wait for the database. Raises Unavailable when there is none."""
        if self._waiting >= LOOKS_WAITING:
            raise Unavailable("too many ask for what is not in memory")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _open(self, row: Row) -> Answers:
        held = await status.responder(self._on, row["id"])
        answers = Answers(
            row["id"],
            bytes(row["cert_der"]),
            Responder(held.cert_der, held.signer, 1),
            validity=int(self._on.terms.ocsp_validity.total_seconds()),
        )
        known = self._answers.setdefault(row["id"], answers)
        self.documents.put_certificate(row["id"], known.cert_der)
        self._aliases[row["id"]] = _Alias(row["id"], float("inf"))
        return known

    async def _load(self) -> None:
        """Every CA's serials, also of those that come later, and newer responders."""
        while True:
            try:
                for answers in list(self._answers.values()):
                    if not answers.is_loaded:
                        await self._load_one(answers)
                await self.refresh()
                pause = KNOWN_FOR
            except CertctlError as error:
                log.warning("the plane could not look for CAs: %s", error.message)
                pause = AGAIN
            await asyncio.sleep(pause)

    async def _load_one(self, answers: Answers) -> None:
        began = time.monotonic()
        async with self._on.db.read() as session:
            async for block in status_feed.states(session, answers.authority_id):
                answers.put_packed(block)
        answers.is_loaded = True
        self._loaded.set()
        log.info(
            "CA %s: %d serials loaded in %.1f s",
            answers.authority_id, len(answers.entries), time.monotonic() - began,
        )  # fmt: skip

    async def refresh(self) -> None:
        """Look for CAs and responders that are new. Raises Unavailable."""
        async with self._on.db.read() as session:
            rows = await authorities.all_active(session)
        for row in rows:
            answers = self._answers.get(row["id"]) or await self._opened(row)
            if answers is not None:
                self.documents.put_certificate(row["id"], bytes(row["cert_der"]))
                await self._renew_responder(answers)
                if not answers.is_loaded:
                    await self._load_one(answers)

    async def _opened(self, row: Row) -> Answers | None:
        """As `_open`; None, said in the log, when that CA cannot be answered for now."""
        try:
            return await self._open(row)
        except CertctlError as error:
            log.warning("CA %s cannot be answered for: %s", row["id"], error.message)
            return None

    async def _renew_responder(self, answers: Answers) -> None:
        """One whose CA cannot sign now serves to its end."""
        try:
            held = await status.responder(self._on, answers.authority_id)
        except CertctlError as error:
            log.warning("the responder of %s stays: %s", answers.authority_id, error.message)
            return
        if held.cert_der != answers.responder.cert_der:
            number = answers.responder.number % 255 + 1
            answers.use(Responder(held.cert_der, held.signer, number))

    async def _follow(self) -> None:
        while True:
            await _set_within(self._changed, LOOK_EVERY if self._on.signals.hears else LOOK_DEAF)
            try:
                self._numbers = await self.catch_up()
                self._numbered.set()
            except CertctlError as error:
                if not self.is_away:
                    log.warning("answers go on from memory: %s", error.message)
                self.is_away = True
                await asyncio.sleep(AGAIN)

    async def _follow_crls(self) -> None:
        """Beside OCSP, which does not wait for long lists."""
        while True:
            await self._numbered.wait()
            self._numbered.clear()
            await self.documents.follow(self._numbers)

    async def catch_up(self) -> dict[tuple[str, int], int]:
        """Take in what was revoked since the last look; the number of each CA's newest CRLs. Raises
        Unavailable."""
        began = self._now()
        async with self._on.db.read() as session:
            mark = await status_feed.mark(session)
            changed = await status_feed.changes(session, self._mark)
            numbers = await status_feed.crl_numbers(session)
        for row in changed:
            answers = self._answers.get(row["authority_id"])
            if answers is not None:
                content = serial_content(serial_number(row["serial_number"]))
                answers.put(content, State(row["not_after"], row["revoked_at"], row["reason"]))
        self._mark, self.synced_at = mark, began
        if self.is_away:
            log.info("the database is back")
        self.is_away = False
        return numbers

    async def _sign_ahead(self) -> None:
        while True:
            for answers in list(self._answers.values()):
                await self._pass(answers)
            await _set_within(self._loaded, PASS_EVERY)

    async def _pass(self, answers: Answers) -> None:
        until = time.monotonic() + SLICE
        for serial in answers.due(self._now()):
            if serial is not None and not self.is_away:
                now = self._now()
                answers.sign(serial, now, as_of=self._as_of(now))
            if time.monotonic() > until:
                await asyncio.sleep(REST)
                until = time.monotonic() + SLICE

    def _now(self) -> int:
        return seconds(self._on.clock())

    def _as_of(self, now: int) -> int:
        """A revocation is heard of at once, or else at the next look."""
        return now if now - self.synced_at <= 2 * LOOK_EVERY else self.synced_at


async def _set_within(event: asyncio.Event, patience: float) -> None:
    """Wait until it is set, or so many seconds; it is clear afterwards."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), patience)
    event.clear()
