"""Certificate serial numbers: drawing them, and the one spelling that is stored and compared."""

from __future__ import annotations

import re
import secrets

from certctl.domain.errors import Invalid

SERIAL_BITS = 159
SPELLING = re.compile(r"[0-9a-f]{1,40}")


def new_serial() -> int:
    """A positive serial of 159 random bits: 20 octets at most in DER (RFC 5280 §4.1.2.2)."""
    return secrets.randbits(SERIAL_BITS) or new_serial()


def serial_text(serial: int) -> str:
    """The canonical form: lower-case hex without leading zeros, `0` for zero."""
    return format(serial, "x")


def serial_number(text: str) -> int:
    """The number behind any common spelling: either case, leading zeros, colons between octets.

    Raises:
        Invalid: naming `serial`, when it is not 1 to 40 hex digits.
    """
    digits = text.strip().lower().replace(":", "")
    if not SPELLING.fullmatch(digits):
        raise Invalid("a serial number is 1 to 40 hexadecimal digits", field="serial")
    return int(digits, 16)
