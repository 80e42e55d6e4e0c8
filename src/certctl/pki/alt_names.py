"""Between our names and the GeneralNames of the subjectAltName extension (RFC 5280 §4.2.1.6)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

from certctl.domain.errors import Invalid
from certctl.domain.names import Name, NameKind, dns_name, parse_name


def general_names(names: Iterable[Name]) -> list[x509.GeneralName]:
    """`names` as they stand in a certificate, in the order given."""
    return [_general_name(name) for name in names]


def plain_name(general: x509.GeneralName) -> Name | None:
    """The name as it stands, in lower case if DNS; None for kinds that certctl does not issue."""
    match general:
        case x509.DNSName():
            return Name(NameKind.DNS, general.value.lower())
        case x509.IPAddress():
            return Name(NameKind.IP, str(general.value))
        case x509.RFC822Name():
            return Name(NameKind.EMAIL, general.value)
        case x509.UniformResourceIdentifier():
            return Name(NameKind.URI, general.value)
        case _:
            return None


def checked_name(general: x509.GeneralName, *, field: str) -> Name:
    """The canonical name, of the kind that it claims to be.

    Raises:
        Invalid: naming `field`, for other kinds and for values that break our rules.
    """
    name = plain_name(general)
    if name is None:
        kind = type(general).__name__
        raise Invalid(f"{field}: a {kind} is not a DNS, IP, e-mail or URI name", field=field)
    if name.kind is NameKind.DNS:
        return Name(NameKind.DNS, dns_name(name.value, field=field))
    canonical = parse_name(name.value, field=field)
    if canonical.kind is not name.kind:
        raise Invalid(f"{field}: {name.value!r} is not of kind {name.kind}", field=field)
    return canonical


def _general_name(name: Name) -> x509.GeneralName:
    match name.kind:
        case NameKind.DNS:
            return x509.DNSName(name.value)
        case NameKind.IP:
            return x509.IPAddress(ipaddress.ip_address(name.value))
        case NameKind.EMAIL:
            return x509.RFC822Name(name.value)
        case NameKind.URI:
            return x509.UniformResourceIdentifier(name.value)
