"""Routes of the management API: every one names the permission it needs.

There is no other way to add a route to this app, and no way to add one without `needs`. Deny is
the default: an unknown path answers 401 to a stranger, 404 to a signed-in caller.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from certctl import __version__
from certctl.domain.access import ANY_ACTOR, Actor, AnyActor, Needs, Permission
from certctl.domain.errors import CertctlError, Invalid, NotAllowed, TooLarge
from certctl.services.platform import Platform
from certctl.web import problems
from certctl.web.callers import Callers

__all__ = ["ANY_ACTOR", "Call", "Created", "Gate", "Needs", "Resource", "encoded", "management_api"]

PREFIX: Final = "/api/v1"
# Also what is answered for a request whose head is too large, or too slow.
ALWAYS: Final = (401, 403, 408, 414, 429, 431, 500, 503)
FILE: Final = {"schema": {"type": "string"}}


@dataclass(frozen=True)
class CallFacts:
    """What a handler knows of its request besides the parameters it declares."""

    on: Platform
    actor: Actor
    if_match: str | None
    idempotency_key: str | None
    has_left: Callable[[], Awaitable[bool]]


# Async, as all dependencies here: FastAPI sends others to a thread, which costs more than they do.
async def _call(request: Request) -> CallFacts:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise Invalid("Idempotency-Key has 1 to 255 characters", field="Idempotency-Key")
    facts: CallFacts = CallFacts(
        request.state.platform,
        request.state.actor,
        request.headers.get("if-match"),
        key,
        request.is_disconnected,
    )
    return facts


Call = Annotated[CallFacts, Depends(_call)]
Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Created:
    """A body that goes out with an ETag, so that a later PUT can name the version it changes."""

    body: Any
    etag: str


@dataclass(frozen=True)
class Route:
    """One row of the management API; `errors` are those beyond the ones any route may answer,
    `also` other statuses of success with the same answer, and `media` the types of an answer that
    is no JSON."""

    method: str
    path: str
    needs: Needs
    handler: Handler
    status: int
    answer: Any
    errors: tuple[int, ...]
    also: tuple[int, ...] = ()
    media: tuple[str, ...] = ()


class Resource:
    """The routes of one resource, in the order they are declared."""

    def __init__(self, prefix: str, *, tag: str) -> None:
        self.prefix = prefix
        self.tag = tag
        self.routes: list[Route] = []

    def get(
        self,
        path: str = "",
        *,
        needs: Needs,
        answer: Any,
        errors: tuple[int, ...] = (404,),
        media: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:
        errors = (400, *errors)
        return self._add("GET", path, needs, status=200, answer=answer, errors=errors, media=media)

    def post(
        self,
        path: str = "",
        *,
        needs: Needs,
        answer: Any,
        status: int = 201,
        also: tuple[int, ...] = (),
        errors: tuple[int, ...] = (409,),
    ) -> Callable[[Handler], Handler]:
        return self._add(
            "POST", path, needs, status=status, answer=answer, errors=(400, 413, *errors), also=also
        )

    def put(
        self, path: str, *, needs: Needs, answer: Any, errors: tuple[int, ...] = (404, 409, 412)
    ) -> Callable[[Handler], Handler]:
        return self._add("PUT", path, needs, status=200, answer=answer, errors=(400, 413, *errors))

    def delete(
        self, path: str, *, needs: Needs, answer: Any = None, errors: tuple[int, ...] = (404, 409)
    ) -> Callable[[Handler], Handler]:
        status = 204 if answer is None else 200
        return self._add("DELETE", path, needs, status=status, answer=answer, errors=errors)

    def _add(
        self,
        method: str,
        path: str,
        needs: Needs,
        *,
        status: int,
        answer: Any,
        errors: tuple[int, ...],
        also: tuple[int, ...] = (),
        media: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:
        if not isinstance(needs, Permission | AnyActor):
            raise TypeError(f"{method} {path}: needs must be a Permission or ANY_ACTOR")

        def register(handler: Handler) -> Handler:
            row = Route(
                method,
                self.prefix + path,
                needs,
                handler,
                status,
                answer,
                errors=errors,
                also=also,
                media=media,
            )
            self.routes.append(row)
            return handler

        return register


def management_api(
    resources: tuple[Resource, ...],
    platform: Platform,
    callers: Callers,
    *,
    max_body: int,
) -> Gate:
    """One ASGI app whose only routes are the gated ones. Bodies over `max_body` bytes are refused
    before they are read whole."""
    return Gate(described(resources), platform, callers, max_body=max_body)


@cache
def described(resources: tuple[Resource, ...]) -> FastAPI:
    """The routes as FastAPI knows them, for the app and for the OpenAPI document. They know no
    platform, and are made once: that takes half a second."""
    api = FastAPI(
        title="certctl",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for resource in resources:
        for row in resource.routes:
            _mount(api, resource.tag, row)
    _errors(api)
    return api


def _mount(api: FastAPI, tag: str, row: Route) -> None:
    api.router.add_api_route(
        PREFIX + row.path,
        _encoded(row),
        methods=[row.method],
        status_code=row.status,
        response_model=row.answer,
        response_class=Response if row.media else JSONResponse,
        responses={
            **({row.status: {"content": dict.fromkeys(row.media, FILE)}} if row.media else {}),
            **problems.documented(*ALWAYS, *row.errors),
            **{status: {"model": row.answer} for status in row.also},
        },
        route_class_override=_guarded(row.needs),
        tags=[tag],
        name=row.handler.__name__,
        operation_id=f"{row.handler.__module__.rsplit('.')[-1]}_{row.handler.__name__}",
        openapi_extra={"x-permission": str(row.needs)},
    )


def _guarded(needs: Needs) -> type[APIRoute]:
    """A route that settles the permission before anything of the request is parsed."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                actor: Actor = request.state.actor
                if not actor.may(needs):
                    raise NotAllowed(f"this needs the permission {needs}")
                return await handle(request)

            return guarded

    return Guarded


def _encoded(row: Route) -> Handler:
    """The handler, its answer encoded without a detour through models: the store's rows have the
    documented fields already, which the contract tests compare."""

    @wraps(row.handler)
    async def endpoint(**parameters: Any) -> Response:
        answer = await row.handler(**parameters)
        if isinstance(answer, Response):
            return answer
        headers = {}
        if isinstance(answer, Created):
            headers["ETag"] = answer.etag
            answer = answer.body
        if row.status == 204:
            return Response(status_code=204, headers=headers)
        return Response(encoded(answer), row.status, headers=headers, media_type="application/json")

    # FastAPI reads the parameters from here.
    endpoint.__signature__ = inspect.signature(row.handler, eval_str=True)  # type: ignore[attr-defined]
    return endpoint


def encoded(answer: Any) -> bytes:
    """JSON, with times as RFC 3339."""
    return msgspec.json.encode(answer, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _errors(api: FastAPI) -> None:
    @api.exception_handler(CertctlError)
    async def ours(request: Request, error: CertctlError) -> Response:
        return problems.response(error, request.state.request_id)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problems.response(_first(error), request.state.request_id)

    @api.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        words = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        word = words.get(error.status_code, "invalid")
        return problems.problem(
            error.status_code,
            word,
            str(error.detail),
            request_id=request.state.request_id,
            headers=dict(error.headers or {}),
        )

    @api.exception_handler(Exception)
    async def unforeseen(request: Request, _error: Exception) -> Response:
        # The error itself goes on to the front door, which logs it.
        return problems.problem(
            *problems.INTERNAL, "internal error", request_id=request.state.request_id
        )


def _first(error: RequestValidationError) -> Invalid:
    """The first thing to mend, named as the client wrote it."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
    if first["type"] == "json_invalid":
        return Invalid("the body is not valid JSON", field="body")
    field = ".".join(place) or "body"
    return Invalid(f"{field}: {first['msg'].removeprefix('Value error, ')}", field=field)


class Gate:
    """Who is calling is settled before any route is looked at."""

    def __init__(
        self, api: FastAPI, platform: Platform, callers: Callers, *, max_body: int
    ) -> None:
        self.api = api
        self._platform = platform
        self._callers = callers
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        request.state.platform = self._platform
        try:
            request.state.actor = await self._callers.actor(request)
            bounded = _bounded(request, receive, self._max_body)
        except CertctlError as error:
            await problems.response(error, request.state.request_id)(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The server leaves the body out, since its own scope says HEAD (RFC 9110 §9.3.2).
            scope = {**scope, "method": "GET"}
        await self.api(scope, bounded, send)


def _bounded(request: Request, receive: Receive, most: int) -> Receive:
    """`receive`, which refuses to pass on more than `most` bytes of body."""
    length = request.headers.get("content-length", "")
    words = f"the body is larger than {most} bytes (CERTCTL_MAX_BODY_SIZE)"
    if length.isdigit() and int(length) > most:
        raise TooLarge(words)
    seen = 0

    async def bounded() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            # FastAPI lets only this class through while it reads a body.
            raise HTTPException(413, words)
        return message

    return bounded
