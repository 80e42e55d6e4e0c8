"""Certificate policies: the identifiers that a certificate asserts (RFC 5280 §4.2.1.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from certctl.domain.errors import Invalid

ANY_POLICY: Final = "2.5.29.32.0"


def policies_extension(oids: Iterable[str], cps_uri: str) -> x509.CertificatePolicies:
    """The extension that asserts `oids`, each with the address of the practice statement."""
    qualifiers: list[str | x509.UserNotice] | None = [cps_uri] if cps_uri else None
    return x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(oid), qualifiers) for oid in oids]
    )


def checked_policies(oids: Iterable[str], *, field: str) -> None:
    """Raises Invalid, naming the field, unless they are different identifiers that a leaf can
    assert."""
    seen = set()
    for oid in oids:
        if not _is_identifier(oid):
            raise Invalid(
                f"{field}: {oid!r} is no object identifier such as 1.3.6.1.4.1.1", field=field
            )
        if oid == ANY_POLICY:
            raise Invalid(f"{field}: {oid}, any policy, is for CAs only", field=field)
        if oid in seen:
            raise Invalid(f"{field}: {oid} is there twice", field=field)
        seen.add(oid)


def _is_identifier(text: str) -> bool:
    try:
        return x509.ObjectIdentifier(text).dotted_string == text
    except ValueError:
        return False


def checked_cps(uri: str, *, field: str) -> None:
    """Raises Invalid, naming the field, unless a browser can open the address."""
    try:
        parsed = urlsplit(uri)
        port_fits = parsed.port != 0
    except ValueError:
        port_fits = False
    else:
        port_fits = port_fits and parsed.scheme in {"http", "https"} and bool(parsed.hostname)
    if not port_fits or not uri.isascii() or not uri.isprintable() or " " in uri:
        raise Invalid(f"{field}: {uri!r} is no http or https address in ASCII", field=field)
