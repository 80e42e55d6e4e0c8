"""The OCSP answers of one CA, in memory: every serial that it has issued, and its signature.

A serial costs a record of 18 octets and the signature; the answer's other bytes are written again
for each request, since they are the same for all.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from certctl.domain.errors import Unavailable
from certctl.pki import der, ocsp
from certctl.pki.keys import Signer
from certctl.pki.ocsp_frame import NONCE_SIZES, SERIAL_SIZES, Frame, Shape, Status, time_octets
from certctl.pki.x509 import facts

# notAfter, producedAt, thisUpdate, time of revocation, reason, and which responder signed.
HEAD: Final = Struct(">IIIIBB")
PACKED: Final = Struct(">20sQQQ")  # as store.status_feed packs them
NOT_REVOKED: Final = 255
UNSIGNED: Final = 0
# An OCSPRequest about one certificate and nothing else, up to the CertID: five lengths.
SHELLS: Final = 10
NONCE_OID: Final = der.oid(ocsp.NONCE)


class Answer(NamedTuple):
    """An OCSPResponse in DER; the times in seconds since 1970, both 0 where nobody may keep it;
    `etag` is the end of its signature. `again` tells how many seconds are left of it when it is
    given once more at a time, -1 when it is not to be."""

    der: bytes
    this_update: int = 0
    next_update: int = 0
    status: str = ""
    etag: str = ""
    again: Callable[[int], int] | None = None


class State(NamedTuple):
    """What the database says of a serial; `revoked_at` 0 when it is not revoked."""

    not_after: int
    revoked_at: int = 0
    reason: int = 0


@dataclass(frozen=True)
class Responder:
    """Who signs: a certificate, its key, and a number from 1 to 255 that tells it from the last."""

    cert_der: bytes
    signer: Signer
    number: int


@dataclass
class Answers:
    """`validity` is in seconds; an answer is signed anew at half of it. Each serial has its own
    part of an eighth taken off, so that not all end at once."""

    authority_id: str
    cert_der: bytes
    responder: Responder
    validity: int
    entries: dict[bytes, bytes] = field(default_factory=dict)
    is_loaded: bool = False
    signed: int = 0
    _frames: dict[Shape, Frame] = field(default_factory=dict)
    _quick: dict[tuple[int, int], Frame] = field(default_factory=dict)
    _with_nonces: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._heads = ocsp.cert_id_heads(self.cert_der)
        self._usual = next(h for h, hashed in self._heads.items() if hashed == ocsp.SHA1)
        self._requests = {
            SHELLS + len(self._usual) + 2 + size: _request_head(self._usual, size)
            for size in SERIAL_SIZES
        }
        self._since = int(facts(self.cert_der).not_before.timestamp())

    def use(self, responder: Responder) -> None:
        """Sign by another responder from now on; what the last one signed is signed again."""
        self.responder = responder
        self.signed = 0
        self._frames.clear()
        self._quick.clear()

    def recognised(self, request: bytes) -> tuple[bytes, bytes] | None:
        """The serial's contents and the nonce (empty: none), when the request is what nearly every
        client sends about one certificate of this CA. None for all others."""
        head = self._requests.get(len(request))
        if head is not None and request.startswith(head):
            return request[len(head) :], b""
        at, end = request.find(self._usual), request.find(NONCE_OID)
        if at < 0 or end < 0:
            return None
        at += len(self._usual) + 2
        serial, nonce = request[at : at + request[at - 1]], request[end + len(NONCE_OID) + 4 :]
        if len(serial) not in SERIAL_SIZES or len(nonce) not in NONCE_SIZES:
            return None
        # Written anew and compared: whatever is not exactly of that form is for the strict reader.
        template = self._with_nonces.get((len(serial), len(nonce)))
        if template is None:
            template = _nonced_request(self._usual, len(serial), len(nonce))
            self._with_nonces[len(serial), len(nonce)] = template
        return (serial, nonce) if template % (serial, nonce) == request else None

    def put(self, serial: bytes, state: State) -> None:
        """Take in what the database says. What was revoked once stays so."""
        kept = self.entries.get(serial)
        if kept is not None and (not state.revoked_at or HEAD.unpack_from(kept)[3]):
            return
        self._forget(kept)
        reason = state.reason if state.revoked_at else NOT_REVOKED
        self.entries[serial] = HEAD.pack(state.not_after, 0, 0, state.revoked_at, reason, UNSIGNED)

    def put_packed(self, block: bytes) -> None:
        """As `put`, for packed records of `status_feed`."""
        for serial, *state in PACKED.iter_unpack(block):
            content = serial.lstrip(b"\0")
            if content[0] & 0x80:
                content = b"\0" + content
            self.put(content, State(*state))

    def state(self, serial: bytes) -> State | None:
        """What is known of a serial."""
        record = self.entries.get(serial)
        if record is None:
            return None
        not_after, _, _, revoked_at, reason, _ = HEAD.unpack_from(record)
        return State(not_after, revoked_at, 0 if reason == NOT_REVOKED else reason)

    def kept(self, serial: bytes, now: int) -> Answer | None:
        """The signed answer about a serial, while it is to be given."""
        record = self.entries.get(serial)
        if record is None:
            return None
        not_after, produced_at, this_update, revoked_at, reason, number = HEAD.unpack_from(record)
        spread = self._spread(serial)
        given_until = min(not_after, produced_at + self.validity // 2 - spread)
        if number != self.responder.number or now >= given_until:
            return None
        next_update = this_update + self.validity - spread

        def again(at: int) -> int:
            if self.entries.get(serial) is not record or at >= given_until:
                return -1
            return max(0, next_update - at - 1) if number == self.responder.number else -1

        frame = self._quick.get((len(serial), reason)) or self._usual_frame(serial, reason)
        values = _values(serial, produced_at, this_update, next_update, revoked_at)
        status = "revoked" if revoked_at else "good"
        signed = record[HEAD.size :]
        der = frame.response(values, signed)
        return Answer(der, this_update, next_update, status, signed[-8:].hex(), again)

    def sign(self, serial: bytes, now: int, *, as_of: int) -> Answer | None:
        """Sign the answer about a serial and keep it; None when the serial is not here.

        `as_of` is when its state was last known to be true: that is thisUpdate (RFC 6960 §2.4).

        Raises:
            Unavailable: when that is too long ago.
        """
        record = self.entries.get(serial)
        if record is None:
            return None
        not_after, _, _, revoked_at, reason, number = HEAD.unpack_from(record)
        this_update, next_update = self._times(serial, now, as_of)
        frame = self._quick.get((len(serial), reason)) or self._usual_frame(serial, reason)
        values = _values(serial, now, this_update, next_update, revoked_at)
        signed = frame.sign(values)
        head = HEAD.pack(not_after, now, this_update, revoked_at, reason, self.responder.number)
        self.entries[serial] = head + signed
        self.signed += number != self.responder.number
        status = "revoked" if revoked_at else "good"
        der = frame.response(values, signed)
        return Answer(der, this_update, next_update, status, signed[-8:].hex())

    def signed_for(
        self, asked: ocsp.OcspRequest, found: Sequence[State | None], *, now: int, as_of: int
    ) -> Answer:
        """An answer signed for one request, with what the database says of each serial (None: it
        was never issued). Raises as `sign`."""
        cert_id, nonce = asked.cert_ids[0], asked.nonce or b""
        serial = serial_content(cert_id.serial)
        head = cert_id.raw[2 : -2 - len(serial)]
        fits = len(serial) in SERIAL_SIZES and len(nonce) in (0, *NONCE_SIZES)
        if len(found) > 1 or head not in self._heads or not fits:
            return self._built(asked, found, now, as_of=as_of)
        return self._live(head, serial, found[0], nonce=nonce, now=now, as_of=as_of)

    def nonced(self, serial: bytes, state: State, nonce: bytes, *, now: int, as_of: int) -> Answer:
        """An answer with a nonce, to a usual request. Raises as `sign`."""
        return self._live(self._usual, serial, state, nonce=nonce, now=now, as_of=as_of)

    def _live(
        self, head: bytes, serial: bytes, state: State | None, *, nonce: bytes, now: int, as_of: int
    ) -> Answer:
        this_update, next_update = self._times(serial, now, as_of)
        status: Status = "good"
        if state is None or state.revoked_at:
            status = "unknown" if state is None else "revoked"
        reason = state.reason if state is not None and state.revoked_at else 0
        # What is over is told with how far back we know (RFC 6960 §4.4.4): since the CA began.
        over = state is not None and state.not_after <= now
        frame = self._framed(Shape(head, len(serial), status, reason, len(nonce), over))
        values = _values(
            serial, now, this_update, next_update, state.revoked_at if state else 0
        ) + ((time_octets(self._since),) if over else ())
        if nonce:
            values = (*values, nonce)
            return Answer(frame.response(values, frame.sign(values)), status=status)
        signed = frame.sign(values)
        der = frame.response(values, signed)
        return Answer(der, this_update, next_update, status, signed[-8:].hex())

    def _built(
        self, asked: ocsp.OcspRequest, found: Sequence[State | None], now: int, *, as_of: int
    ) -> Answer:
        """For what no frame is made of: several serials, or a CertID in a form of its own."""
        times = [self._times(serial_content(e.serial), now, as_of) for e in asked.cert_ids]
        this_update, next_update = min(t[0] for t in times), min(t[1] for t in times)
        singles = [
            _single(each, state, _moment(this_update), next_update=_moment(next_update))
            for each, state in zip(asked.cert_ids, found, strict=True)
        ]
        response = ocsp.build(
            singles,
            self.responder.cert_der,
            signer=self.responder.signer,
            produced_at=_moment(now),
            nonce=asked.nonce,
            shape=(self.authority_id, tuple(single.status for single in singles)),
        )
        if asked.nonce is not None:
            return Answer(response, status=singles[0].status)
        etag = sha256(response).hexdigest()[:16]
        return Answer(response, this_update, next_update, singles[0].status, etag)

    def due(self, now: int) -> Iterator[bytes | None]:
        """Serials whose answers are to be signed, and None for each of the others; those that are
        over are forgotten."""
        number, half = self.responder.number, self.validity // 2
        for serial in list(self.entries):
            record = self.entries.get(serial)
            if record is None:
                continue
            not_after, produced_at, _, _, _, signed_by = HEAD.unpack_from(record)
            if not_after <= now:
                self._forget(self.entries.pop(serial))
            elif signed_by != number or now - produced_at > half - self._spread(serial) - half // 8:
                yield serial
                continue
            yield None

    def _forget(self, record: bytes | None) -> None:
        """Count what is replaced or gone among the signed no longer."""
        if record is not None:
            self.signed -= HEAD.unpack_from(record)[5] == self.responder.number

    def _times(self, serial: bytes, now: int, as_of: int) -> tuple[int, int]:
        this_update = min(now, as_of)
        next_update = this_update + self.validity - self._spread(serial)
        if next_update <= now:
            raise Unavailable("what is known of this serial is too old")
        return this_update, next_update

    def _spread(self, serial: bytes) -> int:
        return (zlib.crc32(serial) & 0xFF) * self.validity >> 11

    def _usual_frame(self, serial: bytes, reason: int) -> Frame:
        """The frame of the answers that are kept, found by what varies among them."""
        if reason == NOT_REVOKED:
            frame = self._framed(Shape(self._usual, len(serial), "good"))
        else:
            frame = self._framed(Shape(self._usual, len(serial), "revoked", reason))
        self._quick[len(serial), reason] = frame
        return frame

    def _framed(self, shape: Shape) -> Frame:
        frame = self._frames.get(shape)
        if frame is None:
            responder = self.responder
            frame = Frame(shape, responder.cert_der, signer=responder.signer)
            self._frames[shape] = frame
        return frame


def serial_content(serial: int) -> bytes:
    """The contents of the INTEGER."""
    return serial.to_bytes(serial.bit_length() // 8 + 1, "big")


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _single(
    cert_id: ocsp.CertId, state: State | None, this_update: datetime, *, next_update: datetime
) -> ocsp.SingleStatus:
    if state is None or not state.revoked_at:
        status: Status = "unknown" if state is None else "good"
        return ocsp.SingleStatus(cert_id, status, None, None, this_update, next_update)
    at = _moment(state.revoked_at)
    return ocsp.SingleStatus(cert_id, "revoked", at, state.reason, this_update, next_update)


def _values(
    serial: bytes, produced_at: int, this_update: int, next_update: int, revoked_at: int
) -> tuple[bytes, ...]:
    produced, this = time_octets(produced_at), time_octets(this_update)
    end = time_octets(next_update)
    if revoked_at:
        return produced, serial, time_octets(revoked_at), this, end
    return produced, serial, this, end


def _request_head(cert_id_head: bytes, size: int) -> bytes:
    inner = len(cert_id_head) + 2 + size
    shells = b"".join(bytes((0x30, inner + 2 * depth)) for depth in range(4, -1, -1))
    return shells + cert_id_head + bytes((0x02, size))


def _nonced_request(cert_id_head: bytes, serial_size: int, nonce_size: int) -> bytes:
    """A request with holes for the serial and a nonce, as openssl writes it."""
    serial, nonce = b"\x5a" * serial_size, b"\xa5" * nonce_size
    cert_id = der.sequence(cert_id_head, der.tlv(der.INTEGER, serial))
    extension = der.sequence(der.extension(ocsp.NONCE, der.octets(nonce)))
    listed = der.sequence(der.sequence(cert_id))
    request = der.sequence(der.sequence(listed, der.explicit(2, extension)))
    return request.replace(b"%", b"%%").replace(serial, b"%b").replace(nonce, b"%b")


def seconds(at: datetime) -> int:
    return int(at.timestamp())
