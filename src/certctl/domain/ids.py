"""Identifiers: an established prefix and a UUIDv7 (RFC 9562 §5.7), so that they sort by time."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from datetime import datetime

from certctl.domain.errors import Invalid

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def uuid7(at: datetime, random: bytes) -> uuid.UUID:
    """A UUIDv7 of the moment `at` (millisecond precision) and ten random bytes."""
    milliseconds = int(at.timestamp() * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def new_id(prefix: str, at: datetime) -> str:
    """A fresh identifier such as `mc-0192…`, unguessable in its last 74 bits."""
    return f"{prefix}-{uuid7(at, secrets.token_bytes(10))}"


def checked_id(value: str, *, field: str = "id") -> str:
    """`value`, if it is an identifier a client may choose.

    Raises:
        Invalid: naming `field`, when it holds other characters, is too long, or is `.` or `..`.
    """
    if not CLIENT_ID.fullmatch(value) or value in {".", ".."}:
        raise Invalid(f"{field} may hold 1 to 128 of A-Z a-z 0-9 . _ -", field=field)
    return value


def repeatable_id(prefix: str, *parts: str) -> str:
    """The same identifier for the same parts: a UUIDv8 of their hash (RFC 9562 §5.8).

    A request that is sent again with its Idempotency-Key thereby names the same row.
    """
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{prefix}-{uuid.UUID(int=value)}"
