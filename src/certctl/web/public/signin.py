"""How people come and go: log out, and break-glass."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl.domain.errors import Invalid, Unauthenticated
from certctl.services import breakglass, sessions
from certctl.services.access import signed_in
from certctl.services.platform import Platform
from certctl.web import cookies, problems
from certctl.web.public.router import Declared, PublicRouter, body_of, parsed

LOGOUT: Final = Declared(
    paths=("/auth/logout",),
    authentication="(public; ends the session of the cookie)",
    errors="json",
    routes=(("POST", "/auth/logout"),),
)
BREAKGLASS: Final = Declared(
    paths=("/auth/breakglass/login",),
    authentication="(public; only with CERTCTL_BREAKGLASS_ENABLED)",
    errors="json",
    routes=(("POST", "/auth/breakglass/login"),),
)
MOST: Final = 4096


class _Password(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")
    password: str = Field(max_length=2048, repr=False)


def logout_app(platform: Platform) -> ASGIApp:
    async def log_out(request: Request) -> Response:
        caller = cookies.caller(request)
        if token := cookies.of_session(request):
            with suppress(Unauthenticated):
                found = await signed_in(
                    platform, token, address=caller.address, user_agent=caller.user_agent
                )
                cookies.check_csrf(request, found)
                await sessions.log_out(platform, caller.with_request(found.actor))
        answer = Response(status_code=204)
        cookies.sign_out(answer)
        return answer

    return PublicRouter([Route("/auth/logout", log_out, methods=["POST"])], tell=problems.response)


def breakglass_app(platform: Platform) -> ASGIApp:
    async def log_in(request: Request) -> Response:
        # A form of another site cannot send this type (Fetch §2.2.2), and so signs nobody in.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Invalid("Content-Type must be application/json", field="Content-Type")
        wish = parsed(_Password, await body_of(request, MOST))
        opened = await breakglass.log_in(
            platform, wish.actor_id, wish.password, caller=cookies.caller(request)
        )
        answer = Response(status_code=204, headers={"Cache-Control": "no-store"})
        cookies.sign_in(answer, opened, same_site=platform.terms.people.session_same_site)
        return answer

    return PublicRouter(
        [Route("/auth/breakglass/login", log_in, methods=["POST"])], tell=problems.response
    )
