"""ACME Renewal Information (RFC 9773), as any CA that serves it is asked."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Final

import httpx
import msgspec
from cryptography import x509

from certctl.connectors import http
from certctl.connectors.issuer import Suggested
from certctl.domain.errors import Refused, Unavailable

LARGEST: Final = 65_536  # bytes of an answer
ASK_AGAIN: Final = timedelta(hours=6)  # where the CA names no time (RFC 9773 §4.3.2)


def identifier(cert_der: bytes) -> str:
    """The certificate's identifier: its issuer's key identifier and its serial (RFC 9773 §4.1).

    Raises:
        Refused: for a certificate without an authority key identifier.
    """
    certificate = x509.load_der_x509_certificate(cert_der)
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        raise Refused("the certificate names no authority key") from None
    serial = certificate.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{_base64url(authority.value.key_identifier or b'')}.{_base64url(octets)}"


async def fetch(
    through: httpx.AsyncClient, base_url: str, cert_der: bytes, *, timeout: timedelta
) -> Suggested:
    """What the CA whose `renewalInfo` resource is at `base_url` says of a certificate.

    Raises:
        Unavailable: when it does not answer in time, or not in the form of RFC 9773 §4.2.
        Refused: when it knows nothing of the certificate, or is at an address that may not be
            called.
    """
    url = f"{base_url.rstrip('/')}/{identifier(cert_der)}"
    answer = http.accepted(
        await http.ask(through, "GET", url, timeout=timeout.total_seconds(), most=LARGEST), url
    )
    try:
        told = msgspec.json.decode(answer.body, type=_Told)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unavailable(f"{http.place(url)}: renewal information cannot be read") from error
    window = told.suggestedWindow
    if window.end <= window.start:
        raise Unavailable(f"{http.place(url)}: the suggested window ends before it begins")
    again = _retry_after(answer.headers.get("retry-after", ""))
    return Suggested(window.start, window.end, again, told.explanationURL)


Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Window(msgspec.Struct):
    start: Moment
    end: Moment


class _Told(msgspec.Struct):
    """The members of RFC 9773 §4.2, under their own names."""

    suggestedWindow: _Window  # noqa: N815
    explanationURL: Annotated[str, msgspec.Meta(max_length=2048)] | None = None  # noqa: N815


def _retry_after(text: str) -> timedelta:
    """Seconds or an HTTP date (RFC 9110 §10.2.3)."""
    if re.fullmatch(r"\d{1,9}", text):
        return timedelta(seconds=int(text))
    try:
        until = parsedate_to_datetime(text)
        return until - datetime.now(until.tzinfo)
    except (ValueError, TypeError):
        return ASK_AGAIN


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
