"""The whole control plane on an external PostgreSQL that takes verified TLS and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.flows.system import System, until
from tests.kit import a_csr
from tests.store.tls_server import TlsServer, tls_server

PASSPHRASE = "a passphrase for tests, and only for tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with tls_server(tmp_path_factory.mktemp("tls")) as started:
        yield started


def settings(url: str) -> dict[str, str]:
    return {"CERTCTL_DATABASE_URL": url, "CERTCTL_CONFIG_ENCRYPTION_KEY": PASSPHRASE}


def test_every_connection_of_the_control_plane_is_verified_tls(
    server: TlsServer, tmp_path: Path
) -> None:
    url = server.url(sslmode="verify-full", sslrootcert=server.ca_file)
    system = System(tmp_path / "here", settings(url))
    try:
        system.start_server()
        ordered = system.order("tls", common_name="tls.test", sans=[], csr_pem=a_csr("tls.test"))
        until("the issuance", lambda: system.live_serial(ordered))
        with psycopg.connect(url) as connection:
            held = connection.execute(
                """SELECT s.ssl, a.query FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                   WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"""
            ).fetchall()
        assert {ssl for ssl, _ in held} == {True}
        # The pool's, the queue's, the one for wake-ups and the one that watches the data keys.
        assert len(held) >= 4
        assert "is not encrypted" not in system.log("server")
    finally:
        system.stop()


def test_a_start_in_clear_to_another_host_warns(server: TlsServer, tmp_path: Path) -> None:
    system = System(tmp_path / "here", settings(server.url(sslmode="disable", database="open")))
    try:
        system.start_server()
        assert "the connection to the database on db.example.test is not encrypted" in (
            (tmp_path / "here" / "server.log").read_text()
        )
    finally:
        system.stop()


def test_a_start_with_the_wrong_name_is_refused_in_one_sentence(
    server: TlsServer, tmp_path: Path
) -> None:
    url = server.url(host="localhost", sslmode="verify-full", sslrootcert=server.ca_file)
    done = subprocess.run(
        [sys.executable, "-m", "certctl", "serve"],
        env=System(tmp_path / "here", settings(url)).environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "does not match host name" in done.stderr
    assert server.password not in done.stderr
