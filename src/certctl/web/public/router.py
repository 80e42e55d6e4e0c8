"""A router for public faces: their errors are told in the face's own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from certctl.domain.errors import CertctlError, Invalid, NotFound, TooLarge


@dataclass(frozen=True)
class Declared:
    """What a public face says of itself: the paths it owns, who may come, how errors are told,
    and its routes. An owned path that ends in a slash stands for everything below it."""

    paths: tuple[str, ...]
    authentication: str
    errors: str
    routes: tuple[tuple[str, str], ...]

    def owns(self, path: str) -> bool:
        return any(path.startswith(p) if p.endswith("/") else path == p for p in self.paths)


Tell = Callable[[CertctlError, str], Response]


class PublicRouter:
    """Routes without a gate; `tell` turns one of our errors into the face's answer."""

    def __init__(self, routes: Sequence[BaseRoute], *, tell: Tell) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Within an app, the router raises for what it does not know.
        scope["app"] = self
        try:
            await self._router(scope, receive, send)
        except CertctlError as error:
            await self._tell(error, _request_id(scope))(scope, receive, send)
        except HTTPException as error:
            if error.status_code == 404:
                answer = self._tell(NotFound("no such resource"), _request_id(scope))
            else:
                answer = self._tell(Invalid(error.detail), _request_id(scope))
                answer.status_code = error.status_code
                answer.headers.update(dict(error.headers or {}))
            await answer(scope, receive, send)


def _request_id(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


Model = TypeVar("Model", bound=BaseModel)


def parsed(model: type[Model], body: bytes) -> Model:
    """The body as `model`. Raises Invalid naming the first field to mend."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise Invalid(f"{field}: {first['msg']}", field=field) from None


def json_answer(body: Any, status: int = 200) -> Response:
    """JSON that nobody keeps."""
    return Response(
        msgspec.json.encode(body),
        status,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


async def body_of(request: Request, most: int) -> bytes:
    """The body, at most `most` bytes. Raises TooLarge."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise TooLarge(f"the body is larger than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
