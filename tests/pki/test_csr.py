"""Requests: what they may carry, what they may not, and that they decide no name."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.pki import keys, x509
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.x509.armour import block
from tests.pki.made import a_csr, a_key, a_root, a_template, cn, names, openssl

DNS, IP = cx509.DNSName, cx509.IPAddress
EMAIL, URI = cx509.RFC822Name, cx509.UniformResourceIdentifier
HOST = DNS("a.example")


E = 65537


def _csr_der(text: str) -> bytes:
    return cx509.load_pem_x509_csr(text.encode()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_a_request_of_every_algorithm_gives_its_key_and_names(algorithm) -> None:
    key = a_key(algorithm, 1)
    sans = (HOST, IP(ipaddress.ip_address("10.0.0.1")), EMAIL("o@a.example"), URI("spiffe://a/b"))
    csr = x509.read_csr(a_csr(*sans, key=key, subject=cn("a.example")))
    assert csr.public_key == key.public_key()
    assert csr.key == keys.key_facts(key.public_key())
    assert csr.spki_sha256 == keys.spki_sha256(key.public_key())
    assert csr.common_name == "a.example"
    assert csr.names == names("a.example", "10.0.0.1", "o@a.example", "spiffe://a/b")
    assert not csr.has_other_names


def test_a_request_made_by_openssl_is_read(tmp_path) -> None:
    openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Example/CN=A.example",
        "-addext", "subjectAltName=DNS:A.example,IP:10.0.0.1",
        "-keyout", tmp_path / "k.pem", "-out", tmp_path / "r.pem",
    )  # fmt: skip
    csr = x509.read_csr((tmp_path / "r.pem").read_text())
    assert csr.names == names("a.example", "10.0.0.1")
    assert (csr.common_name, csr.has_other_names) == ("A.example", True)
    x509.check_csr_names(csr, names("a.example", "10.0.0.1"), None)


def test_a_request_without_names_brings_only_a_key() -> None:
    csr = x509.read_csr(a_csr())
    assert (csr.common_name, csr.names) == (None, ())
    x509.check_csr_names(csr, names("a.example"), "a.example")


def _tampered() -> str:
    der = bytearray(_csr_der(a_csr(HOST)))
    at = der.index(b"a.example")
    der[at] = ord("b")
    return block(bytes(der), label="CERTIFICATE REQUEST")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: "", "exactly one"),
        (lambda: a_csr(HOST) * 2, "exactly one"),
        (lambda: x509.pem(a_root().der), "unexpected PEM block"),
        (lambda: keys.to_pem(a_key()) + a_csr(HOST), "unexpected PEM block"),
        (lambda: a_csr(HOST) + " " * 65536, "64 KiB"),
        (lambda: a_csr(HOST)[:-30], "damaged"),
        (_tampered, "not signed by the key"),
        (lambda: a_csr(HOST, key=rsa.generate_private_key(E, 1024)), "1024 bits"),
        (lambda: a_csr(HOST, key=ec.generate_private_key(ec.SECP521R1())), "secp521r1"),
        (lambda: a_csr(cx509.RegisteredID(NameOID.COMMON_NAME)), "RegisteredID"),
        (lambda: a_csr(cx509.DirectoryName(cx509.Name([]))), "DirectoryName"),
        (lambda: a_csr(cx509.OtherName(NameOID.COMMON_NAME, b"\x05\x00")), "OtherName"),
        (lambda: a_csr(DNS("a_b.example")), "not a DNS name"),
        (lambda: a_csr(DNS("10.0.0.1")), "IP address"),
        (lambda: a_csr(DNS("a.*.example")), "first label"),
        (lambda: a_csr(URI("a.example")), "not of kind uri"),
        (lambda: a_csr(EMAIL("a.example")), "not of kind email"),
        (lambda: a_csr(*(DNS(f"h{n}.example") for n in range(101))), "more than 100"),
        (lambda: a_csr(subject=cn("a.example") * 2), "more than one common name"),
    ],
)
def test_a_bad_request_is_refused_in_a_sentence_that_names_the_field(make, why) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        x509.read_csr(make())
    assert caught.value.field == "csr_pem"


@pytest.mark.parametrize(
    ("sans", "common_name", "foreign"),
    [
        ((HOST, DNS("evil.example")), "a.example", "evil.example"),
        ((HOST, IP(ipaddress.ip_address("10.0.0.9"))), "a.example", "10.0.0.9"),
        ((HOST, EMAIL("root@evil.example")), "a.example", "root@evil.example"),
        ((HOST, URI("spiffe://evil/x")), "a.example", "spiffe://evil/x"),
        ((DNS("*.a.example"),), "a.example", "*.a.example"),
        ((HOST,), "evil.example", "evil.example"),
        ((HOST,), "Alice", "Alice"),
    ],
)
def test_a_request_with_a_foreign_name_is_refused_and_the_name_named(
    sans, common_name, foreign
) -> None:
    csr = x509.read_csr(a_csr(*sans, subject=cn(common_name)))
    with pytest.raises(Invalid) as caught:
        x509.check_csr_names(csr, names("a.example", "b.example"), "a.example")
    assert caught.value.field == "csr_pem"
    assert caught.value.message.endswith(f"not approved: {foreign}")


@pytest.mark.parametrize(
    ("sans", "common_name"),
    [((), ""), ((), "b.example"), ((HOST,), "A.EXAMPLE"), ((HOST, DNS("B.example")), "Fleet One")],
)
def test_a_request_may_ask_for_less_than_was_approved(sans, common_name) -> None:
    subject = cn(common_name) if common_name else ()
    csr = x509.read_csr(a_csr(*sans, subject=subject))
    x509.check_csr_names(csr, names("a.example", "b.example"), "Fleet One")


def test_whatever_the_request_says_the_approved_names_are_issued() -> None:
    subject = (*cn("b.example"), (NameOID.ORGANIZATION_NAME, "Evil"))
    csr = x509.read_csr(a_csr(DNS("b.example"), subject=subject))
    approved = names("a.example", "b.example")
    x509.check_csr_names(csr, approved, "a.example")
    issued = x509.facts(a_root().issue(a_template(names=approved, public_key=csr.public_key)))
    assert issued.names == approved
    assert issued.subject == "CN=a.example"
    assert issued.spki_sha256 == csr.spki_sha256


def _field_of_refusal(read, given) -> str:
    """The field that a refusal names; `csr_pem` too for a request that is read."""
    try:
        read(given)
    except Invalid as refused:
        return str(refused.field)
    return "csr_pem"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.binary(max_size=300))
def test_arbitrary_input_raises_nothing_but_invalid(text: str, data: bytes) -> None:
    assert _field_of_refusal(x509.read_csr, text) == "csr_pem"
    assert _field_of_refusal(x509.read_csr, block(data, label="CERTIFICATE REQUEST")) == "csr_pem"
    assert _field_of_refusal(x509.read_csr_der, data) == "csr_pem"


SAMPLE = _csr_der(
    a_csr(
        HOST,
        EMAIL("o@a.example"),
        URI("spiffe://a/b"),
        key=ec.derive_private_key(12345, ec.SECP256R1()),
        subject=cn("a.example"),
    )
)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_damaged_request_raises_nothing_but_invalid(data) -> None:
    damaged = bytearray(SAMPLE)
    at = data.draw(st.integers(0, len(damaged) - 1))
    piece = data.draw(st.binary(max_size=4))
    damaged[at : at + data.draw(st.integers(0, 4))] = piece
    assert _field_of_refusal(x509.read_csr_der, bytes(damaged)) == "csr_pem"
