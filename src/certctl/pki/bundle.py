"""Bundles: end certificates with the chains that lead up from them, from PEM in any order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.domain.errors import Invalid
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.x509 import ders_of_pem

MOST: Final = 20
KEY: Final = re.compile(r"PRIVATE\s+KEY", re.IGNORECASE)
Bundle = tuple[bytes, ...]
UNPROVED: Final[tuple[type[Exception], ...]] = (InvalidSignature, *UNREADABLE)


def holds_key(text: str) -> bool:
    """Whether a private key stands in `text`, or something that calls itself one."""
    return KEY.search(text) is not None


def bundles(text: str) -> list[Bundle]:
    """Every end certificate in PEM `text`, DER, each followed by its issuers as far as they are
    given. Duplicates and what belongs to no chain are left out; CAs alone give an empty list.

    Raises:
        Invalid: for a private key, no certificate, or one that cannot be read.
    """
    return _bundles(_ders(text))


def one_bundle(text: str) -> Bundle:
    """The only bundle in `text`, the end certificate first.

    Raises:
        Invalid: as `bundles`, and for no end certificate, more than one, or more than 20 in all.
    """
    ders = _ders(text)
    if len(ders) > MOST:
        raise Invalid(f"{len(ders)} certificates in one bundle; at most {MOST}")
    found = _bundles(ders)
    if not found:
        raise Invalid("only CA certificates were given; give the certificate that a server shows")
    if len(found) > 1:
        raise Invalid(f"{len(found)} end certificates in one bundle; give each on its own")
    return found[0]


def _ders(text: str) -> list[bytes]:
    if holds_key(text):
        raise Invalid("a private key was given; give certificates only")
    return list(dict.fromkeys(ders_of_pem(text)))


def _bundles(ders: Iterable[bytes]) -> list[Bundle]:
    read = [x509.load_der_x509_certificate(der) for der in ders]
    return [_upwards(one, read) for one in read if _is_end(one, read)]


def issued_by(certificate_der: bytes, ca_der: bytes) -> bool:
    """Whether the CA's name stands in the certificate and its key verifies the signature."""
    load = x509.load_der_x509_certificate
    return _issued_by(load(certificate_der), load(ca_der))


def _is_end(one: x509.Certificate, others: Iterable[x509.Certificate]) -> bool:
    """A CA of version 1 says nothing of itself; its signature on another certificate does."""
    try:
        basic = one.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return not any(other != one and _issued_by(other, one) for other in others)
    except UNREADABLE as error:
        raise Invalid("a certificate's extensions cannot be read") from error
    return not basic.ca


def _upwards(end: x509.Certificate, others: Sequence[x509.Certificate]) -> Bundle:
    chain, left = [end], [other for other in others if other != end]
    while above := next((ca for ca in left if _issued_by(chain[-1], ca)), None):
        chain.append(above)
        left.remove(above)
    return tuple(one.public_bytes(Encoding.DER) for one in chain)


def _issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        if certificate.issuer != ca.subject:
            return False
        certificate.verify_directly_issued_by(ca)
    except UNPROVED:
        return False
    return True
