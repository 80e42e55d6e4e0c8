"""OCSP answers of one shape (RFC 6960 §4.2): linted once, then only times, serial and nonce differ.

Where `pki.ocsp` reads any request and writes any answer, this is for the many alike: one CertID,
hashed as nearly every client does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from certctl.domain.errors import Invalid, Unavailable
from certctl.pki import der, ocsp, x509
from certctl.pki.keys import Signer
from certctl.pki.lint import check_ocsp, ocsp_response
from certctl.pki.x509 import signature

# Shorter ones could not be found in a sample; the serials that we issue have 16 octets and more.
SERIAL_SIZES: Final = range(8, 21)
NONCE_SIZES: Final = range(8, 129)
ARCHIVE_CUTOFF: Final = "1.3.6.1.5.5.7.48.1.6"
Status = Literal["good", "revoked", "unknown"]
Values = tuple[bytes, ...]


@dataclass(frozen=True)
class Shape:
    """What the answers of a frame have in common. `cert_id_head` is the CertID's contents up to
    the serial; `reason` counts for revoked ones, 0 says none; `nonce_size` 0 means no nonce.
    `archived` answers carry an archive cutoff (RFC 6960 §4.4.4)."""

    cert_id_head: bytes
    serial_size: int
    status: Status
    reason: int = 0
    nonce_size: int = 0
    archived: bool = False


@lru_cache(maxsize=16_384)
def time_octets(at: int) -> bytes:
    """The contents of a GeneralizedTime, for seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%SZ").encode()


class Frame:
    """Signs answers of one shape with one responder, and writes them again from their signature.

    The values of an answer stand in this order: producedAt, the serial's contents, the time of
    revocation where it is revoked, thisUpdate, nextUpdate, the archive cutoff and the nonce where
    the shape has them; times as `time_octets`.
    """

    def __init__(self, shape: Shape, responder_der: bytes, *, signer: Signer) -> None:
        """Lint a sample, sign it and verify the signature.

        Raises:
            Invalid: when lint refuses the sample, or its values cannot be found in it.
            Refused, Unavailable: as `x509.signature`.
        """
        self._signer = signer
        self._responder_der = responder_der
        facts = x509.facts(responder_der)
        self._valid = tuple(
            time_octets(int(each.timestamp())) for each in (facts.not_before, facts.not_after)
        )
        values = _sample(shape, facts.not_before)
        tbs = _response_data(shape, values, signer)
        self._linted = check_ocsp(tbs, signer.public_key, responder_der=responder_der, shape=shape)
        signature(self._linted, signer)
        self._sizes = [len(value) for value in values]
        self._tbs = _template(tbs, values)
        self._whole: dict[int, bytes] = {}

    def sign(self, values: Values) -> bytes:
        """The signature of an answer.

        Raises:
            Invalid: when the values do not fit the shape. Unavailable: when the responder's
                certificate is not valid at producedAt, or the signer is away.
        """
        if [len(value) for value in values] != self._sizes:
            raise Invalid("the values of an OCSP answer do not fit its shape")
        if not self._valid[0] <= values[0] <= self._valid[1]:
            raise Unavailable("the responder's certificate is not valid at producedAt")
        return self._signer.sign(self._tbs % values)

    def response(self, values: Values, signed: bytes) -> bytes:
        """The whole OCSPResponse, DER, of an answer that was signed."""
        whole = self._whole.get(len(signed))
        if whole is None:
            whole = self._whole[len(signed)] = self._around(len(signed))
        return whole % (*values, signed)

    def _around(self, signature_size: int) -> bytes:
        mark = b"\xff" * signature_size
        whole = ocsp_response(self._linted, mark, responder_der=self._responder_der)
        before, _, after = whole.partition(self._linted.tbs)
        between, _, along = after.partition(mark)
        return b"".join((_literal(before), self._tbs, _literal(between), b"%b", _literal(along)))


def _literal(piece: bytes) -> bytes:
    return piece.replace(b"%", b"%%")


def _template(tbs: bytes, values: Values) -> bytes:
    """`tbs` with a hole for each of the values, which stand in it once each and in this order."""
    pieces, rest = [], tbs
    for value in values:
        if tbs.count(value) != 1 or value not in rest:
            raise Invalid("the sample of an OCSP answer is ambiguous")
        before, _, rest = rest.partition(value)
        pieces.append(_literal(before))
    return b"%b".join((*pieces, _literal(rest)))


def _sample(shape: Shape, valid_from: datetime) -> Values:
    """All its times differ, so that each can be found."""
    at = int(valid_from.timestamp())
    cutoff, revoked_at, this_update, produced_at, next_update = map(time_octets, range(at, at + 5))
    return (
        produced_at,
        b"\x5a" * shape.serial_size,
        *((revoked_at,) if shape.status == "revoked" else ()),
        this_update,
        next_update,
        *((cutoff,) if shape.archived else ()),
        *((b"\xa5" * shape.nonce_size,) if shape.nonce_size else ()),
    )


def _response_data(shape: Shape, values: Values, signer: Signer) -> bytes:
    waiting = iter(values)

    def a_time() -> bytes:
        return der.tlv(der.GENERALIZED_TIME, next(waiting))

    produced_at = a_time()
    cert_id = der.tlv(der.SEQUENCE, shape.cert_id_head + der.tlv(der.INTEGER, next(waiting)))
    revoked_at = a_time() if shape.status == "revoked" else b""
    status = ocsp.status_der(shape.status, revoked_at, shape.reason)
    this_update, next_update = a_time(), der.explicit(0, a_time())
    cutoff = nonce = b""
    if shape.archived:
        cutoff = der.explicit(1, der.sequence(der.extension(ARCHIVE_CUTOFF, a_time())))
    if shape.nonce_size:
        echoed = der.extension(ocsp.NONCE, der.octets(next(waiting)))
        nonce = der.explicit(1, der.sequence(echoed))
    single = der.sequence(cert_id, status, this_update, next_update, cutoff)
    return ocsp.response_data(signer.public_key, produced_at, single, extensions=nonce)
