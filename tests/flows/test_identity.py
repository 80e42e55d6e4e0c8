"""Who may do what, with real processes: keys, roles and credentials through their lives."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from cryptography import x509
from psycopg.conninfo import make_conninfo

from certctl.store.embedded import recorded_conninfo
from tests.flows.system import NO_PLANE, System, running, until
from tests.kit import a_csr

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with running(tmp_path / "first", nginx=False, agent=False, **NO_PLANE) as started:
        yield started


class Cli:
    """The command line with a key of its own."""

    def __init__(self, system: System, key: str) -> None:
        self._environment = {
            **system.environment,
            "CERTCTL_API_KEY": key,
            "CERTCTL_SERVER_URL": f"https://127.0.0.1:{system.https}",
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(system.data / "ca.pem"),
        }

    def __call__(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "certctl", *words],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def fine(self, *words: str, stdin: str | None = None) -> str:
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()


def admin(system: System) -> Cli:
    return Cli(system, (system.data / "admin.key").read_text().strip())


def test_the_cli_role_is_enough_for_the_daily_work_and_for_its_own_key(system: System) -> None:
    """One after the other, as a script does it; what it lacks is refused with the permission."""
    system.start_agent()
    until("the agent", lambda: system.call("GET", "/agents")["data"])
    boss = admin(system)
    cli = Cli(system, boss.fine("keys", "create", "script", "--role", "r-cli"))
    for words in (
        ("status",), ("whoami",), ("certs", "list"), ("jobs", "list"), ("agents", "list"),
        ("agents", "enrol"), ("agents", "tokens"), ("issuers", "list"), ("targets", "list"),
        ("owners", "list"), ("teams", "list"), ("policies", "list"), ("profiles", "list"),
        ("rules", "list"), ("groups", "list"), ("approvals", "list"), ("notifications", "list"),
        ("stats", "summary"), ("audit", "list"), ("keys", "list"),
    ):  # fmt: skip
        cli.fine(*words)
    config = json.dumps(system.nginx.target_config)
    words = ("--type", "NGINX", "--agent", "beside-nginx", "--config", "-")
    cli.fine("targets", "add", "web", *words, stdin=config)
    cli.fine("owners", "add", "--from", "-", stdin='{"name": "shop"}')
    cli.fine("certs", "order", "www", "--san", "www.example.test", "--target", "web")
    until("the version", lambda: '"live": true' in cli.fine("certs", "versions", "www", "-ojson"))
    cli.fine("certs", "renew", "www", "--force")
    cli.fine("certs", "revoke", "www", "--reason", "superseded")
    cli.fine("certs", "archive", "www")
    renewed = Cli(system, cli.fine("keys", "rotate", "script", "--overlap", "0"))
    renewed.fine("whoami")
    assert cli("whoami").stderr == "certctl: the API key is unknown, expired or revoked\n"
    for words, permission in (
        (("bulk", "revoke", "--issuer", "iss-local", "--reason", "superseded"), "cert.bulk_revoke"),
        (("agents", "retire", "beside-nginx"), "agent.retire"),
        (("keys", "revoke", "script"), "auth.key.delete"),
        (("roles", "create", "more"), "auth.role.create"),
    ):
        refused = renewed(*words)
        assert refused.returncode == 1, words
        assert refused.stderr == f"certctl: this needs the permission {permission}\n"


def test_a_running_agent_exchanges_an_old_credential_and_a_revoked_one_ends_it(
    system: System,
) -> None:
    system.start_agent()
    until("the agent", lambda: system.call("GET", "/agents")["data"])
    (agent,) = system.call("GET", "/agents")["data"]
    kept = system.folder / "agent" / "agent.json"
    first = json.loads(kept.read_text())["credential"]
    system.stop_agent()
    system.sql("UPDATE agents SET credential_made_at = now() - interval '31 days'")
    system.start_agent()
    second = until(
        "another credential",
        lambda: (found := json.loads(kept.read_text())["credential"]) != first and found,
    )
    work = f"/agents/{agent['id']}/work"
    until("its use", lambda: system.ask("GET", work, key=first).status_code == 401)
    assert system.ask("GET", work, key=second).status_code == 200
    boss = admin(system)
    boss.fine("agents", "revoke-credential", "beside-nginx")
    assert system.ask("GET", work, key=second).status_code == 401
    system.stop_agent()
    kept.unlink()
    lines = boss.fine("agents", "enrol", "--again", "beside-nginx", "-o", "json")
    system.start_agent(CERTCTL_AGENT_ENROLMENT_TOKEN=json.loads(lines)["token"])
    until("it to be back", lambda: kept.exists())
    assert json.loads(kept.read_text())["agent_id"] == agent["id"]
    until("work", lambda: system.call("GET", f"/agents/{agent['id']}")["status"] == "Online")


def test_a_key_that_is_revoked_on_one_replica_is_over_on_the_other(
    postgres: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE identity ENCODING 'UTF8' TEMPLATE template0")
    shared = {
        "CERTCTL_DATABASE_URL": make_conninfo(postgres, dbname="identity"),
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "one passphrase for both of the replicas",
        "CERTCTL_API_KEYS_NAMED": "ops:a-key-of-the-environment:admin",
    }
    first, second = System(tmp_path / "one", shared), System(tmp_path / "two", shared)
    try:
        first.start_server(ready=False)
        second.start_server(ready=False)
        until("both to be ready", lambda: first.is_ready() and second.is_ready())
        for replica in (first, second):
            (replica.data / "admin.key").write_text("a-key-of-the-environment")
        key = first.call("POST", "/auth/keys", {"name": "ci", "role_ids": ["r-viewer"]})
        secret = key["key_value"]
        for replica in (first, second, second):
            assert replica.ask("GET", "/teams", key=secret).status_code == 200
        first.call("DELETE", "/auth/keys/ci/roles/r-viewer")
        until("no role", lambda: second.ask("GET", "/teams", key=secret).status_code == 403,
              seconds=2)  # fmt: skip
        first.call("DELETE", "/auth/keys/ci")
        until("no key", lambda: second.ask("GET", "/teams", key=secret).status_code == 401,
              seconds=2)  # fmt: skip
    finally:
        first.stop()
        second.stop()


def test_with_a_bootstrap_token_the_first_start_makes_nobody(tmp_path: Path) -> None:
    token = "a-bootstrap-token-of-the-operator-0123"
    system = System(tmp_path, {"CERTCTL_BOOTSTRAP_TOKEN": token} | NO_PLANE)
    try:
        system.start_server()
        assert not (system.data / "admin.key").exists()
        body = {"token": token, "actor_name": "first-admin"}
        made = system.call("POST", "/auth/bootstrap", body, key="none")
        assert system.call("GET", "/auth/me", key=made["key_value"])["admin"] is True
        assert system.ask("POST", "/auth/bootstrap", body, key="none").status_code == 410
        assert token not in system.log("server")
        assert made["key_value"] not in system.log("server")
    finally:
        system.stop()
        system.remove()


def test_the_last_use_of_a_key_is_noted_when_the_server_stops(system: System) -> None:
    secret = system.call("POST", "/auth/keys", {"name": "ci"})["key_value"]
    system.call("GET", "/auth/me", key=secret)
    system.stop_server()
    system.start_server()
    (ci,) = [each for each in system.call("GET", "/auth/keys")["keys"] if each["actor_id"] == "ci"]
    used, made = (
        datetime.fromisoformat(ci["keys"][0][f"{word}_at"]) for word in ("last_used", "created")
    )
    assert timedelta(0) <= used - made < timedelta(seconds=30)


def test_without_authentication_everybody_on_this_machine_administers(tmp_path: Path) -> None:
    system = System(tmp_path, {"CERTCTL_AUTH_TYPE": "none"})
    try:
        system.start_server()
        told = system.ask("GET", "/auth/check", key=None).json()
        assert (told["actor_id"], told["actor_type"]) == ("actor-demo-anon", "Anonymous")
        info = system.ask("GET", "/auth/info", key=None).json()
        assert info == {"auth_type": "none", "required": False, "oidc_providers": []}
    finally:
        system.stop()
        system.remove()


def test_an_agent_with_a_client_certificate_needs_no_credential(system: System) -> None:
    system.start_agent(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    pair = system.folder / "agent" / "client.pem"
    until("the certificate", pair.exists)
    (agent,) = system.call("GET", "/agents")["data"]
    work = f"https://127.0.0.1:{system.https}/api/v1/agents/{agent['id']}/work"
    trust = ssl.create_default_context(cafile=system.data / "ca.pem")
    trust.load_cert_chain(pair)
    with httpx.Client(verify=trust) as client:
        assert client.get(work).status_code == 200
        other = work.replace(agent["id"], "ag-other")
        assert client.get(other).status_code == 403
        # From now on the certificate alone opens its routes.
        system.sql("UPDATE agents SET credential_hash = '\\x00', next_credential_hash = NULL")
        csr_pem = a_csr("demo.certctl.test")
        order = system.order("www", csr_pem=csr_pem, target_ids=[])
        until("an issued certificate", lambda: system.live_serial(order))
        system.target()
        system.stop_agent()
        system.start_agent(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
        seen = system.call("GET", f"/agents/{agent['id']}")["last_heartbeat_at"]
        until(
            "a heartbeat",
            lambda: system.call("GET", f"/agents/{agent['id']}")["last_heartbeat_at"] > seen,
        )
        admin(system).fine("agents", "revoke-credential", "beside-nginx")
        assert client.get(work).status_code == 401
    serial = x509.load_pem_x509_certificates(
        pair.read_bytes()[pair.read_bytes().index(b"-----BEGIN CERT") :]
    )[0].serial_number
    with psycopg.connect(recorded_conninfo(system.data)) as connection:
        told = connection.execute("SELECT serial_number FROM certificate_revocations").fetchall()
    assert told == [(f"{serial:x}",)]
