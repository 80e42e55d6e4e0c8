"""Probes, and what a client may know before it signs in: health, ready, version, auth/info."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl import __version__
from certctl.web import problems
from certctl.web.public.router import Declared, PublicRouter, json_answer

FACE: Final = Declared(
    paths=("/health", "/ready", "/api/v1/version", "/api/v1/auth/info"),
    authentication="(public)",
    errors="json",
    routes=(
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/api/v1/version"),
        ("GET", "/api/v1/auth/info"),
    ),
)
PARTLY: Final = "partly: "
Readiness = Callable[[], Awaitable[dict[str, str]]]
Providers = Callable[[], Awaitable[list[dict[str, str]]]]


def ops_app(readiness: Readiness, auth_type: str, providers: Providers) -> ASGIApp:
    """`readiness` names each part and says `ok` or what is wrong with it; a part that begins with
    `partly: ` still serves. `providers` are those that people sign in by."""

    async def health(request: Request) -> Response:
        return json_answer({"status": "healthy"})

    async def ready(request: Request) -> Response:
        parts = await readiness()
        fine = all(state == "ok" or state.startswith(PARTLY) for state in parts.values())
        body = {"status": "ready" if fine else "not_ready", **parts}
        return json_answer(body, 200 if fine else 503)

    async def version(request: Request) -> Response:
        return json_answer(
            {
                "version": __version__,
                "commit": "",
                "modified": False,
                "build_time": "",
                "go_version": "",
            }
        )

    async def auth_info(request: Request) -> Response:
        return json_answer(
            {
                "auth_type": auth_type,
                "required": auth_type != "none",
                "oidc_providers": await providers(),
            }
        )

    return PublicRouter(
        [
            Route("/health", health, methods=["GET"]),
            Route("/ready", ready, methods=["GET"]),
            Route("/api/v1/version", version, methods=["GET"]),
            Route("/api/v1/auth/info", auth_info, methods=["GET"]),
        ],
        tell=problems.response,
    )
