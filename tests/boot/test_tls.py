"""The management listener's certificate: swapped while it serves, refused when it does not fit."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certctl.boot.tls import SwappableContext, read_pair
from certctl.domain.errors import Unsafe
from certctl.pki import x509
from tests.pki import made


def a_pair(number: int) -> tuple[str, str]:
    """Chain and key, PEM; another serial and key for each number."""
    key = made.a_key(number=number)
    leaf = made.a_root().issue(made.a_template(public_key=key.public_key()))
    return x509.pem(leaf), made.keys.to_pem(key)


def serial_of(pair: tuple[str, str]) -> str:
    return x509.facts(x509.ders_of_pem(pair[0])[0]).serial


@asynccontextmanager
async def serving(context: SwappableContext) -> AsyncIterator[int]:
    """A TLS server on a free port, which says what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context.listening)
    async with server:
        yield server.sockets[0].getsockname()[1]


def a_client(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


async def seen(port: int, name: str | None) -> str:
    """The serial of the certificate that a new connection is shown."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=a_client(), server_hostname=name or ""
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    return x509.facts(der).serial


@pytest.mark.parametrize("name", ["a.example", "other.example", None])
async def test_new_connections_are_shown_the_newest_certificate(name: str | None) -> None:
    first, second = a_pair(1), a_pair(2)
    context = SwappableContext(*first)
    async with serving(context) as port:
        before = await seen(port, name)
        context.put(*second)
        after = await seen(port, name)
    assert (before, after) == (serial_of(first), serial_of(second))


async def test_a_connection_outlives_the_swap() -> None:
    context = SwappableContext(*a_pair(1))
    async with serving(context) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=a_client(), server_hostname="a.example"
        )
        context.put(*a_pair(2))
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        writer.close()
        await writer.wait_closed()


async def test_a_swap_that_fails_leaves_the_present_certificate() -> None:
    first = a_pair(1)
    context = SwappableContext(*first)
    with pytest.raises(ssl.SSLError):
        context.put(first[0], a_pair(2)[1])
    async with serving(context) as port:
        assert await seen(port, "a.example") == serial_of(first)


async def test_tls_before_1_3_is_refused() -> None:
    async with serving(SwappableContext(*a_pair(1))) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=a_client(ssl.TLSVersion.TLSv1_2),
                server_hostname="a.example",
            )


def test_files_that_fit_together_are_read(tmp_path: Path) -> None:
    chain, key = a_pair(1)
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(key)
    assert read_pair(tmp_path / "chain.pem", tmp_path / "key.pem") == (chain, key)


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        (a_pair(1)[0], a_pair(2)[1], "do not fit together"),
        ("hello", a_pair(1)[1], "do not fit together"),
        (None, a_pair(1)[1], "chain.pem: No such file"),
        (a_pair(1)[0], None, "key.pem: No such file"),
    ],
)
def test_files_that_cannot_be_used_stop_the_start_with_the_setting(
    tmp_path: Path, chain: str | None, key: str | None, words: str
) -> None:
    for name, text in (("chain.pem", chain), ("key.pem", key)):
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(Unsafe, match=words) as caught:
        read_pair(tmp_path / "chain.pem", tmp_path / "key.pem")
    assert caught.value.message.startswith("CERTCTL_SERVER_TLS_CERT_PATH")
