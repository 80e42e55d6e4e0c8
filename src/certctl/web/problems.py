"""How each error is told over HTTP: one row each, one envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pydantic import BaseModel, Field
from starlette.responses import Response

from certctl.domain.errors import (
    CertctlError,
    Conflict,
    Gone,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Stale,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unsafe,
)

STATUS: Final[dict[type[CertctlError], tuple[int, str]]] = {
    Invalid: (400, "invalid"),
    Unauthenticated: (401, "unauthenticated"),
    NotAllowed: (403, "not_allowed"),
    NotFound: (404, "not_found"),
    Conflict: (409, "conflict"),
    Gone: (410, "gone"),
    Stale: (412, "stale"),
    TooLarge: (413, "too_large"),
    TooMany: (429, "too_many_requests"),
    Unsafe: (500, "internal"),
    Refused: (502, "refused_upstream"),
    Unavailable: (503, "unavailable"),
}
INTERNAL: Final = (500, "internal")
RETRY_AFTER: Final = 1


class Problem(BaseModel):
    """The body of every refusal: `error` for programs, `message` for people, `field` to mend."""

    error: str = Field(description="A word that stays the same between versions")
    message: str = Field(description="What is wrong and how to mend it")
    field: str | None = Field(None, description="The part of the request to mend")
    counts: dict[str, int] | None = Field(None, description="How many of each stand in the way")
    request_id: str


def row_for(error: CertctlError) -> tuple[int, str]:
    """The status and word of the narrowest class that has a row."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def response(error: CertctlError, request_id: str) -> Response:
    status, word = row_for(error)
    headers = {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER)
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = challenge(error.cause)
    message = "internal error" if isinstance(error, Unsafe) else error.message
    field = getattr(error, "field", None)
    counts = getattr(error, "counts", None)
    return problem(
        status, word, message, request_id=request_id, field=field, counts=counts, headers=headers
    )


def challenge(cause: str | None) -> str:
    """The value of WWW-Authenticate (RFC 6750 §3)."""
    plain = 'Bearer realm="certctl"'
    if cause is None:
        return plain
    return f'{plain}, error="invalid_token", error_description="{cause}"'


def problem(
    status: int,
    word: str,
    message: str,
    *,
    request_id: str,
    field: str | None = None,
    counts: Mapping[str, int] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {"error": word, "message": message, "request_id": request_id}
    if field is not None:
        body["field"] = field
    if counts:
        body["counts"] = dict(counts)
    return Response(
        msgspec.json.encode(body), status, headers=headers, media_type="application/json"
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an OpenAPI operation."""
    return {status: {"model": Problem} for status in sorted(statuses)}
