"""OCSP responses, judged by openssl, pyca/cryptography and pkilint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as cocsp

from certctl.domain.errors import Invalid
from certctl.pki import der, keys, lint, ocsp, x509
from certctl.pki.keys import KeyAlgorithm, KeySigner
from certctl.pki.ocsp import SingleStatus
from tests.pki.made import (
    CA,
    NOW,
    OPENSSL_KNOWS,
    a_key,
    a_responder,
    a_root,
    a_template,
    an_ocsp_request,
    openssl,
)

HOUR = timedelta(hours=1)
Statuses = cocsp.OCSPCertStatus


def _status(cert_id: ocsp.CertId, status: Any = "good", **changes: Any) -> SingleStatus:
    arguments: dict[str, Any] = {
        "revoked_at": NOW - HOUR if status == "revoked" else None,
        "reason_code": 1 if status == "revoked" else None,
        "this_update": NOW - timedelta(minutes=1),
        "next_update": NOW + HOUR,
    }
    return SingleStatus(cert_id, status, **{**arguments, **changes})


def _response(
    ca: CA,
    statuses: Sequence[SingleStatus],
    *,
    algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256,
    nonce: bytes | None = None,
    produced_at: datetime = NOW,
) -> bytes:
    certificate, signer = a_responder(ca, algorithm)
    return ocsp.build(
        statuses,
        certificate,
        signer=signer,
        produced_at=produced_at,
        nonce=nonce,
        shape=("test", algorithm),
    )


def _cert_id(serial: int = 5) -> ocsp.CertId:
    leaf = a_root().issue(a_template(serial=serial))
    return ocsp.read(an_ocsp_request(a_root(), leaf)).cert_ids[0]


def _files(folder: Path, ca: CA, **leaves: bytes) -> None:
    for name, one in {"ca": ca.der, **leaves}.items():
        (folder / f"{name}.pem").write_text(x509.pem(one))


def _asked_by_openssl(folder: Path, *arguments: str) -> ocsp.OcspRequest:
    wanted = [folder / a if a.endswith(".pem") else a for a in arguments]
    openssl("ocsp", "-issuer", folder / "ca.pem", *wanted, "-reqout", folder / "request.der")
    return ocsp.read((folder / "request.der").read_bytes())


@pytest.mark.parametrize("algorithm", OPENSSL_KNOWS)
@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
def test_openssl_reads_good_revoked_and_unknown_in_one_answer(algorithm, digest, tmp_path) -> None:
    ca = a_root()
    leaves = {name: ca.issue(a_template()) for name in ("one", "two", "three")}
    _files(tmp_path, ca, **leaves)
    certificates = [word for name in leaves for word in ("-cert", f"{name}.pem")]
    request = _asked_by_openssl(tmp_path, digest, *certificates)
    assert len(request.cert_ids) == 3
    assert all(ocsp.matches(cert_id, ca.der) for cert_id in request.cert_ids)
    answers = [
        _status(cert_id, status)
        for cert_id, status in zip(request.cert_ids, ("good", "revoked", "unknown"), strict=True)
    ]
    made = _response(ca, answers, algorithm=algorithm, nonce=request.nonce)
    (tmp_path / "response.der").write_bytes(made)
    said = openssl(
        "ocsp", "-issuer", tmp_path / "ca.pem", digest,
        *(tmp_path / w if w.endswith(".pem") else w for w in certificates),
        "-no_nonce", "-respin", tmp_path / "response.der", "-CAfile", tmp_path / "ca.pem",
    ).stdout  # fmt: skip
    assert "Response verify OK" in said
    assert "one.pem: good" in said
    assert "two.pem: revoked" in said
    assert "Reason: keyCompromise" in said
    assert "three.pem: unknown" in said
    assert lint.pkilint_findings("ocsp", made) == []


def test_openssl_finds_its_nonce_again_and_misses_another(tmp_path) -> None:
    ca = a_root()
    _files(tmp_path, ca, leaf=ca.issue(a_template()))
    request = _asked_by_openssl(tmp_path, "-cert", "leaf.pem", "-nonce")
    assert request.nonce is not None
    said = {}
    for name, nonce in (("same", request.nonce), ("other", b"x" * 16), ("none", None)):
        made = _response(ca, [_status(request.cert_ids[0])], nonce=nonce)
        (tmp_path / "response.der").write_bytes(made)
        said[name] = openssl(
            "ocsp", "-reqin", tmp_path / "request.der", "-respin", tmp_path / "response.der",
            "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "ca.pem",
        ).stdout  # fmt: skip
    assert "Response verify OK" in said["same"]
    assert "nonce" not in said["same"].lower()
    assert "Nonce Verify error" in said["other"]
    assert "no nonce in response" in said["none"]


def test_openssl_refuses_a_responder_of_another_ca(tmp_path) -> None:
    ca, other = a_root(), a_root(KeyAlgorithm.ECDSA_P384)
    _files(tmp_path, ca, leaf=ca.issue(a_template()))
    request = _asked_by_openssl(tmp_path, "-cert", "leaf.pem", "-no_nonce")
    (tmp_path / "response.der").write_bytes(_response(other, [_status(request.cert_ids[0])]))
    said = openssl(
        "ocsp", "-reqin", tmp_path / "request.der", "-respin", tmp_path / "response.der",
        "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "ca.pem",
    ).stdout  # fmt: skip
    assert "Response Verify Failure" in said


def test_a_ca_can_answer_for_itself_without_a_responder(tmp_path) -> None:
    ca = a_root()
    _files(tmp_path, ca, leaf=ca.issue(a_template()))
    request = _asked_by_openssl(tmp_path, "-cert", "leaf.pem", "-no_nonce")
    made = ocsp.build(
        [_status(request.cert_ids[0])],
        None,
        signer=KeySigner(ca.key),
        produced_at=NOW,
        nonce=None,
        shape="direct",
    )
    (tmp_path / "response.der").write_bytes(made)
    said = openssl(
        "ocsp", "-reqin", tmp_path / "request.der", "-respin", tmp_path / "response.der",
        "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "ca.pem",
    ).stdout  # fmt: skip
    assert "Response verify OK" in said


def test_the_response_says_what_was_asked_of_it() -> None:
    cert_id = _cert_id(0x0ABC)
    revoked = _status(cert_id, "revoked", reason_code=5)
    made = _response(a_root(), [revoked], nonce=b"n" * 128, produced_at=NOW)
    read = cocsp.load_der_ocsp_response(made)
    certificate, signer = a_responder(a_root())
    assert read.certificate_status is Statuses.REVOKED
    assert read.revocation_reason is cx509.ReasonFlags.cessation_of_operation
    assert read.revocation_time_utc == (NOW - HOUR).replace(microsecond=0)
    assert read.produced_at_utc == NOW.replace(microsecond=0)
    assert read.next_update_utc == (NOW + HOUR).replace(microsecond=0)
    assert read.serial_number == 0x0ABC
    assert read.responder_key_hash == keys.key_identifier(signer.public_key)
    assert [one.public_bytes(Encoding.DER) for one in read.certificates] == [certificate]
    assert read.extensions.get_extension_for_class(cx509.OCSPNonce).value.nonce == b"n" * 128
    assert keys.verifies(signer.public_key, read.signature, read.tbs_response_bytes)


def test_the_cert_id_is_given_back_as_it_came() -> None:
    """Some clients leave the NULL parameters out and compare bytes."""
    bare = der.sequence(der.oid(ocsp.SHA1))
    cert_id = der.sequence(bare, der.octets(b"a" * 20), der.octets(b"b" * 20), der.integer(9))
    (read,) = ocsp.read(der.sequence(der.sequence(der.sequence(der.sequence(cert_id))))).cert_ids
    assert read.raw == cert_id
    assert cert_id in _response(a_root(), [_status(read, "unknown")])


@pytest.mark.parametrize("reason", [None, 0])
def test_a_revocation_without_a_stated_reason_says_none(reason) -> None:
    status = _status(_cert_id(), "revoked", reason_code=reason)
    read = cocsp.load_der_ocsp_response(_response(a_root(), [status]))
    assert read.certificate_status is Statuses.REVOKED
    assert read.revocation_reason is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"revoked_at": None}, "needs the time"),
        ({"reason_code": 7}, "reason of RFC 5280"),
        ({"this_update": NOW + HOUR / 2}, "thisUpdate is later"),
        ({"next_update": NOW - HOUR}, "nextUpdate"),
    ],
)
def test_an_incomplete_or_untimely_status_is_refused(changes, why) -> None:
    with pytest.raises(Invalid, match=why):
        _response(a_root(), [_status(_cert_id(), "revoked", **changes)])


def test_no_response_is_made_without_an_answer_or_with_a_stale_responder() -> None:
    with pytest.raises(Invalid, match="no single response"):
        _response(a_root(), [])
    late = NOW + timedelta(days=100)
    status = _status(_cert_id(), this_update=late, next_update=late + HOUR)
    with pytest.raises(Invalid, match="not valid at producedAt"):
        _response(a_root(), [status], produced_at=late)


def test_the_responders_certificate_must_be_the_signers() -> None:
    certificate, _ = a_responder(a_root())
    with pytest.raises(Invalid, match="for another key"):
        ocsp.build(
            [_status(_cert_id())],
            certificate,
            signer=KeySigner(a_key(number=6)),
            produced_at=NOW,
            nonce=None,
            shape="other",
        )


def test_a_responder_is_named_by_its_key() -> None:
    signer = KeySigner(a_key())
    data = der.sequence(
        der.explicit(2, der.octets(b"x" * 20)),
        der.generalized_time(NOW),
        der.sequence(),
    )
    with pytest.raises(Invalid, match="hash of its key"):
        lint.check_ocsp(data, signer.public_key, responder_der=None, shape="x")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("malformedRequest", "malformedrequest (1)"),
        ("internalError", "internalerror (2)"),
        ("tryLater", "trylater (3)"),
        ("unauthorized", "unauthorized (6)"),
    ],
)
def test_errors_are_the_status_and_nothing_else(status, words, tmp_path) -> None:
    (tmp_path / "e.der").write_bytes(ocsp.error_response(status))
    said = openssl("ocsp", "-respin", tmp_path / "e.der", "-resp_text", "-noverify").stdout
    assert words in said
    assert lint.pkilint_findings("ocsp", ocsp.error_response(status)) == []
