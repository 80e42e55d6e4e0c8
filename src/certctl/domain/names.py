"""The names a certificate can speak for: DNS names, wildcards, IP addresses, e-mail, URIs.

Canonical text is what the database keeps and what is compared: A-labels in lower case, IP
addresses as `ipaddress` prints them (RFC 5280 §4.2.1.6, RFC 5890).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from certctl.domain.errors import Invalid

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
URI = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
MAX_NAMES = 100


class NameKind(StrEnum):
    DNS = "dns"
    IP = "ip"
    EMAIL = "email"
    URI = "uri"


@dataclass(frozen=True, order=True)
class Name:
    """One subject alternative name, canonical."""

    kind: NameKind
    value: str

    def __str__(self) -> str:
        return self.value

    @property
    def is_wildcard(self) -> bool:
        return self.kind is NameKind.DNS and self.value.startswith("*.")


def parse_name(text: str, *, field: str = "sans") -> Name:
    """Classify and canonicalise one name as an operator writes it.

    An IP literal is an IP address, `scheme://…` a URI, anything with `@` an e-mail address, the
    rest a DNS name (`localhost` too).

    Raises:
        Invalid: naming `field` and the rule that the name breaks.
    """
    text = text.strip()
    if not text or len(text) > 253:
        raise Invalid(f"{field}: a name has 1 to 253 characters", field=field)
    if any(ord(c) < 33 or ord(c) > 126 for c in text):
        raise Invalid(
            f"{field}: {text!r} has characters outside printable ASCII; "
            "write internationalised names as A-labels (xn--…)",
            field=field,
        )
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        if "%" in text:
            raise Invalid(f"{field}: {text!r}: an address in a name has no zone", field=field)
        return Name(NameKind.IP, str(address))
    if "://" in text:
        return _uri(text, field)
    if "@" in text:
        return _email(text, field)
    return Name(NameKind.DNS, dns_name(text, field=field))


def parse_names(texts: Iterable[str], *, field: str = "sans") -> tuple[Name, ...]:
    """Canonical names in the order given, duplicates dropped.

    Raises:
        Invalid: for a bad name, or for more than 100 names.
    """
    names = tuple(dict.fromkeys(parse_name(text, field=field) for text in texts))
    if len(names) > MAX_NAMES:
        raise Invalid(f"{field}: at most {MAX_NAMES} names, not {len(names)}", field=field)
    return names


def dns_name(text: str, *, field: str = "sans") -> str:
    """A DNS name in lower case, `*.` allowed as the left-most label only (RFC 1034 §3.5)."""
    value = text.lower().removesuffix(".")
    host = value.removeprefix("*.")
    labels = host.split(".")
    if "*" in host:
        raise Invalid(f"{field}: {text!r}: `*.` is allowed as the first label only", field=field)
    if not all(LABEL.fullmatch(label) for label in labels):
        raise Invalid(
            f"{field}: {text!r} is not a DNS name: labels hold letters, digits and inner hyphens",
            field=field,
        )
    if value.startswith("*.") and len(labels) < 2:
        raise Invalid(f"{field}: {text!r}: a wildcard needs two labels after it", field=field)
    if all(label.isdigit() for label in labels):
        raise Invalid(f"{field}: {text!r} looks like an IP address and is not one", field=field)
    return value


def _email(text: str, field: str) -> Name:
    mailbox, _, host = text.rpartition("@")
    if not MAILBOX.fullmatch(mailbox) or host.startswith("*."):
        raise Invalid(f"{field}: {text!r} is not an e-mail address", field=field)
    return Name(NameKind.EMAIL, f"{mailbox}@{dns_name(host, field=field)}")


def _uri(text: str, field: str) -> Name:
    if not URI.fullmatch(text):
        raise Invalid(f"{field}: {text!r} is not an absolute URI", field=field)
    return Name(NameKind.URI, text)
