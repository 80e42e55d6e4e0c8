"""Which OCSP responses are stapled: openssl answers, and responders that lie, err or are late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import load_der_ocsp_response

from certctl.domain.errors import Refused, Unavailable
from certctl.pki import ocsp, staple
from certctl.pki.keys import KeyAlgorithm
from tests.connectors.kit import Authority, key_pem
from tests.pki.made import a_responder as own_responder
from tests.pki.made import a_root, a_template, openssl
from tests.stapling import (
    GOOD,
    HOUR,
    REVOKED,
    UNKNOWN,
    OpensslResponder,
    a_leaf,
    a_responder,
    a_response,
    der,
)

CA = Authority()
LEAF, _ = a_leaf(CA, "http://ocsp.example.test/")


def verified(response: bytes, **changes: datetime) -> staple.Staple:
    return staple.verify(
        response, der(LEAF), der(CA.certificate), now=changes.get("now", datetime.now(UTC))
    )


def answered_by_openssl(folder: Path, *how: str, revoked: bool = False) -> bytes:
    """What `openssl ocsp`, as the CA's responder, answers to our request."""
    with OpensslResponder(folder / "responder", CA) as responder:
        responder.knows(LEAF, revoked=revoked)
        place = responder.folder
    (folder / "request.der").write_bytes(staple.request(der(LEAF), der(CA.certificate)))
    said = openssl(
        "ocsp", "-index", place / "index.txt", "-CA", place / "ca.pem", "-rsigner",
        place / "responder.pem", "-rkey", place / "responder.key", "-reqin",
        folder / "request.der", "-respout", folder / "response.der", *how,
    ).stdout  # fmt: skip
    assert (folder / "response.der").exists(), said
    return (folder / "response.der").read_bytes()


def test_openssl_reads_the_request_as_sha1_of_the_issuer_without_a_nonce(tmp_path):
    (tmp_path / "request.der").write_bytes(staple.request(der(LEAF), der(CA.certificate)))
    said = openssl("ocsp", "-reqin", tmp_path / "request.der", "-req_text").stdout
    assert "Hash Algorithm: sha1" in said
    assert f"Serial Number: {LEAF.serial_number:X}" in said.replace("Number: 0", "Number: ")
    assert "Nonce" not in said


@pytest.mark.parametrize(("revoked", "status"), [(False, "good"), (True, "revoked")])
def test_what_openssl_answers_as_a_delegated_responder_is_believed(tmp_path, revoked, status):
    found = verified(answered_by_openssl(tmp_path, "-ndays", "1", revoked=revoked))
    assert found.status == status
    assert (found.revoked_at is not None) is revoked
    assert found.until > datetime.now(UTC) + timedelta(minutes=50)


def test_a_response_that_names_no_end_is_not_stapled(tmp_path):
    with pytest.raises(Refused, match="no nextUpdate"):
        verified(answered_by_openssl(tmp_path))


def test_what_openssl_answers_in_the_name_of_the_ca_itself_is_believed(tmp_path):
    (tmp_path / "ca.key").write_bytes(key_pem(CA.key))
    (tmp_path / "ca.pem").write_text(CA.pem)
    response = answered_by_openssl(
        tmp_path, "-nmin", "30", "-rsigner", str(tmp_path / "ca.pem"), "-rkey",
        str(tmp_path / "ca.key"),
    )  # fmt: skip
    assert verified(response).status == "good"


@pytest.mark.parametrize("way", ["-resp_key_id", "-resp_no_certs"])
def test_the_responder_is_found_by_key_and_must_come_along(tmp_path, way):
    response = answered_by_openssl(tmp_path, "-ndays", "1", way)
    if way == "-resp_key_id":
        assert verified(response).status == "good"
    else:
        with pytest.raises(Refused, match="not signed by the issuer"):
            verified(response)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_our_own_responder_is_believed_whatever_its_key(algorithm):
    ca = a_root()
    leaf = ca.issue(a_template(serial=77))
    certificate, signer = own_responder(ca, algorithm)
    now = datetime.now(UTC)
    single = ocsp.SingleStatus(
        ocsp.cert_id(ca.der, 77), "good", None, None, now - timedelta(minutes=1), now + HOUR
    )
    response = ocsp.build(
        [single], certificate, signer=signer, produced_at=now, nonce=None, shape=algorithm
    )
    assert staple.verify(response, leaf, ca.der, now=now).status == "good"
    twice = ocsp.build(
        [single, single],
        certificate,
        signer=signer,
        produced_at=now,
        nonce=None,
        shape=(algorithm, 2),
    )
    with pytest.raises(Refused, match="about 2 certificates"):
        staple.verify(twice, leaf, ca.der, now=now)


@pytest.mark.parametrize("status", ["malformedRequest", "unauthorized"])
def test_an_answer_without_success_is_refused(status):
    with pytest.raises(Refused, match="answered"):
        verified(ocsp.error_response(status))


@pytest.mark.parametrize("status", ["tryLater", "internalError"])
def test_an_answer_that_asks_for_patience_is_worth_another_try(status):
    with pytest.raises(Unavailable, match="answered"):
        verified(ocsp.error_response(status))


def test_a_response_about_another_serial_or_of_another_ca_is_refused():
    sibling, _ = a_leaf(CA)
    with pytest.raises(Refused, match="about another certificate"):
        verified(a_response(sibling, CA))
    with pytest.raises(Refused, match="about another certificate"):
        verified(a_response(LEAF, Authority(name="another CA")))


def test_another_signer_is_refused():
    stranger = Authority(name="stranger")
    for by in (a_responder(stranger), (stranger.certificate, stranger.key)):
        with pytest.raises(Refused, match="not from the leaf's issuer"):
            verified(a_response(LEAF, CA, by=by))


def test_a_signature_that_is_not_over_the_response_is_refused():
    forged = bytearray(a_response(LEAF, CA))
    forged[-1] ^= 0x01
    with pytest.raises(Refused, match="not signed by the issuer"):
        verified(bytes(forged))


def test_a_leaf_of_the_same_ca_is_no_responder():
    with pytest.raises(Refused, match="not for OCSP signing"):
        verified(a_response(LEAF, CA, by=a_responder(CA, may_sign=False)))
    with pytest.raises(Refused, match="not for OCSP signing"):
        verified(a_response(LEAF, CA, by=a_leaf(CA)))


def test_a_responder_whose_certificate_has_ended_is_refused_and_bounds_the_staple():
    soon = a_responder(CA, life=timedelta(minutes=20))
    response = a_response(LEAF, CA, by=soon)
    assert verified(response).until == soon[0].not_valid_after_utc
    with pytest.raises(Refused, match="not valid now"):
        verified(response, now=datetime.now(UTC) + timedelta(minutes=30))


@pytest.mark.parametrize(
    ("since", "words"),
    [(timedelta(minutes=10), "of the future"), (-timedelta(hours=2), "is over")],
)
def test_a_response_of_another_time_is_refused(since, words):
    with pytest.raises(Refused, match=words):
        verified(a_response(LEAF, CA, since=datetime.now(UTC) + since))


def test_a_clock_a_little_ahead_is_borne_with():
    response = a_response(LEAF, CA, since=datetime.now(UTC) + timedelta(minutes=2))
    assert verified(response).status == "good"


def test_a_certificate_that_the_responder_does_not_know_is_refused():
    with pytest.raises(Refused, match="does not know"):
        verified(a_response(LEAF, CA, status=UNKNOWN))


def test_a_weak_hash_is_refused():
    with pytest.raises(Refused, match="weak or unknown hash"):
        verified(a_response(LEAF, CA, digest=hashes.SHA224()))


def test_bytes_that_are_no_response_are_refused_wherever_they_are_cut_or_changed():
    whole = a_response(LEAF, CA, by=a_responder(CA), status=REVOKED)
    assert verified(whole).status == "revoked"
    assert verified(whole).der == whole
    for end in range(0, len(whole), 7):
        with pytest.raises(Refused):
            verified(whole[:end])
    signed = load_der_ocsp_response(whole).tbs_response_bytes
    for at in range(whole.index(signed) + len(signed)):
        changed = bytearray(whole)
        changed[at] ^= 0x01
        with pytest.raises((Refused, Unavailable)):
            verified(bytes(changed))


def test_a_response_that_is_too_big_is_refused():
    with pytest.raises(Refused, match="more than 65536 bytes"):
        verified(a_response(LEAF, CA) + bytes(65536))


def test_a_chain_whose_second_certificate_is_not_the_issuer_cannot_be_asked_about():
    stranger = Authority(name="stranger").certificate.public_bytes(Encoding.DER)
    with pytest.raises(Refused, match="issuer of its leaf"):
        staple.request(der(LEAF), stranger)
    with pytest.raises(Refused, match="issuer of its leaf"):
        staple.verify(a_response(LEAF, CA, status=GOOD), der(LEAF), b"x", now=datetime.now(UTC))
