"""Which pages of other origins may read the management API in a browser (Fetch §3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

METHODS: Final = "GET, POST, PUT, DELETE, PATCH, OPTIONS"
REQUEST_HEADERS: Final = "Content-Type, Authorization, X-Request-ID, If-Match, Idempotency-Key"
ANSWER_HEADERS: Final = b"ETag, Retry-After, X-Request-ID"
MAX_AGE: Final = "86400"  # seconds


@dataclass(frozen=True)
class Cors:
    """`origins` are compared as they are written, and `*` is every one; `limiter` takes the source
    address of a preflight. Credentials of the browser's own are never allowed."""

    origins: frozenset[str]
    limiter: Callable[[str | None], None]

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What an answer to this request says: nothing to an origin that is not listed."""
        if "*" in self.origins:
            allowed = b"*"
        else:
            origin = _header(scope, b"origin")
            if origin not in self.origins:
                return [(b"vary", b"Origin")]
            allowed = origin.encode("latin-1")
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", ANSWER_HEADERS),
            (b"vary", b"Origin"),
        ]

    def preflight(self, scope: Scope) -> Response | None:
        """The answer to a browser that asks whether it may ask; None when this is no such
        question, or one of an origin that may not. Raises TooMany."""
        origin = _header(scope, b"origin")
        if scope["method"] != "OPTIONS" or not origin:
            return None
        if not _header(scope, b"access-control-request-method"):
            return None
        if "*" not in self.origins and origin not in self.origins:
            return None
        self.limiter(scope["client"][0] if scope["client"] else None)
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": MAX_AGE,
        }
        return Response(status_code=204, headers=headers)


def _header(scope: Scope, name: bytes) -> str:
    return next((v.decode("latin-1") for n, v in scope["headers"] if n == name), "")
