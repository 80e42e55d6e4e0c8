"""What a certificate says, as plain values. Lenient about names: foreign ones are read too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from certctl.domain.errors import Invalid
from certctl.domain.names import Name
from certctl.pki import keys
from certctl.pki.alt_names import plain_name
from certctl.pki.ekus import eku_names
from certctl.pki.parts import NO_REV_AVAIL, serial_of
from certctl.pki.serials import serial_text
from certctl.pki.unreadable import UNREADABLE

ExtensionType = TypeVar("ExtensionType", bound=x509.ExtensionType)


@dataclass(frozen=True)
class CertificateFacts:
    """One certificate. Times are aware and in UTC; hashes are lower-case hex of the whole DER
    (`fingerprint_sha256`) and of the SubjectPublicKeyInfo (`spki_sha256`)."""

    serial: str
    subject_cn: str | None
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: tuple[Name, ...]
    fingerprint_sha256: str
    spki_sha256: str
    key: keys.KeyFacts
    is_ca: bool
    ocsp_urls: tuple[str, ...]
    ca_issuer_urls: tuple[str, ...]
    crl_urls: tuple[str, ...]
    ekus: tuple[str, ...]
    must_staple: bool
    no_revocation: bool
    policies: tuple[str, ...]


def facts(certificate_der: bytes) -> CertificateFacts:
    """The facts of one certificate in DER.

    Raises:
        Invalid: when it does not parse, its serial is not positive, or its key is neither ECDSA,
            RSA, Ed25519 nor ML-DSA.
    """
    if serial_of(certificate_der) <= 0:
        raise Invalid("the certificate's serial number is not positive")
    try:
        return _facts(x509.load_der_x509_certificate(certificate_der))
    except UNREADABLE as error:
        raise Invalid(f"not a certificate that can be read: {error}") from error


def found(certificate: x509.Certificate, kind: type[ExtensionType]) -> ExtensionType | None:
    """The value of one extension, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    key = keys.supported(certificate.public_key())
    extensions = certificate.extensions
    values: dict[type, Any] = {type(each.value): each.value for each in extensions}
    basic, usage = values.get(x509.BasicConstraints), values.get(x509.ExtendedKeyUsage)
    access = tuple(values.get(x509.AuthorityInformationAccess, ()))
    return CertificateFacts(
        serial=serial_text(certificate.serial_number),
        subject_cn=common_name(certificate.subject),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=_names(values.get(x509.SubjectAlternativeName, ())),
        fingerprint_sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        spki_sha256=keys.spki_sha256(key),
        key=keys.key_facts(key),
        is_ca=basic is not None and basic.ca,
        ocsp_urls=_access(access, AuthorityInformationAccessOID.OCSP),
        ca_issuer_urls=_access(access, AuthorityInformationAccessOID.CA_ISSUERS),
        crl_urls=_crl_urls(values.get(x509.CRLDistributionPoints, ())),
        ekus=eku_names(usage) if usage else (),
        must_staple=x509.TLSFeatureType.status_request in values.get(x509.TLSFeature, ()),
        no_revocation=NO_REV_AVAIL in {each.oid.dotted_string for each in extensions},
        policies=tuple(
            policy.policy_identifier.dotted_string
            for policy in values.get(x509.CertificatePolicies, ())
        ),
    )


def common_name(name: x509.Name) -> str | None:
    """The first common name of a distinguished name, or None."""
    values = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return next((value for value in values if isinstance(value, str) and value), None)


def _names(held: Iterable[x509.GeneralName]) -> tuple[Name, ...]:
    return tuple(name for name in map(plain_name, held) if name is not None)


def _access(
    access: Iterable[x509.AccessDescription], method: x509.ObjectIdentifier
) -> tuple[str, ...]:
    return _urls(entry.access_location for entry in access if entry.access_method == method)


def _crl_urls(points: Iterable[x509.DistributionPoint]) -> tuple[str, ...]:
    return _urls(name for point in points for name in point.full_name or ())


def _urls(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    return tuple(n.value for n in names if isinstance(n, x509.UniformResourceIdentifier))
