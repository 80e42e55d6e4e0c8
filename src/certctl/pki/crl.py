"""Certificate revocation lists, written as DER directly: long lists are what they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from certctl.domain.errors import Invalid
from certctl.pki import der
from certctl.pki.keys import PublicKey, signature_algorithm_der
from certctl.pki.parts import certificate_parts
from certctl.pki.x509 import issuer_key_identifier

V2 = der.integer(1)
AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER, REASON_CODE = "2.5.29.35", "2.5.29.20", "2.5.29.21"
MAX_NUMBER = (1 << 159) - 1
# 7 is unused; 8, removeFromCRL, belongs to delta CRLs alone (RFC 5280 §5.3.1).
REASONS = (0, 1, 2, 3, 4, 5, 6, 9, 10)


@dataclass(frozen=True)
class RevokedEntry:
    """One revoked certificate; `reason_code` is a CRLReason of RFC 5280 §5.3.1."""

    serial: int
    revoked_at: datetime
    reason_code: int


def draft_crl(
    issuer_der: bytes,
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[RevokedEntry],
    issuer_public_key: PublicKey,
) -> bytes:
    """The TBSCertList of a full CRL, entries in the order given (RFC 5280 §5.1).

    Raises:
        Invalid: for a number or serial out of range, a reason that a full CRL cannot hold, or
            times out of order.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise Invalid("a CRL number has 1 to 20 octets", field="number")
    if next_update <= this_update:
        raise Invalid("nextUpdate must be later than thisUpdate", field="next_update")
    listed = b"".join(_entries(entries))
    return der.sequence(
        V2,
        signature_algorithm_der(issuer_public_key),
        certificate_parts(issuer_der).subject,
        der.time(this_update),
        der.time(next_update),
        # An empty list must be absent (RFC 5280 §5.1.2.6).
        der.sequence(listed) if listed else b"",
        der.explicit(0, _extensions(issuer_der, issuer_public_key, number=number)),
    )


def _extensions(issuer_der: bytes, key: PublicKey, *, number: int) -> bytes:
    key_id = der.tlv(der.CONTEXT | 0, issuer_key_identifier(issuer_der, key))
    return der.sequence(
        der.extension(AUTHORITY_KEY_IDENTIFIER, der.sequence(key_id)),
        der.extension(CRL_NUMBER, der.integer(number)),
    )


def _entries(entries: Iterable[RevokedEntry]) -> Iterator[bytes]:
    reasons = {code: _reason(code) for code in REASONS}
    for entry in entries:
        if entry.reason_code not in reasons:
            raise Invalid(f"a full CRL cannot hold the reason {entry.reason_code}")
        if not 0 < entry.serial <= MAX_NUMBER:
            raise Invalid("a serial number is not positive or takes more than 20 octets")
        yield der.sequence(
            der.integer(entry.serial), der.time(entry.revoked_at), reasons[entry.reason_code]
        )


def _reason(code: int) -> bytes:
    """The entry's extensions; `unspecified` is said by saying nothing (RFC 5280 §5.3.1)."""
    if code == 0:
        return b""
    return der.sequence(der.extension(REASON_CODE, der.integer(code, tag=der.ENUMERATED)))
