"""Certificate revocation lists, written as DER directly: long lists are what they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
DISTRIBUTION_POINT = "2.5.29.28"
URI = 6  # of GeneralName


@dataclass(frozen=True)
class RevokedEntry:
    """One revoked certificate; `reason_code` is a CRLReason of RFC 5280 §5.3.1."""

    serial: int
    revoked_at: datetime
    reason_code: int


def entry_der(entry: RevokedEntry) -> bytes:
    """One of revokedCertificates (RFC 5280 §5.1.2.6).

    Raises:
        Invalid: for a serial out of range, or a reason that a full CRL cannot hold.
    """
    if entry.reason_code not in REASONS:
        raise Invalid(f"a full CRL cannot hold the reason {entry.reason_code}")
    if not 0 < entry.serial <= MAX_NUMBER:
        raise Invalid("a serial number is not positive or takes more than 20 octets")
    return der.sequence(
        der.integer(entry.serial), der.time(entry.revoked_at), REASONS[entry.reason_code]
    )


def draft_crl(
    issuer_der: bytes,
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[bytes],
    issuer_public_key: PublicKey,
    shard_urls: Sequence[str] = (),
) -> bytes:
    """The TBSCertList of a full CRL (RFC 5280 §5.1). `entries` are what `entry_der` made, in the
    order given, any number of them in each piece. With `shard_urls` it is the part of the CRL of
    those leaves whose distribution point is one of these.

    Raises:
        Invalid: for a number out of range, or times out of order.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise Invalid("a CRL number has 1 to 20 octets", field="number")
    if next_update <= this_update:
        raise Invalid("nextUpdate must be later than thisUpdate", field="next_update")
    pieces = tuple(entries)
    size = sum(map(len, pieces))
    extensions = [*_extensions(issuer_der, issuer_public_key, number=number)]
    if shard_urls:
        extensions.append(_distribution_point(shard_urls))
    return der.sequence(
        V2,
        signature_algorithm_der(issuer_public_key),
        certificate_parts(issuer_der).subject,
        der.time(this_update),
        der.time(next_update),
        # An empty list must be absent (RFC 5280 §5.1.2.6).
        der.head(der.SEQUENCE, size) if size else b"",
        *pieces,
        der.explicit(0, der.sequence(*extensions)),
    )


def _extensions(issuer_der: bytes, key: PublicKey, *, number: int) -> Iterator[bytes]:
    key_id = der.tlv(der.CONTEXT | 0, issuer_key_identifier(issuer_der, key))
    yield der.extension(AUTHORITY_KEY_IDENTIFIER, der.sequence(key_id))
    yield der.extension(CRL_NUMBER, der.integer(number))


def _distribution_point(urls: Sequence[str]) -> bytes:
    """The issuing distribution point of leaves alone (RFC 5280 §5.2.5)."""
    names = b"".join(der.tlv(der.CONTEXT | URI, url.encode("ascii")) for url in urls)
    point = der.explicit(0, der.explicit(0, names))
    only_leaves = der.tlv(der.CONTEXT | 1, b"\xff")
    return der.extension(DISTRIBUTION_POINT, der.sequence(point, only_leaves), critical=True)


def _reason(code: int) -> bytes:
    """The entry's extensions; `unspecified` is said by saying nothing (RFC 5280 §5.3.1)."""
    if code == 0:
        return b""
    return der.sequence(der.extension(REASON_CODE, der.integer(code, tag=der.ENUMERATED)))


# 7 is unused; 8, removeFromCRL, belongs to delta CRLs alone (RFC 5280 §5.3.1).
REASONS = {code: _reason(code) for code in (0, 1, 2, 3, 4, 5, 6, 9, 10)}
