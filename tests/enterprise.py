"""An enterprise's PKI, made by pyca/cryptography alone: roots and CAs, sound ones and odd ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
SIGNS = ("key_cert_sign", "crl_sign")


@dataclass(frozen=True)
class CA:
    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: str = "") -> str:
        sealed = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return str(self.key.private_bytes(Encoding.PEM, form, sealed).decode())


def a_key(kind: str = "EC") -> Any:
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def a_ca(
    name: str,
    signer: CA | None = None,
    *,
    key: Any = None,
    public_key: Any = None,
    path_length: int | None = None,
    is_ca: bool = True,
    usages: tuple[str, ...] | None = SIGNS,
    start: timedelta = -DAY,
    end: timedelta = 3000 * DAY,
    permitted: tuple[str, ...] = (),
    digest: Any = None,
) -> CA:
    """A CA that `signer` has signed, or by itself a root. Extensions are left out where None."""
    now = datetime.now(UTC).replace(microsecond=0)
    key = key or a_key()
    public = public_key or key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = signer.key if signer else key
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(public)
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if usages is not None:
        usage = x509.KeyUsage(**{each: each in usages for each in USAGES})
        builder = builder.add_extension(usage, True)
    if permitted:
        names = [
            x509.IPAddress(ip_network(each)) if "/" in each
            else x509.RFC822Name(each[1:]) if each.startswith("@") else x509.DNSName(each)
            for each in permitted
        ]  # fmt: skip
        builder = builder.add_extension(x509.NameConstraints(names, None), True)
    return CA(builder.sign(by, digest or hashes.SHA256()), key)


def signed(csr_pem: str, signer: CA, **odd: Any) -> CA:
    """What the enterprise makes of a CSR."""
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    name = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return a_ca(str(name), signer, public_key=csr.public_key(), **{"path_length": 0, **odd})
