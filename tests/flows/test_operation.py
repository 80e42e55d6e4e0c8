"""What an operator does besides issuing: separate the work, stop, back up, restore, verify."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.flows.judges import relying_party
from tests.flows.system import System, end, running, until
from tests.kit import a_csr

pytestmark = pytest.mark.timeout(180)


def certctl(system: System, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "certctl", *map(str, words)],
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def issued(system: System, name: str) -> str:
    """A certificate for a CSR of the operator's, issued; its id."""
    csr_pem = a_csr(name, common_name=name)
    certificate_id = system.order(name, common_name=name, sans=[], csr_pem=csr_pem)
    until("the issuance", lambda: system.live_serial(certificate_id))
    return certificate_id


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with running(tmp_path / "first", nginx=False, agent=False) as started:
        yield started


def test_a_backup_brings_everything_back_in_an_empty_place(system: System, tmp_path: Path) -> None:
    certificate_id = issued(system, "kept.test")
    versions = system.versions(certificate_id)
    archive = tmp_path / "certctl.tar"
    saved = certctl(system, "backup", archive)
    assert saved.returncode == 0, saved.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    system.stop_server()

    second = System(tmp_path / "second", https=system.https, http=system.http)
    try:
        restored = certctl(second, "restore", archive)
        assert restored.returncode == 0, restored.stderr
        second.start_server()
        assert second.versions(certificate_id) == versions
        assert relying_party(second, versions[0]).ocsp() == "good"
        issued(second, "after.test")  # the CA's key has come along too
    finally:
        second.stop()
        second.remove()


def test_a_damaged_backup_is_refused_and_changes_nothing(system: System, tmp_path: Path) -> None:
    archive = tmp_path / "certctl.tar"
    assert certctl(system, "backup", archive).returncode == 0
    with tarfile.open(archive) as parts:
        largest = max(parts.getmembers(), key=lambda part: part.size)
    content = bytearray(archive.read_bytes())
    content[largest.offset_data + largest.size // 2] ^= 1
    archive.write_bytes(content)
    system.stop_server()
    refused = certctl(system, "restore", archive, "--force")
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    system.start_server()
    assert system.call("GET", "/auth/check")["admin"] is True


def test_background_work_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    system, worker = System(tmp_path), None
    try:
        system.start_server("certctl", "serve", "--no-work", ready=False)
        until("the server to listen", system.answers)
        ready = httpx.get(f"https://127.0.0.1:{system.https}/ready", verify=False, timeout=5)
        assert (ready.status_code, ready.json()["db"]) == (503, "ok")
        assert ready.json()["worker"] != "ok"
        worker = subprocess.Popen([sys.executable, "-m", "certctl", "work"], env=system.environment)
        until("the worker to be seen", system.is_ready)
        issued(system, "worked.test")
        end(worker)
        assert worker.returncode == 0
    finally:
        end(worker)
        system.stop()
        system.remove()


def test_two_replicas_on_one_postgresql_tell_the_same_at_once(
    postgres: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE replicas ENCODING 'UTF8' TEMPLATE template0")
    shared = {
        "CERTCTL_DATABASE_URL": make_conninfo(postgres, dbname="replicas"),
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "one passphrase for both of the replicas",
        "CERTCTL_API_KEYS_NAMED": "ops:a-key-of-the-environment:admin",
    }
    first, second = System(tmp_path / "one", shared), System(tmp_path / "two", shared)
    try:
        # Together, so that both meet the empty database.
        first.start_server(ready=False)
        second.start_server(ready=False)
        until("both to be ready", lambda: first.is_ready() and second.is_ready())
        for replica in (first, second):
            (replica.data / "admin.key").write_text("a-key-of-the-environment")
        certificate_id = issued(first, "replicated.test")
        version = second.versions(certificate_id)[0]
        party = relying_party(second, version)
        assert party.ocsp() == "good"
        first.call("POST", f"/certificates/{certificate_id}/revoke")
        until("the other to say so", lambda: party.ocsp() == "revoked", seconds=4)
        assert "certificate revoked" in party.refused()
    finally:
        first.stop()
        second.stop()


def test_a_stop_ends_long_polls_and_leaves_in_time(system: System) -> None:
    system.start_agent(CERTCTL_AGENT_POLL_WAIT="30")
    until("the agent", lambda: system.call("GET", "/agents")["data"])
    assert system.server is not None
    began = time.monotonic()
    system.server.send_signal(signal.SIGTERM)
    assert system.server.wait(20) == 0, system.log("server")
    assert time.monotonic() - began < 15


def test_the_audit_trail_is_verified_and_a_changed_row_is_found(system: System) -> None:
    issued(system, "audited.test")
    clean = certctl(system, "verify-audit")
    assert (clean.returncode, clean.stdout) == (0, "the audit trail is whole\n")
    system.sql(
        "ALTER TABLE audit_events DISABLE TRIGGER audit_events_append_only",
        "UPDATE audit_events SET actor = 'nobody' WHERE action = 'certificate_issued'",
    )
    found = certctl(system, "verify-audit")
    assert found.returncode == 1
    assert "was changed after it was written" in found.stdout
