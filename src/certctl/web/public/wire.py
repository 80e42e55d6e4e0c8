"""HTTP/1.1 close to the socket, bounded in size, number and time: for a face that answers from
memory, where a framework would cost more than the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from itertools import count
from typing import Final, NamedTuple, Protocol, cast

import httptools

from certctl.web.forwarded import Networks, client_address
from certctl.web.front import HEADERS
from certctl.web.limits import Limiter, address_key

log = logging.getLogger("certctl.plane")

MOST_LINE: Final = 8 * 1024  # bytes of the request target
MOST_HEAD: Final = 16 * 1024  # bytes of all header fields
MOST_HEADERS: Final = 64
MOST_BODY: Final = 64 * 1024
MOST_PIPELINED: Final = 16
MOST_RECALLED: Final = 20_000  # requests whose replies are remembered, of so many bytes at most
LONGEST_RECALLED: Final = 1024
REQUEST_TIME: Final = 10.0  # seconds for a request to arrive
IDLE_TIME: Final = 60.0
WRITE_TIME: Final = 120.0  # for a client to take what fills the buffer
STATUS: Final = {
    code: b"HTTP/1.1 %d %b\r\n%b" % (
        code, words, b"".join(b"%b: %b\r\n" % each for each in HEADERS)
    )
    for code, words in {
        200: b"OK", 304: b"Not Modified", 400: b"Bad Request", 404: b"Not Found",
        405: b"Method Not Allowed", 408: b"Request Timeout", 413: b"Content Too Large",
        414: b"URI Too Long", 415: b"Unsupported Media Type", 429: b"Too Many Requests",
        431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
        502: b"Bad Gateway", 503: b"Service Unavailable",
    }.items()
}  # fmt: skip


FAULTS: Final = {
    400: "this is not HTTP/1.1",
    408: "the request did not arrive in time",
    413: f"a request has at most {MOST_BODY} bytes",
    414: f"the target is longer than {MOST_LINE} bytes",
    429: f"more than {MOST_PIPELINED} requests wait on this connection",
    431: f"there are more than {MOST_HEADERS} headers or {MOST_HEAD} bytes of them",
}
LENGTH: Final = b"content-length: %d\r\n"
KEPT: Final = b"cache-control: max-age=%d, public, no-transform, must-revalidate\r\n"
NO_STORE: Final = b"cache-control: no-store\r\n"
ENDING: Final = b"date: %b\r\nx-request-id: %b\r\n"


class Reply(NamedTuple):
    """`headers` are whole lines; those that every reply has are added. `max_age` is in seconds,
    None where nobody may keep it.

    A reply that may be given again to the very same bytes has `again`: the `max_age` that it has at
    a time in seconds since 1970, or -1 when it is outdated.
    """

    code: int
    headers: bytes
    body: bytes
    max_age: int | None = None
    again: Callable[[int], int] | None = None


def text(code: int, words: str, headers: bytes = b"") -> Reply:
    """A reply in words."""
    lines = headers + b"content-type: text/plain; charset=utf-8\r\n" + NO_STORE
    return Reply(code, lines, words.encode() + b"\n")


class Recalled(NamedTuple):
    """A whole reply with holes for `max_age`, date and request id."""

    template: bytes
    again: Callable[[int], int]


@dataclass(slots=True)
class Request:
    """One request as it arrives; names of headers are in lower case."""

    method: bytes = b""
    url: bytes = b""
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    size: int = 0

    def header(self, name: bytes) -> bytes:
        """The first of that name, or nothing."""
        for held, value in self.headers:
            if held == name:
                return value
        return b""


class Handler(Protocol):
    """What answers; refusals are replies too."""

    def quick(self, request: Request) -> Reply | None:
        """The reply where it is at hand."""

    async def answer(self, request: Request) -> Reply:
        """Any reply."""


@dataclass
class Served:
    """What all connections share. `limiter` is the budget of each address, None when off."""

    handler: Handler
    limiter: Limiter | None
    trusted: Networks = ()
    connections: set[Connection] = field(default_factory=set)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    recalled: OrderedDict[bytes, Recalled] = field(default_factory=OrderedDict)
    given_again: int = 0
    _ids: count[int] = field(default_factory=count)
    _mark: bytes = field(default_factory=lambda: secrets.token_hex(8).encode())

    def next_id(self) -> bytes:
        """A request id unlike any other."""
        return b"%b-%x" % (self._mark, next(self._ids))

    def remember(self, data: bytes, reply: Reply) -> None:
        """The reply to these bytes, which were one whole request and no more."""
        if reply.again is None or reply.code != 200 or len(data) > LONGEST_RECALLED:
            return
        whole = (STATUS[200] + reply.headers + LENGTH % len(reply.body)).replace(b"%", b"%%")
        template = b"".join((whole, KEPT, ENDING, b"\r\n", reply.body.replace(b"%", b"%%")))
        if len(self.recalled) >= MOST_RECALLED:
            self.recalled.popitem(last=False)
        self.recalled[data] = Recalled(template, reply.again)

    async def end(self, grace: float) -> None:
        """Close what is idle now, and the others once they have their answers."""
        for connection in list(self.connections):
            connection.end()
        if self.connections:
            self._ended.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace)

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._ended.set()

    def look_after_time(self, now: float) -> None:
        """End what takes too long, by the loop's time; to be called each second."""
        for connection in list(self.connections):
            connection.look_after_time(now)


@lru_cache(maxsize=16_384)
def http_date(at: int) -> bytes:
    """An IMF-fixdate (RFC 9110 §5.6.7)."""
    return formatdate(at, usegmt=True).encode()


class _Refused(Exception):
    """Stops the parser."""


class Connection(asyncio.Protocol):
    """Answers in the order of the requests. `leave` is called when it has ended."""

    def __init__(self, served: Served, *, leave: Callable[[], None]) -> None:
        self._served = served
        self._leave = leave
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._due = 0.0
        self._fault = 400
        self._is_last = False
        self._arrives = False  # whether a request has begun and not ended
        self._begun = self._unparsed = 0
        self._alone: Reply | None = None  # to the only request in what has just arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        peer = self._transport.get_extra_info("peername")
        self._peer = peer[0] if peer else None
        self._key = address_key(self._peer)
        self._served.connections.add(self)
        self._due = self._loop.time() + REQUEST_TIME

    def connection_lost(self, exc: Exception | None) -> None:
        self._served.left(self)
        self._leave()
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        is_between = not self._arrives and self._answering is None
        if is_between and data in self._served.recalled and self._recall(data):
            return
        self._alone, self._begun = None, 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._fault)
            return
        if self._arrives and not self._request.method:
            # The parser hands over whole fields: one that never ends is counted here.
            if self._begun == 0 or (self._begun == 1 and is_between):
                self._unparsed += len(data)
            if self._unparsed > MOST_LINE + MOST_HEAD:
                self._refuse(431)
        elif is_between and self._alone is not None and not self._arrives:
            self._served.remember(data, self._alone)

    def _recall(self, data: bytes) -> bool:
        """Whether these very bytes could be answered as they were before. A proxy's are looked at
        each time: whom they come from stands in them."""
        served, recalled = self._served, self._served.recalled[data]
        now = int(time.time())
        max_age = recalled.again(now)
        if max_age < 0 or served.trusted or self._is_last:
            return False
        if served.limiter is not None and served.limiter.spend(self._key) > 0:
            return False
        self._due = self._loop.time() + IDLE_TIME
        served.given_again += 1
        self._transport.write(recalled.template % (max_age, http_date(now), served.next_id()))
        return True

    def pause_writing(self) -> None:
        self._transport.pause_reading()
        self._due = self._loop.time() + WRITE_TIME

    def resume_writing(self) -> None:
        self._transport.resume_reading()
        self._due = self._loop.time() + IDLE_TIME

    def end(self) -> None:
        """Close, after the answer that is being made."""
        self._is_last = True
        if self._answering is None:
            self._transport.close()

    def look_after_time(self, now: float) -> None:
        """Close what has been slow or idle for too long."""
        if now <= self._due or self._answering is not None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self._arrives and not self._transport.is_closing():
            self._refuse(408)
        else:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._arrives = True
        self._begun, self._unparsed = self._begun + 1, 0
        self._request = Request()
        self._due = self._loop.time() + REQUEST_TIME

    def on_url(self, url: bytes) -> None:
        request = self._request
        request.url += url
        request.size += len(url)
        if len(request.url) > MOST_LINE:
            self._stop(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        request.headers.append((name.lower(), value))
        request.size += len(name) + len(value)
        if request.size > MOST_LINE + MOST_HEAD or len(request.headers) > MOST_HEADERS:
            self._stop(431)

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method()
        if request.header(b"expect").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._request.body += body
        if len(self._request.body) > MOST_BODY:
            self._stop(413)

    def on_message_complete(self) -> None:
        request, self._arrives = self._request, False
        stays = self._parser.should_keep_alive()
        self._due = self._loop.time() + IDLE_TIME
        if self._answering is None:
            self._begin(request, stays)
            return
        if len(self._waiting) >= MOST_PIPELINED:
            self._stop(429)
        self._waiting.append((request, stays))

    def _begin(self, request: Request, stays: bool) -> None:
        """Answer from memory, or else in a task; nothing more after the last request."""
        if self._is_last:
            return
        self._is_last = not stays
        wait = self._spend(request)
        if wait:
            reply: Reply | None = text(
                429, "too many requests; slow down", b"retry-after: %d\r\n" % wait
            )
        else:
            reply = self._served.handler.quick(request)
        if reply is not None:
            self._write(request, reply)
            self._alone = reply if self._begun == 1 and stays else None
            return
        self._answering = self._loop.create_task(self._answer(request))

    def _spend(self, request: Request) -> int:
        """Seconds to wait, before anything in the request is looked at; 0 when it may go on."""
        limiter = self._served.limiter
        if limiter is None:
            return 0
        key = self._key
        if self._served.trusted:
            key = address_key(client_address(self._peer, request.headers, self._served.trusted))
        wait = limiter.spend(key)
        return 0 if wait <= 0 else max(1, int(wait + 0.999))

    async def _answer(self, request: Request) -> None:
        try:
            reply = await self._served.handler.answer(request)
        except Exception:
            log.exception("request failed")
            reply = text(500, "internal error")
        self._answering = None
        self._write(request, reply)
        while self._waiting and self._answering is None:
            self._begin(*self._waiting.popleft())

    def _write(self, request: Request, reply: Reply) -> None:
        """The body goes to the transport as it is, so that a long one is never copied here."""
        if self._transport.is_closing():
            return
        now = int(time.time())
        head = b"".join(
            (
                STATUS[reply.code],
                reply.headers,
                LENGTH % len(reply.body),
                b"" if reply.max_age is None else KEPT % reply.max_age,
                ENDING % (http_date(now), self._served.next_id()),
                b"connection: close\r\n\r\n" if self._is_last else b"\r\n",
            )
        )
        if request.method == b"HEAD" or not reply.body or reply.code == 304:
            self._transport.write(head)
        elif len(reply.body) < MOST_BODY:
            self._transport.write(head + reply.body)
        else:
            self._transport.write(head)
            self._transport.write(reply.body)
        if self._is_last:
            self._transport.close()

    def _stop(self, fault: int) -> None:
        self._fault = fault
        raise _Refused

    def _refuse(self, fault: int) -> None:
        """Say why, unless that would fall into another answer, and close."""
        if self._answering is None and not self._is_last:
            self._is_last = True
            self._write(self._request, text(fault, FAULTS[fault]))
        self._transport.close()
