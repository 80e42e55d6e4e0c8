"""A listener's front door: request ids, security headers, and the faces that it leads to."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certctl.domain.errors import CertctlError
from certctl.web import problems
from certctl.web.public.router import Declared, Tell

log = logging.getLogger("certctl.web")

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


@dataclass(frozen=True)
class Face:
    """A public part as it is mounted; `limiter` takes the source address, and `tell` is how the
    part words a refusal."""

    declared: Declared
    app: ASGIApp
    limiter: Callable[[str | None], None]
    tell: Tell = problems.response


class FrontDoor:
    """One listener: request ids, security headers, public faces, and what stands behind them.

    `behind` answers every path that no face owns; None refuses them with 404.
    """

    def __init__(self, faces: tuple[Face, ...], behind: ASGIApp | None, *, tls: bool) -> None:
        self.faces = faces
        self._behind = behind
        self._headers = (*HEADERS, HSTS) if tls else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = str(uuid.uuid4())
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = [*message["headers"], *self._extra(request_id)]
            await send(message)

        try:
            await self._route(scope, receive, sending)
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            if not began:
                answer = problems.problem(
                    *problems.INTERNAL, "internal error", request_id=request_id
                )
                await answer(scope, receive, sending)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        for face in self.faces:
            if face.declared.owns(path):
                await _limited(face, scope, receive, send)
                return
        if self._behind is None:
            answer = problems.problem(
                404, "not_found", "no such resource", request_id=scope["state"]["request_id"]
            )
            await answer(scope, receive, send)
            return
        await self._behind(scope, receive, send)

    def _extra(self, request_id: str) -> list[tuple[bytes, bytes]]:
        return [*self._headers, (b"x-request-id", request_id.encode())]


async def _limited(face: Face, scope: Scope, receive: Receive, send: Send) -> None:
    client = scope.get("client")
    try:
        face.limiter(client[0] if client else None)
    except CertctlError as error:
        await face.tell(error, scope["state"]["request_id"])(scope, receive, send)
        return
    await face.app(scope, receive, send)
