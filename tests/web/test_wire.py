"""The plane's own HTTP/1.1: bounded, in order, and true also where replies are given again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.domain.revocation import Reason
from certctl.pki import ocsp
from certctl.services import authority, revoke
from certctl.web.limits import Limiter
from certctl.web.public import wire
from certctl.web.public.wire import Connection, Reply, Request, Served, text
from tests import kit
from tests.conftest import World
from tests.web.relying import Pipe, relying


@dataclass
class Echo:
    """Says what it was asked: at once, or `/slow` things when told to."""

    leave: asyncio.Event = field(default_factory=asyncio.Event)
    outdated: bool = False
    asked: int = 0

    def quick(self, request: Request) -> Reply | None:
        self.asked += 1
        if request.url.startswith(b"/slow"):
            return None
        told = b"%b %b %b" % (request.method, request.url, request.body)
        return Reply(200, b"", told, 60, self._again)

    def _again(self, _now: int) -> int:
        return -1 if self.outdated else 59

    async def answer(self, request: Request) -> Reply:
        await self.leave.wait()
        return text(404, request.url.decode())


def opened(served: Served, address: str = "198.51.100.7") -> tuple[Connection, Pipe]:
    pipe = Pipe(address)
    connection = Connection(served, leave=lambda: None)
    connection.connection_made(pipe)
    return connection, pipe


@pytest.fixture
async def served() -> Served:
    return Served(Echo(), None)


def get(path: str, *headers: str) -> bytes:
    lines = "".join(f"{each}\r\n" for each in headers)
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def replies(pipe: Pipe, number: int) -> list[tuple[int, bytes]]:
    """Status and body of so many replies."""
    found: list[tuple[int, bytes]] = []
    seen = b""
    async with asyncio.timeout(10):
        while len(found) < number:
            head, mark, rest = seen.partition(b"\r\n\r\n")
            size = [int(x[16:]) for x in head.split(b"\r\n") if x.startswith(b"content-length: ")]
            if mark and len(rest) >= size[0]:
                found.append((int(head.split(b" ")[1]), rest[: size[0]]))
                seen = rest[size[0] :]
            else:
                seen += await pipe.written.get()
    return found


async def test_requests_sent_together_are_answered_in_their_order(served: Served) -> None:
    connection, pipe = opened(served)
    connection.data_received(get("/1") + get("/slow") + post("/2", b"body") + get("/3"))
    served.handler.leave.set()  # type: ignore[attr-defined]
    told = await replies(pipe, 4)
    assert told == [(200, b"GET /1 "), (404, b"/slow\n"), (200, b"POST /2 body"), (200, b"GET /3 ")]


async def test_a_request_may_come_octet_by_octet(served: Served) -> None:
    connection, pipe = opened(served)
    for octet in post("/x", b"hello") + get("/y"):
        connection.data_received(bytes([octet]))
    assert await replies(pipe, 2) == [(200, b"POST /x hello"), (200, b"GET /y ")]


async def test_the_same_bytes_are_answered_as_before_until_that_is_outdated(
    served: Served,
) -> None:
    echo: Any = served.handler
    connection, pipe = opened(served)
    for _ in range(3):
        connection.data_received(get("/again"))
    assert await replies(pipe, 3) == [(200, b"GET /again ")] * 3
    assert (echo.asked, served.given_again) == (1, 2)
    echo.outdated = True
    connection.data_received(get("/again"))
    await replies(pipe, 1)
    assert echo.asked == 2


@pytest.mark.parametrize(
    "first",
    [
        get("/a") + get("/b"),
        get("/a") + b"GET /hal",
        get("/a", "Connection: close"),
        post("/a", b"x" * 2000),
    ],
)
async def test_only_one_whole_request_is_remembered(served: Served, first: bytes) -> None:
    connection, _ = opened(served)
    connection.data_received(first)
    assert len(served.recalled) == 0


@pytest.mark.parametrize("begun", [b"G", b"GET ", b"GET /b HTTP/1.1\r\nX: "])
async def test_nothing_is_recalled_in_the_midst_of_a_head(served: Served, begun: bytes) -> None:
    connection, _ = opened(served)
    connection.data_received(get("/a"))
    connection.data_received(begun)
    connection.data_received(get("/a"))
    assert served.given_again == 0


async def test_nothing_is_recalled_in_the_midst_of_a_body(served: Served) -> None:
    """Bytes that were a request once are the body of another."""
    connection, pipe = opened(served)
    connection.data_received(get("/a"))
    whole = get("/a")
    head = f"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    connection.data_received(head)
    connection.data_received(whole)
    assert await replies(pipe, 2) == [(200, b"GET /a "), (200, b"POST /b " + whole)]


async def test_what_is_remembered_is_bounded(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_RECALLED", 5)
    connection, _ = opened(served)
    for n in range(20):
        connection.data_received(get(f"/{n}"))
    assert len(served.recalled) == 5


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (get("/" + "x" * 9000), 414),
        (get("/", "X: " + "y" * 30_000), 431),
        (get("/", *[f"H{n}: x" for n in range(70)]), 431),
        (b"GET /" + b"x" * 40_000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, 431),
        (post("/", b"x" * 70_000), 413),
        (get("/slow") * 30, 429),
    ],
)
async def test_what_is_out_of_bounds_is_refused_and_the_connection_closed(
    served: Served, sent: bytes, code: int
) -> None:
    connection, pipe = opened(served)
    connection.data_received(sent)
    if code != 429:  # then an answer is under way, and nothing else is said
        assert (await replies(pipe, 1))[0][0] == code
    assert pipe.closed


async def test_head_is_told_the_length_alone(served: Served) -> None:
    connection, pipe = opened(served)
    connection.data_received(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
    written = await pipe.written.get()
    assert b"content-length: 8\r\n" in written
    assert written.endswith(b"\r\n\r\n")


async def test_slow_and_idle_clients_are_let_go(served: Served) -> None:
    loop = asyncio.get_running_loop()
    connection, pipe = opened(served)
    connection.data_received(b"GET /half")
    served.look_after_time(loop.time() + wire.REQUEST_TIME + 1)
    assert (await replies(pipe, 1))[0][0] == 408
    idle, quiet = opened(served)
    idle.data_received(get("/a"))
    served.look_after_time(loop.time() + wire.REQUEST_TIME + 1)
    assert not quiet.closed
    served.look_after_time(loop.time() + wire.IDLE_TIME + 1)
    assert quiet.closed


async def test_each_address_has_a_budget_that_recalled_replies_spend_too() -> None:
    served = Served(Echo(), Limiter(rate=0.001, burst=3))
    connection, pipe = opened(served)
    other, elsewhere = opened(served, "203.0.113.9")
    for _ in range(4):
        connection.data_received(get("/a"))
    assert [code for code, _ in await replies(pipe, 4)] == [200, 200, 200, 429]
    other.data_received(get("/a"))
    assert (await replies(elsewhere, 1))[0][0] == 200


async def test_at_the_end_an_answer_under_way_is_still_given(served: Served) -> None:
    connection, pipe = opened(served)
    idle, quiet = opened(served)
    connection.data_received(get("/slow"))
    ending = asyncio.create_task(served.end(5))
    await asyncio.sleep(0)
    assert quiet.closed
    served.handler.leave.set()  # type: ignore[attr-defined]
    assert await replies(pipe, 1) == [(404, b"/slow\n")]
    for each in (connection, idle):
        each.connection_lost(None)
    await ending


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.binary(max_size=200) | st.sampled_from([get("/a"), b"\r\n", b"GET "]), max_size=8)
)
async def test_whatever_comes_is_answered_or_closed(chunks: list[bytes]) -> None:
    served = Served(Echo(), None)
    connection, pipe = opened(served)
    for chunk in chunks:
        if not pipe.closed:
            connection.data_received(chunk)
    written = b""
    while not pipe.written.empty():
        written += pipe.written.get_nowait()
    ours = h11.Connection(h11.CLIENT)
    ours.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    ours.send(h11.EndOfMessage())
    if written:
        ours.receive_data(written)
        assert isinstance(ours.next_event(), h11.Response)


@pytest.fixture
async def issued(world: World) -> AsyncIterator[tuple[Any, str, str]]:
    """A client of a plane, a certificate, and the path that asks about it."""
    row = await kit.an_issued_certificate(world)
    (version,) = await kit.versions_of(world, row["id"])
    ca = await authority.signing_authority_id(world.platform, "iss-local")
    issuer = await authority.certificate(world.platform, ca)
    request = ocsp.request_for(ocsp.cert_id(issuer, int(version["serial_number"], 16)))
    path = f"/.well-known/pki/ocsp/{ca}/{base64.b64encode(request).decode().replace('/', '%2F')}"
    async with relying(world.platform) as client:
        yield client, row["id"], path


async def test_a_revocation_ends_what_was_to_be_given_again(
    world: World, issued: tuple[Any, str, str]
) -> None:
    client, certificate_id, path = issued
    answers = [(await client.get(path)).content for _ in range(3)]
    assert client.wire.served.given_again >= 1
    assert answers[1] == answers[2]
    await revoke.one(world.platform, kit.ADMIN, certificate_id, reason=Reason.SUPERSEDED)
    assert (await client.get(path)).content not in answers


async def test_an_answer_that_is_known_is_not_sent_again(issued: tuple[Any, str, str]) -> None:
    client, _, path = issued
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_health_says_what_is_in_memory(issued: tuple[Any, str, str]) -> None:
    client, _, path = issued
    await client.get(path)
    told = await client.get("/health")
    assert told.text == "serials: 1\nsigned: 1\ndatabase: ok\n"
    assert "Strict-Transport-Security" not in told.headers
    for elsewhere in ("/api/v1/certificates", "/ready", "/"):
        assert (await client.get(elsewhere)).status_code == 404
