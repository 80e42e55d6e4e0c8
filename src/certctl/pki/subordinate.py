"""The certificate of a CA that somebody else has signed, checked with its chain before we sign by
it (RFC 5280 §6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.domain.errors import Invalid
from certctl.pki import keys, name_constraints
from certctl.pki.name_constraints import NameConstraints
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.weakness import weakness
from certctl.pki.x509 import ders_of_pem
from certctl.pki.x509.reading import common_name, facts, found

MOST: Final = 10
DEEPEST: Final = 8  # stands for a certificate without a limit, or with a larger one
UNPROVED: Final[tuple[type[Exception], ...]] = (InvalidSignature, *UNREADABLE)
BROKEN_HASHES: Final = ("md5", "sha1")
CERTIFICATE, CHAIN = "certificate_pem", "chain_pem"


@dataclass(frozen=True)
class Link:
    """One CA of a chain. `path_length` and `constraints` are what holds at this place: its own
    certificate's and those of all above it."""

    der: bytes
    name: str
    path_length: int
    constraints: NameConstraints
    not_before: datetime
    not_after: datetime
    spki_sha256: str


def read_chain(certificate_pem: str, chain_pem: str, now: datetime) -> list[Link]:
    """The CA of `certificate_pem`, the one above it, and so on to the self-signed root.

    `certificate_pem` may hold the chain after the certificate; certificates above it may stand in
    any order.

    Raises:
        Invalid: naming `certificate_pem` or `chain_pem`, with what is to be mended.
    """
    own, *more = _certificates(certificate_pem, CERTIFICATE)
    if more and chain_pem.strip():
        raise _refusal(CERTIFICATE, "holds more than one certificate; put the others in chain_pem")
    above = more or (_certificates(chain_pem, CHAIN) if chain_pem.strip() else [])
    path = _path(own, [each for each in above if each != own])
    for at, certificate in enumerate(path):
        _check_ca(certificate, CHAIN if at else CERTIFICATE, now)
    return _links(path)


def _certificates(text: str, field: str) -> list[x509.Certificate]:
    try:
        ders = ders_of_pem(text)
        for der in ders:
            facts(der)
    except Invalid as error:
        raise _refusal(field, error.message) from error
    if len(ders) > MOST:
        raise _refusal(field, f"holds more than {MOST} certificates")
    return [x509.load_der_x509_certificate(der) for der in dict.fromkeys(ders)]


def _path(own: x509.Certificate, above: list[x509.Certificate]) -> list[x509.Certificate]:
    if _is_signed_by(own, own):
        words = "is a root, signed by itself; give the certificate of a CA that a root has signed"
        raise _refusal(CERTIFICATE, words)
    path, rest = [own], list(above)
    while not _is_signed_by(path[-1], path[-1]):
        signer = next((each for each in rest if _is_signed_by(path[-1], each)), None)
        if signer is None:
            raise _refusal(CHAIN, _missing(path[-1], rest))
        rest.remove(signer)
        path.append(signer)
    if rest:
        words = f"{_name(rest[0])} is not above the CA; leave it out"
        raise _refusal(CHAIN, words)
    return path


def _missing(certificate: x509.Certificate, rest: Sequence[x509.Certificate]) -> str:
    wanted = certificate.issuer.rfc4514_string()
    if any(each.subject == certificate.issuer for each in rest):
        return f"the signature of {_name(certificate)} is not by the {wanted} in the chain"
    return f"the certificate of {wanted} is missing; the chain goes up to the root"


def _is_signed_by(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except UNPROVED:
        return False
    return True


def _check_ca(certificate: x509.Certificate, field: str, now: datetime) -> None:
    who = _name(certificate)
    basic, usage = found(certificate, x509.BasicConstraints), found(certificate, x509.KeyUsage)
    if basic is None or not basic.ca:
        raise _refusal(field, f"{who} is not for a CA (basicConstraints without CA:TRUE)")
    if usage is not None and not usage.key_cert_sign:
        raise _refusal(field, f"{who} may not sign certificates (keyUsage without keyCertSign)")
    if field == CERTIFICATE and usage is not None and not usage.crl_sign:
        raise _refusal(field, f"{who} may not sign CRLs (keyUsage without cRLSign)")
    if certificate.not_valid_after_utc <= now:
        raise _refusal(field, f"{who} expired at {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        raise _refusal(field, f"{who} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on")
    if field == CERTIFICATE and (why := weakness(certificate.public_key())):
        raise _refusal(field, f"the key of {who} {why}")
    _check_signature(certificate, field)


def _check_signature(certificate: x509.Certificate, field: str) -> None:
    """A root's own signature proves nothing, so its hash does not matter."""
    digest = certificate.signature_hash_algorithm
    if certificate.subject == certificate.issuer or digest is None:
        return
    if digest.name in BROKEN_HASHES:
        raise _refusal(
            field, f"{_name(certificate)} is signed with {digest.name}; have it re-signed"
        )


def _links(path: Sequence[x509.Certificate]) -> list[Link]:
    links: list[Link] = []
    limit, bounds = DEEPEST + 1, name_constraints.NONE
    for at, certificate in reversed(list(enumerate(path))):
        field = CHAIN if at else CERTIFICATE
        basic = found(certificate, x509.BasicConstraints)
        own = basic.path_length if basic else None
        if limit == 0:
            raise _refusal(field, f"no CA may stand where {_name(certificate)} does: path length")
        limit = min(limit - 1, DEEPEST if own is None else own)
        bounds = _constraints(certificate, bounds, field)
        links.append(
            Link(
                certificate.public_bytes(Encoding.DER),
                _name(certificate),
                limit,
                bounds,
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
                keys.spki_sha256(keys.supported(certificate.public_key())),
            )
        )
    return links[::-1]


def _constraints(
    certificate: x509.Certificate, above: NameConstraints, field: str
) -> NameConstraints:
    try:
        return name_constraints.of_authority(certificate).below(above)
    except UNREADABLE as error:
        raise _refusal(field, f"{_name(certificate)}: unreadable name constraints") from error
    except Invalid as error:
        raise _refusal(field, f"{_name(certificate)}: {error.message}") from error


def _name(certificate: x509.Certificate) -> str:
    return common_name(certificate.subject) or certificate.subject.rfc4514_string() or "the CA"


def _refusal(field: str, words: str) -> Invalid:
    return Invalid(f"{field}: {words}", field=field)
