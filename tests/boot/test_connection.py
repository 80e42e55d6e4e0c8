"""Connections over real sockets: how large, how many and how slow they may be."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from ipaddress import ip_network
from typing import Any

import pytest

from certctl.boot import accepting, connection, listeners
from certctl.boot.connection import MOST_HEAD, MOST_HEADERS, MOST_LINE, MOST_PIPELINED
from certctl.boot.seats import Seats, connections_for
from certctl.boot.tls import SwappableContext
from certctl.web.front import Rules
from tests.boot.listening import Served, closed, echo, served
from tests.boot.test_tls import a_pair

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def get(*headers: bytes, target: bytes = b"/") -> bytes:
    lines = b"".join(line + b"\r\n" for line in (b"Host: x", *headers))
    return b"GET " + target + b" HTTP/1.1\r\n" + lines + b"\r\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bound of time is a fraction of a second, and looked after as often."""
    for name in ("HEAD_TIME", "BODY_TIME", "WRITE_TIME", "IDLE_TIME"):
        monkeypatch.setattr(connection, name, 0.3)
    monkeypatch.setattr(accepting, "HANDSHAKE_TIME", 0.3)
    monkeypatch.setattr(listeners, "TICKS", 1)


# Size


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with served() as at:
        client = await at.connect()
        client.send(GET)
        assert (await client.answer()).status == 200
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        )
        assert (await client.answer()).body == b"100000"
        client.send(GET * 10)
        assert [(await client.answer()).status for _ in range(10)] == [200] * 10
        await client.close()
        await at.empty()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(target=b"/" + b"x" * (MOST_LINE - 1)), 200),
        (get(target=b"/" + b"x" * MOST_LINE), 414),
        (b"GET /" + b"x" * 400_000, 414),
        (get(*[b"X: 1"] * (MOST_HEADERS - 1)), 200),
        (get(*[b"X: 1"] * MOST_HEADERS), 431),
        (get(b"X: " + b"x" * (MOST_HEAD - 40)), 200),
        (get(b"X: " + b"x" * MOST_HEAD), 431),
        (get() [:-2] + b"X: " + b"x" * 400_000, 431),
        (get()[:-2] + b"X" * 400_000, 431),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (get(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (get(b"Content-Length: 1", b"Content-Length: 2"), 400),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ],
)  # fmt: skip
async def test_a_head_is_as_large_as_it_may_be_and_no_larger(request_: bytes, status: int) -> None:
    async with served() as at:
        client = await at.connect()
        client.send(request_)
        answer = await client.answer()
        assert answer.status == status
        if status != 200:
            assert answer.headers["connection"] == "close"
            assert await client.ended() == b""
        await client.close()
        await at.empty()


@pytest.mark.parametrize("tls", [False, True])
async def test_what_no_application_has_seen_is_answered_in_the_same_form(tls: bool) -> None:
    context = SwappableContext(*a_pair(1)).listening if tls else None
    async with served(tls=context) as at:
        answer = await at.ask(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
        other = await at.ask(GET)
    assert answer.status == 400
    assert answer.problem["error"] == "invalid"
    assert answer.problem["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])
    for each in (answer, other):
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["permissions-policy"]
        assert each.headers["content-security-policy"].startswith("default-src 'none'")
        assert ("strict-transport-security" in each.headers) is tls
        assert "server" not in each.headers


async def test_an_answer_is_never_put_into_another() -> None:
    """The second request is broken while the first is still worked on."""
    leave = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await leave.wait()
        await echo(scope, receive, send)

    async with served(slow) as at:
        client = await at.connect()
        client.send(GET + b"hello\r\n\r\n")
        assert await client.ended() == b""
        leave.set()
        await client.close()


async def test_requests_that_are_sent_ahead_are_bounded() -> None:
    leave = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await leave.wait()
        await echo(scope, receive, send)

    async with served(slow) as at:
        client = await at.connect()
        client.send(GET * (MOST_PIPELINED + 2))
        assert await client.ended() == b""
        leave.set()
        await client.close()
        await at.empty()


async def test_an_upgrade_is_not_made_and_the_request_is_answered() -> None:
    async with served() as at:
        client = await at.connect()
        client.send(get(b"Connection: Upgrade", b"Upgrade: websocket"))
        assert (await client.answer()).status == 200
        assert await client.ended() == b""
        await client.close()


# Time


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET / HT", 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: 1", 408),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 408),
    ],
)
@pytest.mark.usefixtures("quick")
async def test_who_does_not_finish_a_request_is_let_go(start: bytes, status: int | None) -> None:
    async with served() as at:
        client = await at.connect()
        client.send(start)
        if status is not None:
            answer = await client.answer()
            assert (answer.status, answer.problem["error"]) == (status, "too_slow")
        assert await client.ended() == b""
        await client.close()
        await at.empty()


@pytest.mark.usefixtures("quick")
async def test_bytes_that_drip_in_buy_no_time() -> None:
    async with served() as at:
        client = await at.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        dripping = asyncio.create_task(drip(client.writer))
        assert (await client.answer()).status == 408
        dripping.cancel()
        await client.close()
        await at.empty()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: 1\r\n")
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_is_idle_is_closed_and_one_in_use_is_not() -> None:
    async with served() as at:
        idle, busy = await at.connect(), await at.connect()
        idle.send(GET)
        assert (await idle.answer()).status == 200
        ending = asyncio.create_task(idle.ended())
        while not ending.done():
            busy.send(GET)
            assert (await busy.answer()).status == 200
            await asyncio.sleep(0.05)
        assert ending.result() == b""
        await idle.close()
        await busy.close()


@pytest.mark.usefixtures("quick")
async def test_a_client_that_waits_for_its_answer_is_not_idle() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1)
        await echo(scope, receive, send)

    async with served(slow) as at:
        client = await at.connect()
        client.send(GET * 2)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        await client.close()


@pytest.mark.parametrize("more", [b"", b"Connection: close"])
@pytest.mark.usefixtures("quick")
async def test_a_client_that_does_not_read_is_let_go(more: bytes) -> None:
    async with served() as at:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", at.port))
        await loop.sock_sendall(sock, get(*filter(None, [more]), target=b"/big"))
        async with asyncio.timeout(10):
            while not at.seats.taken:
                await asyncio.sleep(0.01)
        await at.empty()
        sock.close()


@pytest.mark.usefixtures("quick")
async def test_who_never_agrees_on_tls_is_let_go() -> None:
    async with served(tls=SwappableContext(*a_pair(1)).listening) as at:
        _, writer = await asyncio.open_connection("127.0.0.1", at.port)
        async with asyncio.timeout(5):
            while not at.seats.taken:
                await asyncio.sleep(0.01)
        await at.empty()
        writer.close()
        assert (await at.ask(GET)).status == 200


async def test_plain_words_to_a_tls_listener_leave_no_seat_behind() -> None:
    async with served(tls=SwappableContext(*a_pair(1)).listening) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(GET)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await at.empty()
        writer.close()
        assert (await at.ask(GET)).status == 200


# Number


async def held(at: Served, number: int, source: str = "127.0.0.1") -> list[Any]:
    clients = [await at.connect(source) for _ in range(number)]
    for client in clients:
        client.send(GET)
        assert (await client.answer()).status == 200
    return clients


async def test_an_address_has_so_many_connections_and_another_has_its_own() -> None:
    async with served(per_address=3) as at:
        first = await held(at, 3)
        refused = await at.connect()
        assert await refused.ended() == b""
        others = await held(at, 3, "127.0.0.2")
        await first.pop().close()
        async with asyncio.timeout(10):
            while at.seats.taken > 5:
                await asyncio.sleep(0.01)
        again = await held(at, 1)
        for client in (*first, *others, *again, refused):
            await client.close()
        await at.empty()


async def test_a_trusted_proxy_stands_for_many() -> None:
    rules = Rules(trusted=(ip_network("127.0.0.1"),))
    async with served(per_address=2, rules=rules) as at:
        clients = await held(at, 5)
        for client in clients:
            await client.close()


async def test_a_listener_holds_no_more_than_it_may_from_everybody() -> None:
    async with served(most=4) as at:
        clients = [c for n in range(1, 5) for c in await held(at, 1, f"127.0.0.{n}")]
        refused = await at.connect("127.0.0.9")
        assert await refused.ended() == b""
        for client in (*clients, refused):
            await client.close()


async def test_a_listener_that_stops_ends_idle_connections_and_answers_open_requests() -> None:
    reached, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            reached.set()
            await leave.wait()
        await echo(scope, receive, send)

    async with served(slow) as at:
        (idle,) = await held(at, 1)
        busy = await at.connect()
        busy.send(get(target=b"/slow"))
        await reached.wait()
        at.server.should_exit = True
        assert await idle.ended() == b""
        assert closed(at.port)
        leave.set()
        assert (await busy.answer()).status == 200
        for client in (idle, busy):
            await client.close()


def test_ipv6_seats_are_counted_by_network() -> None:
    seats = Seats(most=10, per_address=1)
    first = seats.take("2001:db8:0:1::1")
    assert first is not None
    assert seats.take("2001:db8:0:1:ffff::2") is None
    assert seats.take("2001:db8:0:2::1") is not None
    first.leave()
    first.leave()
    assert seats.taken == 1
    assert seats.take("2001:db8:0:1::3") is not None


def test_a_listener_has_a_part_of_the_files_that_may_be_open() -> None:
    assert 64 <= connections_for(2) <= 8000
    assert connections_for(1000) == 64
