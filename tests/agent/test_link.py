"""Trust at first contact, and what the answers of the server mean."""

from __future__ import annotations

import ssl

import pytest

from certctl.agent import trust
from certctl.agent.link import Link, connect
from certctl.domain.errors import (
    Conflict,
    Gone,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unavailable,
    Unsafe,
)
from certctl.wire import Heartbeat, JobReport
from tests.agent.plane import AGENT, CREDENTIAL
from tests.connectors.kit import Authority


@pytest.fixture
async def link(plane, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(plane.ca.pem)
    async with connect(plane.url, trust.tls_to(ca_file), credential=CREDENTIAL) as client:
        yield Link(client, AGENT)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (418, Refused),
        (302, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (0, Unavailable),
    ],
)
async def test_every_status_has_its_meaning(plane, link, status, error):
    plane.refusals["heartbeat"] = [status]
    with pytest.raises(error) as told:
        await link.heartbeat(Heartbeat())
    assert type(told.value) is error
    if status:
        assert told.value.message == f"the server answered {status}: scripted"


async def test_a_server_that_is_away_is_unavailable(plane, link):
    plane.stop()
    with pytest.raises(Unavailable, match="did not answer"):
        await link.work(1)


async def test_an_answer_that_is_not_understood_is_unavailable(plane, link):
    plane.offer(id="job-without-its-other-fields")
    with pytest.raises(Unavailable, match="something unexpected"):
        await link.work(1)


async def test_the_credential_goes_with_every_call(plane, link):
    await link.report("job-1", JobReport(status="Completed"))
    assert [seen.bearer for seen in plane.seen] == [f"Bearer {CREDENTIAL}"]


async def test_a_server_of_another_ca_is_not_spoken_to(plane, tmp_path):
    ca_file = tmp_path / "other.pem"
    ca_file.write_text(Authority(name="other CA").pem)
    async with connect(plane.url, trust.tls_to(ca_file), credential=CREDENTIAL) as client:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await Link(client, AGENT).heartbeat(Heartbeat())
    assert plane.seen == []


def test_nothing_below_tls_1_3_is_spoken(plane, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(plane.ca.pem)
    assert trust.tls_to(ca_file).minimum_version is ssl.TLSVersion.TLSv1_3
    assert trust.tls_to(None).minimum_version is ssl.TLSVersion.TLSv1_3
    assert trust.tls_to(None).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_dead_ca_bundle_is_a_start_error(tmp_path, content):
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(Unsafe, match="CERTCTL_SERVER_CA_BUNDLE_PATH"):
        trust.tls_to(ca_file)


def test_a_token_is_split_from_the_fingerprint_it_carries():
    assert trust.split_token(f"a.b.{'AB' * 32}\n") == ("a.b", "ab" * 32)
    assert trust.split_token("only-a-token") == ("only-a-token", None)
    assert trust.split_token("a.b") == ("a.b", None)


async def test_the_expected_ca_is_picked_from_those_shown(plane):
    plane.shown_ca = Authority(name="another").pem + plane.ca.pem
    assert await trust.fetch_ca(plane.url, plane.ca.fingerprint) == plane.ca.pem


@pytest.mark.parametrize("shown", ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_server_that_shows_no_certificate_is_refused(plane, shown):
    plane.shown_ca = shown
    with pytest.raises(Unsafe, match="shows no CA certificate"):
        await trust.fetch_ca(plane.url, plane.ca.fingerprint)


async def test_an_endless_ca_is_not_read_to_its_end(plane):
    plane.shown_ca = "x" * (trust.MAX_CA_BYTES + 1)
    with pytest.raises(Unsafe, match="more than a CA certificate"):
        await trust.fetch_ca(plane.url, plane.ca.fingerprint)
