"""A listener's front door: who asks, request ids, security headers, time, and the faces behind."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certctl.domain.errors import CertctlError, Unavailable
from certctl.web import problems
from certctl.web.cors import Cors
from certctl.web.forwarded import Networks, client_address
from certctl.web.public.router import Declared, Tell

log = logging.getLogger("certctl.web")

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (
        b"permissions-policy",
        b"accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
        b"magnetometer=(), microphone=(), payment=(), usb=()",
    ),
)
HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
EVERYTHING: Final = Declared(paths=("/",), authentication="", errors="json", routes=())


class Room:
    """How many requests a part works on at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    def enter(self) -> None:
        """Raises Unavailable when all places are taken."""
        if self.taken >= self.most:
            raise Unavailable("too many requests are under way; try again")
        self.taken += 1

    def leave(self) -> None:
        self.taken -= 1

    def receiving(self, receive: Receive) -> Receive:
        """`receive`, which gives the place back while a body is on its way: a client that sends
        slowly takes nobody's."""
        whole = False

        async def received() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            self.taken -= 1
            try:
                message = await receive()
            finally:
                self.taken += 1
            whole = not message.get("more_body", False)
            return message

        return received


@dataclass(frozen=True)
class Face:
    """A part as it is mounted; `limiter` takes the source address, `tell` is how the part words a
    refusal, and `room` bounds it unless it must always answer. `own_origin` parts are not for
    pages of other origins."""

    declared: Declared
    app: ASGIApp
    limiter: Callable[[str | None], None]
    tell: Tell = problems.response
    room: Room | None = None
    own_origin: bool = False


def never(_scope: Scope) -> bool:
    return False


@dataclass(frozen=True)
class Rules:
    """What a door asks of every request: `trusted` are the proxies whose word counts, `timeout`
    is in seconds, `waits` tells requests that wait by design: they are neither timed nor counted;
    `at_once` is the room of each part behind the door."""

    trusted: Networks = ()
    timeout: float = 120.0
    at_once: int = 256
    cors: Cors | None = None
    waits: Callable[[Scope], bool] = never


class FrontDoor:
    """One listener. `behind` answers every path that no face owns; None refuses them with 404."""

    def __init__(
        self,
        faces: tuple[Face, ...],
        behind: ASGIApp | None,
        *,
        tls: bool,
        rules: Rules = Rules(),
        room: Room | None = None,
    ) -> None:
        """`room` is that of what stands behind."""
        self.faces = faces
        self._rest = Face(EVERYTHING, behind or _nothing, lambda _address: None, room=room)
        self._rules = rules
        self._headers = (*HEADERS, HSTS) if tls else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = self._received(scope)
        face = self._face(scope["path"])
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                extra = self._extra(face, scope, request_id)
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        limit = asyncio.timeout(None if self._rules.waits(scope) else self._rules.timeout)
        try:
            async with limit:
                await self._enter(face, scope, receive, sending)
        except Exception as error:
            answer = self._broken(face, request_id, late=limit.expired(), error=error)
            if not began:
                await answer(scope, receive, sending)

    def _received(self, scope: Scope) -> str:
        """Settle, for all that follows, the request's id and where it comes from."""
        request_id = str(uuid.uuid4())
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        peer = scope.get("client")
        if peer and self._rules.trusted:
            address = client_address(peer[0], scope["headers"], self._rules.trusted)
            if address != peer[0]:
                scope["client"] = (address, 0)
        return request_id

    def _face(self, path: str) -> Face:
        return next((face for face in self.faces if face.declared.owns(path)), self._rest)

    async def _enter(self, face: Face, scope: Scope, receive: Receive, send: Send) -> None:
        room = None if self._rules.waits(scope) else face.room
        try:
            answer = self._answered_here(face, scope)
            if answer is None and room is not None:
                room.enter()
        except CertctlError as error:
            answer = face.tell(error, scope["state"]["request_id"])
        if answer is not None:
            await answer(scope, receive, send)
            return
        if room is None:
            await face.app(scope, receive, send)
            return
        try:
            await face.app(scope, room.receiving(receive), send)
        finally:
            room.leave()

    def _answered_here(self, face: Face, scope: Scope) -> Response | None:
        """The answer to a preflight. Raises TooMany for whoever has spent their budget."""
        if self._rules.cors and not face.own_origin:
            answer = self._rules.cors.preflight(scope)
            if answer is not None:
                return answer
        client = scope.get("client")
        face.limiter(client[0] if client else None)
        return None

    def _broken(self, face: Face, request_id: str, *, late: bool, error: Exception) -> Response:
        """What is told when the part did not answer, after it is written to the log."""
        if late:
            log.warning("request took too long", extra={"request_id": request_id})
            words = f"the request took longer than {self._rules.timeout:g} s"
            return face.tell(Unavailable(words), request_id)
        log.error("request failed", exc_info=error, extra={"request_id": request_id})
        return problems.problem(*problems.INTERNAL, "internal error", request_id=request_id)

    def _extra(self, face: Face, scope: Scope, request_id: str) -> list[tuple[bytes, bytes]]:
        extra = [*self._headers, (b"x-request-id", request_id.encode())]
        if self._rules.cors and not face.own_origin:
            extra += self._rules.cors.headers(scope)
        return extra


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problems.problem(
        404, "not_found", "no such resource", request_id=scope["state"]["request_id"]
    )
    await answer(scope, receive, send)
