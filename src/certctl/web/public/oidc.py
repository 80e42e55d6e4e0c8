"""The browser's way to an OpenID provider and back, and the provider's own call at a logout."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl.domain.errors import Invalid
from certctl.domain.openid import LoginRefused
from certctl.services import backchannel, signin
from certctl.services.platform import Platform
from certctl.web import cookies, problems
from certctl.web.public.router import Declared, PublicRouter, body_of

LOGIN: Final = "/auth/oidc/login"
CALLBACK: Final = "/auth/oidc/callback"
LOGOUT: Final = "/auth/oidc/back-channel-logout"
FACE: Final = Declared(
    paths=(LOGIN, CALLBACK, LOGOUT),
    authentication="(public; OpenID Connect)",
    errors="json",
    routes=(("GET", LOGIN), ("GET", CALLBACK), ("POST", LOGOUT)),
)
MOST: Final = 131_072
PATIENCE: Final = int(signin.PATIENCE.total_seconds())
NO_STORE: Final = {"Cache-Control": "no-store"}


def oidc_app(platform: Platform) -> ASGIApp:
    people = platform.terms.people

    async def begin(request: Request) -> Response:
        provider_id = request.query_params.get("provider", "")
        if not 1 <= len(provider_id) <= 128 or not provider_id.isprintable():
            raise Invalid("provider names the provider to sign in by", field="provider")
        where, secret = await signin.begin(platform, provider_id, caller=cookies.caller(request))
        answer = _to(where)
        # Lax whatever the sessions' cookies are: the provider sends the browser back from its site.
        cookies.put(answer, cookies.PENDING, secret, lives=PATIENCE, same_site="Lax")
        return answer

    async def finish(request: Request) -> Response:
        pending = request.cookies.get(cookies.PENDING)
        said = dict(request.query_params)
        try:
            opened = await signin.finish(platform, said, pending, caller=cookies.caller(request))
        except LoginRefused as error:
            answer = _to(f"/login?{urlencode({'error': 'oidc_failed', 'reason': error.why})}")
        else:
            answer = _to("/")
            cookies.sign_in(answer, opened, same_site=people.session_same_site)
        cookies.put(answer, cookies.PENDING, "", lives=0, same_site="Lax")
        return answer

    async def log_out(request: Request) -> Response:
        form = _form(await body_of(request, MOST))
        if "logout_token" not in form:
            raise Invalid("logout_token is missing", field="logout_token")
        await backchannel.log_out(platform, form["logout_token"], caller=cookies.caller(request))
        return Response(headers=NO_STORE)

    return PublicRouter(
        [
            Route(LOGIN, begin, methods=["GET"]),
            Route(CALLBACK, finish, methods=["GET"]),
            Route(LOGOUT, log_out, methods=["POST"]),
        ],
        tell=problems.response,
    )


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("latin-1"), max_num_fields=20))
    except ValueError:
        raise Invalid("the form has too many fields", field="body") from None


def _to(where: str) -> Response:
    return Response(status_code=302, headers={"Location": where, **NO_STORE})
