"""The few DER forms that CRLs, OCSP and signed objects need, written and read strictly (X.690).

Only low tag numbers exist here; nothing in our protocols uses others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from certctl.domain.errors import Invalid

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL_TAG, OID, ENUMERATED = 1, 2, 3, 4, 5, 6, 10
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
CONTEXT, CONSTRUCTED = 0x80, 0x20

NULL = b"\x05\x00"
TRUE = b"\x01\x01\xff"
MAX_LENGTH_OCTETS = 4
MAX_OID_OCTETS = 64


@dataclass(frozen=True)
class Element:
    """One value: its tag octet, its contents, and all its bytes as they stood."""

    tag: int
    body: bytes
    raw: bytes


def head(tag: int, size: int) -> bytes:
    """Tag and definite length in its shortest form (X.690 §10.1), for `size` octets of contents."""
    if size < 0x80:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


def tlv(tag: int, body: bytes) -> bytes:
    """Tag, length, contents."""
    return head(tag, len(body)) + body


def sequence(*members: bytes) -> bytes:
    """SEQUENCE, or SEQUENCE OF, of values already encoded; they are copied once."""
    return b"".join((head(SEQUENCE, sum(map(len, members))), *members))


def explicit(number: int, body: bytes) -> bytes:
    """`[number] EXPLICIT` around one encoded value."""
    return tlv(CONTEXT | CONSTRUCTED | number, body)


def integer(value: int, *, tag: int = INTEGER) -> bytes:
    """INTEGER in two's complement, shortest form (X.690 §8.3)."""
    magnitude = value if value >= 0 else ~value
    return tlv(tag, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def octets(body: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, body)


def bits(body: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\0" + body)


@lru_cache(maxsize=256)
def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form (X.690 §8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return tlv(OID, b"".join(_base128(arc) for arc in (first * 40 + second, *rest)))


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Extension: identifier, `critical` only when true, value wrapped (RFC 5280 §4.1)."""
    return sequence(oid(dotted), TRUE if critical else b"", octets(value))


def generalized_time(at: datetime) -> bytes:
    """GeneralizedTime in UTC, whole seconds (RFC 5280 §4.1.2.5.2)."""
    utc = at.astimezone(UTC)
    return tlv(GENERALIZED_TIME, f"{utc.year:04}{utc:%m%d%H%M%S}Z".encode())


def time(at: datetime) -> bytes:
    """UTCTime from 1950 through 2049, GeneralizedTime otherwise (RFC 5280 §4.1.2.5)."""
    utc = at.astimezone(UTC)
    if not 1950 <= utc.year <= 2049:
        return generalized_time(utc)
    return tlv(UTC_TIME, f"{utc:%y%m%d%H%M%S}Z".encode())


def assemble(tbs: bytes, algorithm_der: bytes, signature: bytes) -> bytes:
    """The signed object that X.509 shapes alike: certificate, CRL, request, OCSP basic response."""
    return sequence(tbs, algorithm_der, bits(signature))


def elements(data: bytes) -> list[Element]:
    """The values that `data` consists of, nothing left over.

    Raises:
        Invalid: for truncated data, indefinite or padded lengths, or tags above 30.
    """
    return leading(data, len(data))


def leading(data: bytes, count: int) -> list[Element]:
    """At most the first `count` values of `data`; Invalid as for `elements`."""
    found: list[Element] = []
    at = 0
    while at < len(data) and len(found) < count:
        body, end = _bounds(data, at)
        found.append(Element(data[at], data[body:end], data[at:end]))
        at = end
    return found


def spans(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """As `elements` between two places, nothing copied: where each value starts, where its contents
    do, and where it ends."""
    found: list[tuple[int, int, int]] = []
    while at < end:
        body, after = _bounds(data, at)
        found.append((at, body, after))
        at = after
    if at != end:
        raise Invalid("an ASN.1 value is longer than what holds it")
    return found


def single(data: bytes, tag: int) -> Element:
    """The one value that fills `data`, which must carry `tag`; Invalid otherwise."""
    found = elements(data)
    if len(found) != 1:
        raise Invalid(f"expected one ASN.1 value, found {len(found)}")
    return expect(found[0], tag)


def expect(element: Element, tag: int) -> Element:
    """`element` itself, if it carries `tag`; Invalid otherwise."""
    if element.tag != tag:
        raise Invalid(f"expected ASN.1 tag 0x{tag:02x}, found 0x{element.tag:02x}")
    return element


def members(data: bytes, tag: int = SEQUENCE) -> list[Element]:
    """What stands inside the one constructed value that fills `data`; Invalid otherwise."""
    return elements(single(data, tag).body)


def number_of(element: Element) -> int:
    """The value of an INTEGER; Invalid when it is empty or padded (X.690 §8.3.2)."""
    body = expect(element, INTEGER).body
    if not body or (len(body) > 1 and body[0] in (0, 0xFF) and body[0] >> 7 == body[1] >> 7):
        raise Invalid("an INTEGER is empty or not in its shortest form")
    return int.from_bytes(body, "big", signed=True)


def dotted_of(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER; Invalid when cut short, padded or over-long."""
    if len(expect(element, OID).body) > MAX_OID_OCTETS:
        raise Invalid(f"an OBJECT IDENTIFIER is longer than {MAX_OID_OCTETS} octets")
    arcs = _arcs(element.body)
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def _base128(arc: int) -> bytes:
    groups = [arc & 0x7F]
    while arc := arc >> 7:
        groups.append(arc & 0x7F | 0x80)
    return bytes(reversed(groups))


def _arcs(body: bytes) -> list[int]:
    arcs, arc, started = [], 0, False
    for octet in body:
        if not started and octet == 0x80:
            raise Invalid("an OBJECT IDENTIFIER is padded")
        arc = arc << 7 | octet & 0x7F
        started = octet >= 0x80
        if not started:
            arcs.append(arc)
            arc = 0
    if started or not arcs:
        raise Invalid("an OBJECT IDENTIFIER is cut short")
    return arcs


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the value at `at` start, and where they end."""
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
        raise Invalid("an ASN.1 value is cut short or has a high tag number")
    size, body = data[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        body += count
        size = int.from_bytes(data[at + 2 : body], "big")
        if not 1 <= count <= MAX_LENGTH_OCTETS or body > len(data):
            raise Invalid("an ASN.1 length is indefinite, too long or cut short")
        if size < 0x80 or size < 1 << 8 * (count - 1):
            raise Invalid("an ASN.1 length is not in its shortest form")
    if body + size > len(data):
        raise Invalid("an ASN.1 value is longer than its data")
    return body, body + size
