"""One connection of a client: how large the head of a request may be, and how slow each part."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from certctl.boot.seats import Seat
from certctl.boot.tls import client_chain
from certctl.web import problems
from certctl.web.front import HEADERS, HSTS

log = logging.getLogger("certctl.connection")

MOST_LINE: Final = 8 * 1024  # bytes of the request target
MOST_HEAD: Final = 32 * 1024  # bytes of all header fields
MOST_HEADERS: Final = 100
MOST_PIPELINED: Final = 16  # requests that are sent before the first is answered
HEAD_TIME: Final = 5.0  # seconds, from the first byte or the connection
BODY_TIME: Final = 30.0
WRITE_TIME: Final = 120.0  # for a client to take what fills the buffer
IDLE_TIME: Final = 60.0


@dataclass(frozen=True)
class Fault:
    """Why a request is answered before any application sees it."""

    status: int
    word: str
    message: str


BROKEN: Final = Fault(400, "invalid", "this is not HTTP/1.1")
TOO_SLOW: Final = Fault(408, "too_slow", "the request did not arrive in time")
LONG_LINE: Final = Fault(414, "too_large", f"the target is longer than {MOST_LINE} bytes")
PIPELINED: Final = Fault(
    429, "too_many_requests", f"more than {MOST_PIPELINED} requests wait on this connection"
)
LARGE_HEAD: Final = Fault(
    431, "too_large", f"there are more than {MOST_HEADERS} headers or {MOST_HEAD} bytes of them"
)


class Refused(Exception):
    """Stops the parser; the connection answers with its fault."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, bounded. The listener asks each one, every second, to look
    after its own time."""

    def __init__(self, *, seat: Seat, **given: Any) -> None:
        """`seat` is left when the connection ends."""
        super().__init__(**given)
        self._seat = seat
        self._part = ""  # of the request that arrives: head, body, or nothing at present
        self._due: float | None = None
        self._write_due: float | None = None
        self._fault: Fault | None = None
        self._head = self._unfinished = 0
        self._client_chain: list[str] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._client_chain = client_chain(transport.get_extra_info("ssl_object"))
        self._within(HEAD_TIME)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._seat.leave()

    def data_received(self, data: bytes) -> None:
        in_head = self._part == "head"
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if it had not been asked for (RFC 9110 §7.8); what follows is not HTTP.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        except httptools.HttpParserError:
            self._refuse(self._fault or BROKEN)
        else:
            # The parser hands over whole fields: one that never ends is counted here.
            self._unfinished += len(data) if in_head and self._part == "head" else 0
            if self._unfinished > MOST_HEAD:
                self._refuse(LARGE_HEAD if self.headers else LONG_LINE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._client_chain:
            # The ASGI TLS extension, as far as the application has use for it.
            self.scope["extensions"] = {"tls": {"client_cert_chain": self._client_chain}}
        self._part = "head"
        self._head = self._unfinished = 0
        self._within(HEAD_TIME)

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > MOST_LINE:
            self._stop(LONG_LINE)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if self._head > MOST_HEAD or len(self.headers) >= MOST_HEADERS:
            self._stop(LARGE_HEAD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._stop(PIPELINED)
        super().on_headers_complete()
        self._part = "body"
        self._within(BODY_TIME)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = ""
        self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the time is kept here
        if self._part == "":
            self._rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_due = self.loop.time() + WRITE_TIME

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_due = None

    def look_after_time(self, now: float) -> None:
        """End what has taken too long by the loop's time `now`."""
        if self._write_due is not None and now > self._write_due:
            self.transport.abort()
        elif self._due is None or now < self._due:
            return
        elif self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
        elif self.flow.read_paused:
            self._within(BODY_TIME)  # it is we who hold the client up
        elif self._part:
            self._refuse(TOO_SLOW)
        else:
            self._close()

    def _rest(self) -> None:
        """Nothing arrives: a response is owed, or the client may take its time."""
        owed = self.pipeline or (self.cycle and not self.cycle.response_complete)
        if self.transport.is_closing():
            self._within(WRITE_TIME)
        elif owed:
            self._due = None
        else:
            self._within(IDLE_TIME)

    def _within(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds

    def _stop(self, fault: Fault) -> None:
        self._fault = fault
        raise Refused

    def _refuse(self, fault: Fault) -> None:
        """Answer, unless that would fall into another answer, and close."""
        log.info("refused a request: %d %s", fault.status, fault.message)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if self._part != "body" or cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        self.transport.write(answer(fault, tls=self.scheme == "https"))
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._within(HEAD_TIME)


def answer(fault: Fault, *, tls: bool) -> bytes:
    """The whole response, with what the front door gives to every other."""
    request_id = str(uuid.uuid4())
    told = problems.problem(fault.status, fault.word, fault.message, request_id=request_id)
    headers = [
        *told.raw_headers,
        *HEADERS,
        *((HSTS,) if tls else ()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[fault.status] + lines + b"\r\n" + bytes(told.body)
