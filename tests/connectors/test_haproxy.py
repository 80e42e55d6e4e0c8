"""The HAProxy target against a real HAProxy, and its staples as openssl sees them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509

from certctl.connectors.catalog import open_target
from certctl.connectors.served import served_fingerprint
from certctl.connectors.target import Bundle, DeployFailed, Target
from certctl.domain.errors import CertctlError, Invalid, NotFound, Refused
from tests.connectors.kit import Authority, a_bundle, free_port, until
from tests.stapling import (
    REVOKED,
    a_leaf,
    a_response,
    a_stapled_bundle,
    shown_staple,
)
from tests.tools import need

CONFIG = """
global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend tls
    bind 127.0.0.1:{port} ssl crt {folder}/site.pem
    http-request return status 200
"""


@dataclass
class Haproxy:
    folder: Path
    port: int
    ca: Authority
    process: subprocess.Popen[bytes]

    @property
    def staple(self) -> Path:
        return self.folder / "site.pem.ocsp"

    def target(self, **changes) -> Target:
        config = {
            "pem_path": str(self.folder / "site.pem"),
            "validate_command": f"{need('haproxy')} -c -f {self.folder}/haproxy.cfg",
            "reload_command": f"kill -USR2 {self.process.pid}",
            "port": self.port,
            "post_deploy_verify_attempts": 8,
            "post_deploy_verify_backoff": 0.05,
            "post_deploy_verify_max_backoff": 0.5,
        }
        return open_target("HAProxy", config | changes)

    def served(self) -> str | None:
        try:
            return served_fingerprint("127.0.0.1", self.port, server_name=None, timeout=5)
        except CertctlError:
            return None


@pytest.fixture
def haproxy(tmp_path):
    program, ca, port = need("haproxy"), Authority(), free_port()
    old = a_bundle(ca, "localhost")
    (tmp_path / "site.pem").write_bytes((old.leaf_pem + old.chain_pem).encode() + old.key_pem)
    (tmp_path / "site.pem").chmod(0o600)
    (tmp_path / "haproxy.cfg").write_text(CONFIG.format(folder=tmp_path, port=port))
    process = subprocess.Popen(
        [program, "-W", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL
    )
    running = Haproxy(tmp_path, port, ca, process)
    try:
        until(lambda: process.poll() is not None or running.served() == old.fingerprint_sha256)
        assert process.poll() is None
        yield running
    finally:
        process.terminate()
        process.wait(20)


def a_staple(haproxy: Haproxy, **changes) -> tuple[Bundle, bytes]:
    pair = a_leaf(haproxy.ca, "http://ocsp.example.test/")
    response = a_response(pair[0], haproxy.ca, **changes)
    return a_stapled_bundle(haproxy.ca, pair, staple=response), response


def test_a_new_certificate_is_served_from_one_file(haproxy):
    new = a_bundle(haproxy.ca, "localhost")
    deployed = haproxy.target().deploy(new)
    assert (deployed.fingerprint_sha256, deployed.unchanged) == (new.fingerprint_sha256, False)
    until(lambda: haproxy.served() == new.fingerprint_sha256)
    whole = haproxy.folder / "site.pem"
    assert whole.read_bytes() == (new.leaf_pem + new.chain_pem).encode() + new.key_pem
    assert whole.stat().st_mode & 0o777 == 0o600
    assert haproxy.target().deploy(new).unchanged


def test_a_configuration_that_does_not_pass_rolls_back(haproxy):
    before, served = (haproxy.folder / "site.pem").read_bytes(), haproxy.served()
    config = haproxy.folder / "haproxy.cfg"
    config.write_text(config.read_text().replace("mode http", "moed http"))
    with pytest.raises(DeployFailed, match="moed") as failure:
        haproxy.target().deploy(a_bundle(haproxy.ca, "localhost"))
    assert failure.value.rolled_back
    assert (haproxy.folder / "site.pem").read_bytes() == before
    assert haproxy.served() == served
    with pytest.raises(Refused, match="moed"):
        haproxy.target().check()


def test_a_staple_comes_with_the_first_handshake(haproxy):
    bundle, response = a_staple(haproxy)
    haproxy.target().deploy(bundle)
    assert haproxy.staple.read_bytes() == response
    until(lambda: haproxy.served() == bundle.fingerprint_sha256)
    assert shown_staple(haproxy.port) == "good"


@pytest.mark.parametrize("socket", [True, False])
def test_a_fresh_staple_is_served_by_the_socket_or_by_a_reload(haproxy, socket):
    bundle, _ = a_staple(haproxy)
    path = str(haproxy.folder / "admin.sock")
    target = haproxy.target(stats_socket=path if socket else None)
    target.deploy(bundle)
    until(lambda: haproxy.served() == bundle.fingerprint_sha256)
    leaf = target.in_service()
    assert leaf == bundle.leaf_pem + bundle.chain_pem
    assert "PRIVATE" not in leaf
    revoked = a_response(
        x509.load_pem_x509_certificate(bundle.leaf_pem.encode()), haproxy.ca, status=REVOKED
    )
    target = haproxy.target(stats_socket=path, reload_command="false") if socket else target
    target.put_staple(revoked)
    until(lambda: shown_staple(haproxy.port) == "revoked")
    assert haproxy.staple.read_bytes() == revoked
    assert haproxy.staple.stat().st_mode & 0o777 == 0o600


def test_the_socket_takes_no_first_staple_so_that_a_reload_follows(haproxy):
    """HAProxy updates a staple by its socket, it does not begin with one."""
    bundle, response = a_staple(haproxy)
    target = haproxy.target(stats_socket=str(haproxy.folder / "admin.sock"))
    target.deploy(replace(bundle, staple=None))
    until(lambda: haproxy.served() == bundle.fingerprint_sha256)
    assert shown_staple(haproxy.port) == "none"
    target.put_staple(response)
    until(lambda: shown_staple(haproxy.port) == "good")


def test_a_staple_of_the_certificate_before_does_not_stop_a_deployment_without_one(haproxy):
    bundle, _ = a_staple(haproxy)
    haproxy.target().deploy(bundle)
    new = a_bundle(haproxy.ca, "localhost")
    haproxy.target().deploy(new)
    until(lambda: haproxy.served() == new.fingerprint_sha256)
    assert shown_staple(haproxy.port) == "none"


def test_a_certificate_that_is_gone_is_said_to_be(haproxy):
    target = haproxy.target()
    (haproxy.folder / "site.pem").unlink()
    with pytest.raises(NotFound, match="is gone"):
        target.in_service()


def test_staples_can_be_turned_off(haproxy):
    assert haproxy.target(staple=False).staple_path is None
    assert haproxy.target().staple_path == haproxy.staple


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"pem_path": "site.pem"}, "pem_path"),
        ({"stats_socket": "admin.sock"}, "stats_socket"),
        ({"reload_command": "kill; reboot"}, "reload_command"),
        ({"cert_path": "/etc/site.pem"}, "cert_path"),
    ],
)
def test_a_bad_field_is_named(changes, field):
    config = {"pem_path": "/etc/haproxy/site.pem", "reload_command": "true"}
    with pytest.raises(Invalid) as refusal:
        open_target("HAProxy", config | changes)
    assert refusal.value.field == field
