"""`certctl secrets rotate` as an operator gives it: beside a running server, and at rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from certctl.boot.rotation import NEW
from certctl.store.embedded import recorded_conninfo
from tests.flows.system import NO_PLANE, System, running, until
from tests.kit import a_csr

PRESENT = "the passphrase of the first day, for tests"
NEXT = "the passphrase of the second day, for tests"


def certctl(
    system: System, *words: str, more: dict[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "certctl", *words],
        env=system.environment | (more or {}),
        input=given,
        capture_output=True,
        text=True,
        timeout=90,
    )


def issued(system: System, name: str) -> None:
    ordered = system.order(name, common_name=name, sans=[], csr_pem=a_csr(name))
    until("the issuance", lambda: system.live_serial(ordered))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with running(tmp_path / "first", nginx=False, agent=False, **NO_PLANE) as started:
        yield started


def test_a_rotation_beside_a_running_server_is_not_noticed_and_lasts(system: System) -> None:
    file = system.data / "encryption.key"
    before = file.read_bytes()
    issued(system, "before.test")
    rotated = certctl(system, "secrets", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    after = file.read_bytes()
    assert after != before
    assert after.decode() not in rotated.stdout + rotated.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    issued(system, "after.test")

    told = certctl(system, "secrets", "status")
    with psycopg.connect(recorded_conninfo(system.data)) as connection:
        ((key,),) = connection.execute("SELECT id FROM sealing_keys").fetchall()
    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"data key {key}, made ")
    assert len(lines) > 2
    assert all(f"key {key}" in line for line in lines)

    system.stop_server()
    system.start_server()
    issued(system, "again.test")
    assert system.server is not None
    system.stop_server()
    file.write_bytes(before)
    refused = certctl(system, "serve")
    assert refused.returncode == 1
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database" in refused.stderr


def test_a_passphrase_of_the_environment_is_replaced_by_one_from_a_file_or_variable(
    tmp_path: Path,
) -> None:
    system = System(tmp_path / "first", {"CERTCTL_CONFIG_ENCRYPTION_KEY": PRESENT} | NO_PLANE)
    try:
        system.start_server()
        system.stop_server()
        given = tmp_path / "new"
        given.write_text(f"{NEXT}\n")
        for words, more, text, reason in (
            ((), {}, "", "give the new passphrase with --new-passphrase-file"),
            ((), {NEW: "short"}, "", f"{NEW}: the passphrase must have 32 bytes or more"),
            (("--new-passphrase-file", "-"), {}, PRESENT, "is the present one"),
            (("--new-passphrase-file", "missing"), {}, "", "missing cannot be read"),
        ):
            refused = certctl(system, "secrets", "rotate", *words, more=more, given=text)
            assert refused.returncode == 1
            assert reason in refused.stderr
        rotated = certctl(system, "secrets", "rotate", "--new-passphrase-file", str(given))
        assert rotated.returncode == 0, rotated.stderr
        assert "set CERTCTL_CONFIG_ENCRYPTION_KEY" in rotated.stdout
        assert not (system.data / "encryption.key").exists()
        assert "does not open this database" in certctl(system, "serve").stderr
        system.settings = {"CERTCTL_CONFIG_ENCRYPTION_KEY": NEXT}
        again = certctl(system, "secrets", "rotate", more={NEW: PRESENT})
        assert again.returncode == 0, again.stderr
        system.settings = {"CERTCTL_CONFIG_ENCRYPTION_KEY": PRESENT}
        system.start_server()
    finally:
        system.stop()
        system.remove()
