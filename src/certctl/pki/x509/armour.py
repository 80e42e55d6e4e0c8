"""Certificates between DER and PEM (RFC 7468)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from cryptography import x509

from certctl.domain.errors import Invalid
from certctl.pki.unreadable import UNREADABLE

BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
LABEL = "CERTIFICATE"


def pem(der: bytes) -> str:
    """One certificate as a PEM block that ends in a newline."""
    return block(der, label=LABEL)


def chain_pem(ders: Iterable[bytes]) -> str:
    """Certificates as PEM blocks one after the other, in the order given."""
    return "".join(map(pem, ders))


def ders_of_pem(text: str) -> list[bytes]:
    """The certificates in `text`, at least one. Words between blocks are ignored (RFC 7468 §2).

    Raises:
        Invalid: for no certificate, a block of another kind, or a block that is not a certificate.
    """
    ders = blocks(text, labels=frozenset({LABEL}))
    if not ders:
        raise Invalid("no PEM certificate found")
    for der in ders:
        try:
            x509.load_der_x509_certificate(der)
        except UNREADABLE as error:
            raise Invalid("a PEM block does not hold a certificate") from error
    return ders


def block(der: bytes, *, label: str) -> str:
    """One PEM block, 64 characters a line."""
    text = base64.b64encode(der).decode()
    lines = (text[at : at + 64] for at in range(0, len(text), 64))
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def blocks(text: str, *, labels: frozenset[str]) -> list[bytes]:
    """The contents of every PEM block in `text`; Invalid for other labels and damaged blocks."""
    found = list(BLOCK.finditer(text))
    if "-----" in BLOCK.sub("", text):
        raise Invalid("a PEM block is damaged")
    strange = sorted({match[1] for match in found} - labels)
    if strange:
        raise Invalid(f"unexpected PEM block: {', '.join(strange)}")
    try:
        return [base64.b64decode("".join(match[2].split()), validate=True) for match in found]
    except binascii.Error as error:
        raise Invalid("a PEM block is not base64") from error
