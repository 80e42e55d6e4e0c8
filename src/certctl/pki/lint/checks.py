"""From to-be-signed bytes to `Linted`, the only thing that can be signed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import InitVar, dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.x509 import ocsp

from certctl.domain.errors import Invalid
from certctl.pki import der, keys
from certctl.pki.lint import judge
from certctl.pki.lint.case import NO_SIGNATURE, Case, open_case
from certctl.pki.lint.certificate import broken_rules
from certctl.pki.lint.entries import crl_sample, entries_flaws, entries_span
from certctl.pki.lint.revocation import crl_flaws, ocsp_flaws
from certctl.pki.lint.waivable import why_never
from certctl.pki.unreadable import UNREADABLE

BASIC_RESPONSE = "1.3.6.1.5.5.7.48.1.1"
T = TypeVar("T")
_SEAL = object()


@dataclass(frozen=True)
class Linted:
    """Bytes that were examined and may be signed, with the algorithm and, as SHA-256 of its
    SubjectPublicKeyInfo, the key that they were examined for, and the codes of what was found and
    passed over. Made in this module alone."""

    tbs: bytes
    algorithm_der: bytes
    key_sha256: str
    seal: InitVar[object]
    passed_over: tuple[str, ...] = ()

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("Linted is made by certctl.pki.lint alone")


def check_certificate(
    tbs: bytes,
    issuer_public_key: keys.PublicKey,
    *,
    issuer_der: bytes | None,
    shape: Hashable,
    waived: Collection[str] = (),
) -> Linted:
    """Examine a TBSCertificate that the issuer (None: the subject itself) is to sign.

    Our own rules are looked at every time. pkilint is asked once per `shape` (profile version,
    issuer, whatever else the caller's contents vary with) and structure of the certificate; what it
    finds does not block where its code is among the `waived` and may be passed over at all.

    Raises:
        Invalid: listing every broken rule, or pkilint's codes.
    """
    case = _opened(lambda: open_case(tbs, issuer_public_key, issuer_der=issuer_der))
    _refuse("certificate", _opened(lambda: broken_rules(case)))
    linted = _linted(tbs, issuer_public_key)
    passed_over = judge.require_clean(
        "certificate",
        (shape, linted.algorithm_der, _structure(case)),
        lambda: _whole(linted),
        waived=[code for code in waived if why_never(code) is None],
    )
    return Linted(linted.tbs, linted.algorithm_der, linted.key_sha256, _SEAL, passed_over)


def check_crl(tbs: bytes, issuer_public_key: keys.PublicKey, *, shape: Hashable) -> Linted:
    """Examine a TBSCertList that the issuer is to sign; `shape` as for certificates.

    Every entry is looked at, without an object for each. Parsed and shown to pkilint is the same
    list with its first entries only.

    Raises:
        Invalid: listing every broken rule, or pkilint's codes.
    """
    sample = _whole(_linted(crl_sample(tbs), issuer_public_key))
    crl = _opened(lambda: x509.load_der_x509_crl(sample))
    flaws = _opened(lambda: [*crl_flaws(crl), *entries_flaws(tbs, *entries_span(tbs))])
    _refuse("CRL", flaws)
    parts = tuple((extension.oid, extension.critical) for extension in crl.extensions)
    linted = _linted(tbs, issuer_public_key)
    judge.require_clean("crl", (shape, linted.algorithm_der, parts, len(crl) > 0), lambda: sample)
    return linted


def check_ocsp(
    tbs: bytes,
    responder_public_key: keys.PublicKey,
    *,
    responder_der: bytes | None,
    shape: Hashable,
) -> Linted:
    """Examine a ResponseData that a responder is to sign; `responder_der` is the certificate that
    will go along, None when the CA itself answers.

    Raises:
        Invalid: listing every broken rule, or pkilint's codes.
    """
    linted = _linted(tbs, responder_public_key)
    document = ocsp_response(linted, NO_SIGNATURE, responder_der=responder_der)
    response = _opened(lambda: ocsp.load_der_ocsp_response(document))
    _refuse("OCSP response", _opened(lambda: list(ocsp_flaws(response, responder_public_key))))
    judge.require_clean("ocsp", (shape, linted.algorithm_der), lambda: document)
    return linted


def ocsp_response(linted: Linted, signature: bytes, *, responder_der: bytes | None) -> bytes:
    """A successful OCSPResponse around signed ResponseData (RFC 6960 §4.2.1)."""
    along = b"" if responder_der is None else der.explicit(0, der.sequence(responder_der))
    basic = der.sequence(linted.tbs, linted.algorithm_der, der.bits(signature), along)
    typed = der.sequence(der.oid(BASIC_RESPONSE), der.octets(basic))
    return der.sequence(der.integer(0, tag=der.ENUMERATED), der.explicit(0, typed))


def _linted(tbs: bytes, key: keys.PublicKey) -> Linted:
    return Linted(tbs, keys.signature_algorithm_der(key), keys.spki_sha256(key), _SEAL)


def _whole(linted: Linted) -> bytes:
    return der.assemble(linted.tbs, linted.algorithm_der, NO_SIGNATURE)


def _opened(read: Callable[[], T]) -> T:
    """What `read` returns; Invalid when the bytes cannot be read."""
    try:
        return read()
    except UNREADABLE as error:
        raise Invalid(f"the bytes to be signed cannot be read: {error}") from error


def _refuse(what: str, flaws: Iterable[str]) -> None:
    if listed := "; ".join(flaws):
        raise Invalid(f"lint refuses the {what}: {listed}")


def _structure(case: Case) -> Hashable:
    """What pkilint's verdict depends on besides values that our own rules look at."""
    certificate = case.certificate
    names = case.value(x509.SubjectAlternativeName) or ()
    return (
        certificate.public_key_algorithm_oid,
        tuple(attribute.oid for attribute in certificate.subject),
        tuple((extension.oid, extension.critical) for extension in certificate.extensions),
        frozenset(type(name) for name in names),
    )
