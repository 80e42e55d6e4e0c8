"""OCSP (RFC 6960): requests read strictly, responses written as DER, linted, then signed.

The request reader is our own: one request may ask for many certificates, which common loaders
refuse, and its bytes come from strangers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

from certctl.domain.errors import Invalid
from certctl.pki import der
from certctl.pki.keys import PublicKey, Signer, key_identifier
from certctl.pki.lint import check_ocsp, ocsp_response
from certctl.pki.parts import certificate_parts
from certctl.pki.x509 import signature

SHA1, SHA256 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1"
NONCE = "1.3.6.1.5.5.7.48.1.2"
MAX_REQUEST_BYTES = 64 * 1024
MAX_CERT_IDS = 50
MAX_SERIAL = (1 << 159) - 1
NONCE_SIZES = range(1, 129)
REASONS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)
# OCSPResponseStatus of unsuccessful answers (RFC 6960 §4.2.1).
ERRORS = {"malformedRequest": 1, "internalError": 2, "tryLater": 3, "unauthorized": 6}
EXPLICIT_0, EXPLICIT_1, EXPLICIT_2 = 0xA0, 0xA1, 0xA2


class MalformedRequest(Invalid):
    """The bytes are not an OCSP request that we read; the answer is `malformedRequest`."""


@dataclass(frozen=True)
class CertId:
    """Which certificate is asked about; `raw` is the CertID as it stood, to be given back."""

    hash_oid: str
    name_hash: bytes
    key_hash: bytes
    serial: int
    raw: bytes


@dataclass(frozen=True)
class OcspRequest:
    """What one request asks about, in its order, and the nonce to give back if there was one."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None


@dataclass(frozen=True)
class SingleStatus:
    """The answer for one CertID. `revoked_at` and `reason_code` (RFC 5280 §5.3.1) count for
    `revoked` alone."""

    cert_id: CertId
    status: Literal["good", "revoked", "unknown"]
    revoked_at: datetime | None
    reason_code: int | None
    this_update: datetime
    next_update: datetime


def read(data: bytes) -> OcspRequest:
    """The request in `data`. A signature on it may stand there and is not looked at.

    Raises:
        MalformedRequest: whatever the input: not strict DER, no or more than 50 CertIDs, a nonce
            that is not 1 to 128 octets (RFC 9654 §2.1), an unknown critical extension.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise MalformedRequest(f"an OCSP request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        return _request(data)
    except MalformedRequest:
        raise
    except Invalid as error:
        raise MalformedRequest(error.message) from error


def matches(cert_id: CertId, issuer_der: bytes) -> bool:
    """Whether `cert_id` names the issuer with this certificate, by SHA-1 or SHA-256."""
    return (cert_id.name_hash, cert_id.key_hash) == _issuer_hashes(issuer_der).get(cert_id.hash_oid)


def cert_id(issuer_der: bytes, serial: int) -> CertId:
    """The CertID of a serial of this issuer, hashed with SHA-1 as RFC 5019 §2.1.1 has it."""
    name_hash, key_hash = _issuer_hashes(issuer_der)[SHA1]
    raw = der.sequence(
        der.sequence(der.oid(SHA1), der.NULL),
        der.octets(name_hash),
        der.octets(key_hash),
        der.integer(serial),
    )
    return CertId(SHA1, name_hash, key_hash, serial, raw)


def request_for(cert_id: CertId) -> bytes:
    """The plainest request about one certificate, DER."""
    request = cert_id.raw
    for _ in ("Request", "requestList", "TBSRequest", "OCSPRequest"):
        request = der.sequence(request)
    return request


def build(
    statuses: Sequence[SingleStatus],
    responder_der: bytes | None,
    *,
    signer: Signer,
    produced_at: datetime,
    nonce: bytes | None,
    shape: Hashable,
) -> bytes:
    """A successful OCSPResponse with one answer per status, in the order given.

    The responder is named by its key and its certificate goes along, unless `responder_der` is
    None because the CA itself answers. A nonce is given back as it came. `shape` is what pkilint's
    verdict is kept under, such as the responder's serial.

    Raises:
        Invalid: when a status is incomplete or lint refuses the response.
        Refused, Unavailable: as `x509.signature` does.
    """
    echoed = b"" if nonce is None else der.extension(NONCE, der.octets(nonce))
    data = response_data(
        signer.public_key,
        der.generalized_time(produced_at),
        *map(_single, statuses),
        extensions=der.explicit(1, der.sequence(echoed)) if echoed else b"",
    )
    kinds = (frozenset(single.status for single in statuses), nonce is None)
    linted = check_ocsp(data, signer.public_key, responder_der=responder_der, shape=(shape, kinds))
    return ocsp_response(linted, signature(linted, signer), responder_der=responder_der)


def response_data(
    responder_key: PublicKey, produced_at: bytes, *singles: bytes, extensions: bytes
) -> bytes:
    """ResponseData around what is encoded already; the responder is named by its key."""
    return der.sequence(
        der.explicit(2, der.octets(key_identifier(responder_key))),
        produced_at,
        der.sequence(*singles),
        extensions,
    )


def error_response(
    status: Literal["malformedRequest", "internalError", "tryLater", "unauthorized"],
) -> bytes:
    """An unsuccessful OCSPResponse: the status and nothing else, unsigned (RFC 6960 §2.3)."""
    return der.sequence(der.integer(ERRORS[status], tag=der.ENUMERATED))


def _single(single: SingleStatus) -> bytes:
    return der.sequence(
        single.cert_id.raw,
        _certificate_status(single),
        der.generalized_time(single.this_update),
        der.explicit(0, der.generalized_time(single.next_update)),
    )


def _certificate_status(single: SingleStatus) -> bytes:
    at = b"" if single.revoked_at is None else der.generalized_time(single.revoked_at)
    return status_der(single.status, at, single.reason_code or 0)


def status_der(
    status: Literal["good", "revoked", "unknown"], revoked_at: bytes, reason: int
) -> bytes:
    """CertStatus; `revoked_at` is a GeneralizedTime, and `reason` 0 is said by saying nothing.

    Raises:
        Invalid: when a revoked one lacks its time, or the reason is none of RFC 5280 §5.3.1.
    """
    if status == "good":
        return der.tlv(der.CONTEXT | 0, b"")
    if status == "unknown":
        return der.tlv(der.CONTEXT | 2, b"")
    if not revoked_at or reason not in REASONS:
        raise Invalid("a revoked status needs the time and a reason of RFC 5280 §5.3.1")
    told = der.explicit(0, der.integer(reason, tag=der.ENUMERATED)) if reason else b""
    return der.explicit(1, revoked_at + told)


def _request(data: bytes) -> OcspRequest:
    outer = der.members(data)
    if not outer or [e.tag for e in outer[1:]] not in ([], [EXPLICIT_0]):
        raise MalformedRequest("an OCSPRequest holds a TBSRequest and perhaps a signature")
    fields = der.elements(der.expect(outer[0], der.SEQUENCE).body)
    optional = {e.tag: e for e in fields if e.tag != der.SEQUENCE}
    order = [e.tag for e in fields]
    known = [t for t in (EXPLICIT_0, EXPLICIT_1, der.SEQUENCE, EXPLICIT_2) if t in order]
    if order != known or der.SEQUENCE not in order:
        raise MalformedRequest("the members of the TBSRequest are not those of RFC 6960 §4.1.1")
    version = optional.get(EXPLICIT_0)
    if version and der.number_of(der.single(version.body, der.INTEGER)) != 0:
        raise MalformedRequest("the request is not of version 1")
    requests = next(e for e in fields if e.tag == der.SEQUENCE)
    return OcspRequest(_cert_ids(requests), _nonce(optional.get(EXPLICIT_2)))


def _cert_ids(requests: der.Element) -> tuple[CertId, ...]:
    listed = der.leading(requests.body, MAX_CERT_IDS + 1)
    if not 1 <= len(listed) <= MAX_CERT_IDS:
        raise MalformedRequest(f"a request asks about 1 to {MAX_CERT_IDS} certificates")
    return tuple(map(_cert_id, listed))


def _cert_id(request: der.Element) -> CertId:
    members = der.members(request.raw)
    if [e.tag for e in members] not in ([der.SEQUENCE], [der.SEQUENCE, EXPLICIT_0]):
        raise MalformedRequest("a Request holds a CertID and perhaps extensions")
    if len(members) == 2:
        _extensions(members[1])
    fields = der.elements(members[0].body)
    if len(fields) != 4:
        raise MalformedRequest("a CertID has four members")
    algorithm, name_hash, key_hash, serial = fields
    number = der.number_of(serial)
    if not 0 <= number <= MAX_SERIAL:
        raise MalformedRequest("a serial number is negative or takes more than 20 octets")
    return CertId(
        hash_oid=_hash_oid(algorithm),
        name_hash=der.expect(name_hash, der.OCTET_STRING).body,
        key_hash=der.expect(key_hash, der.OCTET_STRING).body,
        serial=number,
        raw=members[0].raw,
    )


def _hash_oid(algorithm: der.Element) -> str:
    """AlgorithmIdentifier; parameters may be absent or anything."""
    members = der.members(algorithm.raw)
    if not 1 <= len(members) <= 2:
        raise MalformedRequest("an AlgorithmIdentifier has one or two members")
    return der.dotted_of(members[0])


def _nonce(wrapped: der.Element | None) -> bytes | None:
    value = _extensions(wrapped).get(NONCE) if wrapped else None
    if value is None:
        return None
    nonce = der.single(value, der.OCTET_STRING).body
    if len(nonce) not in NONCE_SIZES:
        raise MalformedRequest("a nonce has 1 to 128 octets")
    return nonce


def _extensions(wrapped: der.Element) -> dict[str, bytes]:
    """Values by identifier; a critical one that we do not know must stop us (RFC 6960 §4.4)."""
    values: dict[str, bytes] = {}
    for extension in der.members(der.single(wrapped.body, der.SEQUENCE).raw):
        members = der.members(extension.raw)
        if [e.tag for e in members[1:-1]] not in ([], [der.BOOLEAN]) or len(members) < 2:
            raise MalformedRequest("an Extension is not well-formed")
        dotted = der.dotted_of(members[0])
        critical = len(members) == 3 and members[1].body != b"\0"
        if dotted in values or (critical and dotted != NONCE):
            raise MalformedRequest(f"the extension {dotted} is repeated, or critical and unknown")
        values[dotted] = der.expect(members[-1], der.OCTET_STRING).body
    return values


def cert_id_heads(issuer_der: bytes) -> dict[bytes, str]:
    """The contents of the CertIDs of this issuer up to the serial, as clients write them, each
    with its hash: SHA-1 and SHA-256, the parameters NULL or absent."""
    return {
        der.sequence(der.oid(dotted), null) + der.octets(name_hash) + der.octets(key_hash): dotted
        for dotted, (name_hash, key_hash) in _issuer_hashes(issuer_der).items()
        for null in (der.NULL, b"")
    }


@lru_cache(maxsize=256)
def _issuer_hashes(issuer_der: bytes) -> dict[str, tuple[bytes, bytes]]:
    parts = certificate_parts(issuer_der)
    name, key = parts.subject, parts.key_bits
    return {
        # SHA-1 only names the issuer here, as RFC 6960 requires; nothing rests on it.
        SHA1: (
            hashlib.sha1(name, usedforsecurity=False).digest(),
            hashlib.sha1(key, usedforsecurity=False).digest(),
        ),
        SHA256: (hashlib.sha256(name).digest(), hashlib.sha256(key).digest()),
    }
