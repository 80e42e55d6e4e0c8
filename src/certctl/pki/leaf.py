"""An end certificate of any CA, read for the inventory: its chain, its facts, its names."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from certctl.domain.errors import Invalid
from certctl.domain.names import MAX_NAMES, Name, parse_name
from certctl.pki.alt_names import checked_name
from certctl.pki.bundle import Bundle, one_bundle
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.x509 import CertificateFacts, facts

LONGEST_SERIAL = 40  # hexadecimal digits (RFC 5280 §4.1.2.2)


@dataclass(frozen=True)
class Leaf:
    """`names` are canonical; the common name is one of them."""

    chain: Bundle
    facts: CertificateFacts
    common_name: str
    names: tuple[Name, ...]


def read_leaf(text: str) -> Leaf:
    """The one end certificate in PEM `text`, with its chain put in order.

    Raises:
        Invalid: for whatever `one_bundle` or `facts` refuse, no name, or a name that certctl does
            not know how to write.
    """
    chain = one_bundle(text)
    found = facts(chain[0])
    if len(found.serial) > LONGEST_SERIAL:
        raise Invalid("the certificate's serial number has more than 20 octets")
    names = _names(chain[0], found)
    return Leaf(chain, found, _common_name(found, names), names)


def _names(der: bytes, found: CertificateFacts) -> tuple[Name, ...]:
    """All alternative names, or else the common name (RFC 6125 §6.4.4)."""
    given = _alternative_names(der)
    names = tuple(dict.fromkeys(checked_name(general, field="sans") for general in given))
    if len(names) > MAX_NAMES:
        raise Invalid(f"sans: at most {MAX_NAMES} names, not {len(names)}", field="sans")
    if names:
        return names
    if found.subject_cn is None:
        raise Invalid("the certificate has neither a common name nor alternative names")
    return (parse_name(found.subject_cn, field="common_name"),)


def _alternative_names(der: bytes) -> list[x509.GeneralName]:
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        return list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except UNREADABLE as error:
        raise Invalid("the certificate's extensions cannot be read") from error


def _common_name(found: CertificateFacts, names: tuple[Name, ...]) -> str:
    """The subject's common name where it is one of the names; a title of any kind is not."""
    try:
        given = parse_name(found.subject_cn or "")
    except Invalid:
        return names[0].value
    return given.value if given in names else names[0].value
