"""The small TLS server of the demonstration, as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.connectors.served import served_fingerprint
from certctl.domain.errors import Unavailable
from tests.connectors.kit import Authority, a_bundle, free_port, install, until
from tests.tools import need

MODULE = (sys.executable, "-m", "certctl.cli.demo.tls_server")


class Small:
    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.port = folder / "site.pem", folder / "site.key", free_port()
        self.ca = Authority()
        self.bundle = a_bundle(self.ca, "site.test")
        install(self.bundle, self.cert, self.key)
        self.arguments = (
            *("--cert", str(self.cert), "--key", str(self.key)),
            *("--pid-file", str(folder / "tls.pid"), "--port", str(self.port)),
        )
        self.log = (folder / "log").open("w+b")
        self.process = subprocess.Popen([*MODULE, *self.arguments], stderr=self.log)
        until(self.served)

    def call(self, flag: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MODULE, *self.arguments, flag], capture_output=True, text=True, timeout=30
        )

    def served(self) -> str | None:
        assert self.process.poll() is None
        try:
            return served_fingerprint("127.0.0.1", self.port, server_name="site.test", timeout=5)
        except Unavailable:
            return None

    def logged(self) -> str:
        return Path(self.log.name).read_text()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    small = Small(tmp_path)
    yield small
    small.process.terminate()
    small.process.wait(10)
    small.log.close()


def test_it_serves_one_line_to_a_client_that_verifies(small, tmp_path):
    (tmp_path / "ca.pem").write_text(small.ca.pem)
    done = subprocess.run(
        [need("curl"), "-sf", "--cacert", str(tmp_path / "ca.pem"),
         "--resolve", f"site.test:{small.port}:127.0.0.1", f"https://site.test:{small.port}/"],
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"certctl demo\n")


def test_new_files_are_served_only_after_a_reload(small):
    new = a_bundle(small.ca, "site.test")
    install(new, small.cert, small.key)
    assert small.served() == small.bundle.fingerprint_sha256
    assert small.call("--reload").returncode == 0
    until(lambda: small.served() == new.fingerprint_sha256)


def test_the_check_passes_a_pair_that_matches(small):
    done = small.call("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_refuses_a_key_of_another_certificate(small):
    small.key.write_bytes(a_bundle(small.ca, "other.test").key_pem)
    done = small.call("--check")
    assert (done.returncode, "KEY_VALUES_MISMATCH" in done.stderr) == (1, True)


def test_a_reload_with_a_broken_pair_keeps_the_old_one(small):
    small.cert.write_text("nothing")
    small.process.send_signal(signal.SIGHUP)
    until(lambda: "reload refused" in small.logged())
    assert small.served() == small.bundle.fingerprint_sha256


def test_it_ends_on_sigterm_and_takes_its_pid_file_along(small, tmp_path):
    small.process.terminate()
    assert small.process.wait(10) == 0
    assert not (tmp_path / "tls.pid").exists()
