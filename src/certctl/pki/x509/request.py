"""Certificate requests made here: names and a key of our own."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.domain.names import Name
from certctl.pki.alt_names import general_names
from certctl.pki.keys import PrivateKey, ecdsa_hash

MAX_COMMON_NAME = 64


def make_csr(
    key: PrivateKey, names: Sequence[Name], common_name: str, *, must_staple: bool = False
) -> str:
    """A PKCS#10 request (RFC 2986) in PEM for these names.

    A common name over 64 characters is left out (RFC 5280 appendix A.1, ub-common-name).
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(common_name))
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(general_names(names)), critical=False
        )
    if must_staple:
        builder = builder.add_extension(
            x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False
        )
    return builder.sign(key, _hash(key)).public_bytes(Encoding.PEM).decode()


def make_ca_csr(key: PrivateKey, common_name: str, path_length: int) -> str:
    """A PKCS#10 request in PEM that asks for the certificate of a CA (RFC 5280 §4.2.1.9)."""
    wanted = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only", "digital_signature"), False
    )  # fmt: skip
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(common_name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **wanted), critical=True)
    )
    return builder.sign(key, _hash(key)).public_bytes(Encoding.PEM).decode()


def _subject(common_name: str) -> x509.Name:
    if not common_name or len(common_name) > MAX_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ecdsa_hash(key.curve)
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None
