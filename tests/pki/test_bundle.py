"""Bundles of foreign certificates, with whatever names and forms those have."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.domain.errors import Invalid
from certctl.pki.bundle import bundles, holds_key
from certctl.pki.leaf import read_leaf
from tests.foreign import a_leaf, chain, full_pem
from tests.pki.made import NOW, a_key


def handmade(common_name: str | None, *sans: x509.GeneralName) -> str:
    """A certificate that signs itself, without anything that CAs must put in."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    name = x509.Name(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(a_key().public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(a_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_every_end_certificate_gets_its_own_chain():
    first, second = a_leaf("a.example.test"), a_leaf("b.example.test")
    assert bundles(full_pem(first) + full_pem(second)) == [(first, *chain()), (second, *chain())]


def test_a_certificate_that_signs_itself_is_an_end_certificate():
    assert read_leaf(handmade("printer.example.test")).common_name == "printer.example.test"


def test_without_alternative_names_the_common_name_is_the_name():
    assert [str(name) for name in read_leaf(handmade("10.0.0.7")).names] == ["10.0.0.7"]


def test_a_common_name_that_is_a_title_gives_way_to_the_first_name():
    leaf = read_leaf(handmade("The Printer", x509.DNSName("Printer.example.test")))
    assert (leaf.common_name, [str(n) for n in leaf.names]) == (
        "printer.example.test",
        ["printer.example.test"],
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (handmade(None), "neither a common name nor alternative names"),
        (handmade("The Printer"), "The Printer"),
        (handmade("a", x509.DNSName("under_score.test")), "under_score"),
        (handmade("a", x509.DirectoryName(x509.Name([]))), "DirectoryName"),
        (full_pem(a_leaf("a.test.example")) + "-----BEGIN EC PRIVATE KEY-----", "private key"),
        ("", "no PEM certificate"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(text, words):
    with pytest.raises(Invalid, match=words):
        read_leaf(text)


@pytest.mark.parametrize(
    "label", ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "private key"]
)
def test_a_key_is_seen_under_any_of_its_names(label):
    assert holds_key(f"-----BEGIN {label}-----")
