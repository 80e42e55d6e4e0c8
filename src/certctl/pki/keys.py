"""Private and public keys: making, reading, naming, and the port through which all signing goes.

Where a key is kept is not decided here; a `Signer` may as well be a token or a remote service.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

from certctl.domain.errors import Invalid
from certctl.pki import der
from certctl.pki.weakness import weakness as weakness

MLDSAPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
MLDSAPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | MLDSAPrivateKey
)
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | MLDSAPublicKey

ECDSA_SHA256, ECDSA_SHA384 = "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"
RSA_SHA256 = "1.2.840.113549.1.1.11"
ED25519 = "1.3.101.112"
ML_DSA: Final = {  # RFC 9881 §2
    44: "2.16.840.1.101.3.4.3.17",
    65: "2.16.840.1.101.3.4.3.18",
    87: "2.16.840.1.101.3.4.3.19",
}
KINDS: Final = "ECDSA, RSA, Ed25519 nor ML-DSA"


class KeyAlgorithm(StrEnum):
    """The kinds of key that certctl makes."""

    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    ED25519 = "Ed25519"
    ML_DSA_44 = "ML-DSA-44"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


@dataclass(frozen=True)
class KeyFacts:
    """A public key's family and its size in bits (of the modulus, or of the curve); of ML-DSA the
    parameter set: 44, 65 or 87."""

    algorithm: Literal["ECDSA", "RSA", "Ed25519", "ML-DSA"]
    size: int


class Signer(Protocol):
    """Something that signs with one key, wherever that key lives."""

    @property
    def public_key(self) -> PublicKey: ...

    @property
    def repeats(self) -> bool:
        """Whether the same bytes get the same signature each time."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, by the algorithm `signature_algorithm_der` names.

        Raises:
            Unavailable: when the key's home does not answer.
        """
        ...


@dataclass(frozen=True)
class KeySigner:
    """Signs with a key held in memory; ECDSA deterministically (RFC 6979), so that signing the
    same bytes again gives the same certificate. ML-DSA is hedged (FIPS 204 §3.4) and repeats
    nothing."""

    private_key: PrivateKey

    @cached_property
    def public_key(self) -> PublicKey:
        return self.private_key.public_key()

    @property
    def repeats(self) -> bool:
        return not isinstance(self.private_key, MLDSAPrivateKey)

    def sign(self, data: bytes) -> bytes:
        key = self.private_key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            digest = ecdsa_hash(key.curve)
            return key.sign(data, ec.ECDSA(digest, deterministic_signing=True))
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return key.sign(data)


def generate(algorithm: KeyAlgorithm) -> PrivateKey:
    """A new private key. RSA takes tens to hundreds of milliseconds; the others are cheap."""
    match algorithm:
        case KeyAlgorithm.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyAlgorithm.ML_DSA_44:
            return mldsa.MLDSA44PrivateKey.generate()
        case KeyAlgorithm.ML_DSA_65:
            return mldsa.MLDSA65PrivateKey.generate()
        case KeyAlgorithm.ML_DSA_87:
            return mldsa.MLDSA87PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(algorithm.removeprefix("RSA-")))


def to_pem(key: PrivateKey) -> str:
    """Unencrypted PKCS#8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def to_der(key: PrivateKey) -> bytes:
    """Unencrypted PKCS#8 in DER."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_encrypted_pem(text: str, passphrase: str) -> PrivateKey:
    """As `load_pem`, for a key that is encrypted under `passphrase`."""
    try:
        return _supported_private(load_pem_private_key(text.encode(), passphrase.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("not a private key in PEM under this passphrase") from error


def load_pem(text: str) -> PrivateKey:
    """The private key in `text`: PKCS#8, or the older SEC 1 and PKCS#1 forms.

    Raises:
        Invalid: when it is not one, is encrypted, or is of a kind certctl does not use.
    """
    try:
        return _supported_private(load_pem_private_key(text.encode(), None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("not an unencrypted private key in PEM") from error


def load_der(data: bytes) -> PrivateKey:
    """The private key in `data`; Invalid on the same grounds as `load_pem`."""
    try:
        return _supported_private(load_der_private_key(data, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("not an unencrypted private key in DER") from error


def supported(key: object) -> PublicKey:
    """`key`, if it is an ECDSA, RSA, Ed25519 or ML-DSA public key; Invalid otherwise."""
    if isinstance(key, PublicKey):
        return key
    raise Invalid(f"the key is neither {KINDS}")


def key_facts(key: PublicKey) -> KeyFacts:
    """The family and size of `key`."""
    if isinstance(key, rsa.RSAPublicKey):
        return KeyFacts("RSA", key.key_size)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyFacts("ECDSA", key.key_size)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return KeyFacts("Ed25519", 256)
    return KeyFacts("ML-DSA", _parameter_set(key))


def _parameter_set(key: MLDSAPublicKey) -> int:
    if isinstance(key, mldsa.MLDSA44PublicKey):
        return 44
    return 65 if isinstance(key, mldsa.MLDSA65PublicKey) else 87


def spki(key: PublicKey) -> bytes:
    """The SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def load_spki(data: bytes) -> PublicKey:
    """The public key in a SubjectPublicKeyInfo, DER; Invalid when it is none that we use."""
    try:
        return supported(load_der_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("not a public key in DER") from error


def spki_sha256(key: PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, lower-case hex: the same key gives the same text."""
    return hashlib.sha256(spki(key)).hexdigest()


def key_identifier(key: PublicKey) -> bytes:
    """All 20 octets of the SHA-1 over the key's BIT STRING (RFC 5280 §4.2.1.2, method 1)."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


def signature_algorithm_der(key: PublicKey) -> bytes:
    """AlgorithmIdentifier of the signatures that `key` verifies.

    NULL parameters for RSA (RFC 4055 §5), none for ECDSA (RFC 5758 §3.2), Ed25519 (RFC 8410 §3) and
    ML-DSA (RFC 9881 §3).

    Raises:
        Invalid: for a curve other than P-256 and P-384.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return der.sequence(der.oid(RSA_SHA256), der.NULL)
    if isinstance(key, ec.EllipticCurvePublicKey):
        wide = isinstance(ecdsa_hash(key.curve), hashes.SHA384)
        return der.sequence(der.oid(ECDSA_SHA384 if wide else ECDSA_SHA256))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return der.sequence(der.oid(ED25519))
    return der.sequence(der.oid(ML_DSA[_parameter_set(key)]))


def verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is `key`'s over `data`, by the algorithm we sign with."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(ecdsa_hash(key.curve)))
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def ecdsa_hash(curve: ec.EllipticCurve) -> hashes.SHA256 | hashes.SHA384:
    """The hash that goes with a curve: SHA-256 for P-256, SHA-384 for P-384; Invalid for others."""
    if isinstance(curve, ec.SECP256R1):
        return hashes.SHA256()
    if isinstance(curve, ec.SECP384R1):
        return hashes.SHA384()
    raise Invalid(f"the curve {curve.name} is not supported; use P-256 or P-384")


def _supported_private(key: object) -> PrivateKey:
    if isinstance(key, PrivateKey):
        return key
    raise Invalid(f"the private key is neither {KINDS}")
