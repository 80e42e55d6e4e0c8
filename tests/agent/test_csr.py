"""Certificate requests, judged by openssl."""

from __future__ import annotations

import subprocess

import pytest

from certctl.agent.csr import request_pem
from certctl.domain.errors import Invalid
from certctl.pki.keys import KeyAlgorithm, generate
from certctl.wire import WorkItem
from tests.pki.made import OPENSSL_KNOWS
from tests.tools import need

KEY = generate(KeyAlgorithm.ECDSA_P256)


def item(**changes) -> WorkItem:
    base = {"id": "j", "type": "Issuance", "status": "AwaitingCSR", "certificate_id": "mc-1"}
    return WorkItem.model_validate(base | changes)


def as_openssl_sees(pem: str) -> str:
    command = [need("openssl"), "req", "-verify", "-noout", "-text"]
    done = subprocess.run(command, input=pem, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verify OK" in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("algorithm", OPENSSL_KNOWS)
def test_requests_of_every_key_algorithm_verify(algorithm):
    key = generate(algorithm)
    as_openssl_sees(request_pem(item(common_name="a.test", sans=["a.test"]), key))


def test_every_kind_of_name_stands_as_what_it_is():
    sans = ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1", "me@a.test", "spiffe://a/b"]
    text = as_openssl_sees(request_pem(item(common_name="a.test", sans=sans), KEY))
    for shown in (
        "Subject: CN = a.test",
        "DNS:a.test",
        "DNS:*.b.test",
        "IP Address:192.0.2.1",
        "IP Address:2001:DB8",
        "email:me@a.test",
        "URI:spiffe://a/b",
    ):
        assert shown in text


@pytest.mark.parametrize(("length", "kept"), [(64, True), (65, False)])
def test_a_common_name_over_64_characters_is_left_out(length, kept):
    name = "a" * 40 + "." + "b" * (length - 41)
    text = as_openssl_sees(request_pem(item(common_name=name, sans=[name]), KEY))
    assert (f"CN = {name}" in text) == kept
    assert f"DNS:{name}" in text


def test_must_staple_is_asked_for_when_wanted():
    with_it = as_openssl_sees(request_pem(item(sans=["a.test"], must_staple=True), KEY))
    assert "status_request" in with_it
    assert "status_request" not in as_openssl_sees(request_pem(item(sans=["a.test"]), KEY))


def test_a_name_that_cannot_be_issued_is_refused():
    with pytest.raises(Invalid, match="not a DNS name"):
        request_pem(item(sans=["under_score.test"]), KEY)
