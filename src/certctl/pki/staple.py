"""OCSP from the other side: ask about a leaf, and believe an answer only when it may be stapled.

A relying party hard-fails on a bad staple, so what is accepted here is narrower than RFC 6960.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as parsed
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from certctl.domain.errors import Invalid, Refused, Unavailable
from certctl.pki.keys import MLDSAPublicKey
from certctl.pki.ocsp import SHA1, SHA256, CertId, matches
from certctl.pki.parts import certificate_parts
from certctl.pki.unreadable import UNREADABLE

MAX_RESPONSE_BYTES = 64 * 1024
SKEW = timedelta(minutes=5)
HASHES: dict[type[hashes.HashAlgorithm], str] = {hashes.SHA1: SHA1, hashes.SHA256: SHA256}
STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
NOT_SIGNED: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)
# What a responder that will soon know better says (RFC 6960 §2.3).
PASSING = (parsed.OCSPResponseStatus.TRY_LATER, parsed.OCSPResponseStatus.INTERNAL_ERROR)


@dataclass(frozen=True)
class Staple:
    """A response that was verified for one leaf. `until` is when it stops being usable: its
    nextUpdate, or the end of the responder's certificate where that is earlier."""

    der: bytes = field(repr=False)
    status: Literal["good", "revoked"]
    this_update: datetime
    until: datetime
    revoked_at: datetime | None


def request(leaf_der: bytes, issuer_der: bytes) -> bytes:
    """The DER request about `leaf_der`: SHA-1 CertID and no nonce, so that caches may answer it
    (RFC 5019 §2.1). Refused when the leaf is not one of that issuer's."""
    leaf, issuer = _pair(leaf_der, issuer_der)
    builder = parsed.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303
    return builder.build().public_bytes(Encoding.DER)


def verify(response_der: bytes, leaf_der: bytes, issuer_der: bytes, *, now: datetime) -> Staple:
    """The response as a staple for `leaf_der` at `now`.

    It must be successful, about this leaf alone, signed by the issuer or by a responder that the
    issuer has delegated (RFC 6960 §4.2.2.2), and current, with a nextUpdate. The clocks may differ
    by five minutes.

    Raises:
        Unavailable: when the responder asks for another try.
        Refused: with the reason, for everything else that is not good or revoked.
    """
    if len(response_der) > MAX_RESPONSE_BYTES:
        raise Refused(f"an OCSP response of more than {MAX_RESPONSE_BYTES} bytes is not stapled")
    leaf, issuer = _pair(leaf_der, issuer_der)
    try:
        response = parsed.load_der_ocsp_response(response_der)
        single = _single(response)
        _is_about(single, leaf, issuer_der)
        responder = _responder(response, issuer, now)
        until = _current(single, now)
        return _staple(response_der, single, min(until, responder.not_valid_after_utc))
    except Invalid as error:
        raise Refused(f"the OCSP response cannot be judged: {error.message}") from error
    except UNREADABLE as error:
        raise Refused(f"the OCSP response cannot be read: {error}") from error


def _pair(leaf_der: bytes, issuer_der: bytes) -> tuple[x509.Certificate, x509.Certificate]:
    try:
        leaf, issuer = map(x509.load_der_x509_certificate, (leaf_der, issuer_der))
        leaf.verify_directly_issued_by(issuer)
    except NOT_SIGNED as error:
        raise Refused("the chain does not begin with the issuer of its leaf") from error
    return leaf, issuer


def _single(response: parsed.OCSPResponse) -> parsed.OCSPSingleResponse:
    status = response.response_status
    if status is not parsed.OCSPResponseStatus.SUCCESSFUL:
        kind = Unavailable if status in PASSING else Refused
        raise kind(f"the OCSP responder answered {status.name.lower()}")
    singles = list(response.responses)
    if len(singles) != 1:
        raise Refused(f"the OCSP response is about {len(singles)} certificates, not about one")
    return singles[0]


def _is_about(single: parsed.OCSPSingleResponse, leaf: x509.Certificate, issuer_der: bytes) -> None:
    cert_id = CertId(
        hash_oid=HASHES.get(type(single.hash_algorithm), ""),
        name_hash=single.issuer_name_hash,
        key_hash=single.issuer_key_hash,
        serial=single.serial_number,
        raw=b"",
    )
    if cert_id.serial != leaf.serial_number or not matches(cert_id, issuer_der):
        raise Refused("the OCSP response is about another certificate")


def _responder(
    response: parsed.OCSPResponse, issuer: x509.Certificate, now: datetime
) -> x509.Certificate:
    """The certificate whose key has signed; Refused unless it may."""
    named = [each for each in _candidates(response, issuer) if _is_named(response, each)]
    for certificate in named:
        if _has_signed(certificate, response):
            if certificate != issuer:
                _is_delegated(certificate, issuer, now)
            return certificate
    raise Refused("the OCSP response is not signed by the issuer or a responder of its")


def _candidates(
    response: parsed.OCSPResponse, issuer: x509.Certificate
) -> Iterator[x509.Certificate]:
    yield issuer
    yield from response.certificates


def _is_named(response: parsed.OCSPResponse, certificate: x509.Certificate) -> bool:
    """Whether the ResponderID is that of `certificate`; keys are named by SHA-1."""
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    key_bits = certificate_parts(certificate.public_bytes(Encoding.DER)).key_bits
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303
    digest.update(key_bits)
    return response.responder_key_hash == digest.finalize()


def _has_signed(certificate: x509.Certificate, response: parsed.OCSPResponse) -> bool:
    key, data = certificate.public_key(), response.tbs_response_bytes
    algorithm = response.signature_hash_algorithm
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | MLDSAPublicKey):
            key.verify(response.signature, data)
            return True
        if not isinstance(algorithm, STRONG):
            raise Refused("the OCSP response is signed with a weak or unknown hash")
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(response.signature, data, ec.ECDSA(algorithm))
            return True
        if isinstance(key, rsa.RSAPublicKey) and not _is_pss(response):
            key.verify(response.signature, data, padding.PKCS1v15(), algorithm)
            return True
    except InvalidSignature:
        return False
    raise Refused("the OCSP response is signed with an algorithm that is not supported")


def _is_pss(response: parsed.OCSPResponse) -> bool:
    return response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS


def _is_delegated(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except NOT_SIGNED as error:
        raise Refused("the OCSP responder's certificate is not from the leaf's issuer") from error
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        raise Refused("the OCSP responder's certificate is not for OCSP signing")
    if not certificate.not_valid_before_utc - SKEW <= now < certificate.not_valid_after_utc:
        raise Refused("the OCSP responder's certificate is not valid now")


def _current(single: parsed.OCSPSingleResponse, now: datetime) -> datetime:
    """The nextUpdate; Refused when the response is not of now."""
    this_update, next_update = single.this_update_utc, single.next_update_utc
    if this_update > now + SKEW:
        raise Refused(f"the OCSP response is of the future: thisUpdate is {this_update:%F %T} UTC")
    if next_update is None:
        raise Refused("the OCSP response has no nextUpdate: nobody can tell how long it holds")
    if next_update <= now:
        raise Refused(f"the OCSP response is over: nextUpdate was {next_update:%F %T} UTC")
    return next_update


def _staple(der: bytes, single: parsed.OCSPSingleResponse, until: datetime) -> Staple:
    status = single.certificate_status
    if status is parsed.OCSPCertStatus.UNKNOWN:
        raise Refused("the OCSP responder does not know the certificate")
    revoked_at = single.revocation_time_utc
    return Staple(
        der=der,
        status="good" if revoked_at is None else "revoked",
        this_update=single.this_update_utc.astimezone(UTC),
        until=until,
        revoked_at=revoked_at,
    )
