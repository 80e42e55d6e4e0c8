"""PKCS #12 files (RFC 7292) with PBES2 and AES-256 (RFC 8018 §6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from certctl.domain.errors import Invalid
from certctl.pki import keys

SHORTEST: Final = 8
ROUNDS: Final = 100_000


def make_pkcs12(name: str, chain: Sequence[bytes], *, key_pem: str | None, password: str) -> bytes:
    """The certificates in DER, the end certificate first under the friendly `name`, and its key
    when one is given. Without a key the password may be empty; nothing is encrypted then. About
    0.1 s with a password.

    Raises:
        Invalid: naming `password`, when it has fewer than 8 characters and guards a key; naming
            `format` for an ML-DSA key, which the library cannot write.
    """
    if key_pem is not None and len(password) < SHORTEST:
        raise Invalid(
            f"password: a file with a private key needs {SHORTEST} characters or more",
            field="password",
        )
    leaf, *rest = (x509.load_der_x509_certificate(der) for der in chain)
    key = None if key_pem is None else keys.load_pem(key_pem)
    if isinstance(key, keys.MLDSAPrivateKey):
        raise Invalid("a PKCS #12 file cannot hold an ML-DSA key: take PEM", field="format")
    return pkcs12.serialize_key_and_certificates(
        name.encode(), key, leaf, rest, _encryption(password)
    )


def _encryption(password: str) -> KeySerializationEncryption:
    if not password:
        return NoEncryption()
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
