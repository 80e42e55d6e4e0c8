"""Keys, CAs and certificates for the tests of this folder, each key made once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as cocsp
from cryptography.x509.oid import NameOID

from certctl.domain.names import Name, parse_name
from certctl.pki import keys, lint, x509
from certctl.pki.keys import KeyAlgorithm, KeySigner, PrivateKey
from certctl.pki.serials import new_serial
from tests.tools import need

# Debian's openssl does not know ML-DSA; Node's does (test_ml_dsa.py).
ML_DSA = (KeyAlgorithm.ML_DSA_44, KeyAlgorithm.ML_DSA_65, KeyAlgorithm.ML_DSA_87)
OPENSSL_KNOWS = [algorithm for algorithm in KeyAlgorithm if algorithm not in ML_DSA]
NOW = datetime.now(UTC)
YEAR = timedelta(days=365)


def a_key(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256, number: int = 0) -> PrivateKey:
    """The same key for the same arguments."""
    return _key(algorithm, number)


@cache
def _key(algorithm: KeyAlgorithm, number: int) -> PrivateKey:
    return keys.generate(algorithm)


def names(*texts: str) -> tuple[Name, ...]:
    return tuple(parse_name(text) for text in texts)


def a_template(**changes: Any) -> x509.Template:
    """A leaf for a.example on P-256, valid for 90 days."""
    not_before, not_after = x509.validity(NOW, timedelta(days=90), not_after_limit=None)
    leaf = x509.Template(
        kind="leaf",
        serial=new_serial(),
        subject_cn="a.example",
        organization=None,
        names=names("a.example"),
        public_key=a_key(number=1).public_key(),
        not_before=not_before,
        not_after=not_after,
        ekus=("serverAuth", "clientAuth"),
        path_length=None,
        ocsp_url="http://pki.example/ocsp/iss-1",
        ca_issuers_url="http://pki.example/ca/ica-1.cer",
        crl_url="http://pki.example/crl/iss-1",
        must_staple=False,
    )
    return replace(leaf, **changes)


def a_ca_template(key: PrivateKey, **changes: Any) -> x509.Template:
    not_before, not_after = x509.validity(NOW, 10 * YEAR, not_after_limit=None)
    defaults: dict[str, Any] = {
        "kind": "ca",
        "subject_cn": "Test Root",
        "organization": "Example",
        "names": (),
        "public_key": key.public_key(),
        "not_before": not_before,
        "not_after": not_after,
        "ekus": (),
        "ocsp_url": None,
        "ca_issuers_url": None,
        "crl_url": None,
    }
    return a_template(**{**defaults, **changes})


@dataclass(frozen=True)
class CA:
    """A CA that takes the real path: draft, lint, sign."""

    key: PrivateKey
    der: bytes
    above: CA | None = None

    def linted(self, template: x509.Template, *, shape: object = "test") -> lint.Linted:
        public = self.key.public_key()
        tbs = x509.draft(template, self.der, public)
        return lint.check_certificate(tbs, public, issuer_der=self.der, shape=shape)

    def issue(self, template: x509.Template) -> bytes:
        return x509.sign(self.linted(template), KeySigner(self.key))

    def sub_ca(self, algorithm: KeyAlgorithm, **changes: Any) -> CA:
        key = a_key(algorithm, 9)
        template = a_ca_template(
            key,
            subject_cn="Test Intermediate",
            path_length=0,
            not_after=NOW + 5 * YEAR,
            ocsp_url="http://pki.example/ocsp/root",
            ca_issuers_url="http://pki.example/ca/root.cer",
            crl_url="http://pki.example/crl/root",
            **changes,
        )
        return CA(key, self.issue(template), self)


def a_root(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256) -> CA:
    """The same root for the same algorithm."""
    return _root(algorithm)


@cache
def _root(algorithm: KeyAlgorithm) -> CA:
    key = a_key(algorithm)
    public = key.public_key()
    tbs = x509.draft(a_ca_template(key), None, public)
    linted = lint.check_certificate(tbs, public, issuer_der=None, shape="root")
    return CA(key, x509.sign(linted, KeySigner(key)))


def a_responder(
    ca: CA, algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
) -> tuple[bytes, KeySigner]:
    """The certificate of a delegated OCSP responder and its signer; the same for the same CA."""
    return _responder(ca, algorithm)


@cache
def _responder(ca: CA, algorithm: KeyAlgorithm) -> tuple[bytes, KeySigner]:
    key = a_key(algorithm, 5)
    template = a_template(
        kind="ocsp_responder",
        subject_cn="OCSP Responder for Test Root",
        names=(),
        public_key=key.public_key(),
    )
    return ca.issue(template), KeySigner(key)


def an_ocsp_request(
    ca: CA, leaf: bytes, *, digest: hashes.HashAlgorithm | None = None, nonce: bytes | None = None
) -> bytes:
    """What a client that uses pyca/cryptography sends about `leaf`."""
    load = cx509.load_der_x509_certificate
    builder = cocsp.OCSPRequestBuilder().add_certificate(
        load(leaf), load(ca.der), digest or hashes.SHA1()
    )
    if nonce is not None:
        builder = builder.add_extension(cx509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def a_csr(
    *sans: cx509.GeneralName,
    key: Any = None,
    subject: Iterable[tuple[cx509.ObjectIdentifier, str]] = (),
) -> str:
    """A request in PEM with these alternative names."""
    key = key or a_key(number=1)
    attributes = [cx509.NameAttribute(oid, value) for oid, value in subject]
    builder = cx509.CertificateSigningRequestBuilder().subject_name(cx509.Name(attributes))
    if sans:
        builder = builder.add_extension(cx509.SubjectAlternativeName(sans), critical=False)
    is_hashed = isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    digest = hashes.SHA256() if is_hashed else None
    same_again = True if isinstance(key, ec.EllipticCurvePrivateKey) else None
    request = builder.sign(key, digest, ecdsa_deterministic=same_again)
    return request.public_bytes(Encoding.PEM).decode()


def cn(value: str) -> tuple[tuple[cx509.ObjectIdentifier, str]]:
    return ((NameOID.COMMON_NAME, value),)


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What the openssl program says; both streams in `stdout`."""
    return subprocess.run(
        [need("openssl"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
