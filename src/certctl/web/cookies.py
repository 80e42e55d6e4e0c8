"""The cookies of a browser session. Their `__Host-` prefix binds them to this very host, to HTTPS
and to the path `/` (RFC 6265bis §4.1.3.2)."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from certctl.domain.errors import NotAllowed
from certctl.services.access import SignedIn, secret_hash
from certctl.services.sessions import Caller, Opened

SESSION: Final = "__Host-certctl_session"
CSRF: Final = "__Host-certctl_csrf"
PENDING: Final = "__Host-certctl_oidc_pending"
CSRF_HEADER: Final = "X-CSRF-Token"
CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LONGEST: Final = 4096


def of_session(request: Request) -> str | None:
    """The session's cookie, if there is one."""
    value = request.cookies.get(SESSION, "")
    return value if 0 < len(value) <= LONGEST else None


def check_csrf(request: Request, signed_in: SignedIn) -> None:
    """Raises NotAllowed unless the request brings the session's CSRF token."""
    sent = secret_hash(request.headers.get(CSRF_HEADER, ""))
    if not hmac.compare_digest(sent, signed_in.csrf_hash):
        raise NotAllowed(f"{CSRF_HEADER} must be the value of the cookie {CSRF}")


def put(answer: Response, name: str, value: str, *, lives: int, same_site: str) -> None:
    """A cookie that lives for `lives` seconds; scripts of the page read the CSRF token alone."""
    script = "" if name == CSRF else "; HttpOnly"
    answer.headers.append(
        "Set-Cookie",
        f"{name}={value}; Path=/; Max-Age={lives}; Secure{script}; SameSite={same_site}",
    )


def sign_in(answer: Response, opened: Opened, *, same_site: str) -> None:
    put(answer, SESSION, opened.token, lives=opened.lives, same_site=same_site)
    put(answer, CSRF, opened.csrf, lives=opened.lives, same_site=same_site)


def sign_out(answer: Response) -> None:
    for name in (SESSION, CSRF):
        put(answer, name, "", lives=0, same_site="Lax")


def caller(request: Request) -> Caller:
    """Where a request comes from; what a proxy says of it does not count."""
    return Caller(
        request.client.host if request.client else None,
        request.headers.get("user-agent", ""),
        request.state.request_id,
    )
