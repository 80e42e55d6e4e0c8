"""What is true outside: the certificate served over TLS, and the answer of OCSP."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from certctl.cli.demo.place import LOOPBACK
from certctl.domain.errors import Refused, Unavailable

PATIENCE: Final = 10.0  # seconds


@dataclass(frozen=True)
class Served:
    """A leaf as read over TLS; serial and SHA-256 in lower hex."""

    certificate: x509.Certificate

    @property
    def serial(self) -> str:
        return format(self.certificate.serial_number, "x")

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()


def served(port: int, name: str, *, ca_pem: str | None) -> Served:
    """The leaf that a client of `name` is given.

    With `ca_pem` the chain and the name are verified as a browser would; without, nothing is.

    Raises:
        Unavailable: when there is no TLS answer, or none that holds.
    """
    context = ssl.create_default_context(cadata=ca_pem)
    if ca_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((LOOPBACK, port), 5) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            leaf = secure.getpeercert(binary_form=True)
    except OSError as error:
        raise Unavailable(f"no valid TLS answer on {LOOPBACK}:{port}: {error}") from error
    return Served(x509.load_der_x509_certificate(leaf or b""))


def until_served(port: int, name: str, *, ca_pem: str, fingerprint: str) -> Served:
    """The leaf of this fingerprint, once it is served: workers of before may answer a moment more,
    with a certificate that need not even be valid.

    Raises:
        Refused: when another is served after ten seconds. Unavailable: as `served`.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            seen = served(port, name, ca_pem=ca_pem)
            if seen.fingerprint == fingerprint:
                return seen
        time.sleep(0.1)
    seen = served(port, name, ca_pem=ca_pem)
    raise Refused(f"port {port} serves {seen.fingerprint} and not {fingerprint}")


@dataclass(frozen=True)
class OcspAnswer:
    """`good`, `revoked` with its reason, or `unknown`, with the URL that said so."""

    status: str
    url: str


def ask_ocsp(leaf: x509.Certificate, issuer: x509.Certificate) -> OcspAnswer:
    """Ask the responder that the certificate names, and check who signed the answer.

    Raises:
        Unavailable: when there is no answer. Refused: when it is not signed as RFC 6960
            §4.2.2.2 wants it.
    """
    url = ocsp_url(leaf)
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA1()).build()  # noqa: S303
    headers = {"Content-Type": "application/ocsp-request"}
    body = request.public_bytes(Encoding.DER)
    try:
        with httpx.Client(timeout=10, trust_env=False) as client:
            answer = client.post(url, content=body, headers=headers).raise_for_status()
        response = ocsp.load_der_ocsp_response(answer.content)
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"no OCSP answer from {url}: {error}") from error
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise Unavailable(f"{url} answers {response.response_status.name.lower()}")
    check_signer(response, issuer)
    reason = response.revocation_reason
    why = f" ({reason.value})" if reason else ""
    return OcspAnswer(f"{response.certificate_status.name.lower()}{why}", url)


def check_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """Raises Refused unless the issuer, or a responder it delegated, signed the answer."""
    signer = next(iter(response.certificates), issuer)
    try:
        if signer != issuer:
            signer.verify_directly_issued_by(issuer)
            usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
                raise ValueError("the responder's certificate is not for OCSP")
        _verify(signer, response)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Refused(f"the OCSP answer is not signed by the issuer's responder: {error}") from None


def _verify(signer: x509.Certificate, response: ocsp.OCSPResponse) -> None:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm or SHA256()
    signature, content = response.signature, response.tbs_response_bytes
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, content, ec.ECDSA(algorithm))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, content, padding.PKCS1v15(), algorithm)
    else:
        raise TypeError("a kind of key that the demonstration does not know")


def ocsp_url(leaf: x509.Certificate) -> str:
    """The OCSP address in the certificate; Refused when it has none."""
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        access = x509.AuthorityInformationAccess([])
    for each in access:
        if each.access_method == AuthorityInformationAccessOID.OCSP:
            return str(each.access_location.value)
    raise Refused("the certificate names no OCSP responder")


def crl_url(leaf: x509.Certificate) -> str:
    """The CRL address in the certificate; Refused when it has none."""
    try:
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        points = x509.CRLDistributionPoints([])
    for point in points:
        for name in point.full_name or ():
            return str(name.value)
    raise Refused("the certificate names no CRL")
