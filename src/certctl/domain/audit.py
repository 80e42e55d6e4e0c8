"""Audit events: their content hash, and the chain the sealer builds over committed rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final


class Category(StrEnum):
    CERT_LIFECYCLE = "cert_lifecycle"
    AUTH = "auth"
    CONFIG = "config"


# The columns of an event that its content hash covers; the seal adds its sequence number.
HASHED: Final = (
    "id",
    "actor",
    "actor_type",
    "action",
    "resource_type",
    "resource_id",
    "details",
    "event_category",
    "address",
    "request_id",
    "timestamp",
)
COLUMNS: Final = ("sequence", *HASHED, "content_hash")


def content_hash(event: Mapping[str, Any]) -> str:
    """SHA-256 over the event's fields in a form that has one spelling: sorted JSON, UTC times."""
    plain = {key: _plain(value) for key, value in event.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_unchanged(row: Mapping[str, Any]) -> bool:
    """Whether a stored event still has the content that its hash was made over."""
    try:
        return content_hash({name: row[name] for name in HASHED}) == str(row["content_hash"])
    except (ValueError, RecursionError):  # half a surrogate pair, or no end of nesting
        return False


def seal(previous: str, rows: Iterable[tuple[int, str]]) -> str:
    """The next seal: SHA-256 over the seal before and each row's sequence number and hash."""
    chain = Chain(previous)
    for sequence, row_hash in rows:
        chain.add(sequence, row_hash)
    return chain.seal


class Chain:
    """A seal in the making, row by row."""

    def __init__(self, previous: str) -> None:
        self._digest = hashlib.sha256(previous.encode())

    def add(self, sequence: int, row_hash: str) -> None:
        self._digest.update(f"\n{sequence}:{row_hash}".encode())

    @property
    def seal(self) -> str:
        return self._digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value
