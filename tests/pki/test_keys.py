"""Keys: forms, signatures, and the weak ones that must not be certified."""

from __future__ import annotations

import hashlib
import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm, KeySigner
from tests.pki.made import OPENSSL_KNOWS, a_key, openssl

E = 65537


@pytest.mark.parametrize(
    ("algorithm", "facts"),
    [
        (KeyAlgorithm.ECDSA_P256, keys.KeyFacts("ECDSA", 256)),
        (KeyAlgorithm.ECDSA_P384, keys.KeyFacts("ECDSA", 384)),
        (KeyAlgorithm.RSA_2048, keys.KeyFacts("RSA", 2048)),
        (KeyAlgorithm.RSA_3072, keys.KeyFacts("RSA", 3072)),
        (KeyAlgorithm.RSA_4096, keys.KeyFacts("RSA", 4096)),
        (KeyAlgorithm.ED25519, keys.KeyFacts("Ed25519", 256)),
        (KeyAlgorithm.ML_DSA_44, keys.KeyFacts("ML-DSA", 44)),
        (KeyAlgorithm.ML_DSA_65, keys.KeyFacts("ML-DSA", 65)),
        (KeyAlgorithm.ML_DSA_87, keys.KeyFacts("ML-DSA", 87)),
    ],
)
def test_each_algorithm_makes_the_key_it_names_and_no_weak_one(algorithm, facts) -> None:
    public = a_key(algorithm).public_key()
    assert keys.key_facts(public) == facts
    assert keys.weakness(public) is None


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_a_private_key_survives_both_forms(algorithm) -> None:
    key = a_key(algorithm)
    number = keys.spki_sha256(key.public_key())
    assert keys.spki_sha256(keys.load_pem(keys.to_pem(key)).public_key()) == number
    assert keys.spki_sha256(keys.load_der(keys.to_der(key)).public_key()) == number
    assert keys.to_pem(key).startswith("-----BEGIN PRIVATE KEY-----\n")


def test_the_older_forms_of_ca_key_files_are_read() -> None:
    for key in (a_key(), a_key(KeyAlgorithm.RSA_2048)):
        old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert keys.to_der(keys.load_pem(old.decode())) == keys.to_der(key)


def test_encrypted_foreign_and_broken_keys_are_refused() -> None:
    encrypted = a_key().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    foreign = ed448.Ed448PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    public = a_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (encrypted, foreign, public, b"", b"-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(Invalid):
            keys.load_pem(text.decode())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(min_value=0, max_value=130))
def test_loading_arbitrary_bytes_as_a_key_raises_nothing_but_invalid(noise, at) -> None:
    damaged = bytearray(keys.to_der(a_key()))
    damaged[at : at + len(noise)] = noise
    for data in (noise, bytes(damaged)):
        try:
            keys.load_der(data)
        except Invalid:
            continue


def test_the_spki_hash_and_key_identifier_are_those_of_their_definitions() -> None:
    public = a_key(KeyAlgorithm.RSA_2048).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert keys.spki_sha256(public) == hashlib.sha256(spki).hexdigest()
    assert keys.key_identifier(public) == hashlib.sha1(bits).digest()


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_a_signature_verifies_for_its_bytes_alone(algorithm) -> None:
    signer = KeySigner(a_key(algorithm))
    signed = signer.sign(b"these bytes")
    assert keys.verifies(signer.public_key, signed, b"these bytes")
    assert not keys.verifies(signer.public_key, signed, b"other bytes")
    assert not keys.verifies(signer.public_key, b"", b"these bytes")


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_a_signer_tells_whether_the_same_bytes_get_the_same_signature(algorithm) -> None:
    signer = KeySigner(a_key(algorithm))
    assert (signer.sign(b"these bytes") == signer.sign(b"these bytes")) == signer.repeats
    assert signer.repeats == (algorithm in OPENSSL_KNOWS)


def test_the_p256_signature_is_the_vector_of_rfc_6979() -> None:
    """RFC 6979 §A.2.5, SHA-256 of "sample"."""
    x = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    signed = KeySigner(ec.derive_private_key(x, ec.SECP256R1())).sign(b"sample")
    r = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    s = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    assert signed.hex() == f"3046022100{r}022100{s}"


@pytest.mark.parametrize(
    ("algorithm", "dotted"),
    [
        (KeyAlgorithm.ECDSA_P256, "ecdsa-with-SHA256"),
        (KeyAlgorithm.ECDSA_P384, "ecdsa-with-SHA384"),
        (KeyAlgorithm.RSA_2048, "sha256WithRSAEncryption"),
        (KeyAlgorithm.ED25519, "ED25519"),
    ],
)
def test_openssl_names_the_signature_algorithm(algorithm, dotted, tmp_path) -> None:
    (tmp_path / "a.der").write_bytes(keys.signature_algorithm_der(a_key(algorithm).public_key()))
    assert dotted in openssl("asn1parse", "-inform", "DER", "-in", tmp_path / "a.der").stdout


def _rsa(modulus: int, exponent: int = E) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _strong_modulus() -> int:
    return a_key(KeyAlgorithm.RSA_2048).public_key().public_numbers().n


def _roca_modulus() -> int:
    """Two factors of the form k·M + 65537^a mod M; M covers the first 126 primes (2048 bits)."""
    primes = [n for n in range(2, 702) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    product, draw = math.prod(primes), random.Random(7)
    larger = math.prod((709, 719, 727, 733, 739, 743, 751))

    def factor() -> int:
        low = (3 << 1022) // product
        return draw.randrange(low, low * 4 // 3) * product + pow(
            E, draw.randrange(1 << 60), product
        )

    while True:
        modulus = factor() * factor()
        if math.gcd(modulus, larger) == 1 and modulus.bit_length() == 2048:
            return modulus


def _close_modulus() -> int:
    p = a_key(KeyAlgorithm.RSA_2048).private_numbers().p
    small = math.prod(n for n in range(2, 752))
    q = next(q for q in range(p + 1000, p + 20000) if math.gcd(q, small) == 1)
    return p * q


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _rsa((1 << 1023) + 1155 * 2), "1024 bits"),
        (lambda: _rsa(_strong_modulus() >> 1 | 1), "2047 bits"),
        (lambda: _rsa(_strong_modulus() << 4 | 1), "2052 bits"),
        (lambda: _rsa((1 << 8200) - 1), "8200 bits"),
        (lambda: _rsa(_strong_modulus(), 3), "exponent"),
        (lambda: _rsa(_strong_modulus(), (1 << 256) + 1), "exponent"),
        (lambda: _rsa((_strong_modulus() // 751) * 751), "factor below 752"),
        (lambda: _rsa(_roca_modulus()), "ROCA"),
        (lambda: _rsa(_close_modulus()), "too close together"),
        (lambda: ec.generate_private_key(ec.SECP521R1()).public_key(), "secp521r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), "secp256k1"),
        (lambda: ed448.Ed448PrivateKey.generate().public_key(), "neither"),
    ],
)
def test_a_weak_key_is_refused_with_the_reason(make, why) -> None:
    said = keys.weakness(make())
    assert said is not None
    assert why in said


def test_an_even_exponent_is_refused() -> None:
    from certctl.pki.weakness import rsa_weakness

    assert "even" in (rsa_weakness(_strong_modulus(), E + 1) or "")
