"""A start that cannot succeed says why in one sentence, which names the setting and the mend."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from certctl.boot import keys
from certctl.boot.accepting import bind
from certctl.domain.errors import Unsafe
from certctl.settings import Settings, load
from tests.conftest import PASSPHRASE
from tests.sealed import sealed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a start needs, on free ports and with a database that is not there."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CERTCTL_")}
    return {
        **inherited,
        "CERTCTL_DATA_DIR": str(tmp_path / "data"),
        "CERTCTL_SERVER_PORT": str(free_port()),
        "CERTCTL_PKI_HTTP_PORT": str(free_port()),
        "CERTCTL_DATABASE_URL": "postgresql://nobody:s3cret@127.0.0.1:1/nothing",
    }


def refusal(environment: Mapping[str, str], command: str = "serve") -> str:
    """The one sentence with which `certctl` refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "certctl", command],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("certctl: ")
    return lines[0]


@pytest.mark.parametrize("setting", ["CERTCTL_SERVER_PORT", "CERTCTL_PKI_HTTP_PORT"])
def test_a_taken_port_is_told_with_its_setting(environment: dict[str, str], setting: str) -> None:
    with bind("127.0.0.1", 0, setting="") as taken:
        environment[setting] = str(taken.getsockname()[1])
        words = refusal(environment)
    assert f"{setting}: 127.0.0.1:{environment[setting]} cannot be used" in words
    assert "choose another port" in words


def test_a_data_directory_that_is_a_file_is_told_with_its_setting(
    environment: dict[str, str],
) -> None:
    Path(environment["CERTCTL_DATA_DIR"]).write_text("in the way")
    words = refusal(environment)
    assert f"CERTCTL_DATA_DIR: {environment['CERTCTL_DATA_DIR']} cannot be written" in words


@pytest.mark.parametrize("command", ["serve", "work", "migrate"])
def test_a_database_that_is_away_is_told_with_its_setting_and_without_its_password(
    environment: dict[str, str], command: str
) -> None:
    words = refusal(environment, command)
    assert "CERTCTL_DATABASE_URL" in words
    assert "s3cret" not in words


def test_a_database_url_that_is_none_is_told_without_its_words(
    environment: dict[str, str],
) -> None:
    environment["CERTCTL_DATABASE_URL"] = "my database: s3cret"
    words = refusal(environment)
    assert "CERTCTL_DATABASE_URL is malformed" in words
    assert "s3cret" not in words


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("CERTCTL_SERVER_PORT", "many"),
        ("CERTCTL_JOB_LEASE", "300"),
        ("CERTCTL_CONFIG_ENCRYPTION_KEY", "short"),
        ("CERTCTL_SERVER_NAMES", "not a name"),
        ("CERTCTL_PKI_BASE_URL", "https://pki.example.test"),
    ],
)
def test_a_setting_that_does_not_parse_is_told_by_name(
    environment: dict[str, str], setting: str, value: str
) -> None:
    assert f"{setting}: " in refusal({**environment, setting: value})


def test_an_own_certificate_that_is_missing_is_told_with_its_setting(
    environment: dict[str, str], database: str, tmp_path: Path
) -> None:
    environment |= {
        "CERTCTL_DATABASE_URL": database,
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "a passphrase for tests, and only for tests",
        "CERTCTL_SERVER_TLS_CERT_PATH": str(tmp_path / "missing.pem"),
        "CERTCTL_SERVER_TLS_KEY_PATH": str(tmp_path / "missing.key"),
    }
    assert "CERTCTL_SERVER_TLS_CERT_PATH" in serving_refusal(environment)


def test_a_wrong_passphrase_is_told_with_its_setting(
    environment: dict[str, str], database: str
) -> None:
    environment["CERTCTL_DATABASE_URL"] = database
    environment["CERTCTL_CONFIG_ENCRYPTION_KEY"] = secrets.token_urlsafe(48)
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database" in refusal(environment)


def test_a_database_with_secrets_and_no_passphrase_is_told_with_its_setting(
    environment: dict[str, str], database: str
) -> None:
    environment["CERTCTL_DATABASE_URL"] = database
    words = refusal(environment)
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY is not set" in words
    assert not (Path(environment["CERTCTL_DATA_DIR"]) / keys.FILE).exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("short", "must have 32 bytes or more"),
        ("change-me-32-char-encryption-key", "is the placeholder of an example"),
        ("", "must have 32 bytes or more"),
    ],
)
def test_a_weak_passphrase_is_told_with_where_it_stands(
    environment: dict[str, str], database: str, words: str, reason: str
) -> None:
    environment["CERTCTL_DATABASE_URL"] = database
    file = Path(environment["CERTCTL_DATA_DIR"]) / keys.FILE
    file.parent.mkdir()
    file.write_text(words)
    assert refusal(environment) == f"certctl: {file}: the passphrase {reason}" + (
        "; make one of your own" if "placeholder" in reason else ""
    )
    if words:
        environment["CERTCTL_CONFIG_ENCRYPTION_KEY"] = words
        assert f"CERTCTL_CONFIG_ENCRYPTION_KEY: {reason}" in refusal(environment)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_an_earlier_certctl_sealed_under_another_passphrase_is_told_with_its_place(
    environment: dict[str, str], database: str, version: int
) -> None:
    blob = sealed(version, b"the passphrase of an earlier certctl", b"{}")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE issuers SET sealed_config = %s WHERE id = 'iss-local'", [blob])
    environment["CERTCTL_DATABASE_URL"] = database
    environment["CERTCTL_CONFIG_ENCRYPTION_KEY"] = PASSPHRASE.decode()
    words = refusal(environment)
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY does not open issuers.sealed_config" in words
    assert "give the passphrase of that time" in words


def serving_refusal(environment: Mapping[str, str]) -> str:
    """The last line of a start that came further: the first administrator's key stands before."""
    done = subprocess.run(
        [sys.executable, "-m", "certctl", "serve"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_taken_address_is_refused_with_setting_and_mend() -> None:
    with bind("127.0.0.1", 0, setting="") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unsafe, match=f"THE_SETTING: 127.0.0.1:{port} cannot be used"):
            bind("127.0.0.1", port, setting="THE_SETTING")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "::ffff"])
def test_an_address_that_is_not_ours_is_refused_with_its_setting(host: str) -> None:
    with pytest.raises(Unsafe, match="THE_SETTING: "):
        bind(host, 0, setting="THE_SETTING")


def settings(tmp_path: Path, **environment: str) -> Settings:
    return load({"CERTCTL_DATA_DIR": str(tmp_path), **environment})


def test_a_passphrase_is_made_once_and_private(tmp_path: Path) -> None:
    made = keys.passphrase(settings(tmp_path), database_is_empty=True)
    assert len(made) >= 32
    assert (tmp_path / keys.FILE).stat().st_mode & 0o777 == 0o600
    assert keys.passphrase(settings(tmp_path), database_is_empty=False) == made
    assert [path.name for path in tmp_path.iterdir()] == [keys.FILE]


def test_a_given_passphrase_wins_and_leaves_no_file(tmp_path: Path) -> None:
    given = "a passphrase that is long enough to be taken"
    told = settings(tmp_path, CERTCTL_CONFIG_ENCRYPTION_KEY=given)
    assert keys.passphrase(told, database_is_empty=True) == given.encode()
    assert list(tmp_path.iterdir()) == []


def test_no_passphrase_is_made_for_a_database_that_holds_secrets(tmp_path: Path) -> None:
    with pytest.raises(Unsafe, match="holds sealed secrets"):
        keys.passphrase(settings(tmp_path), database_is_empty=False)
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_is_private_also_where_another_one_stood(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text("old")
    path.chmod(0o644)
    keys.write_whole(path, b"new", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_a_new_data_directory_is_private(tmp_path: Path) -> None:
    keys.prepare_data_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_data_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    keys.prepare_data_dir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
