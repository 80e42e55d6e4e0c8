"""The NGINX target against a real nginx."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from certctl.connectors.catalog import open_target
from certctl.connectors.served import served_fingerprint
from certctl.connectors.target import Bundle, DeployFailed, Target
from certctl.domain.errors import CertctlError, Invalid, Refused, Unavailable
from tests.connectors.kit import Authority, a_bundle, fingerprint, free_port, install, until
from tests.nginx import configuration
from tests.stapling import REVOKED, a_leaf, a_response, a_stapled_bundle, shown_staple
from tests.tools import need


@dataclass
class Nginx:
    folder: Path
    program: str
    port: int
    ca: Authority
    old: Bundle

    @property
    def config(self) -> Path:
        return self.folder / "nginx.conf"

    def target(self, **changes) -> Target:
        base = f"{self.program} -p {self.folder} -e {self.folder}/error.log -c {self.config}"
        config = {
            "cert_path": str(self.folder / "site.pem"),
            "key_path": str(self.folder / "site.key"),
            "validate_command": f"{base} -t",
            "reload_command": f"{base} -s reload",
            "port": self.port,
            "post_deploy_verify_attempts": 8,
            "post_deploy_verify_backoff": 0.02,
            "post_deploy_verify_max_backoff": 0.5,
        }
        return open_target("NGINX", config | changes)

    def served(self) -> str | None:
        """What one connection sees; just after a reload an old worker may still answer."""
        try:
            return served_fingerprint("127.0.0.1", self.port, server_name=None, timeout=5)
        except CertctlError:
            return None

    def loads(self) -> int:
        return (self.folder / "error.log").read_text().count("(SIGHUP) received")


@pytest.fixture
def nginx(tmp_path):
    program, ca = need("nginx"), Authority()
    old = a_bundle(ca, "site.example.test")
    site = Nginx(tmp_path, program, free_port(), ca, old)
    install(old, tmp_path / "site.pem", tmp_path / "site.key")
    site.config.write_text(configuration(tmp_path, site.port, name="site.example.test"))
    arguments = ["-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(site.config)]
    process = subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or site.served() == old.fingerprint_sha256)
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        yield site
    finally:
        process.terminate()
        process.wait(20)


def test_a_new_certificate_is_served(nginx):
    new = a_bundle(nginx.ca, "site.example.test")
    deployed = nginx.target().deploy(new)
    assert (deployed.fingerprint_sha256, deployed.unchanged) == (new.fingerprint_sha256, False)
    until(lambda: nginx.served() == new.fingerprint_sha256)
    assert (nginx.folder / "site.pem").read_text() == new.leaf_pem + new.chain_pem
    assert (nginx.folder / "site.key").stat().st_mode & 0o777 == 0o600


def test_the_served_chain_verifies_for_a_client(nginx, tmp_path):
    nginx.target().deploy(a_bundle(nginx.ca, "site.example.test"))
    (tmp_path / "ca.pem").write_text(nginx.ca.pem)
    client = [need("openssl"), "s_client", "-connect", f"127.0.0.1:{nginx.port}"]
    client += ["-CAfile", str(tmp_path / "ca.pem"), "-verify_return_error"]
    client += ["-verify_hostname", "site.example.test"]
    done = subprocess.run(client, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_deploying_twice_reloads_once(nginx):
    new = a_bundle(nginx.ca, "site.example.test")
    nginx.target().deploy(new)
    loads = nginx.loads()
    again = nginx.target().deploy(new)
    assert again.unchanged
    assert nginx.loads() == loads == 1


def test_files_that_nginx_has_not_loaded_yet_are_loaded(nginx):
    new = a_bundle(nginx.ca, "site.example.test")
    install(new, nginx.folder / "site.pem", nginx.folder / "site.key")
    assert not nginx.target().deploy(new).unchanged
    until(lambda: nginx.served() == new.fingerprint_sha256)


def test_a_broken_configuration_rolls_back_and_tells_why(nginx):
    nginx.config.write_text(nginx.config.read_text().replace("server_name", "servr_name"))
    with pytest.raises(DeployFailed, match='unknown directive "servr_name"') as failure:
        nginx.target().deploy(a_bundle(nginx.ca, "site.example.test"))
    assert failure.value.rolled_back
    assert (nginx.folder / "site.pem").read_text() == nginx.old.leaf_pem + nginx.old.chain_pem
    assert (nginx.folder / "site.key").read_bytes() == nginx.old.key_pem
    assert nginx.served() == nginx.old.fingerprint_sha256


def test_the_new_files_are_what_nginx_tests(nginx):
    """A key that does not belong to the certificate is found before nginx is told to load it."""
    new, other = (a_bundle(nginx.ca, "site.example.test") for _ in range(2))
    mixed = Bundle(
        leaf_pem=new.leaf_pem,
        chain_pem=new.chain_pem,
        key_pem=other.key_pem,
        fingerprint_sha256=new.fingerprint_sha256,
        names=new.names,
    )
    with pytest.raises(DeployFailed, match="key values mismatch") as failure:
        nginx.target().deploy(mixed)
    assert failure.value.rolled_back
    assert nginx.loads() == 0
    assert nginx.served() == nginx.old.fingerprint_sha256


def test_a_certificate_that_nginx_does_not_serve_is_rolled_back(nginx, tmp_path):
    """The configuration names other files than the target: only TLS can tell."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wrong = nginx.target(
        cert_path=str(elsewhere / "site.pem"),
        key_path=str(elsewhere / "site.key"),
        post_deploy_verify_attempts=2,
    )
    with pytest.raises(DeployFailed, match=nginx.old.fingerprint_sha256) as failure:
        wrong.deploy(a_bundle(nginx.ca, "site.example.test"))
    assert failure.value.rolled_back
    assert [p.name for p in elsewhere.iterdir()] == ["site.pem.certctl-lock"]
    assert nginx.served() == nginx.old.fingerprint_sha256


def test_a_reload_that_fails_is_rolled_back_on_disk_and_asks_for_a_look(nginx):
    with pytest.raises(DeployFailed, match="no-such-program") as failure:
        nginx.target(reload_command="no-such-program").deploy(
            a_bundle(nginx.ca, "site.example.test")
        )
    assert not failure.value.rolled_back
    assert (nginx.folder / "site.key").read_bytes() == nginx.old.key_pem


def test_the_chain_is_also_written_alone_when_asked(nginx):
    new = a_bundle(nginx.ca, "site.example.test")
    nginx.target(chain_path=str(nginx.folder / "chain.pem")).deploy(new)
    assert (nginx.folder / "chain.pem").read_text() == new.chain_pem
    assert (nginx.folder / "chain.pem").stat().st_mode & 0o777 == 0o644


def test_verification_can_be_turned_off(nginx):
    new = a_bundle(nginx.ca, "site.example.test")
    target = nginx.target(port=free_port(), post_deploy_verify={"enabled": False})
    assert target.deploy(new).detail == "deployed, not verified"
    until(lambda: nginx.served() == new.fingerprint_sha256)


def test_a_wildcard_is_asked_for_by_a_name_below_it(nginx):
    """nginx refuses every handshake that does not name a host below the wildcard."""
    config = nginx.config.read_text().replace("site.example.test;", "*.example.test;")
    refuse = (
        f"server {{ listen 127.0.0.1:{nginx.port} ssl default_server; ssl_reject_handshake on; }}"
    )
    nginx.config.write_text(config.replace("    server {", f"    {refuse}\n    server {{", 1))
    new = a_bundle(nginx.ca, "*.example.test")
    nginx.target().deploy(new)
    until(lambda: nginx.served() is None)


def test_check_runs_the_test_command(nginx):
    nginx.target().check()
    nginx.config.write_text("nonsense;")
    with pytest.raises(Refused, match='unknown directive "nonsense"'):
        nginx.target().check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cert_path": "/no-such-folder/site.pem"}, "cannot write to /no-such-folder"),
        ({"reload_command": "no-such-program"}, "no program no-such-program"),
    ],
)
def test_check_tells_what_is_missing(nginx, changes, words):
    with pytest.raises(Refused, match=words):
        nginx.target(**changes).check()


@pytest.fixture
def fed(nginx):
    """The same nginx, fed by `ssl_stapling_file`; the bundle that it serves has a staple."""
    pair = a_leaf(nginx.ca, "http://ocsp.example.test/", name="site.example.test")
    response = a_response(pair[0], nginx.ca)
    directives = f"ssl_stapling on; ssl_stapling_file {nginx.folder}/site.ocsp; return"
    nginx.config.write_text(nginx.config.read_text().replace("return", directives))
    target = nginx.target(staple_path=str(nginx.folder / "site.ocsp"), cert_file_mode="0640")
    target.deploy(a_stapled_bundle(nginx.ca, pair, staple=response))
    until(lambda: nginx.served() == fingerprint(pair[0]))
    return target, pair


def test_the_first_handshake_of_a_fed_nginx_carries_the_staple(nginx, fed):
    until(lambda: shown_staple(nginx.port) == "good")
    assert (nginx.folder / "site.ocsp").stat().st_mode & 0o777 == 0o640


def test_a_fresh_staple_is_loaded(nginx, fed):
    target, pair = fed
    loads = nginx.loads()
    target.put_staple(a_response(pair[0], nginx.ca, status=REVOKED))
    until(lambda: shown_staple(nginx.port) == "revoked")
    assert nginx.loads() == loads + 1
    assert (nginx.folder / "site.ocsp").stat().st_mode & 0o777 == 0o640


def test_a_deployment_that_fails_brings_the_staple_before_back(nginx, fed):
    target, _ = fed
    before = (nginx.folder / "site.ocsp").read_bytes()
    nginx.config.write_text(nginx.config.read_text().replace("server_name", "servr_name"))
    pair = a_leaf(nginx.ca, "http://ocsp.example.test/", name="site.example.test")
    new = a_stapled_bundle(nginx.ca, pair, staple=a_response(pair[0], nginx.ca))
    with pytest.raises(DeployFailed, match="servr_name"):
        target.deploy(new)
    assert (nginx.folder / "site.ocsp").read_bytes() == before


def test_a_staple_that_cannot_be_written_is_said_and_leaves_the_old(nginx, fed):
    _, pair = fed
    before = (nginx.folder / "site.ocsp").read_bytes()
    unknown = nginx.target(staple_path=str(nginx.folder / "site.ocsp"), cert_file_owner="nobody-x")
    with pytest.raises(Invalid, match="no user nobody-x"):
        unknown.put_staple(a_response(pair[0], nginx.ca))
    absent = nginx.target(staple_path=str(nginx.folder / "absent" / "site.ocsp"))
    with pytest.raises(Unavailable, match="absent"):
        absent.put_staple(a_response(pair[0], nginx.ca))
    assert (nginx.folder / "site.ocsp").read_bytes() == before
    assert not list(nginx.folder.glob("site.ocsp.certctl-tmp*"))
