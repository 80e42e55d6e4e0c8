"""Our own rules for CRLs (RFC 5280 §5) and OCSP responses (RFC 6960 §4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.x509 import ocsp

from certctl.pki.keys import PublicKey, key_identifier
from certctl.pki.lint.certificate import is_plain_http

MAX_NUMBER = (1 << 159) - 1


def crl_flaws(crl: x509.CertificateRevocationList) -> Iterator[str]:
    """What is wrong with a CRL, its entries apart. That both its signature algorithms agree was
    seen when it was parsed (RFC 5280 §5.1.1.2)."""
    if crl.next_update_utc is None or crl.next_update_utc <= crl.last_update_utc:
        yield "nextUpdate is missing or not later than thisUpdate"
    yield from _crl_extension_flaws(crl)


def _crl_extension_flaws(crl: x509.CertificateRevocationList) -> Iterator[str]:
    held = {extension.oid: extension for extension in crl.extensions}
    number = held.get(x509.CRLNumber.oid)
    authority = held.get(x509.AuthorityKeyIdentifier.oid)
    if number is None or number.critical or not 0 <= number.value.crl_number <= MAX_NUMBER:
        yield "the CRL number is missing, critical, or takes more than 20 octets"
    if authority is None or authority.critical or not authority.value.key_identifier:
        yield "the authority key identifier is missing or critical"
    point = held.get(x509.IssuingDistributionPoint.oid)
    if point is not None and not (point.critical and _is_shard(point.value)):
        yield "the issuing distribution point is not critical, or not one of leaves"


def _is_shard(point: x509.IssuingDistributionPoint) -> bool:
    """Whether it is the only scope that we give a CRL (RFC 5280 §5.2.5)."""
    names = point.full_name or []
    return (
        bool(names)
        and all(
            isinstance(name, x509.UniformResourceIdentifier) and is_plain_http(name.value)
            for name in names
        )
        and point.only_contains_user_certs
        and not (point.indirect_crl or point.only_some_reasons or point.relative_name)
    )


def ocsp_flaws(response: ocsp.OCSPResponse, key: PublicKey) -> Iterator[str]:
    """What is wrong with a response that the responder's `key` is to sign."""
    if response.responder_key_hash != key_identifier(key):
        yield "the responder is not named by the hash of its key"
    singles = list(response.responses)
    if not singles:
        yield "there is no single response"
    for single in singles:
        end = single.next_update_utc
        if single.this_update_utc > response.produced_at_utc:
            yield "thisUpdate is later than producedAt"
        if end is None or end <= single.this_update_utc:
            yield "nextUpdate is missing or not later than thisUpdate"
    yield from _responder_flaws(response, key)


def _responder_flaws(response: ocsp.OCSPResponse, key: PublicKey) -> Iterator[str]:
    for certificate in response.certificates:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if certificate.public_key() != key:
            yield "the responder's certificate is for another key"
        if not start <= response.produced_at_utc <= end:
            yield "the responder's certificate is not valid at producedAt"
