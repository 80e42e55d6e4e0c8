"""The first administrator, by the operator's one-time token."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl.services import bootstrap
from certctl.services.platform import Platform
from certctl.web import problems
from certctl.web.public.router import Declared, PublicRouter, body_of, json_answer, parsed

PATH: Final = "/api/v1/auth/bootstrap"
FACE: Final = Declared(
    paths=(PATH,),
    authentication="(public; one-time token)",
    errors="json",
    routes=(("GET", PATH), ("POST", PATH)),
)
MOST: Final = 4096


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=1024, repr=False)
    actor_name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{2,63}$")


def bootstrap_app(platform: Platform) -> ASGIApp:
    async def available(request: Request) -> Response:
        return json_answer({"available": await bootstrap.is_available(platform)})

    async def use(request: Request) -> Response:
        wish = parsed(_Wish, await body_of(request, MOST))
        made = await bootstrap.use(
            platform,
            wish.token,
            wish.actor_name,
            address=request.client.host if request.client else None,
            request_id=request.state.request_id,
        )
        return json_answer(
            {
                "actor_id": made["name"],
                "api_key_id": made["id"],
                "key_value": made["key_value"],
                "created_at": made["created_at"],
                "message": "keep this key: it is shown this once",
            },
            201,
        )

    return PublicRouter(
        [Route(PATH, available, methods=["GET"]), Route(PATH, use, methods=["POST"])],
        tell=problems.response,
    )
