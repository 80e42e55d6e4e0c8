"""The revocation plane as processes: started again, ended with their server, many on one port, and
answering while the database is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from cryptography.x509 import ocsp as cocsp

from tests.flows.judges import run
from tests.flows.system import System, end, free_port, running, until
from tests.tools import need

pytestmark = pytest.mark.timeout(180)
OCSP = "/.well-known/pki/ocsp/iss-local"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("planes")
    with running(folder, nginx=False, agent=False, CERTCTL_PKI_HTTP_PROCESSES="2") as started:
        yield started


def planes(system: System) -> list[int]:
    """The processes that answer relying parties."""
    assert system.server is not None
    listed = Path(f"/proc/{system.server.pid}/task/{system.server.pid}/children").read_text()
    return [pid for pid in map(int, listed.split()) if is_plane(pid)]


def is_plane(pid: int) -> bool:
    try:
        return b"\0plane\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def told(system: System, port: int | None = None) -> str:
    url = f"http://127.0.0.1:{port or system.http}/health"
    try:
        return httpx.get(url, timeout=5).text
    except httpx.HTTPError:
        return ""


def an_order(system: System, folder: Path, name: str) -> tuple[str, Path]:
    """A certificate by a CSR of openssl's, issued; its id and its file."""
    key, csr, leaf = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    run(need("openssl"), "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-subj", "/", "-addext", f"subjectAltName=DNS:{name}.certctl.test",
        "-keyout", key, "-out", csr)  # fmt: skip
    certificate_id = system.order(
        name,
        common_name=f"{name}.certctl.test",
        sans=[f"{name}.certctl.test"],
        csr_pem=csr.read_text(),
    )
    (version,) = until("the certificate", lambda: system.versions(certificate_id))
    leaf.write_text(version["pem_chain"])
    return certificate_id, leaf


def status_of(system: System, folder: Path, leaf: Path, port: int | None = None) -> str:
    """What `openssl ocsp` hears."""
    chain = leaf.read_text().split("-----BEGIN CERTIFICATE-----")
    issuer = folder / "issuer.pem"
    issuer.write_text("-----BEGIN CERTIFICATE-----" + chain[2])
    url = f"http://127.0.0.1:{port or system.http}{OCSP}"
    heard = run(need("openssl"), "ocsp", "-issuer", issuer, "-cert", leaf, "-url", url,
                "-CAfile", system.data / "ca.pem", "-nonce")  # fmt: skip
    return next(line for line in heard.splitlines() if line.startswith(f"{leaf}: "))


def test_a_revocation_is_told_by_every_plane_at_once(system: System, tmp_path: Path) -> None:
    certificate_id, leaf = an_order(system, tmp_path, "lost")
    assert len(planes(system)) == 2
    assert status_of(system, tmp_path, leaf).endswith("good")
    system.call("POST", f"/certificates/{certificate_id}/revoke", {"reason": "keyCompromise"})
    began = time.monotonic()
    # Each on a connection of its own, so that both planes are asked.
    serial = system.versions(certificate_id)[0]["serial_number"]
    until("revoked", lambda: all(is_revoked(system, serial) for _ in range(12)))
    assert time.monotonic() - began < 4  # sooner than the next look at the database
    assert status_of(system, tmp_path, leaf).endswith("revoked")


def is_revoked(system: System, serial: str) -> bool:
    answer = httpx.get(f"http://127.0.0.1:{system.http}{OCSP}/{serial}", timeout=5)
    told = cocsp.load_der_ocsp_response(answer.content)
    return told.certificate_status is cocsp.OCSPCertStatus.REVOKED


def test_a_plane_that_dies_is_replaced_and_no_connection_is_refused(system: System) -> None:
    before = planes(system)
    os.kill(before[0], signal.SIGKILL)
    for _ in range(20):
        assert told(system)
    until("two planes again", lambda: len(planes(system)) == 2 and before[0] not in planes(system))


def test_answers_go_on_while_the_database_is_away_and_say_so(
    system: System, tmp_path: Path
) -> None:
    _, leaf = an_order(system, tmp_path, "kept")
    assert status_of(system, tmp_path, leaf).endswith("good")
    assert system.server is not None
    until("both to know", lambda: all("ok" in told(system) for _ in range(8)))
    crl = f"http://127.0.0.1:{system.http}/.well-known/pki/crl/iss-local"
    for _ in range(8):
        status_of(system, tmp_path, leaf)
        assert httpx.get(crl, timeout=30).status_code == 200
    system.server.send_signal(signal.SIGSTOP)  # so that it does not start it again
    try:
        os.kill(system.postmaster(), signal.SIGKILL)
        until("both to say so", lambda: all("away for" in told(system) for _ in range(8)))
        for _ in range(6):
            assert status_of(system, tmp_path, leaf).endswith("good")
        assert httpx.get(crl).status_code == 200
    finally:
        system.server.send_signal(signal.SIGCONT)
    until("the database", lambda: all("database: ok" in told(system) for _ in range(8)))


def test_what_the_planes_answer_is_counted(system: System) -> None:
    def counted() -> bool:
        text = system.ask("GET", "/metrics/prometheus").text
        return "certctl_plane_processes 2.0" in text and 'label="revoked"' in text

    until("two planes and their answers in the metrics", counted)


def test_planes_of_their_own_share_a_port(system: System, tmp_path: Path) -> None:
    _, leaf = an_order(system, tmp_path, "elsewhere")
    port = free_port()
    environment = system.environment | {"CERTCTL_PKI_HTTP_PORT": str(port)}
    command = [sys.executable, "-m", "certctl", "plane"]
    with ExitStack() as stack:
        processes = []
        for _ in range(2):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            stack.callback(end, process)
            processes.append(process)
        until("the first", lambda: told(system, port))
        assert status_of(system, tmp_path, leaf, port).endswith("good")
        end(processes[0])
        until("the other", lambda: told(system, port))
        assert [process.poll() for process in processes] == [0, None]


def test_the_planes_end_with_a_server_that_is_killed(system: System) -> None:
    running_now = planes(system)
    assert system.server is not None
    system.server.kill()
    system.server.wait()
    until("the planes to end", lambda: not any(is_plane(pid) for pid in running_now))
    system.start_server()
    assert told(system)
