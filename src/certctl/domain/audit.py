"""Audit events: their content hash, and the chain the sealer builds over committed rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    CERT_LIFECYCLE = "cert_lifecycle"
    AUTH = "auth"
    CONFIG = "config"


def content_hash(event: Mapping[str, Any]) -> str:
    """SHA-256 over the event's fields in a form that has one spelling: sorted JSON, UTC times."""
    plain = {key: _plain(value) for key, value in event.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(previous: str, rows: Iterable[tuple[int, str]]) -> str:
    """The next seal: SHA-256 over the seal before and each row's sequence number and hash."""
    digest = hashlib.sha256(previous.encode())
    for sequence, row_hash in rows:
        digest.update(f"\n{sequence}:{row_hash}".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value
