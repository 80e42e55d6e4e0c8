"""Nothing is signed unexamined: every rule refuses what it is for, and pkilint has its say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from pkilint.report import get_included_validations

from certctl.domain.errors import Invalid
from certctl.domain.names import Name, NameKind
from certctl.pki import der, keys, lint, x509
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.lint import judge, waivable
from certctl.pki.parts import Parts, tbs_parts
from certctl.pki.policies import ANY_POLICY, policies_extension
from tests.pki.made import CA, NOW, YEAR, a_ca_template, a_key, a_root, a_template, names

DNS = NameKind.DNS


def _check(tbs: bytes, *, ca: CA | None = None, shape: object = "lint") -> lint.Linted:
    ca = ca or a_root()
    return lint.check_certificate(tbs, ca.key.public_key(), issuer_der=ca.der, shape=shape)


def _tbs(**changes: Any) -> bytes:
    ca = a_root()
    return x509.draft(a_template(**changes), ca.der, ca.key.public_key())


def _parts(change: Callable[[Parts], Parts]) -> bytes:
    return change(tbs_parts(_tbs())).tbs()


def _extended(*extensions: tuple[cx509.ExtensionType, bool], **kinds: Any) -> bytes:
    """The usual leaf, its extensions of the same kind replaced by these."""
    return _rebuilt(a_template(**kinds), *extensions)


def _rebuilt(template: x509.Template, *extensions: tuple[cx509.ExtensionType, bool]) -> bytes:
    stand_in = x509.draft(template, a_root().der, a_key().public_key())
    whole = der.assemble(stand_in, keys.signature_algorithm_der(a_key().public_key()), b"\0" * 64)
    leaf = cx509.load_der_x509_certificate(whole)
    replaced = {value.oid for value, _ in extensions}
    kept = [(e.value, e.critical) for e in leaf.extensions if e.oid not in replaced]
    builder = (
        cx509.CertificateBuilder()
        .serial_number(leaf.serial_number)
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(leaf.public_key())
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for value, critical in (*kept, *extensions):
        builder = builder.add_extension(value, critical)
    return builder.sign(a_key(), hashes.SHA256()).tbs_certificate_bytes


def _usage(*on: str) -> cx509.KeyUsage:
    bits = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return cx509.KeyUsage(**{bit: bit in on for bit in bits.split()})


def _access(url: str) -> cx509.AuthorityInformationAccess:
    uri = cx509.UniformResourceIdentifier(url)
    return cx509.AuthorityInformationAccess(
        [cx509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri)]
    )


def _policies(*oids: str) -> cx509.CertificatePolicies:
    return policies_extension(oids, "")


def _named(*values: str, kind: NameKind = DNS) -> bytes:
    return _tbs(names=tuple(Name(kind, value) for value in values), subject_cn=None)


WEAK = rsa.RSAPublicNumbers(65537, (1 << 1023) | 1).public_key()
SHORT_ID = cx509.SubjectKeyIdentifier(b"1234")
SILENT = cx509.UnrecognizedExtension(cx509.ObjectIdentifier("2.5.29.56"), b"\x05\x00")
NO_CHECK = cx509.OCSPNoCheck()
RESPONDER = {"kind": "ocsp_responder", "names": (), "subject_cn": "OCSP"}
SERVER_TOO = cx509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.OCSP_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]
)


def test_the_usual_leaf_passes() -> None:
    tbs = _tbs()
    linted = _check(tbs)
    assert (linted.tbs, linted.key_sha256) == (tbs, keys.spki_sha256(a_key().public_key()))
    assert linted.algorithm_der == keys.signature_algorithm_der(a_key().public_key())
    assert _check(_extended())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _parts(lambda p: replace(p, serial=der.integer(0))), "not positive"),
        (lambda: _parts(lambda p: replace(p, serial=der.integer(-1))), "not positive"),
        (lambda: _parts(lambda p: replace(p, serial=der.integer(1 << 159))), "20 octets"),
        (lambda: _tbs(serial=int(x509.facts(a_root().der).serial, 16)), "that of the issuer"),
        (lambda: _tbs(not_before=NOW, not_after=NOW), "not later than notBefore"),
        (lambda: _tbs(not_after=NOW + 11 * YEAR), "beyond the issuer's"),
        (
            lambda: _parts(
                lambda p: replace(
                    p,
                    algorithm=keys.signature_algorithm_der(
                        a_key(KeyAlgorithm.ED25519).public_key()
                    ),
                )
            ),
            "not that of the issuer's key",
        ),
        (lambda: _parts(lambda p: replace(p, issuer=p.subject)), "byte for byte"),
        (lambda: _tbs(public_key=WEAK), "1024 bits"),
        (lambda: _extended((SHORT_ID, False)), "whole SHA-1"),
        (
            lambda: _extended((cx509.AuthorityKeyIdentifier(b"1" * 20, None, None), False)),
            "authority key identifier",
        ),
        (lambda: _tbs(ocsp_url="https://pki.example/ocsp"), "plain http"),
        (lambda: _tbs(ca_issuers_url="ldap://pki.example/ca"), "plain http"),
        (lambda: _tbs(crl_url="http:///crl"), "plain http"),
        (lambda: _tbs(crl_url="http://pki.example:x/crl"), "plain http"),
        (lambda: _extended((_usage("digital_signature"), False)), "not critical"),
        (lambda: _extended((_usage("key_agreement"), True)), "digitalSignature"),
        (lambda: _extended((_usage("digital_signature", "key_cert_sign"), True)), "only a CA"),
        (lambda: _extended((_usage("digital_signature", "crl_sign"), True)), "only a CA"),
        (lambda: _extended((NO_CHECK, False)), "without OCSPSigning"),
        (lambda: _tbs(ekus=("OCSPSigning",)), "needs ocsp-nocheck"),
        (lambda: _extended((SERVER_TOO, False), **RESPONDER), "OCSPSigning alone"),
        (lambda: _extended((_access("http://x.example"), False), **RESPONDER), "not to be asked"),
        (lambda: _extended((_policies("1.2.3"), True)), "policies are critical"),
        (lambda: _extended((_policies("1.2.3", "1.2.3"), False)), "one is there twice"),
        (lambda: _tbs(policies=(ANY_POLICY,)), "only a CA asserts any policy"),
        (
            lambda: _extended((cx509.TLSFeature([cx509.TLSFeatureType.status_request_v2]), False)),
            "TLS feature",
        ),
        (lambda: _extended((SILENT, False)), "noRevAvail"),  # it has a CDP and an OCSP address
        (lambda: _extended((SILENT, True), ocsp_url=None, crl_url=None), "noRevAvail"),
        (lambda: _tbs(names=()), "needs subject alternative names"),
        (lambda: _tbs(subject_cn="b.example"), "not among the subject alternative names"),
        (lambda: _named("A.example"), "canonical form"),
        (lambda: _named("a.example."), "canonical form"),
        (lambda: _named("a_b.example"), "not a DNS name"),
        (lambda: _named("-a.example"), "not a DNS name"),
        (lambda: _named("a..example"), "not a DNS name"),
        (lambda: _named("a.*.example"), "first label"),
        (lambda: _named("*"), "first label"),
        (lambda: _named("w*.a.example"), "first label"),
        (lambda: _named("10.0.0.1"), "IP address"),
        (lambda: _named("xn--99zzzz999999999.example"), "A-label"),
        (lambda: _named("xn--abc-.example"), "not a DNS name"),
        (lambda: _named("a.example", "a.example"), "one name twice"),
        (lambda: _named("nobody", kind=NameKind.EMAIL), "kind email"),
        (lambda: _named("nowhere", kind=NameKind.URI), "kind uri"),
        (
            lambda: _extended((cx509.SubjectAlternativeName([cx509.DNSName("a.example")]), True)),
            "critical exactly when",
        ),
        (
            lambda: _extended((cx509.SubjectAlternativeName([cx509.RegisteredID(DNS_ID)]), False)),
            "RegisteredID",
        ),
        (
            lambda: _extended((cx509.NameConstraints([cx509.DNSName("x.example")], None), True)),
            "only in a CA's certificate",
        ),
        (lambda: b"\x30\x03\x02\x01\x05", "version 3"),
        (lambda: b"nonsense", "ASN.1"),
    ],
)
def test_each_broken_rule_refuses_in_words(make: Callable[[], bytes], why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        _check(make())
    assert caught.value.field is None


DNS_ID = cx509.ObjectIdentifier("1.2.3.4")


@pytest.mark.parametrize(
    "texts",
    [
        ("host",),
        ("localhost", "127.0.0.1", "::1"),
        ("*.a.example", "a.example"),
        ("xn--bcher-kva.example",),
        ("root@localhost",),
        ("spiffe://cluster.local/ns/a/sa/b",),
        ("http://localhost:8080/x",),
    ],
)
def test_names_of_private_networks_pass(texts: tuple[str, ...]) -> None:
    assert _check(_tbs(names=names(*texts), subject_cn=None)).tbs


@pytest.mark.parametrize("url", ["http://localhost:8889/ocsp", "http://[::1]:80/x", "http://pki/x"])
def test_addresses_of_private_networks_pass(url: str) -> None:
    assert _check(_tbs(ocsp_url=url, ca_issuers_url=url, crl_url=url)).tbs


def test_every_broken_rule_is_listed() -> None:
    with pytest.raises(Invalid) as caught:
        _check(_tbs(subject_cn="b.example", names=(), ocsp_url="https://x.example"))
    assert caught.value.message.count(";") == 2


def test_only_a_ca_can_issue() -> None:
    leaf = CA(a_key(number=1), a_root().issue(a_template()))
    with pytest.raises(Invalid, match="not for signing certificates"):
        leaf.linted(a_template(not_after=NOW + timedelta(days=1)))


def test_the_issuers_certificate_must_be_for_the_issuers_key() -> None:
    mixed = CA(a_key(number=3), a_root().der)
    with pytest.raises(Invalid, match="for another key"):
        mixed.linted(a_template())


def test_only_a_ca_signs_itself() -> None:
    key = a_key(number=1)
    tbs = x509.draft(a_template(), None, key.public_key())
    with pytest.raises(Invalid, match="only a CA signs itself"):
        lint.check_certificate(tbs, key.public_key(), issuer_der=None, shape="self")


def test_a_path_length_leaves_room_for_fewer_below() -> None:
    middle = a_root().sub_ca(KeyAlgorithm.ECDSA_P256)
    for length in (None, 0, 1):
        with pytest.raises(Invalid, match="path length"):
            middle.linted(a_ca_template(a_key(number=8), not_after=NOW + YEAR, path_length=length))


@pytest.mark.parametrize(
    ("extension", "why"),
    [
        ((cx509.BasicConstraints(ca=True, path_length=None), False), "critical basic"),
        ((_usage("key_cert_sign", "crl_sign"), False), "critical key usage"),
        ((_usage("key_cert_sign"), True), "keyCertSign and cRLSign"),
        ((_usage("crl_sign"), True), "keyCertSign and cRLSign"),
        ((cx509.TLSFeature([cx509.TLSFeatureType.status_request]), False), "in a CA's certificate"),
    ],
)
def test_a_ca_needs_critical_constraints_and_both_usages(extension: Any, why: str) -> None:
    template = a_ca_template(a_key(number=8), not_after=NOW + YEAR)
    assert _check(_rebuilt(template))
    with pytest.raises(Invalid, match=why):
        _check(_rebuilt(template, extension))


def test_linted_cannot_be_made_elsewhere() -> None:
    linted = _check(_tbs())
    evil = _tbs(serial=5)
    arguments = (evil, linted.algorithm_der, linted.key_sha256)
    for seal in (None, object(), linted):
        with pytest.raises(TypeError, match=r"certctl\.pki\.lint alone"):
            lint.Linted(*arguments, seal)
    with pytest.raises(TypeError):
        lint.Linted(*arguments)
    with pytest.raises((ValueError, TypeError)):
        replace(linted, tbs=evil)
    with pytest.raises(AttributeError):
        linted.tbs = evil
    assert copy.copy(linted) == linted


def test_pkilint_refuses_what_our_rules_do_not_look_at() -> None:
    _check(_tbs(), shape="seen")
    for tbs in (
        _extended((_access("http://x.example"), True)),
        _extended((cx509.InhibitAnyPolicy(1), True)),
    ):
        with pytest.raises(Invalid, match=r"lint refuses the certificate: pkix\.[a-z_]+"):
            _check(tbs, shape="seen")


def test_a_clean_shape_is_not_judged_again_and_a_bad_one_is() -> None:
    good, bad = a_root().der, b"\x30\x03\x02\x01\x05"
    asked: list[bytes] = []

    def document(content: bytes) -> Callable[[], bytes]:
        return lambda: asked.append(content) or content

    for _ in range(3):
        judge.require_clean("certificate", "a good shape", document(good))
        with pytest.raises(Invalid, match="undecodable"):
            judge.require_clean("certificate", "a bad shape", document(bad))
    judge.require_clean("certificate", "a bad shape", document(good))
    assert (asked.count(good), asked.count(bad)) == (2, 3)


def test_the_verdicts_kept_are_bounded() -> None:
    asked: list[int] = []
    der_of_root = a_root().der
    judge.require_clean("certificate", ("bound", 0), lambda: der_of_root)
    for number in range(1, judge.MAX_SHAPES + 1):
        judge._clean[("certificate", ("bound", number))] = None
    judge.require_clean("certificate", ("bound", "last"), lambda: der_of_root)
    assert len(judge._clean) == judge.MAX_SHAPES
    judge.require_clean(
        "certificate",
        ("bound", 0),
        lambda: asked.append(1) or der_of_root,
    )
    assert asked == [1]


NOT_CRITICAL = "pkix.extended_key_usage_extension_with_timestamping_not_critical"
CRITICAL_AIA = "pkix.authority_information_access_extension_critical"
STAMPING = {"ekus": ("serverAuth", "timeStamping")}


def test_what_may_be_waived_is_what_pkilint_can_find() -> None:
    known = {each.code for each in get_included_validations(judge._certificate_validators())}
    assert known >= waivable.WAIVABLE
    assert known - waivable.WAIVABLE >= {
        "itu.invalid_asn1_syntax",
        "pkix.certificate_serial_number_out_of_range",
        "pkix.certificate_signature_algorithm_mismatch",
        "pkix.ee_certificate_keycertsign_keyusage_set",
        "pkix.san_extension_not_critical_empty_subject",
    }


def _waived(tbs: bytes, *codes: str) -> tuple[str, ...]:
    ca = a_root()
    return lint.check_certificate(
        tbs, ca.key.public_key(), issuer_der=ca.der, shape=tbs, waived=codes
    ).passed_over


def test_a_waived_code_passes_and_is_named_and_no_other() -> None:
    assert _waived(_tbs(**STAMPING), CRITICAL_AIA, NOT_CRITICAL) == (NOT_CRITICAL,)
    assert _waived(_tbs(), NOT_CRITICAL) == ()
    with pytest.raises(Invalid, match=NOT_CRITICAL):
        _waived(_tbs(**STAMPING), CRITICAL_AIA)
    both = _extended((_access("http://x.example"), True), **STAMPING)
    with pytest.raises(Invalid, match=f"certificate: {CRITICAL_AIA}$"):
        _waived(both, NOT_CRITICAL)


def test_what_was_passed_over_is_found_again_without_the_waiver() -> None:
    tbs = _tbs(**STAMPING)
    for _ in range(2):
        assert _waived(tbs, NOT_CRITICAL) == (NOT_CRITICAL,)
        with pytest.raises(Invalid, match=NOT_CRITICAL):
            _waived(tbs)


def test_neither_our_own_rules_nor_what_keeps_relying_parties_safe_can_be_waived() -> None:
    inhibit = _extended((cx509.InhibitAnyPolicy(1), True))
    code = "pkix.end_entity_inhibit_anypolicy_extension_present"
    with pytest.raises(Invalid, match=code):
        _waived(inhibit, code)
    weak = _tbs(public_key=WEAK)
    with pytest.raises(Invalid, match="1024 bits"):
        _waived(weak, *waivable.WAIVABLE)


@pytest.mark.parametrize("kind", ["certificate", "crl", "ocsp"])
def test_what_pkilint_cannot_decode_is_a_finding(kind: Any) -> None:
    assert lint.pkilint_findings(kind, b"\x30\x03\x02\x01\x05") == ["undecodable"]
    assert lint.pkilint_findings(kind, b"") == ["undecodable"]
