"""certctl's own calls: to the address that was checked and no other, under the name that was asked
for; and every call of the control plane is one of these."""

from __future__ import annotations

import ast
import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from certctl.boot import platform
from certctl.connectors import http
from certctl.connectors.notifier import Event
from certctl.connectors.reach import Reach
from certctl.domain.errors import Refused, Unavailable
from certctl.services import notify
from certctl.settings import load
from tests import kit
from tests.conftest import World
from tests.connectors.kit import LOOPBACK, Authority, TlsServer, a_bundle, free_port, install
from tests.connectors.receiver import receiving
from tests.connectors.resolving import Resolver, reach
from tests.services import notified

SOURCE = Path(__file__).parents[2] / "src" / "certctl"


async def test_the_name_is_resolved_once_and_the_checked_address_is_called() -> None:
    """A second answer, to whoever asked again, would lead elsewhere."""
    async with receiving() as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
        where = Reach(LOOPBACK.allowed, resolve=resolver)
        async with http.client(where) as through:
            answer = await http.ask(through, "GET", f"http://rebound.test:{port}/x")
    assert (answer.status, resolver.asked) == (204, [("rebound.test", port)])
    assert receiver.seen[0].line == "GET /x HTTP/1.1"
    assert receiver.seen[0].headers["host"] == f"rebound.test:{port}"


async def test_a_name_that_turns_bad_is_refused_at_the_next_call() -> None:
    async with receiving() as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        where = Reach(LOOPBACK.allowed, resolve=Resolver(["127.0.0.1"], ["169.254.169.254"]))
        url = f"http://rebound.test:{port}/in-the-path?token=in-the-query"
        async with http.client(where) as through:
            await http.ask(through, "GET", url)
            with pytest.raises(Refused) as refusal:
                await http.ask(through, "GET", url)
    assert len(receiver.seen) == 1
    assert refusal.value.message == (
        "rebound.test leads to 169.254.169.254, which is a metadata address: certctl does not "
        "call it unless CERTCTL_OUTBOUND_ALLOW names it"
    )


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "localhost", "0"]
)
async def test_nothing_is_sent_to_a_refused_address(host: str) -> None:
    async with receiving() as receiver, http.client(Reach()) as through:
        port = receiver.url.split(":")[2].split("/")[0]
        with pytest.raises(Refused):
            await http.ask(through, "GET", f"http://user:pass@{host}:{port}/")
    assert receiver.seen == []


async def test_the_next_checked_address_is_tried_when_one_does_not_answer() -> None:
    async with receiving() as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        both = reach("127.0.0.2", "127.0.0.1", allowed=["127.0.0.0/8"])
        async with http.client(both) as through:
            answer = await http.ask(through, "POST", f"http://two.test:{port}/", content=b"{}")
    assert (answer.status, receiver.seen[0].body) == (204, b"{}")


async def test_when_no_address_answers_the_reason_is_told() -> None:
    both = reach("127.0.0.2", "127.0.0.1", allowed=["127.0.0.0/8"])
    async with http.client(both) as through:
        with pytest.raises(Unavailable, match="refused"):
            await http.ask(through, "GET", f"http://two.test:{free_port()}/")


@contextmanager
def serving(folder: Path, *names: str) -> Iterator[tuple[TlsServer, ssl.SSLContext]]:
    """A TLS server on 127.0.0.1 with a certificate for `names`, and a context that trusts it."""
    ca = Authority()
    install(a_bundle(ca, *names), folder / "cert.pem", folder / "key.pem")
    with TlsServer(folder / "cert.pem", folder / "key.pem") as server:
        yield server, ssl.create_default_context(cadata=ca.pem)


async def told(server: TlsServer, trust: ssl.SSLContext, host: str) -> str:
    """How a call to `host`, which is at 127.0.0.1, ends: the server speaks no HTTP."""
    where = reach("127.0.0.1", allowed=["127.0.0.1"])
    async with http.client(where, verify=trust) as through:
        with pytest.raises(Unavailable) as ended:
            await http.ask(through, "GET", f"https://{host}:{server.port}/", timeout=10)
    return ended.value.message


@pytest.mark.parametrize(
    ("name", "host"), [("hooks.test", "hooks.test"), ("*.hooks.test", "a.hooks.test")]
)
async def test_a_certificate_for_the_name_is_accepted_at_the_checked_address(
    tmp_path: Path, name: str, host: str
) -> None:
    with serving(tmp_path, name) as (server, trust):
        assert "RemoteProtocolError" in await told(server, trust, host)
    assert server.asked == [host]


@pytest.mark.parametrize("names", [("other.test",), ("127.0.0.1",)])
async def test_a_certificate_for_another_name_or_for_the_address_is_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with serving(tmp_path, *names) as (server, trust):
        assert "its certificate is not trusted" in await told(server, trust, "hooks.test")
    assert server.asked == ["hooks.test"]


async def test_an_address_in_the_url_is_what_the_certificate_must_be_for(tmp_path: Path) -> None:
    with serving(tmp_path, "127.0.0.1") as (server, trust):
        assert "RemoteProtocolError" in await told(server, trust, "127.0.0.1")
    assert server.asked == [None]


async def test_two_names_at_one_address_share_no_connection(tmp_path: Path) -> None:
    """A kept connection was verified for the first name alone."""
    ca = Authority()
    install(a_bundle(ca, "one.test"), tmp_path / "cert.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    served: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                served.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trust = ssl.create_default_context(cadata=ca.pem)
    async with server, http.client(reach("127.0.0.1", allowed=["127.0.0.1"]), verify=trust) as to:
        assert (await http.ask(to, "GET", f"https://one.test:{port}/")).status == 200
        assert (await http.ask(to, "GET", f"https://one.test:{port}/")).status == 200
        with pytest.raises(Unavailable, match="not trusted"):
            await http.ask(to, "GET", f"https://two.test:{port}/")
    assert len(served) == 2


def test_the_settings_decide_what_is_called() -> None:
    assert platform.reach(load({})) == Reach()
    given = {
        "CERTCTL_OUTBOUND_ALLOW": "127.0.0.1, fe80::/10",
        "CERTCTL_BLOCK_RFC1918_OUTBOUND": "true",
    }
    networks = (ip_network("127.0.0.1"), ip_network("fe80::/10"))
    assert platform.reach(load(given)) == Reach(networks, True)


async def test_a_configured_webhook_keeps_to_the_settings() -> None:
    async with receiving() as receiver:
        given = {"CERTCTL_WEBHOOK_URL": receiver.url, "CERTCTL_WEBHOOK_SECRET": "s" * 32}
        event = Event("ne-1", "Test", "info", None, "words", datetime.now(UTC))
        refusing = platform.notifiers(load(given))["Webhook"]
        with pytest.raises(Refused, match=r"127\.0\.0\.1 is a loopback address"):
            await refusing.send(event)
        allowing = platform.notifiers(load({**given, "CERTCTL_OUTBOUND_ALLOW": "127.0.0.1"}))
        await allowing["Webhook"].send(event)
    assert len(receiver.seen) == 1


async def test_the_operator_reads_the_refusal_at_the_notification(world: World) -> None:
    row = await kit.order(world)
    await notified.put(world, row["id"])
    async with receiving() as receiver:
        on = notified.told_by(world, receiver.url, reach=Reach())
        assert await notify.send_due(on) == 0
    found = await notified.event(world)
    assert (found["status"], receiver.seen) == ("failed", [])
    assert found["last_error"] == (
        "127.0.0.1 is a loopback address: certctl does not call it unless CERTCTL_OUTBOUND_ALLOW "
        "names it"
    )


CALLS = {
    *("httpx." + name for name in ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport")),
    *("httpx." + name for name in ("request", "get", "post", "put", "delete", "head", "stream")),
    *("socket.create_connection", "asyncio.open_connection", "open_connection"),
    *("loop.create_connection", "urlopen", "urllib.request.urlopen"),
}
CLIENTS = {"urllib.request", "http.client", "requests", "aiohttp", "smtplib", "ftplib", "httpcore"}


def calls_out(code: str) -> list[str]:
    """What in a module opens a connection of its own."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            found.append(ast.unparse(node.func))
        elif isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name in CLIENTS]
        elif isinstance(node, ast.ImportFrom):
            if node.module in CLIENTS | {"httpx"}:
                found.append(str(node.module))
            found += [each.name for each in node.names if f"{node.module}.{each.name}" in CALLS]
    return found


KEY_SERVICES = {
    f"connectors/signers/{name}.py" for name in ("aws_kms", "gcp_kms", "azure_key_vault")
}


def test_only_one_module_of_the_control_plane_opens_connections() -> None:
    """The agent and the CLI are told whom to call by whoever runs them; `served` is the agent's
    look at its own server, `planes` the server's at its own planes; the libraries of key services
    go where the operator's settings say."""
    found = {
        str(file.relative_to(SOURCE))
        for folder in ("boot", "connectors", "domain", "jobs", "pki", "services", "web")
        for file in sorted((SOURCE / folder).rglob("*.py"))
        if calls_out(file.read_text())
    }
    assert found - KEY_SERVICES == {
        "boot/planes.py", "connectors/http.py", "connectors/served.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "httpx.AsyncClient()",
        "from httpx import AsyncClient",
        "import urllib.request",
        "from smtplib import SMTP",
        "await asyncio.open_connection('h', 1)",
        "from asyncio import open_connection",
        "socket.create_connection(('h', 1))",
    ],
)
def test_a_connection_of_a_module_of_its_own_would_be_found(code: str) -> None:
    assert calls_out(code)
