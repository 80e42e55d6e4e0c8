"""TLS to an external PostgreSQL: what each mode accepts, and in which words it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certctl.domain.errors import Unavailable
from certctl.store import migrate
from certctl.store.backup import backup, restore
from certctl.store.reach import unencrypted
from tests.connectors.kit import Authority
from tests.store.tls_server import TlsServer, tls_server

SSL = "SELECT ssl, current_user::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with tls_server(tmp_path_factory.mktemp("tls")) as started:
        yield started


@pytest.fixture
def other_ca(tmp_path: Path) -> Path:
    file = tmp_path / "other.pem"
    file.write_text(Authority(name="another CA").pem)
    return file


async def connected(url: str) -> Any:
    async with migrate.connect(url) as connection:
        return await (await connection.execute(SSL)).fetchone()


async def refusal(server: TlsServer, url: str) -> str:
    with pytest.raises(Unavailable) as refused:
        await connected(url)
    words = refused.value.message
    assert "CERTCTL_DATABASE_URL" in words
    assert server.password not in words
    assert len(words.splitlines()) == 1
    return words


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_a_mode_encrypts(server: TlsServer, mode: str) -> None:
    url = server.url(sslmode=mode, sslrootcert=server.ca_file)
    assert await connected(url) == (True, "certctl")


async def test_a_server_of_another_name_is_refused_by_verify_full_alone(server: TlsServer) -> None:
    ca = server.ca_file
    assert await connected(server.url(host="localhost", sslmode="verify-ca", sslrootcert=ca))
    words = await refusal(
        server, server.url(host="localhost", sslmode="verify-full", sslrootcert=ca)
    )
    assert '"db.example.test" does not match host name "localhost"' in words
    assert "connect by a name that the server's certificate holds" in words


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_server_of_another_ca_is_refused(
    server: TlsServer, other_ca: Path, mode: str
) -> None:
    words = await refusal(server, server.url(sslmode=mode, sslrootcert=other_ca))
    assert "sslrootcert must hold the CA of the server's certificate" in words


async def test_a_ca_file_that_is_missing_is_told(server: TlsServer, tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    words = await refusal(server, server.url(sslmode="verify-full", sslrootcert=missing))
    assert f"{missing}" in words
    assert "name the file of the server's CA with sslrootcert" in words


async def test_a_server_that_takes_tls_only_is_told(server: TlsServer) -> None:
    words = await refusal(server, server.url(sslmode="disable"))
    assert "add sslmode=verify-full" in words


async def test_a_client_certificate_stands_for_the_password(server: TlsServer) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": server.ca_file, "user": "keyed"}
    pair = server.client_pair("keyed")
    assert await connected(server.url(**verified, **pair)) == (True, "keyed")
    assert "add sslcert and sslkey" in await refusal(server, server.url(**verified))
    other = server.client_pair("somebody-else")
    assert "authentication failed" in await refusal(server, server.url(**verified, **other))


async def test_a_wrong_password_is_not_repeated(server: TlsServer) -> None:
    url = server.url(sslmode="require", password="s3cret-and-wrong")
    assert "s3cret-and-wrong" not in await refusal(server, url)


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"sslmode": "disable"}, True),
        ({"sslmode": "disable", "host": "localhost"}, False),
        ({"sslmode": "require"}, False),
    ],
)
async def test_a_connection_in_clear_to_another_host_is_warned_of(
    server: TlsServer, options: dict[str, str], warned: bool
) -> None:
    async with migrate.connect(server.url(database="open", **options)) as connection:
        warning = unencrypted(connection)
    assert (warning is not None) == warned
    assert not warned or "db.example.test is not encrypted" in str(warning)


async def test_a_connection_by_socket_is_not_warned_of(postgres: str) -> None:
    async with migrate.connect(postgres) as connection:
        assert unencrypted(connection) is None


async def test_backup_and_restore_go_by_the_same_url(
    server: TlsServer, other_ca: Path, tmp_path: Path
) -> None:
    url = server.url(sslmode="verify-full", sslrootcert=server.ca_file)
    await migrate.migrate(url)
    archive = tmp_path / "certctl.tar"
    await backup(url, archive)
    await restore(url, archive, data_dir=tmp_path / "data", force=True)
    wrong = server.url(sslmode="verify-full", sslrootcert=other_ca)
    with pytest.raises(Unavailable, match="sslrootcert"):
        await backup(wrong, archive)
