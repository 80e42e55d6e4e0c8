"""`certs export`: what is asked for, and the file that comes of it."""

from __future__ import annotations

import stat

import pytest

from tests.cli.scripted import Answer, problem

PEM = {"cert_pem": "leaf\n", "chain_pem": "chain\n", "full_pem": "leaf\nchain\n"}


@pytest.fixture(autouse=True)
def one_certificate(server):
    server.says("GET", "certificates/mc-1", {"id": "mc-1", "name": "www"})
    server.says("GET", "certificates/mc-1/export/pem", PEM)
    server.says("POST", "certificates/mc-1/export/pkcs12", Answer(200, "binary"))


@pytest.mark.parametrize(("part", "text"), [("full", "leaf\nchain\n"), ("chain", "chain\n")])
def test_pem_goes_to_stdout_as_it_is(certctl, part, text):
    done = certctl("certs", "export", "mc-1", "--part", part)
    assert (done.exit_code, done.stdout) == (0, text)


def test_a_file_that_stands_there_is_replaced(certctl, tmp_path):
    out = tmp_path / "www.pem"
    out.write_text("what was there before, and longer than the new one")
    assert certctl("certs", "export", "mc-1", "--part", "cert", "--out", str(out)).exit_code == 0
    assert out.read_text() == "leaf\n"


def test_pkcs12_is_a_file_of_its_owner_alone(server, certctl, tmp_path):
    out, password = tmp_path / "www.p12", tmp_path / "password"
    out.touch(mode=0o644)
    password.write_text(" long enough\nnot this line\n")
    done = certctl(
        "certs", "export", "mc-1", "--pkcs12", "--out", str(out), "--password-file", str(password)
    )  # fmt: skip
    assert (done.exit_code, out.read_bytes()) == (0, b"binary")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert server.seen[-1].body == {"password": " long enough", "with_key": None}


def test_the_password_is_asked_for_twice_and_never_shown(server, certctl, tmp_path):
    out = tmp_path / "www.p12"
    done = certctl(
        "certs", "export", "mc-1", "--pkcs12", "--no-key", "--out", str(out),
        stdin="long enough\nlong enough\n",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "long enough" not in done.output
    assert server.seen[-1].body == {"password": "long enough", "with_key": False}


def test_pkcs12_never_goes_to_the_screen(server, certctl):
    done = certctl("certs", "export", "mc-1", "--pkcs12")
    assert done.exit_code == 2
    assert "--out" in done.stderr
    assert server.seen == []


def test_a_refusal_leaves_the_file_alone(server, certctl, tmp_path):
    out = tmp_path / "www.p12"
    out.write_text("kept")
    server.says("POST", "certificates/mc-2/export/pkcs12", problem(409, "conflict", "no version"))
    server.says("GET", "certificates/mc-2", {"id": "mc-2", "name": "api"})
    done = certctl(
        "certs", "export", "mc-2", "--pkcs12", "--out", str(out), stdin="pass\npass\n"
    )  # fmt: skip
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "certctl: no version")
    assert out.read_text() == "kept"
