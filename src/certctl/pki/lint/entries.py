"""The entries of a CRL, looked at one after the other in the bytes: a list may have a million."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Final

from certctl.domain.errors import Invalid
from certctl.pki import der

SAMPLE: Final = 32
REVOKED_AT: Final = 5  # of TBSCertList: version, algorithm, issuer and both times come before
HEAPS: Final = 64
SHORTEST: Final = 20  # octets of an entry
MOST_SERIAL: Final = 20  # octets
MOST_KNOWN: Final = 10_000
# What follows a serial: a time in the form for its year (RFC 5280 §4.1.2.5), then no extension or a
# reason that a full CRL can hold.
CLOCK: Final = rb"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\dZ"
REST: Final = re.compile(
    rb"(?:\x17\x0d\d\d%b|\x18\x0f(?!19[5-9]|20[0-4])\d{4}%b)"
    rb"(?:\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01[\x01-\x06\x09\x0a])?"
    % (CLOCK, CLOCK)
)


def entries_span(tbs: bytes) -> tuple[int, int]:
    """Where the entries of a TBSCertList start and end; twice the same where there are none.

    Raises:
        Invalid: for bytes that are no TBSCertList.
    """
    found = _members(tbs)
    if tbs[found[REVOKED_AT][0]] != der.SEQUENCE:
        return 0, 0
    return found[REVOKED_AT][1:]


def crl_sample(tbs: bytes) -> bytes:
    """`tbs` with its first entries only: enough for pkilint, which is slow on long lists. Raises as
    `entries_span`."""
    start, end = entries_span(tbs)
    if start == end:
        return tbs
    entries = der.leading(tbs[start : min(end, start + SAMPLE * 128)], SAMPLE)
    shortened = der.sequence(*(entry.raw for entry in entries))
    return der.sequence(
        *(
            shortened if at == REVOKED_AT else tbs[member[0] : member[2]]
            for at, member in enumerate(_members(tbs))
        )
    )


def _members(tbs: bytes) -> list[tuple[int, int, int]]:
    whole = der.spans(tbs, 0, len(tbs))
    if len(whole) != 1 or tbs[0] != der.SEQUENCE:
        raise Invalid("the bytes to be signed cannot be read: they are no list")
    found = der.spans(tbs, whole[0][1], len(tbs))
    if len(found) <= REVOKED_AT:
        raise Invalid("the bytes to be signed cannot be read: something is missing")
    return found


def entries_flaws(tbs: bytes, at: int, end: int) -> Iterator[str]:
    """What is wrong with the entries between two places of `tbs`, which holds nothing else there.

    Whether a serial is there twice is seen by its hash: 64 bits, others in each process, so that a
    list of a million is refused wrongly once in thirty million builds.
    """
    heaps = [array("q") for _ in range(HEAPS)]
    known: set[bytes] = set()
    while at < end:
        if end - at < SHORTEST:
            yield "an entry is cut short"
            return
        body, after = at + 2, at + 2 + tbs[at + 1]
        size = tbs[body + 1]
        rest = body + 2 + size
        serial = tbs[body + 2 : rest]
        if tbs[at] != der.SEQUENCE or after > end or tbs[body] != der.INTEGER or rest > after:
            yield "an entry is not formed as an entry"
            return
        if not 0 < size <= MOST_SERIAL or serial[0] >= 0x80 or _is_padded(serial):
            yield "a serial number is not positive or takes more than 20 octets"
            return
        if (following := tbs[rest:after]) not in known:
            if not REST.fullmatch(following):
                yield "an entry has another time or other extensions than a full CRL's"
                return
            if len(known) >= MOST_KNOWN:
                known.clear()
            known.add(following)
        heaps[serial[-1] % HEAPS].append(hash(serial))
        at = after
    if any(len(set(heap)) != len(heap) for heap in heaps):
        yield "a serial number is listed twice"


def _is_padded(serial: bytes) -> bool:
    """Zero, or not in the shortest form."""
    return serial[0] == 0 and (len(serial) == 1 or serial[1] < 0x80)
