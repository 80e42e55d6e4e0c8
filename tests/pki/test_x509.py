"""Certificates from template to bytes, judged by openssl and pkilint; facts back from bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as cx509
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Invalid, Refused, Unavailable
from certctl.domain.names import Name, NameKind
from certctl.pki import der, keys, lint, x509
from certctl.pki.keys import KeyAlgorithm, KeySigner
from certctl.pki.parts import certificate_parts, tbs_parts
from tests.pki.made import (
    CA,
    NOW,
    OPENSSL_KNOWS,
    YEAR,
    a_ca_template,
    a_key,
    a_responder,
    a_root,
    a_template,
    names,
    openssl,
)

DAY = timedelta(days=1)
PRINTABLE_NAME = der.sequence(
    der.tlv(der.SET, der.sequence(der.oid("2.5.4.3"), der.tlv(0x13, b"Old Printable CA")))
)


def test_facts_say_what_the_template_said() -> None:
    wanted = names("a.example", "*.a.example", "10.0.0.1", "::1", "ops@a.example", "spiffe://a/b")
    template = a_template(
        serial=0xAB01, organization="Example", names=wanted, must_staple=True, ekus=("serverAuth",)
    )
    found = x509.facts(a_root().issue(template))
    assert (found.serial, found.subject_cn) == ("ab01", "a.example")
    assert (found.subject, found.issuer) == ("CN=a.example,O=Example", "CN=Test Root,O=Example")
    assert (found.not_before, found.not_after) == (template.not_before, template.not_after)
    assert found.names == wanted
    assert found.spki_sha256 == keys.spki_sha256(template.public_key)
    assert found.key == keys.KeyFacts("ECDSA", 256)
    assert not found.is_ca
    assert found.ocsp_urls == (template.ocsp_url,)
    assert found.ca_issuer_urls == (template.ca_issuers_url,)
    assert found.crl_urls == (template.crl_url,)
    assert found.ekus == ("serverAuth",)
    assert found.must_staple
    assert x509.facts(a_root().der).is_ca


def test_openssl_prints_the_same_fingerprint(tmp_path) -> None:
    leaf = a_root().issue(a_template())
    (tmp_path / "c.pem").write_text(x509.pem(leaf))
    said = openssl("x509", "-in", tmp_path / "c.pem", "-noout", "-fingerprint", "-sha256").stdout
    digits = said.partition("=")[2].strip().replace(":", "").lower()
    assert x509.facts(leaf).fingerprint_sha256 == digits


@pytest.mark.parametrize("leaf_algorithm", OPENSSL_KNOWS)
@pytest.mark.parametrize(
    "ca_algorithm",
    [a for a in OPENSSL_KNOWS if a not in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)],
)
def test_openssl_verifies_a_chain_of_every_algorithm(
    ca_algorithm, leaf_algorithm, tmp_path
) -> None:
    root = a_root(ca_algorithm)
    middle = root.sub_ca(ca_algorithm)
    leaf = middle.issue(a_template(public_key=a_key(leaf_algorithm, 1).public_key()))
    for name, one in (("root", root.der), ("middle", middle.der), ("leaf", leaf)):
        (tmp_path / f"{name}.pem").write_text(x509.pem(one))
        assert lint.pkilint_findings("certificate", one) == []
    said = openssl(
        "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "a.example",
        "-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "middle.pem",
        tmp_path / "leaf.pem",
    )  # fmt: skip
    assert said.stdout.endswith("leaf.pem: OK\n")


def test_openssl_reads_the_extensions_that_were_meant(tmp_path) -> None:
    (tmp_path / "c.pem").write_text(x509.pem(a_root().issue(a_template(must_staple=True))))
    said = openssl("x509", "-in", tmp_path / "c.pem", "-noout", "-text").stdout
    lines = [line.strip() for line in said.splitlines()]
    key_id = keys.key_identifier(a_key(number=1).public_key()).hex(":").upper()
    root_id = keys.key_identifier(a_key().public_key()).hex(":").upper()
    for after, line in (
        ("X509v3 Basic Constraints: critical", "CA:FALSE"),
        ("X509v3 Key Usage: critical", "Digital Signature"),
        (
            "X509v3 Extended Key Usage:",
            "TLS Web Server Authentication, TLS Web Client Authentication",
        ),
        ("X509v3 Subject Key Identifier:", key_id),
        ("X509v3 Authority Key Identifier:", root_id),
        ("X509v3 Subject Alternative Name:", "DNS:a.example"),
        ("TLS Feature:", "status_request"),
    ):
        assert lines[lines.index(after) + 1] == line
    assert "OCSP - URI:http://pki.example/ocsp/iss-1" in lines
    assert "CA Issuers - URI:http://pki.example/ca/ica-1.cer" in lines
    assert "URI:http://pki.example/crl/iss-1" in lines


@pytest.mark.parametrize(
    ("algorithm", "usage"),
    [
        (KeyAlgorithm.ECDSA_P256, "Digital Signature"),
        (KeyAlgorithm.RSA_2048, "Digital Signature, Key Encipherment"),
        (KeyAlgorithm.ED25519, "Digital Signature"),
    ],
)
def test_only_rsa_leaves_may_encipher_keys(algorithm, usage, tmp_path) -> None:
    leaf = a_root().issue(a_template(public_key=a_key(algorithm, 1).public_key()))
    (tmp_path / "c.pem").write_text(x509.pem(leaf))
    said = openssl("x509", "-in", tmp_path / "c.pem", "-noout", "-ext", "keyUsage").stdout
    assert said.splitlines()[1].strip() == usage


def test_openssl_takes_a_time_stamping_certificate_whose_only_usage_is_critical(tmp_path) -> None:
    leaf = a_root().issue(a_template(ekus=("timeStamping",)))
    assert lint.pkilint_findings("certificate", leaf) == []
    (tmp_path / "root.pem").write_text(x509.pem(a_root().der))
    (tmp_path / "tsa.pem").write_text(x509.pem(leaf))
    said = openssl(
        "verify", "-x509_strict", "-purpose", "timestampsign",
        "-CAfile", tmp_path / "root.pem", tmp_path / "tsa.pem",
    )  # fmt: skip
    assert said.stdout.endswith("tsa.pem: OK\n")


def test_a_responder_is_only_a_responder(tmp_path) -> None:
    responder, _ = a_responder(a_root())
    found = x509.facts(responder)
    assert (found.ekus, found.ocsp_urls, found.crl_urls) == (("OCSPSigning",), (), ())
    assert cx509.load_der_x509_certificate(responder).extensions.get_extension_for_class(
        cx509.OCSPNoCheck
    )
    assert lint.pkilint_findings("certificate", responder) == []
    (tmp_path / "root.pem").write_text(x509.pem(a_root().der))
    (tmp_path / "responder.pem").write_text(x509.pem(responder))
    said = openssl(
        "verify", "-x509_strict", "-purpose", "ocsphelper",
        "-CAfile", tmp_path / "root.pem", tmp_path / "responder.pem",
    )  # fmt: skip
    assert said.stdout.endswith("responder.pem: OK\n")


@pytest.mark.parametrize(
    ("cn", "critical"), [("a.example", False), ("a" * 60 + ".example", True), (None, True)]
)
def test_a_long_common_name_is_left_out_and_then_the_names_are_critical(cn, critical) -> None:
    """X.520 allows 64 characters; RFC 5280 §4.2.1.6 asks for criticality without a subject."""
    wanted = names(*filter(None, {"a.example", cn}))
    leaf = a_root().issue(a_template(subject_cn=cn, names=wanted))
    extension = cx509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(
        cx509.SubjectAlternativeName
    )
    assert x509.facts(leaf).subject_cn == (None if critical else cn)
    assert extension.critical == critical
    assert lint.pkilint_findings("certificate", leaf) == []


HOSTS = st.from_regex(r"(\*\.)?[a-z]{1,8}(-[a-z0-9]{1,5})?\.[a-z]{2,6}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
EMAILS = st.from_regex(r"[a-z0-9.]{0,5}[a-z]@[a-z]{1,8}\.test", fullmatch=True).filter(
    lambda text: not text.startswith(".") and ".." not in text
)
URIS = st.from_regex(r"(spiffe|https)://[a-z]{1,8}(/[a-z]{1,4}){0,3}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(HOSTS | ADDRESSES | EMAILS | URIS, min_size=1, max_size=6, unique=True))
def test_the_issued_names_are_exactly_the_approved_ones(texts: list[str]) -> None:
    approved = tuple(dict.fromkeys(names(*texts)))
    leaf = a_root().issue(a_template(subject_cn=None, names=approved))
    assert x509.facts(leaf).names == approved


def test_resuming_a_draft_with_the_same_p256_key_gives_the_same_bytes() -> None:
    ca, template = a_root(), a_template()
    tbs = x509.draft(template, ca.der, ca.key.public_key())
    stored = bytes(tbs)
    made = []
    for key in (ca.key, keys.load_pem(keys.to_pem(ca.key))):
        linted = lint.check_certificate(stored, key.public_key(), issuer_der=ca.der, shape="resume")
        made.append(x509.sign(linted, KeySigner(key)))
    assert made[0] == made[1]
    assert x509.draft(template, ca.der, ca.key.public_key()) == tbs


@dataclass(frozen=True)
class Lying:
    """A signer that signs something else."""

    key: keys.PrivateKey

    @property
    def public_key(self) -> keys.PublicKey:
        return self.key.public_key()

    def sign(self, data: bytes) -> bytes:
        return KeySigner(self.key).sign(data + b"!")


def test_a_signature_that_does_not_verify_never_leaves() -> None:
    ca = a_root()
    with pytest.raises(Unavailable):
        x509.sign(ca.linted(a_template()), Lying(ca.key))


def test_another_key_than_the_issuers_does_not_get_to_sign() -> None:
    with pytest.raises(Refused):
        x509.sign(a_root().linted(a_template()), KeySigner(a_key(number=3)))


def _foreign_root(subject: bytes) -> CA:
    """A root whose subject is encoded as `subject`, whatever our builder would have written."""
    key = a_key(number=7)
    parts = tbs_parts(x509.draft(a_ca_template(key), None, key.public_key()))
    tbs = replace(parts, issuer=subject, subject=subject).tbs()
    algorithm = keys.signature_algorithm_der(key.public_key())
    return CA(key, der.assemble(tbs, algorithm, KeySigner(key).sign(tbs)))


def test_the_issuer_is_named_byte_for_byte_as_it_names_itself(tmp_path) -> None:
    ca = _foreign_root(PRINTABLE_NAME)
    leaf = ca.issue(a_template())
    assert certificate_parts(leaf).issuer == PRINTABLE_NAME
    (tmp_path / "ca.pem").write_text(x509.pem(ca.der))
    (tmp_path / "leaf.pem").write_text(x509.pem(leaf))
    said = openssl("verify", "-CAfile", tmp_path / "ca.pem", tmp_path / "leaf.pem").stdout
    assert said.endswith("leaf.pem: OK\n")


def test_a_ca_without_a_subject_or_a_strange_usage_is_refused() -> None:
    public = a_key().public_key()
    bare = a_ca_template(a_key(), subject_cn=None, organization=None)
    with pytest.raises(Invalid, match="a CA needs a subject"):
        lint.check_certificate(
            x509.draft(bare, None, public), public, issuer_der=None, shape="bare"
        )
    with pytest.raises(Invalid) as caught:
        a_root().issue(a_template(ekus=("flying",)))
    assert caught.value.field == "ekus"


@pytest.mark.parametrize("serial", [0, -1, 1 << 160])
def test_a_template_that_no_certificate_can_hold_is_invalid(serial: int) -> None:
    with pytest.raises(Invalid, match="no certificate can be made"):
        x509.draft(a_template(serial=serial), a_root().der, a_key().public_key())


@pytest.mark.parametrize(
    ("lifetime", "limit", "ends"),
    [
        (90 * DAY, None, datetime(2030, 3, 31, 23, 54, 59, tzinfo=UTC)),
        (timedelta(hours=1), None, datetime(2030, 1, 1, 0, 54, 59, tzinfo=UTC)),
        (90 * DAY, datetime(2030, 1, 3, tzinfo=UTC), datetime(2030, 1, 3, tzinfo=UTC)),
        (DAY, datetime(2040, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, 23, 54, 59, tzinfo=UTC)),
        (timedelta(days=1, microseconds=5), None, datetime(2030, 1, 1, 23, 54, 59, tzinfo=UTC)),
    ],
)
def test_the_final_second_counts_and_the_issuer_ends_it(lifetime, limit, ends) -> None:
    now = datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    not_before, not_after = x509.validity(now, lifetime, not_after_limit=limit)
    assert not_before == datetime(2029, 12, 31, 23, 55, tzinfo=UTC)
    assert not_after == ends
    assert not_after - not_before + timedelta(seconds=1) <= lifetime


@pytest.mark.parametrize(
    ("lifetime", "limit"), [(timedelta(minutes=5), None), (90 * DAY, NOW - DAY), (-DAY, None)]
)
def test_a_certificate_that_would_be_over_already_is_refused(lifetime, limit) -> None:
    with pytest.raises(Invalid, match="would have ended"):
        x509.validity(NOW, lifetime, not_after_limit=limit)


def test_pem_chains_come_back_in_order_with_words_between_them() -> None:
    chain = [a_root().issue(a_template()), a_root().der]
    text = x509.chain_pem(chain)
    assert x509.ders_of_pem(text) == chain
    assert x509.ders_of_pem("subject=CN = a\n" + text.replace("\n", "\r\n")) == chain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nM!!A\n-----END CERTIFICATE-----\n",
        "{good}-----BEGIN CERTIFICATE-----\n",
        "{good}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\n{good}",
    ],
)
def test_other_text_than_certificates_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        x509.ders_of_pem(text.replace("{good}", x509.pem(a_root().der)))


def test_facts_keep_foreign_names_that_we_would_not_issue() -> None:
    ca = a_root()
    template = a_template(names=(Name(NameKind.DNS, "Under_Score.example"),), subject_cn=None)
    tbs = x509.draft(template, ca.der, ca.key.public_key())
    algorithm = keys.signature_algorithm_der(ca.key.public_key())
    found = x509.facts(der.assemble(tbs, algorithm, b"\0" * 64))
    assert found.names == (Name(NameKind.DNS, "under_score.example"),)


def test_a_certificate_with_a_negative_serial_is_refused_in_words() -> None:
    parts = certificate_parts(a_root().der)
    tbs = replace(parts, serial=der.integer(-5)).tbs()
    whole = der.assemble(tbs, parts.algorithm, b"\0" * 64)
    with pytest.raises(Invalid, match="not positive"):
        x509.facts(whole)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_facts_of_damaged_bytes_are_facts_or_invalid(data) -> None:
    damaged = bytearray(a_root().issue(a_template(serial=5, must_staple=True)))
    at = data.draw(st.integers(0, len(damaged) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=4))
    damaged[at : at + len(piece)] = piece
    try:
        found = x509.facts(bytes(damaged))
    except Invalid:
        return
    assert found.fingerprint_sha256 != x509.facts(a_root().der).fingerprint_sha256


def test_a_root_outlives_what_it_issues() -> None:
    root = x509.facts(a_root().der)
    assert root.not_after - root.not_before + timedelta(seconds=1) == 10 * YEAR
