"""Agents that keep staples fresh, with openssl and scripted servers as responders."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.agent.staple import Staples, TargetLocks, fetch, served
from certctl.agent.state import KeptStaple, State
from certctl.connectors.catalog import open_target
from certctl.connectors.reach import Reach
from certctl.connectors.target import DeployFailed
from certctl.domain.errors import CertctlError, Refused, Unsafe
from certctl.pki import staple
from tests.agent.conftest import QUICK, eventually
from tests.agent.plane import csr_job, deployment
from tests.connectors.kit import LOOPBACK, Authority
from tests.stapling import (
    GOOD,
    REVOKED,
    OpensslResponder,
    Scripted,
    a_leaf,
    a_responder,
    a_response,
    asks_for_staple,
    der,
)


@pytest.fixture
def openssl(tmp_path, plane):
    with OpensslResponder(tmp_path / "responder", plane.ca) as running:
        yield running


@pytest.fixture
def scripted():
    with Scripted() as running:
        yield running


def leaf_of(plane) -> x509.Certificate:
    return x509.load_pem_x509_certificate(plane.certificates["mc-1"].encode())


class Fed:
    """The NGINX target of a host, fed from a file; `loads` counts its reloads."""

    def __init__(self, host) -> None:
        self.host = host
        self.file = host.folder / "site.ocsp"
        self.loads_file = host.folder / "loads"
        program = host.folder / "reload"
        program.write_text(f"#!/bin/sh\necho x >> {self.loads_file}\n")
        program.chmod(0o755)
        self.config = {
            **host.target,
            "staple_path": str(self.file),
            "reload_command": str(program),
        }

    @property
    def loads(self) -> int:
        return self.loads_file.read_text().count("x") if self.loads_file.exists() else 0

    def status(self, plane) -> str | None:
        """What the file says of the certificate that is served, if it may be stapled."""
        if not self.file.exists():
            return None
        leaf, ca = der(leaf_of(plane)), der(plane.ca.certificate)
        try:
            return staple.verify(self.file.read_bytes(), leaf, ca, now=datetime.now(UTC)).status
        except Refused:
            return None


@pytest.fixture
def fed(host):
    return Fed(host)


def kept(host) -> list[dict]:
    return json.loads((host.folder / "agent" / "staples.json").read_text())


async def deployed(plane, fed, *, job: str = "job-1", ending: str = "Completed") -> dict:
    """The report of a deployment to `fed`, of a certificate that is issued for it."""
    plane.deploy_to = fed.config
    plane.offer(**csr_job(job))
    await eventually(lambda: plane.reports(f"deploy-of-{job}"))
    report = plane.reports(f"deploy-of-{job}")[-1]
    assert report["status"] == ending, report
    return report


def answers_good(plane, scripted, **changes) -> bytes:
    scripted.body = a_response(leaf_of(plane), plane.ca, **changes)
    return scripted.body


async def issued(plane, fed) -> None:
    """A certificate with its key on the host, not yet deployed."""
    plane.deploy_to = None
    plane.offer(**csr_job("job-1"))
    await eventually(lambda: "mc-1" in plane.certificates)


async def offered(plane, fed, job: str) -> dict:
    plane.offer(**deployment("mc-1", plane.certificates["mc-1"], fed.config, job))
    await eventually(lambda: plane.reports(job))
    return plane.reports(job)[-1]


async def test_a_must_staple_certificate_is_deployed_with_its_staple_by_one_reload(
    host, plane, fed, openssl, start
):
    plane.leaf_extensions = asks_for_staple(openssl.url, must_staple=True)
    start()
    await issued(plane, fed)
    openssl.knows(leaf_of(plane))
    report = await offered(plane, fed, "deploy-1")
    assert report["status"] == "Completed", report
    assert fed.status(plane) == "good"
    assert fed.loads == 1
    assert fed.file.stat().st_mode & 0o777 == 0o644
    assert kept(host)[0]["status"] == "good"
    assert fed.loads == 1


async def test_a_revocation_is_stapled_and_said(host, plane, fed, scripted, start, caplog):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    start()
    await issued(plane, fed)
    # A short life, so that the next refresh is due at once.
    answers_good(plane, scripted, life=timedelta(seconds=66))
    await offered(plane, fed, "deploy-1")
    assert fed.status(plane) == "good"
    revoked = answers_good(plane, scripted, status=REVOKED)
    await eventually(lambda: fed.file.read_bytes() == revoked)
    await eventually(lambda: kept(host)[0]["status"] == "revoked")
    assert fed.loads == 2
    said = [r for r in caplog.records if "status=revoked" in r.getMessage()]
    assert [r.levelno for r in said] == [logging.ERROR]


async def test_a_must_staple_certificate_is_not_deployed_without_a_staple(
    host, plane, fed, scripted, start
):
    plane.leaf_extensions = asks_for_staple(scripted.url, must_staple=True)
    before = host.server.cert.read_bytes()
    scripted.status = 503
    start()
    report = await deployed(plane, fed, ending="Failed")
    assert "the certificate is must-staple, and no staple is to be had" in report["error"]
    assert "503" in report["error"]
    assert report["rolled_back"]
    assert host.server.cert.read_bytes() == before
    assert not fed.file.exists()
    # The server offers the job again, and the responder is back.
    scripted.status = 200
    answers_good(plane, scripted)
    assert (await offered(plane, fed, "again"))["status"] == "Completed"
    assert fed.status(plane) == "good"


async def test_a_must_staple_certificate_that_is_revoked_is_not_deployed(
    host, plane, fed, scripted, start
):
    plane.leaf_extensions = asks_for_staple(scripted.url, must_staple=True)
    start()
    await issued(plane, fed)
    answers_good(plane, scripted, status=REVOKED)
    report = await offered(plane, fed, "deploy-1")
    assert "the certificate is revoked" in report["error"]


async def test_a_server_that_needs_no_staple_gets_it_later(host, plane, scripted, start):
    """HAProxy starts without the file."""
    plane.leaf_extensions = asks_for_staple(scripted.url)
    whole = host.folder / "whole.pem"
    config = {
        "pem_path": str(whole),
        "reload_command": "true",
        "post_deploy_verify": {"enabled": False},
    }
    scripted.status = 500
    start()
    await issued(plane, None)
    job = deployment("mc-1", plane.certificates["mc-1"], config, "deploy-1")
    plane.offer(**{**job, "target_type": "HAProxy"})
    await eventually(lambda: plane.reports("deploy-1"))
    assert plane.reports("deploy-1")[-1]["status"] == "Completed"
    await eventually(lambda: kept(host)[0]["problem"])
    assert "500" in kept(host)[0]["problem"]
    assert not whole.with_name("whole.pem.ocsp").exists()
    scripted.status = 200
    expected = answers_good(plane, scripted)
    await eventually(lambda: whole.with_name("whole.pem.ocsp").exists())
    assert whole.with_name("whole.pem.ocsp").read_bytes() == expected
    await eventually(lambda: not kept(host)[0]["problem"])


async def test_the_last_good_one_stays_while_the_responder_is_away_or_lies(
    host, plane, fed, scripted, start, caplog
):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    start()
    await issued(plane, fed)
    last = answers_good(plane, scripted, life=timedelta(seconds=66))
    await offered(plane, fed, "deploy-1")
    stranger = Authority(name="stranger")
    for body, words in (
        (a_response(a_leaf(plane.ca)[0], plane.ca), "about another certificate"),
        (a_response(leaf_of(plane), plane.ca, by=a_responder(stranger)), "not from the leaf"),
        (b"\x30\x03\x0a\x01\x06", "unauthorized"),
        (b"x" * 70_000, "more than 65536 bytes"),
    ):
        scripted.body = body
        await eventually(lambda words=words: words in kept(host)[0]["problem"])
        assert fed.file.read_bytes() == last
    await eventually(lambda: "event=staple_ends_soon" in caplog.text)
    await eventually(lambda: "event=staple_over" in caplog.text)
    assert fed.file.read_bytes() == last
    assert fed.loads == 1
    answers_good(plane, scripted)
    await eventually(lambda: fed.status(plane) == "good")


async def test_what_is_stapled_survives_a_restart_and_is_refreshed_at_once(
    host, plane, fed, scripted, start
):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    first = start()
    await issued(plane, fed)
    answers_good(plane, scripted, life=timedelta(days=1))
    await offered(plane, fed, "deploy-1")
    start.stop.set()
    await first
    revoked = answers_good(plane, scripted, status=REVOKED)
    start.stop.clear()
    start()
    await eventually(lambda: fed.file.read_bytes() == revoked)


async def test_a_newer_deployment_takes_the_place_of_the_older(host, plane, fed, scripted, start):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    start()
    await issued(plane, fed)
    answers_good(plane, scripted)
    await offered(plane, fed, "deploy-1")
    await eventually(lambda: len(kept(host)) == 1)
    unfed = {**fed.config, "staple_path": None}
    plane.offer(**deployment("mc-1", plane.certificates["mc-1"], unfed, "deploy-2"))
    await eventually(lambda: plane.reports("deploy-2"))
    await eventually(lambda: kept(host) == [])


async def test_a_staple_is_forgotten_with_its_certificate(host, plane, fed, scripted, start):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    start()
    await issued(plane, fed)
    answers_good(plane, scripted, life=timedelta(seconds=66))
    await offered(plane, fed, "deploy-1")
    fed.host.server.cert.rename(host.folder / "elsewhere.pem")
    await eventually(lambda: kept(host) == [])
    (host.folder / "elsewhere.pem").rename(fed.host.server.cert)


async def test_deploying_again_uses_the_fresh_staple_that_is_there(
    host, plane, fed, scripted, start
):
    plane.leaf_extensions = asks_for_staple(scripted.url, must_staple=True)
    start()
    await issued(plane, fed)
    answers_good(plane, scripted)
    await offered(plane, fed, "deploy-1")
    await eventually(lambda: kept(host)[0]["status"] == "good")
    scripted.status = 500
    assert (await offered(plane, fed, "deploy-2"))["unchanged"]


async def test_a_server_that_was_not_told_is_told_again(host, plane, fed, scripted, start):
    plane.leaf_extensions = asks_for_staple(scripted.url)
    start()
    await issued(plane, fed)
    answers_good(plane, scripted, life=timedelta(seconds=66))
    await offered(plane, fed, "deploy-1")
    program, away = host.folder / "reload", host.folder / "reload.away"
    program.rename(away)
    answers_good(plane, scripted, status=REVOKED)
    await eventually(lambda: "cannot run" in kept(host)[0]["problem"])
    loads = fed.loads
    away.rename(program)
    await eventually(lambda: fed.loads == loads + 1)
    await eventually(lambda: kept(host)[0]["status"] == "revoked")


async def test_the_request_goes_by_get_and_by_post_where_it_is_long(scripted):
    ca = Authority()
    for url, method in ((scripted.url, "GET"), (f"{scripted.url}{'x' * 200}", "POST")):
        leaf, _ = a_leaf(ca, url)
        scripted.body = a_response(leaf, ca)
        found = await fetch(served((der(leaf), der(ca.certificate))), LOOPBACK)
        assert found.status == "good"
        assert scripted.seen[-1][0] == method


async def test_the_next_responder_is_asked_when_one_does_not_answer(scripted):
    ca = Authority()
    leaf, _ = a_leaf(ca, "ldap://ca.example.test/", "http://127.0.0.1:1/", scripted.url)
    scripted.body = a_response(leaf, ca, status=GOOD)
    assert (await fetch(served((der(leaf), der(ca.certificate))), LOOPBACK)).status == "good"


async def test_redirects_and_reserved_addresses_are_not_followed(scripted):
    ca = Authority()
    scripted.status, scripted.headers = 302, {"Location": "http://127.0.0.1:1/"}
    leaf, _ = a_leaf(ca, scripted.url)
    with pytest.raises(Refused, match="redirects are not followed"):
        await fetch(served((der(leaf), der(ca.certificate))), LOOPBACK)
    metadata, _ = a_leaf(ca, "http://169.254.169.254/latest")
    with pytest.raises(Refused, match="CERTCTL_OUTBOUND_ALLOW"):
        await fetch(served((der(metadata), der(ca.certificate))), Reach())


async def test_a_server_that_needs_its_file_is_told_what_is_missing(tmp_path, caplog):
    ca = Authority()
    folder = tmp_path / "state"
    staples = Staples(State(folder), TargetLocks(asyncio.Lock), pace=QUICK)
    config = {
        "cert_path": str(tmp_path / "a.pem"),
        "key_path": str(tmp_path / "a.key"),
        "staple_path": str(tmp_path / "a.ocsp"),
        "validate_command": "true",
        "reload_command": "true",
    }
    target = open_target("NGINX", config)
    plain, _ = a_leaf(ca)
    with pytest.raises(DeployFailed, match="names no OCSP responder"):
        await staples.first(target, (der(plain), der(ca.certificate)))
    with pytest.raises(DeployFailed, match="chain ends with the leaf"):
        await staples.first(target, (der(plain),))
    haproxy = open_target("HAProxy", {"pem_path": "/x/a.pem", "reload_command": "true"})
    assert await staples.first(haproxy, (der(plain), der(ca.certificate))) is None
    (folder / "staples.json").mkdir()
    with caplog.at_level(logging.ERROR):
        leaf, _ = a_leaf(ca, "http://127.0.0.1:1/")
        kept = KeptStaple(target_id="t-1", target_type="NGINX", target_config=config)
        staples.deployed(kept, der(leaf), staple=None)
    assert "event=staples_not_remembered" in caplog.text
    (folder / "staples.json").rmdir()
    (folder / "staples.json").write_text("{")
    with pytest.raises(Unsafe, match="deploy the certificates again"):
        Staples(State(folder), TargetLocks(asyncio.Lock), pace=QUICK)


def test_only_certctl_errors_are_what_a_response_can_cause():
    ca = Authority()
    leaf, _ = a_leaf(ca)
    for body in (b"", b"\0" * 9, ca.certificate.public_bytes(Encoding.DER)):
        with pytest.raises(CertctlError):
            staple.verify(body, der(leaf), der(ca.certificate), now=datetime.now(UTC))
