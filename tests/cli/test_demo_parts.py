"""The parts of the demonstration that need no control plane."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from rich.console import Console

from certctl.cli.demo import nginx, place, program, proof, web
from certctl.cli.demo.children import Children
from certctl.cli.demo.screen import Screen, job_table
from certctl.connectors.catalog import open_target
from certctl.domain.errors import Refused, Unavailable, Unsafe
from tests.connectors.kit import Authority, free_port, key_pem, until
from tests.tools import need


def test_the_data_directory_is_taken_from_option_then_environment(tmp_path):
    by_environment = {"CERTCTL_DATA_DIR": str(tmp_path / "a")}
    assert place.find(None, by_environment).data == tmp_path / "a"
    assert place.find(tmp_path / "b", by_environment).data == tmp_path / "b"


def test_the_ports_are_taken_from_the_environment(tmp_path):
    told = {
        "CERTCTL_SERVER_HOST": "0.0.0.0",
        "CERTCTL_SERVER_PORT": "18443",
        "CERTCTL_DEMO_TLS_PORT": "19443",
    }
    found = place.find(tmp_path, told)
    assert (found.server_url, found.tls_port) == ("https://127.0.0.1:18443", 19443)


@pytest.mark.parametrize(
    ("name", "what"), [("two words", "white space"), ("a'b", "'"), ("a$b;c", r"\$ ;")]
)
def test_a_path_that_commands_cannot_name_is_refused_in_a_sentence(tmp_path, name, what):
    with pytest.raises(Unsafe, match=rf"^CERTCTL_DATA_DIR: .* contains {what}"):
        place.find(tmp_path / name, {})


@pytest.mark.parametrize("text", ["0", "65536", "abc", "-1"])
def test_a_port_that_is_none_is_named(tmp_path, text):
    with pytest.raises(Unsafe, match=r"^CERTCTL_DEMO_TLS_PORT: must be a port"):
        place.find(tmp_path, {"CERTCTL_DEMO_TLS_PORT": text})


def test_a_port_that_is_taken_is_named_with_the_mend():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(Unsafe, match=r"^CERTCTL_DEMO_TLS_PORT: .*choose another port"),
    ):
        place.check_free(taken.getsockname()[1], "CERTCTL_DEMO_TLS_PORT")


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unsafe, match=r"^CERTCTL_DATA_DIR: .* cannot be written"):
        place.find(tmp_path / "file" / "data", {}).prepare()


def test_the_folders_are_private(tmp_path):
    found = place.find(tmp_path / "data", {})
    found.prepare()
    assert {folder.stat().st_mode & 0o777 for folder in (found.data, found.logs, found.web)} == {
        0o700
    }


@pytest.fixture
def stage(tmp_path) -> place.Place:
    found = place.find(tmp_path / "data", {"CERTCTL_DEMO_TLS_PORT": str(free_port())})
    found.prepare()
    return found


def a_web(kind: str, stage: place.Place) -> web.Web:
    return nginx.nginx(need("nginx"), stage) if kind == "nginx" else web.small(stage)


@pytest.mark.parametrize("kind", ["nginx", "small"])
def test_the_settings_of_the_target_are_accepted_and_its_checks_pass(stage, kind):
    server = a_web(kind, stage)
    web.put_throwaway_pair(server)
    open_target("NGINX", server.target_config()).check()


@pytest.mark.parametrize("kind", ["nginx", "small"])
def test_the_web_server_serves_the_throwaway_certificate_first(stage, kind):
    server = a_web(kind, stage)
    web.put_throwaway_pair(server)
    assert server.key.stat().st_mode & 0o777 == 0o600
    with Children() as children:
        children.start("web", server.start, environment=os.environ, log=stage.logs / "web.log")
        until(lambda: answers(server.port))
        seen = proof.served(server.port, web.NAME, ca_pem=None)
        assert seen.certificate == x509.load_pem_x509_certificate(server.cert.read_bytes())
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            proof.served(server.port, web.NAME, ca_pem=Authority().pem)


def test_workers_of_before_may_answer_with_the_throwaway_certificate_a_moment_more(stage):
    server = a_web("small", stage)
    web.put_throwaway_pair(server)
    ca, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    leaf = ca.issue(key.public_key(), web.NAME)
    expected = leaf.fingerprint(hashes.SHA256()).hex()
    with Children() as children:
        children.start("web", server.start, environment=os.environ, log=stage.logs / "web.log")
        until(lambda: answers(server.port))
        server.cert.write_bytes(leaf.public_bytes(Encoding.PEM))
        server.key.write_bytes(key_pem(key))
        command = server.target_config()["reload_command"].split()
        reload = threading.Timer(0.3, subprocess.run, [command])
        reload.start()
        seen = proof.until_served(server.port, web.NAME, ca_pem=ca.pem, fingerprint=expected)
        reload.join()
    assert seen.fingerprint == expected


def answers(port: int) -> bool:
    try:
        proof.served(port, web.NAME, ca_pem=None)
    except Unavailable:
        return False
    return True


def test_nginx_is_told_only_of_modules_that_it_has(stage):
    text = nginx.configuration(stage, built_with="--without-http_uwsgi_module")
    assert "scgi_temp_path" in text
    assert "uwsgi_temp_path" not in text


def test_an_nginx_that_does_not_run_is_named(tmp_path):
    with pytest.raises(Unsafe, match=r"^CERTCTL_DEMO_NGINX: /nowhere/nginx does not run"):
        program.find(tmp_path, {"CERTCTL_DEMO_NGINX": "/nowhere/nginx"}, print)


def test_the_small_server_can_be_asked_for(tmp_path):
    assert program.find(tmp_path, {"CERTCTL_DEMO_NGINX": "none"}, print) is None


def sleeper(*code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", "; ".join(code))


def test_children_end_in_reverse_order_even_when_the_body_fails(tmp_path):
    order = tmp_path / "order"
    code = (
        "import signal, sys, time, pathlib",
        f"end = lambda *_: (open({str(order)!r}, 'a').write(sys.argv[1]), sys.exit())",
        "signal.signal(signal.SIGTERM, end)",
        "pathlib.Path(sys.argv[2]).touch()",
        "time.sleep(60)",
    )
    with pytest.raises(RuntimeError), Children() as children:  # noqa: PT012
        for name in "ab":
            up = tmp_path / f"{name}.up"
            children.start(
                *(name, (*sleeper(*code), name, str(up))),
                environment=os.environ,
                log=tmp_path / "log",
            )
            until(up.exists)
        raise RuntimeError
    assert order.read_text() == "ba"


def test_a_child_that_does_not_listen_is_killed_with_what_it_started(tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import signal, subprocess, time, pathlib",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "child = subprocess.Popen(['sleep', '60'])",
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))",
        "time.sleep(60)",
    )
    with Children() as children:
        started = children.start(
            "deaf", sleeper(*code), environment=os.environ, log=tmp_path / "log", grace=0.2
        )
        until(lambda: pid.exists() and pid.read_text())
    assert started.process.returncode == -signal.SIGKILL
    until(lambda: is_over(int(pid.read_text())))


def is_over(pid: int) -> bool:
    """Gone, or a zombie that nobody has fetched yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("starting\\ncertctl: CERTCTL_X: is wrong\\n", "CERTCTL_X: is wrong"),
        ('{\\"event\\": \\"no database\\", \\"level\\": \\"error\\"}\\n', "no database"),
        ("", "without a word, status 3"),
    ],
)
def test_a_child_that_ends_early_tells_its_reason(tmp_path, words, reason):
    (tmp_path / "log").write_text("certctl: of an earlier run\n")
    with Children() as children:
        child = children.start(
            "serve",
            sleeper("import sys", f'sys.stderr.write("{words}")', "sys.exit(3)"),
            environment=os.environ,
            log=tmp_path / "log",
        )
        child.process.wait(30)
        with pytest.raises(Refused) as caught:
            children.check()
    assert caught.value.message == f"serve ended: {reason}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_body_and_the_children(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Children() as children:  # noqa: PT012
        child = children.start(
            "child",
            sleeper("import time", "time.sleep(60)"),
            environment=os.environ,
            log=tmp_path / "log",
        )
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert child.process.returncode is not None
    assert signal.getsignal(number) is before


def test_the_log_of_a_child_is_private(tmp_path):
    with Children() as children:
        children.start("x", ("true",), environment=os.environ, log=tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_program_that_is_missing_is_named(tmp_path):
    with Children() as children, pytest.raises(Unavailable, match="cannot run /nowhere/x"):
        children.start("x", ("/nowhere/x",), environment=os.environ, log=tmp_path / "log")


def a_job(**changes) -> dict:
    return {
        "id": "job-1",
        "type": "Renewal",
        "status": "Running",
        "attempts": 1,
        "max_attempts": 4,
        "last_error": None,
        "created_at": "2026-11-24T06:00:00Z",
        "completed_at": None,
    } | changes


def test_into_a_pipe_each_state_is_one_line():
    out = StringIO()
    screen = Screen(Console(file=out, highlight=False, markup=False, width=40))
    failed = a_job(status="Failed", last_error="no\x1b[2J")
    screen.watch([[a_job()], [a_job()], [a_job(attempts=2)], [failed]])
    lines = [line.split("s  ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "Renewal        Running      attempt 1/4",
        "Renewal        Running      attempt 2/4",
        r"Renewal        Failed       attempt 1/4  no\x1b[2J",
    ]


def test_on_a_terminal_jobs_stand_in_a_table_with_their_age():
    out = StringIO()
    now = datetime(2026, 11, 24, 6, 0, 7, tzinfo=UTC)
    done = a_job(id="job-0", status="Completed", completed_at="2026-11-24T06:00:02Z")
    Console(file=out, width=100).print(job_table([done, a_job()], now))
    rows = [line.split() for line in out.getvalue().splitlines() if "job-" in line]
    assert rows == [
        ["job-0", "Renewal", "Completed", "1/4", "2", "s"],
        ["job-1", "Renewal", "Running", "1/4", "7", "s"],
    ]


def a_response(signer_key, signer_certificate, leaf, issuer) -> ocsp.OCSPResponse:
    now = datetime.now(UTC)
    builder = ocsp.OCSPResponseBuilder().add_response(
        leaf, issuer, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, now, now + timedelta(hours=1),
        None, None,
    )  # fmt: skip
    return (
        builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer_certificate)
        .certificates([signer_certificate])
        .sign(signer_key, hashes.SHA256())
    )


def test_an_ocsp_answer_counts_only_from_the_issuer_or_its_delegate():
    ca, other = Authority(), Authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = ca.issue(key.public_key(), "a.test")
    proof.check_signer(a_response(ca.key, ca.certificate, leaf, ca.certificate), ca.certificate)
    for signer_key, certificate in ((other.key, other.certificate), (key, leaf)):
        response = a_response(signer_key, certificate, leaf, ca.certificate)
        with pytest.raises(Refused, match="not signed by the issuer's responder"):
            proof.check_signer(response, ca.certificate)


def test_a_certificate_without_addresses_is_told_apart():
    leaf = Authority().issue(ec.generate_private_key(ec.SECP256R1()).public_key(), "a.test")
    with pytest.raises(Refused, match="names no OCSP responder"):
        proof.ocsp_url(leaf)
    with pytest.raises(Refused, match="names no CRL"):
        proof.crl_url(leaf)


def test_the_demo_refuses_a_path_with_a_space_before_it_starts_anything(tmp_path):
    data = tmp_path / "two words"
    done = subprocess.run(
        [sys.executable, "-m", "certctl", "demo", "--once", "--data-dir", str(data)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("certctl: CERTCTL_DATA_DIR: ")
    assert not data.exists()
