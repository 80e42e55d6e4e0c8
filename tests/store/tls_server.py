"""A PostgreSQL of the distribution that takes connections over TLS and no others."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.store.embedded import EmbeddedPostgres, binaries, place
from certctl.store.embedded.cluster import ENVIRONMENT
from tests.connectors.kit import Authority, free_port, key_pem, until
from tests.store.running import only_the_distribution

NAME = "db.example.test"
HBA = """local   all all                 scram-sha-256
host    open     all      127.0.0.1/32 scram-sha-256
hostssl all      keyed  127.0.0.1/32 cert
hostssl all      all      127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class TlsServer:
    """It serves `NAME` on a loopback port, with a certificate of `authority`."""

    port: int
    password: str
    folder: Path
    authority: Authority

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def url(self, *, host: str = NAME, database: str = "certctl", **options: object) -> str:
        """Its URL under a name, which is not looked up; `options` are those of libpq."""
        given = {"hostaddr": "127.0.0.1", **options}
        return (
            f"postgresql://certctl:{quote(self.password)}@{host}:{self.port}/{database}"
            f"?{urlencode({k: str(v) for k, v in given.items()})}"
        )

    def client_pair(self, name: str) -> dict[str, Path]:
        """The options that present a certificate of `authority` to the server."""
        pair = write_pair(self.authority, name, self.folder)
        return {"sslcert": pair[0], "sslkey": pair[1]}


def write_pair(authority: Authority, name: str, folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate = authority.issue(key.public_key(), name)
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.touch(0o600)
    key_file.write_bytes(key_pem(key))
    return cert_file, key_file


@contextmanager
def tls_server(folder: Path) -> Iterator[TlsServer]:
    """Started on a cluster that our own code made, with TLS put on by hand."""
    data = folder / "data"
    with pytest.MonkeyPatch.context() as patch:
        only_the_distribution(patch)
        embedded = EmbeddedPostgres(data)
        with psycopg.connect(embedded.start(), autocommit=True) as prepared:
            prepared.execute("CREATE DATABASE open")
            prepared.execute("CREATE ROLE keyed LOGIN")
        embedded.stop()
    here = place.find(data)
    authority = Authority()
    (folder / "ca.pem").write_text(authority.pem)
    cert_file, key_file = write_pair(authority, NAME, folder)
    for file, name in (
        (cert_file, "tls.pem"),
        (key_file, "tls.key"),
        (folder / "ca.pem", "tls.ca"),
    ):
        copy = here.cluster / name
        copy.touch(0o600)
        copy.write_bytes(file.read_bytes())
        here.runner.own(copy)
    (here.cluster / "pg_hba.conf").write_text(HBA)
    password = (data / place.PASSWORD).read_text().strip()
    try:
        yield from _served(here, TlsServer(free_port(), password, folder, authority))
    finally:
        shutil.rmtree(here.home, ignore_errors=True)


def _served(here: place.Place, server: TlsServer) -> Iterator[TlsServer]:
    program = next(each for each in binaries.installed() if not each.bundled)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": server.port,
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": "tls.pem",
        "ssl_key_file": "tls.key",
        "ssl_ca_file": "tls.ca",
        "logging_collector": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (server.folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [program.bin / "postgres", "-D", here.cluster, *words],
            stderr=log,
            cwd="/",
            env=ENVIRONMENT,
            **here.runner.process,
        )
    try:
        until(lambda: _answers(server), 30)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _answers(server: TlsServer) -> bool:
    try:
        psycopg.connect(server.url(sslmode="require")).close()
    except psycopg.OperationalError:
        return False
    return True
