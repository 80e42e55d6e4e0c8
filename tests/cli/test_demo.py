"""`certctl demo` itself: twice to its end on one data directory, then staying up until a signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.connectors.kit import until
from tests.flows.system import System, free_port
from tests.tools import need

PORTS = ("CERTCTL_SERVER_PORT", "CERTCTL_PKI_HTTP_PORT", "CERTCTL_DEMO_TLS_PORT")
REVOKED_LINE = "# the revoked one against it: certificate revoked"


class Demo:
    def __init__(self, folder: Path, **more: str) -> None:
        self.home = System(folder)
        self.data = self.home.data
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CERTCTL_")},
            "CERTCTL_DATA_DIR": str(self.data),
            **{name: str(free_port()) for name in PORTS},
            **more,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "certctl", "demo", *arguments],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def once(self) -> tuple[int, str]:
        process = self.start("--once")
        try:
            said, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.terminate()
            said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def left_over(self) -> list[str]:
        """Processes that know our data directory, or the database's folder, by argument or
        environment, and ports that somebody listens on."""
        marks = [str(self.data).encode()]
        pointer = self.data / "postgres.json"
        if pointer.exists():
            marks += [found.encode() for found in re.findall(r'"(/[^"]+)"', pointer.read_text())]
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                facts = command + (entry / "environ").read_bytes()
            except OSError:
                continue
            if command and int(entry.name) != os.getpid() and any(mark in facts for mark in marks):
                found.append(command.replace(b"\0", b" ").decode())
        return found + [name for name in PORTS if _is_taken(int(self.environment[name]))]


def _is_taken(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.home.remove()


def lines_to_paste(said: str) -> list[tuple[str, str]]:
    """Comment and command, as printed."""
    found = re.findall(r"^  (# .+)\n  (\S.+)$", said, re.MULTILINE)
    return [(comment, command) for comment, command in found]


def facts(said: str, name: str) -> list[str]:
    return re.findall(rf"^ +{name} +(\S.*)$", said, re.MULTILINE)


def shell(line: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(400)
def test_a_whole_life_is_shown_twice_and_can_be_repeated_by_hand(demo):
    for program in ("nginx", "openssl", "curl"):
        need(program)
    _shows_a_whole_life(demo, first_serials=3, begins="Order of demo")
    _shows_a_whole_life(demo, first_serials=3, begins="demo of an earlier run is Active")
    process = demo.start()
    try:
        said = _read_until(process, "Up until Ctrl-C")
        _every_line_works(said)
        _the_cli_finds_this_server(demo)
        assert len(demo.left_over()) >= 3
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert demo.left_over() == []


def _shows_a_whole_life(demo: Demo, *, first_serials: int, begins: str) -> None:
    status, said = demo.once()
    assert status == 0, said
    assert begins in said
    assert "NGINX" in facts(said, "program")[0]
    serials = facts(said, "served serial")
    assert len(set(serials)) == first_serials
    assert facts(said, "OCSP before") == ["good"]
    assert facts(said, "OCSP after") == ["revoked (superseded)"]
    assert re.search(r"first served certificate: [0-9.]+ s", said)
    leaf = x509.load_pem_x509_certificates((demo.data / "nginx" / "demo.pem").read_bytes())[0]
    assert f"{leaf.serial_number:x}" == serials[-1]
    secret = (demo.data / "admin.key").read_text().strip()
    logs = "".join(log.read_text() for log in (demo.data / "logs").iterdir())
    assert secret not in said + logs
    assert demo.left_over() == []


def _read_until(process: subprocess.Popen[str], mark: str) -> str:
    """The timeout of the test bounds this."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if mark in line:
            return said
    raise AssertionError(said)


def _every_line_works(said: str) -> None:
    answers = {comment: shell(command) for comment, command in lines_to_paste(said)}
    assert len(answers) == 10
    refused = {comment for comment, (status, _) in answers.items() if status != 0}
    assert refused == {REVOKED_LINE}, answers
    serial = facts(said, "served serial")[-1]
    expected = {
        "# what the web server serves, verified": "Verification: OK",
        "# the same as a browser sees it": "certctl demo",
        "# OCSP about the served certificate: good": "Response verify OK",
        "# OCSP about the revoked one: revoked": "Reason: superseded",
        "# the served certificate against it: OK": "served.pem: OK",
        REVOKED_LINE: "certificate revoked",
    }
    for comment, text in expected.items():
        assert text in answers[comment][1]
    assert ": good" in answers["# OCSP about the served certificate: good"][1]
    assert ": revoked" in answers["# OCSP about the revoked one: revoked"][1]
    assert serial in answers["# its serial and fingerprint"][1].lower()


def _the_cli_finds_this_server(demo: Demo) -> None:
    """By `client.toml` alone."""
    done = subprocess.run(
        [sys.executable, "-m", "certctl", "certs", "get", "demo"],
        env=demo.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^status +Active$", done.stdout, re.MULTILINE)


@pytest.mark.timeout(200)
def test_the_small_server_stands_in_and_a_failure_midway_leaves_nothing_behind(tmp_path):
    demo = Demo(tmp_path, CERTCTL_DEMO_NGINX="none")
    try:
        status, said = demo.once()
        assert status == 0, said
        assert "the small TLS server of the demonstration" in facts(said, "program")[0]
        demo.environment["CERTCTL_DEMO_NGINX"] = "/nowhere/nginx"
        status, said = demo.once()
        assert status == 2
        assert said.splitlines()[-1].startswith("certctl: CERTCTL_DEMO_NGINX: /nowhere/nginx")
        until(lambda: demo.left_over() == [])
    finally:
        demo.home.remove()


def test_a_server_that_refuses_to_start_gives_its_own_sentence(tmp_path):
    demo = Demo(tmp_path, CERTCTL_LOG_LEVEL="loud")
    status, said = demo.once()
    assert status == 1
    assert re.search(r"^certctl: serve ended: CERTCTL_LOG_LEVEL: ", said, re.MULTILINE)
    assert demo.left_over() == []
