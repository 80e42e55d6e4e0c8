"""Who is calling the management API, and what they may spend: settled before anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.requests import Request

from certctl.domain.access import Actor
from certctl.domain.errors import NotAllowed, Unauthenticated
from certctl.pki.x509 import ders_of_pem
from certctl.services.access import SignedIn, with_request
from certctl.web import cookies
from certctl.web.limits import AddressBudget, Recognised


class Authenticate(Protocol):
    """Turns what a caller proves into an actor; None for a stranger."""

    async def __call__(self, bearer: str) -> Actor | None: ...

    async def by_certificate(self, cert_der: bytes) -> Actor | None:
        """By a client certificate that comes instead of a bearer secret."""

    async def by_session(self, token: str, *, address: str | None, user_agent: str) -> SignedIn:
        """By a browser session's cookie. Raises Unauthenticated for one that is over."""


class Callers:
    """Known callers spend the budget of their name, strangers that of their address."""

    def __init__(
        self,
        authenticate: Authenticate,
        limiter: Callable[[str], None],
        *,
        strangers: AddressBudget,
        anybody: Actor | None,
    ) -> None:
        """`limiter` takes the actor's name and `strangers` the address: both raise TooMany. From
        an address that has spent its budget no secret is tried that has not proved good before.
        `anybody` is who a caller without a secret is, where that is allowed."""
        self._authenticate = authenticate
        self._limiter = limiter
        self._strangers = strangers
        self._anybody = anybody
        self._recognised = Recognised()

    async def actor(self, request: Request) -> Actor:
        """Whoever calls.

        Raises:
            Unauthenticated: for a stranger. NotAllowed: for a change from a browser without the
                session's CSRF token. TooMany: when the budget is spent.
        """
        address = request.client.host if request.client else None
        try:
            actor = await self._known(request, address)
        except (Unauthenticated, NotAllowed):
            self._strangers(address)
            raise
        if actor is self._anybody:
            self._strangers(address)
        else:
            self._limiter(actor.id)
        return with_request(actor, address=address, request_id=request.state.request_id)

    async def _known(self, request: Request, address: str | None) -> Actor:
        """By session, client certificate or bearer secret, in this order; a session that is over
        keeps nobody out who brings something else."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        try:
            if token := cookies.of_session(request):
                return await self._with_session(request, token, address)
        except Unauthenticated:
            if not scheme and self._anybody is None:
                raise
        actor = None if scheme else await self._with_certificate(request) or self._anybody
        if actor is not None:
            return actor
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("send Authorization: Bearer with an API key")
        return await self._with_secret(secret.strip(), address)

    async def _with_secret(self, secret: str, address: str | None) -> Actor:
        self._look(secret, address)
        actor = await self._authenticate(secret)
        if actor is None:
            raise Unauthenticated("the API key is unknown, expired or revoked")
        self._recognised.add(secret)
        return actor

    async def _with_session(self, request: Request, token: str, address: str | None) -> Actor:
        """Raises NotAllowed for a change without the session's CSRF token: a page of somebody else
        makes the browser send the cookie, but cannot read the token."""
        self._look(token, address)
        signed_in = await self._authenticate.by_session(
            token, address=address, user_agent=request.headers.get("user-agent", "")
        )
        self._recognised.add(token)
        if request.method in cookies.CHANGES:
            cookies.check_csrf(request, signed_in)
        return signed_in.actor

    async def _with_certificate(self, request: Request) -> Actor | None:
        """Whose certificate the TLS handshake has proved, where the listener passes it on."""
        chain = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
        return await self._authenticate.by_certificate(ders_of_pem(chain[0])[0]) if chain else None

    def _look(self, secret: str, address: str | None) -> None:
        """Or a guess would cost an address nothing once its budget is spent."""
        if secret not in self._recognised:
            self._strangers.look(address)
